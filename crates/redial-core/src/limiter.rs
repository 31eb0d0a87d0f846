//! How many calls a second.
//!
//! The generic cell rate algorithm (GCRA, ITU-T I.371): all that is remembered is the moment at which
//! the next call would be due if calls came evenly. One word holds it, and a caller who is willing to
//! wait moves it on by its own slot, so that waiters are served in the order in which they came and
//! nobody is woken for nothing.

mod arrival;
mod field;
mod policy;

use std::{
    fmt,
    time::{Duration, Instant},
};

pub(crate) use self::arrival::Arrival;
use self::arrival::Slot;
pub use self::{
    field::{FieldName, InvalidFieldName},
    policy::{InvalidRateLimit, RateKey, RateLimitPolicy},
};

/// Permits that come at an even rate, of which a few may be used at once. Shared by reference.
///
/// Over any stretch of time, no more permits are handed out than a burst and what the rate makes in
/// it; a property test holds it to that. An answer costs one atomic exchange, a refusal none: it
/// leaves everything as it was.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use redial_core::{RateLimitPolicy, RateLimiter};
///
/// // Ten a second, evenly.
/// let policy = RateLimitPolicy::new(10, Duration::from_secs(1))?.burst(1)?;
/// let now = Instant::now();
/// let limiter = RateLimiter::new(&policy, now);
/// assert!(limiter.try_acquire(now).is_ok());
///
/// // The next is due in 100 ms: too late for one, soon enough for another.
/// let refusal = limiter.try_acquire(now).unwrap_err();
/// assert_eq!(refusal.retry_after, Duration::from_millis(100));
/// let slot = limiter.reserve(now, Duration::from_millis(150)).unwrap();
/// assert_eq!(slot.wait(), Duration::from_millis(100));
///
/// // Whoever comes after that one waits for the slot behind it, unless it is given back.
/// assert_eq!(limiter.wait(now), Duration::from_millis(200));
/// assert!(limiter.give_back(slot));
/// assert_eq!(limiter.wait(now), Duration::from_millis(100));
/// # Ok::<(), redial_core::InvalidRateLimit>(())
/// ```
pub struct RateLimiter {
    arrival: Arrival,
    epoch: Instant,
    interval_nanos: u64,
    burst_nanos: u64,
}

/// A permit, and how long to wait before using it.
///
/// One that is not used can be [given back](RateLimiter::give_back). Dropping it keeps it taken: a
/// permit that has been used must not come back.
#[derive(Debug)]
#[must_use = "a reservation that is neither used nor given back is a permit lost"]
pub struct Reservation {
    slot: Slot,
}

/// No permit is there, and none will be soon enough.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// How long until it would be there, if nobody else came; [`Duration::MAX`] when more permits
    /// were asked for than a burst has.
    pub retry_after: Duration,
}

impl RateLimiter {
    /// Creates a limiter at `now` from which a whole burst can be taken.
    #[must_use]
    pub fn new(policy: &RateLimitPolicy, now: Instant) -> Self {
        Self {
            arrival: Arrival::new(0),
            epoch: now,
            interval_nanos: policy.interval_nanos(),
            burst_nanos: policy.burst_nanos(),
        }
    }

    /// Creates the limiter that takes over from this one at `now`, under another policy.
    ///
    /// As many permits are gone as were gone here, but one is always left: switching back and forth
    /// creates one permit each time and no more, and refuses nobody for what others did under another
    /// rate.
    #[must_use]
    pub fn succeeded_by(&self, policy: &RateLimitPolicy, now: Instant) -> Self {
        let owed = self.arrival.load().saturating_sub(self.elapsed(now));
        let gone = owed.div_ceil(self.interval_nanos).min(u64::from(policy.most_at_once() - 1));
        let next = Self::new(policy, now);
        Self { arrival: Arrival::new(gone * next.interval_nanos), ..next }
    }

    /// Returns whether this limiter hands out permits as `policy` says.
    #[must_use]
    pub fn keeps(&self, policy: &RateLimitPolicy) -> bool {
        self.interval_nanos == policy.interval_nanos() && self.burst_nanos == policy.burst_nanos()
    }

