//! Refusing calls that would be refused anyway.
//!
//! Client-side throttling as in "Handling Overload" (Site Reliability Engineering, Google, 2016): an
//! upstream that refuses work still pays for refusing it, so a client whose calls are mostly refused
//! keeps some of them to itself. A call is refused here with probability
//! `(requests − ratio × accepts) / (requests + padding)`, counted over a sliding window.
//!
//! The book counts among the requests those that were refused here. That keeps the load down to
//! `ratio` calls for each accepted one, and takes minutes to let go after an outage: what is refused
//! here keeps the share of refusals up. Counting only what was sent, which is the default, lets go
//! within `window / ratio`, whatever the load.

mod counts;
mod policy;
mod recovery;

use std::{
    fmt,
    time::{Duration, Instant},
};

use self::counts::Counts;
pub use self::policy::{InvalidThrottle, ThrottlePolicy};
use crate::{
    health::Health,
    limiter::{Arrival, nanos_between},
    sync::{AtomicU64, Ordering},
};

/// What an upstream took and what it refused, lately. Shared by reference.
///
/// Policies that differ in all but their window may ask one and the same state. While nothing fails,
/// a call costs one read, and its end one atomic exchange.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
///
/// use redial_core::{AdaptiveThrottle, Health, ThrottlePolicy};
///
/// let (policy, now) = (ThrottlePolicy::default(), Instant::now());
/// let throttle = AdaptiveThrottle::new(&policy, now);
/// for _ in 0..100 {
///     throttle.record(Health::Overloaded, now);
/// }
/// assert_eq!(throttle.refusal(&policy, now), 100.0 / 108.0);
///
/// // A call goes through whatever the draw says when none did for a second, to see how things are.
/// assert!(throttle.try_acquire(&policy, now, || 0));
/// assert!(!throttle.try_acquire(&policy, now, || 0));
/// ```
pub struct AdaptiveThrottle {
    counts: Counts,
    /// How many failures have been counted since the window was last seen to be free of them.
    trouble: AtomicU64,
    probe: Arrival,
    window: Duration,
    epoch: Instant,
}

impl AdaptiveThrottle {
    /// Creates a throttle at `now` that knows nothing yet and refuses nothing.
    #[must_use]
    pub fn new(policy: &ThrottlePolicy, now: Instant) -> Self {
        let window = policy.span();
        Self {
            counts: Counts::new(window),
            trouble: AtomicU64::new(0),
            probe: Arrival::new(0),
            window,
            epoch: now,
        }
    }

    /// Creates the throttle that takes over from this one at `now`, under a policy with another
    /// window: it knows what this one knows, by the share of the window that it looks back to.
    #[must_use]
    pub fn succeeded_by(&self, policy: &ThrottlePolicy, now: Instant) -> Self {
        let next = Self::new(policy, now);
        let seen = self.counts.total(self.elapsed(now));
        let share = |count: u64| {
            let kept = u128::from(count) * next.window.as_nanos().min(self.window.as_nanos());
            u64::try_from(kept / self.window.as_nanos().max(1)).unwrap_or(count)
        };
        let (requests, accepts) = (share(seen.requests), share(seen.accepts));
        next.counts.add(requests, accepts, 0);
        next.trouble.store(requests - accepts, Ordering::Relaxed);
        next
    }

    /// Returns whether this state can serve `policy`: its window is the same.
    #[must_use]
    pub fn serves(&self, policy: &ThrottlePolicy) -> bool {
        self.window == policy.span()
    }

    /// Returns whether no failure is in sight, so that nothing would be refused at any moment. Reads
    /// no clock and writes nothing.
    #[must_use]
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.trouble.load(Ordering::Relaxed) == 0
    }

    /// Returns whether a call may go at `now`. `draw`, 64 random bits, is asked for only where chance
    /// decides.
    ///
    /// A call that may not is counted at once where the policy says so; one that may is counted when
    /// its outcome is [recorded](Self::record), and not at all if it never is.
    #[must_use]
    pub fn try_acquire(
        &self,
        policy: &ThrottlePolicy,
        now: Instant,
        draw: impl FnOnce() -> u64,
    ) -> bool {
        let trouble = self.trouble.load(Ordering::Acquire);
        if trouble == 0 {
            return true;
        }
        let elapsed = self.elapsed(now);
        let seen = self.counts.total(elapsed);
        if seen.requests == seen.accepts {
            // Whoever counts a failure meanwhile changes the number, and the mark stays.
            let _ = self.trouble.compare_exchange(trouble, 0, Ordering::Relaxed, Ordering::Relaxed);
            return true;
        }
        if !policy.odds(seen.requests, seen.accepts).refuse(draw) {
            // One that goes by chance shows how things are as well as a probe does.
            self.probe.postpone(elapsed.saturating_add(policy.probe_nanos()));
            return true;
        }
        if self.is_probe(policy, elapsed) {
            return true;
        }
        if policy.does_count_refused() {
            self.counts.add(1, 0, elapsed);
        }
        false
    }

    /// Counts what an attempt said about the upstream at `now`: whether it took the call.
    ///
    /// [`Health::Well`] is a call taken; [`Health::Overloaded`] and [`Health::Failed`] are calls
    /// refused; [`Health::Unknown`] counts for nothing. The book counts as accepted whatever the
    /// backend did not refuse, errors included: whoever draws that line assesses accordingly.
    pub fn record(&self, health: Health, now: Instant) {
        if health == Health::Unknown {
            return;
        }
        let is_refused = health.is_failure();
        self.counts.add(1, u64::from(!is_refused), self.elapsed(now));
        if is_refused {
            // Whoever sees the mark sees the count as well, and does not clear it.
            self.trouble.fetch_add(1, Ordering::Release);
        }
    }

    /// Returns the probability that a call at `now` is refused, for showing.
    #[must_use]
    pub fn refusal(&self, policy: &ThrottlePolicy, now: Instant) -> f64 {
        let seen = self.counts.total(self.elapsed(now));
        policy.refusal(seen.requests, seen.accepts)
    }

    /// Predicts how long it takes until 99 % of the calls go through, if from `now` on the upstream
    /// takes everything, and calls come as they did. For showing: it runs through that time in steps.
    #[must_use]
    pub fn predicted_recovery(&self, policy: &ThrottlePolicy, now: Instant) -> Duration {
        recovery::from(policy, self.counts.by_age(self.elapsed(now)))
    }

    fn is_probe(&self, policy: &ThrottlePolicy, elapsed: u64) -> bool {
        let interval = policy.probe_nanos();
        interval != 0 && self.probe.take(elapsed, interval, interval, 0).is_ok()
    }

    fn elapsed(&self, now: Instant) -> u64 {
        nanos_between(self.epoch, now)
    }
}

impl fmt::Debug for AdaptiveThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveThrottle").field("window", &self.window).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
