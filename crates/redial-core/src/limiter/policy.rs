//! The rate, the burst, the wait, and whom they are for.

use std::{fmt, time::Duration};

use super::{SECOND_NANOS, field::FieldName, nanos};

/// How many calls a second, and what becomes of those above.
///
/// There is no default: no rate would be right for somebody.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::{FieldName, RateKey, RateLimitPolicy};
///
/// // 100 a second for each tenant; a call may wait a quarter of a second for its turn.
/// let second = Duration::from_secs(1);
/// let policy = RateLimitPolicy::new(100, second)?
///     .max_wait(second / 4)?
///     .key(RateKey::Field(FieldName::new("x-tenant")?));
/// assert_eq!(policy.most_at_once(), 10);
/// assert_eq!(policy.interval(), Duration::from_millis(10));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimitPolicy {
    permits: u32,
    per: Duration,
    burst: u32,
    max_wait: Duration,
    key: RateKey,
    /// Kept beside what it follows from, so that no call divides.
    interval_nanos: u64,
}

/// Whom a rate is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RateKey {
    /// Each origin has a rate of its own.
    #[default]
    Origin,
    /// All calls share one.
    All,
    /// Each value of a header field of the request has a rate of its own; requests without the field
    /// share one.
    Field(FieldName),
}

/// The values given do not form a rate limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidRateLimit {
    /// The time between two calls is not within 100 ns to a day.
    Rate {
        /// The permits.
        permits: u32,
        /// The time in which they come.
        per: Duration,
    },
    /// No call could ever go, or a burst would take more than a year to come back.
    Burst {
        /// The most calls at once.
        burst: u32,
        /// The time between two calls.
        interval: Duration,
    },
    /// The longest wait is above an hour.
    MaxWait(Duration),
}

impl RateLimitPolicy {
    /// Allows `permits` calls in `per`: evenly, but for a burst of a tenth of them.
    ///
    /// A tenth (rounded up) means that no stretch of `per` brings more than 1.1 × `permits`, and that
    /// calls that come independently of each other are not refused for coming in pairs: at 100 a
    /// second and half of that in use, a burst of 1 refuses a third of them, a burst of 10 fewer than
    /// one in ten thousand (M/D/1/K; a test computes it). nginx starts from a burst of 1, governor and
    /// Guava from all permits of a period, which lets twice the rate pass.
    ///
    /// The time between two calls is kept in whole nanoseconds, rounded up: the rate may be lower than
    /// asked for by a nanosecond a call, and is never higher.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidRateLimit::Rate`] unless a call comes every 100 ns to every day.
    pub fn new(permits: u32, per: Duration) -> Result<Self, InvalidRateLimit> {
        let invalid = InvalidRateLimit::Rate { permits, per };
        if permits == 0 {
            return Err(invalid);
        }
        let interval_nanos = nanos(per).div_ceil(u64::from(permits));
        if !(INTERVAL_NANOS_MIN..=INTERVAL_NANOS_MAX).contains(&interval_nanos) {
            return Err(invalid);
        }
        let (burst, max_wait, key) = (permits.div_ceil(10), Duration::ZERO, RateKey::Origin);
        Self { permits, per, burst, max_wait, key, interval_nanos }.burst(burst)
    }

    /// Lets up to `burst` calls go at once after a pause; 1 spaces them evenly. A tenth of the permits
    /// unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidRateLimit::Burst`] when it is 0, or would take more than a year to come back.
    pub fn burst(self, burst: u32) -> Result<Self, InvalidRateLimit> {
        let refill = self.interval_nanos.checked_mul(u64::from(burst));
        if burst == 0 || refill.is_none_or(|refill| REFILL_NANOS_MAX < refill) {
            return Err(InvalidRateLimit::Burst { burst, interval: self.interval() });
        }
        Ok(Self { burst, ..self })
    }

    /// Lets a call wait up to `max_wait` for its turn before it is refused. Zero, which is the
    /// default, refuses at once: what to do instead is the caller's to say, and a caller who has
    /// nothing better to do says how long it is willing to wait.
    ///
    /// At most as many calls wait as the rate lets through in that time.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidRateLimit::MaxWait`] when it is above an hour.
    pub const fn max_wait(self, max_wait: Duration) -> Result<Self, InvalidRateLimit> {
        if WAIT_NANOS_MAX < max_wait.as_nanos() {
            return Err(InvalidRateLimit::MaxWait(max_wait));
        }
        Ok(Self { max_wait, ..self })
    }

    /// Says whom the rate is for: each origin, unless set.
    #[must_use]
    pub const fn key(self, key: RateKey) -> Self {
        Self { key, ..self }
    }

    /// Returns how many calls come in [`period`](Self::period).
    #[must_use]
    pub const fn permits(&self) -> u32 {
        self.permits
    }

    /// Returns the time in which [`permits`](Self::permits) calls come.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.per
    }

    /// Returns the time from one call to the next when they come evenly.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_nanos)
    }

    /// Returns how many calls may go at once after a pause.
    #[must_use]
    pub const fn most_at_once(&self) -> u32 {
        self.burst
    }

    /// Returns how long a call may wait.
    #[must_use]
    pub const fn longest_wait(&self) -> Duration {
        self.max_wait
    }

    /// Returns whom the rate is for.
    #[must_use]
    pub const fn rate_key(&self) -> &RateKey {
        &self.key
    }

    pub(super) const fn interval_nanos(&self) -> u64 {
        self.interval_nanos
    }

    pub(super) const fn burst_nanos(&self) -> u64 {
        self.interval_nanos * self.burst as u64
    }
}

impl fmt::Display for RateKey {
    /// As a configuration file has it: `origin`, `all` or `header:x-tenant`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin => write!(f, "origin"),
            Self::All => write!(f, "all"),
            Self::Field(name) => write!(f, "header:{name}"),
        }
    }
}

impl fmt::Display for InvalidRateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate { permits, per } => write!(
                f,
                "a rate of {permits} in {per:?} is not within one call a day to one every 100ns"
            ),
            Self::Burst { burst, interval } => write!(
                f,
                "a burst of {burst}, one every {interval:?}, is not within 1 to what comes in a year"
            ),
            Self::MaxWait(wait) => write!(f, "longest wait {wait:?} is above 1h"),
        }
    }
}

impl std::error::Error for InvalidRateLimit {}

/// Where rounding up to a nanosecond is a percent of the rate.
const INTERVAL_NANOS_MIN: u64 = 100;
const INTERVAL_NANOS_MAX: u64 = 86_400 * SECOND_NANOS;
const REFILL_NANOS_MAX: u64 = 366 * INTERVAL_NANOS_MAX;
/// Whoever called has given up by then.
const WAIT_NANOS_MAX: u128 = 3_600 * SECOND_NANOS as u128;