    /// Takes a permit at `now`, without waiting.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] when none is there; nothing is taken then.
    #[inline]
    pub fn try_acquire(&self, now: Instant) -> Result<(), Refusal> {
        self.take(self.interval_nanos, now, 0).map(|_| ())
    }

    /// Takes `count` permits at `now`, all or none, without waiting.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] when they are not there; nothing is taken then.
    pub fn try_acquire_many(&self, count: u32, now: Instant) -> Result<(), Refusal> {
        let cost = self.interval_nanos.saturating_mul(u64::from(count));
        if self.burst_nanos < cost {
            return Err(Refusal { retry_after: Duration::MAX });
        }
        self.take(cost, now, 0).map(|_| ())
    }

    /// Takes the next permit, if it is there at most `longest_wait` after `now`.
    ///
    /// The permit is this caller's own from here on: it is usable once [`Reservation::wait`] has
    /// passed, and later callers get later ones.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] when the wait would be longer; nothing is taken then.
    #[inline]
    pub fn reserve(&self, now: Instant, longest_wait: Duration) -> Result<Reservation, Refusal> {
        self.take(self.interval_nanos, now, nanos(longest_wait))
    }

    /// Gives back a permit that was not used; returns whether that was possible.
    ///
    /// It is as long as nobody has come after: everything is then as if it had never been taken.
    /// Otherwise the permits of those who came after stay where they are, and this one is lost: it
    /// cannot be used by anybody without two calls at one time. Those who leave from the end of the
    /// line inward all give back theirs.
    #[expect(clippy::needless_pass_by_value, reason = "so that no permit is given back twice")]
    pub fn give_back(&self, reservation: Reservation) -> bool {
        self.arrival.give_back(reservation.slot)
    }

    /// Returns how long a call that comes at `now` would have to wait.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        let now = self.elapsed(now);
        let due = self.arrival.load().max(now) + self.interval_nanos;
        Duration::from_nanos(due.saturating_sub(now.saturating_add(self.burst_nanos)))
    }

    /// Returns how many permits could be taken at `now` without waiting.
    #[must_use]
    pub fn available(&self, now: Instant) -> u32 {
        let owed = self.arrival.load().saturating_sub(self.elapsed(now));
        let free = self.burst_nanos.saturating_sub(owed) / self.interval_nanos;
        u32::try_from(free).unwrap_or(u32::MAX)
    }

    #[inline]
    fn take(&self, cost: u64, now: Instant, longest: u64) -> Result<Reservation, Refusal> {
        match self.arrival.take(self.elapsed(now), cost, self.burst_nanos, longest) {
            Ok(slot) => Ok(Reservation { slot }),
            Err(wait) => Err(Refusal { retry_after: Duration::from_nanos(wait) }),
        }
    }

    #[inline]
    fn elapsed(&self, now: Instant) -> u64 {
        nanos_between(self.epoch, now)
    }
}

impl Reservation {
    /// Returns how long to wait before the permit may be used; zero for at once.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        Duration::from_nanos(self.slot.wait)
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interval = Duration::from_nanos(self.interval_nanos);
        f.debug_struct("RateLimiter").field("interval", &interval).finish_non_exhaustive()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.retry_after == Duration::MAX {
            return write!(f, "more permits than a burst has");
        }
        write!(f, "no permit for {:?}", self.retry_after)
    }
}

impl std::error::Error for Refusal {}

/// Whole nanoseconds from `epoch` to `now`, which no process lives to see come around; 0 before it.
#[inline]
pub(crate) fn nanos_between(epoch: Instant, now: Instant) -> u64 {
    let span = now.saturating_duration_since(epoch);
    span.as_secs().wrapping_mul(SECOND_NANOS).wrapping_add(u64::from(span.subsec_nanos()))
}

/// Whole nanoseconds; five centuries and more count as the longest that fits.
fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(SECOND_NANOS).saturating_add(u64::from(span.subsec_nanos()))
}

const SECOND_NANOS: u64 = 1_000_000_000;

#[cfg(all(test, not(loom)))]
mod tests;
