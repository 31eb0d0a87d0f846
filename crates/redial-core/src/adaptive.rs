//! How many attempts at once, learned from how long they take.
//!
//! The number of calls that an upstream can work on at once changes with its size, its state and its
//! other clients; nobody can keep a fixed limit right. But latency tells: as long as there is room, one
//! more attempt does not make answers slower; once there is none, each one only waits.
//!
//! - [`AdaptivePolicy`] is the data, and [`AdaptivePolicy::next_limit`] the step from a limit to the next.
//! - [`AdaptiveLimit`] counts what is in flight, and adds up what attempts show, a window at a time.

mod average;
mod estimate;
mod policy;
mod samples;

use std::{
    fmt,
    ops::Deref,
    sync::TryLockError,
    time::{Duration, Instant},
};

pub use self::policy::{AdaptivePolicy, InvalidAdaptiveLimit, LimitAlgorithm, LimitRound};
use self::{estimate::Estimate, samples::Samples};
use crate::{
    gate::Gate,
    health::Health,
    sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, yield_now},
};

/// The attempts in flight to one upstream, and the limit on them, which moves.
///
/// Shared by reference. Entering and leaving are one atomic step each; recording an outcome is one more,
/// and whoever ends a window draws its conclusions while others pass by.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use redial_core::{AdaptiveLimit, AdaptivePolicy, Health, LimitPermit};
///
/// let now = Instant::now();
/// let policy = AdaptivePolicy::default().with_limits(1, 2, 100)?;
/// let limit = AdaptiveLimit::new(&policy, now);
///
/// let first = LimitPermit::try_acquire(&limit, now).unwrap();
/// let second = LimitPermit::try_acquire(&limit, now).unwrap();
/// assert_eq!(LimitPermit::try_acquire(&limit, now).unwrap_err(), 2, "the limit");
///
/// // The answer's head is here; the place is held until the permit is dropped.
/// first.record(Health::Well, false, now + Duration::from_millis(30));
/// drop(first);
/// assert_eq!((limit.in_flight(), limit.limit()), (1, 2));
/// # Ok::<(), redial_core::InvalidAdaptiveLimit>(())
/// ```
pub struct AdaptiveLimit {
    policy: AdaptivePolicy,
    epoch: Epoch,
    /// What is in flight outlives a change of policy.
    gate: Arc<Gate>,
    samples: Samples,
    /// Only ever tried: who finds it taken leaves the work to whoever holds it.
    estimate: Mutex<Estimate>,
    /// Not zero once another policy has taken over.
    is_retired: AtomicU64,
}

/// A place in flight, given back when dropped: when the answer's body has ended, not its head.
///
/// `L` is how the limit is held: by reference, or in an `Arc`.
#[derive(Debug)]
pub struct LimitPermit<L: Deref<Target = AdaptiveLimit>> {
    limit: L,
    started: Instant,
    in_flight: u32,
}

/// One moment, on two clocks.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    now: Instant,
    clock: Duration,
}

/// A limit has moved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LimitChange {
    /// What it was.
    pub from: u32,
    /// What it is now.
    pub to: u32,
}

impl AdaptiveLimit {
    /// Begins at `now` with the limit that `policy` names.
    #[must_use]
    pub fn new(policy: &AdaptivePolicy, now: Instant) -> Self {
        Self::synchronized(policy, now, Duration::ZERO)
    }

    /// Begins at `now`, which is `clock` after a moment that all clients of the upstream know: the time
    /// since 1970.
    ///
    /// Clients that share the moment and the policy measure the latency without load at the same time.
    /// Only then is there none: the probe of one among ten drains a tenth of the queue.
    #[must_use]
    pub fn synchronized(policy: &AdaptivePolicy, now: Instant, clock: Duration) -> Self {
        let gate = Arc::new(Gate::new(policy.initial()));
        Self::with(policy, Epoch { now, clock }, clock, gate, Estimate::new(policy, clock))
    }

    /// Returns the limit that takes over under another policy: with what is in flight, and with what
    /// was learned as far as the policy allows it. This one learns no more.
    #[must_use]
    pub fn succeeded_by(&self, policy: &AdaptivePolicy, now: Instant) -> Self {
        let now = self.epoch.time(now);
        let held = self.estimate_held();
        let estimate = match &held {
            Some(estimate) => estimate.under(policy, now),
            None => Estimate::beginning_at(self.gate.limit(), policy, now),
        };
        // Both while no window can close: whoever closes the next one sees that this limit is retired,
        // and cannot undo what the new policy says.
        self.is_retired.store(1, Ordering::Relaxed);
        self.gate.set_limit(estimate.limit());
        drop(held);
        let gate = Arc::clone(&self.gate);
        Self::with(policy, self.epoch, now, gate, estimate)
    }

    /// Returns the policy.
    #[must_use]
    pub const fn policy(&self) -> &AdaptivePolicy {
        &self.policy
    }

    /// Returns how many attempts may be in flight now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.gate.limit()
    }

    /// Returns how many attempts are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.gate.in_flight()
    }

    /// Returns the latency that the algorithm compares with; `None` before the first window has closed,
    /// or while one is just closing.
    #[must_use]
    pub fn baseline(&self) -> Option<Duration> {
        self.estimate.try_lock().ok()?.baseline()
    }

    fn with(
        policy: &AdaptivePolicy,
        epoch: Epoch,
        now: Duration,
        gate: Arc<Gate>,
        estimate: Estimate,
    ) -> Self {
        Self {
            policy: *policy,
            epoch,
            gate,
            samples: Samples::new(estimate.plan(policy, now)),
            estimate: Mutex::new(estimate),
            is_retired: AtomicU64::new(0),
        }
    }

    /// Takes the estimate for longer than a read. Whoever closes a window has it for a few hundred
    /// instructions; `None` is for a thread that was stopped amid them.
    fn estimate_held(&self) -> Option<MutexGuard<'_, Estimate>> {
        for _ in 0..ATTEMPTS_MAX {
            match self.estimate.try_lock() {
                Ok(estimate) => return Some(estimate),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => yield_now(),
            }
        }
        None
    }

    fn enter(&self, now: Instant) -> Result<u32, u32> {
        self.gate.try_enter().or_else(|limit| self.enter_late(limit, now))
    }

    /// Refuses; but first ends a probe that has outstayed its time. While everything is refused, no
    /// outcome would.
    #[cold]
    fn enter_late(&self, limit: u32, now: Instant) -> Result<u32, u32> {
        if !self.samples.is_probe_late(self.epoch.time(now)) {
            return Err(limit);
        }
        self.close(self.epoch.time(now));
        self.gate.try_enter()
    }

    fn record(
        &self,
        health: Health,
        latency: Option<Duration>,
        in_flight: u32,
        now: Instant,
    ) -> Option<LimitChange> {
        let is_slow = |latency: Duration| {
            self.policy.algorithm() == LimitAlgorithm::Aimd && self.policy.slow_after() <= latency
        };
        match (health, latency) {
            (Health::Unknown, _) => return None,
            (Health::Well, Some(latency)) if !is_slow(latency) => {
                self.samples.add_latency(latency, in_flight);
            }
            (Health::Well, None) | (Health::Failed, _) => self.samples.add_other(false, in_flight),
            (Health::Well | Health::Overloaded, _) => self.samples.add_other(true, in_flight),
        }
        let now = self.epoch.time(now);
        if self.samples.is_due(now) {
            return self.close(now);
        }
        None
    }

    #[cold]
    fn close(&self, now: Duration) -> Option<LimitChange> {
        let mut estimate = match self.estimate.try_lock() {
            Ok(estimate) => estimate,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // Another thread may have closed the window in between.
        let is_due = self.samples.is_due(now);
        if !is_due || self.is_retired.load(Ordering::Relaxed) != 0 {
            return None;
        }
        estimate.close(&self.policy, &self.samples.take(), now);
        self.samples.follow(estimate.plan(&self.policy, now));
        let to = estimate.limit();
        let from = self.gate.set_limit(to);
        (from != to).then_some(LimitChange { from, to })
    }
}

impl Epoch {
    fn time(&self, now: Instant) -> Duration {
        self.clock + now.saturating_duration_since(self.now)
    }
}

impl<L: Deref<Target = AdaptiveLimit>> LimitPermit<L> {
    /// Enters at `now`, or does not: there is no queue.
    ///
    /// # Errors
    ///
    /// Returns the limit if as many attempts are in flight.
    pub fn try_acquire(limit: L, now: Instant) -> Result<Self, u32> {
        let in_flight = limit.enter(now)?;
        Ok(Self { limit, started: now, in_flight })
    }

    /// Takes note of how the attempt ended, at `now`: the head of its answer, or its error. To be called
    /// once at most. Returns how the limit moved, where this attempt closed a window and it did.
    ///
    /// The latency counts if all was well and this was the call's first attempt, not a repeated one
    /// (`is_repeat`): a retry reaches an upstream in trouble, and a hedge one that was chosen for being
    /// quick. Overload counts always.
    pub fn record(&self, health: Health, is_repeat: bool, now: Instant) -> Option<LimitChange> {
        let latency = (!is_repeat).then(|| now.saturating_duration_since(self.started));
        self.limit.record(health, latency, self.in_flight, now)
    }

    /// Takes note that the attempt was given up at `now`, before it was answered.
    ///
    /// It would have taken at least that long. So if that is longer than answers took of late, it counts
    /// as a latency; otherwise nothing can be told. Were it ignored, an upstream that is slower than its
    /// callers are patient would never be noticed. Returns what [`record`](Self::record) does.
    pub fn abandon(&self, is_repeat: bool, now: Instant) -> Option<LimitChange> {
        let took = now.saturating_duration_since(self.started);
        let late = match self.limit.estimate.try_lock() {
            Ok(estimate) => !estimate.latency().is_zero() && estimate.latency() < took,
            Err(_) => false,
        };
        let latency = (late && !is_repeat).then_some(took)?;
        self.limit.record(Health::Well, Some(latency), self.in_flight, now)
    }
}

impl<L: Deref<Target = AdaptiveLimit>> Drop for LimitPermit<L> {
    fn drop(&mut self) {
        self.limit.gate.leave();
    }
}

impl fmt::Debug for AdaptiveLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimit")
            .field("limit", &self.limit())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

const ATTEMPTS_MAX: u32 = 1_000;

#[cfg(test)]
mod tests;
