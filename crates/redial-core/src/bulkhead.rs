//! How many calls at once, by a fixed number.
//!
//! A ship is divided so that one flooded room does not sink it. Calls to one slow upstream would
//! otherwise take every connection, task and byte of memory that calls to all others need.

use std::{fmt, time::Duration};

use crate::gate::Gate;

/// How many calls may be in flight, and how many may wait.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::BulkheadPolicy;
///
/// let policy = BulkheadPolicy::new(8)?.with_queue(100, Duration::from_millis(250))?;
/// assert_eq!((policy.in_flight_max(), policy.queue_max()), (8, 100));
///
/// // A place in a queue that nobody may wait in is a contradiction.
/// assert!(policy.with_queue(100, Duration::ZERO).is_err());
/// # Ok::<(), redial_core::InvalidBulkhead>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BulkheadPolicy {
    in_flight_max: u32,
    queue_max: u32,
    max_wait: Duration,
    scope: BulkheadScope,
}

/// Which calls share the places of a bulkhead.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BulkheadScope {
    /// Those to one origin: a slow one cannot take the places of others.
    #[default]
    Origin,
    /// All calls through the layer, and through its clones.
    All,
}

/// The values given do not form a bulkhead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidBulkhead {
    /// The number of calls in flight is not within 1 to [`Gate::MAX`].
    InFlight(u32),
    /// The queue is longer than [`Gate::MAX`].
    Queue(u32),
    /// There is a queue and no time to wait in it, or time to wait and no queue.
    Contradiction {
        /// How many may wait.
        queue_max: u32,
        /// How long each may wait.
        max_wait: Duration,
    },
}

impl BulkheadPolicy {
    /// Creates a policy of `in_flight_max` calls at once to each origin, without a queue.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBulkhead::InFlight`] unless `1 <= in_flight_max <= 2,097,151`.
    pub const fn new(in_flight_max: u32) -> Result<Self, InvalidBulkhead> {
        if in_flight_max == 0 || Gate::MAX < in_flight_max {
            return Err(InvalidBulkhead::InFlight(in_flight_max));
        }
        let scope = BulkheadScope::Origin;
        Ok(Self { in_flight_max, queue_max: 0, max_wait: Duration::ZERO, scope })
    }

    /// Lets up to `queue_max` calls wait for a place, in the order in which they came, each for
    /// `max_wait` at most. Zero of both is no queue: a call without a place is refused at once.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBulkhead`] if just one of the two is zero, or if `queue_max` is above
    /// 2,097,151.
    pub const fn with_queue(
        mut self,
        queue_max: u32,
        max_wait: Duration,
    ) -> Result<Self, InvalidBulkhead> {
        if Gate::MAX < queue_max {
            return Err(InvalidBulkhead::Queue(queue_max));
        }
        if (queue_max == 0) != max_wait.is_zero() {
            return Err(InvalidBulkhead::Contradiction { queue_max, max_wait });
        }
        (self.queue_max, self.max_wait) = (queue_max, max_wait);
        Ok(self)
    }

    /// Shares the places among the calls of `scope`.
    #[must_use]
    pub const fn with_scope(mut self, scope: BulkheadScope) -> Self {
        self.scope = scope;
        self
    }

    /// Returns how many calls may be in flight.
    #[must_use]
    #[inline]
    pub const fn in_flight_max(&self) -> u32 {
        self.in_flight_max
    }

    /// Returns how many calls may wait.
    #[must_use]
    pub const fn queue_max(&self) -> u32 {
        self.queue_max
    }

    /// Returns how long a call may wait.
    #[must_use]
    pub const fn max_wait(&self) -> Duration {
        self.max_wait
    }

    /// Returns which calls share the places.
    #[must_use]
    #[inline]
    pub const fn scope(&self) -> BulkheadScope {
        self.scope
    }
}

impl Default for BulkheadPolicy {
    /// 64 calls to an origin: at 100 ms a call, 640 a second (Little's law), and between what
    /// resilience4j (25) and Envoy (1,024) allow. No queue, as in resilience4j: waiting hides from a
    /// caller, and from its retries, that the upstream is slow.
    fn default() -> Self {
        Self {
            in_flight_max: 64,
            queue_max: 0,
            max_wait: Duration::ZERO,
            scope: BulkheadScope::Origin,
        }
    }
}

impl fmt::Display for InvalidBulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InFlight(calls) => {
                write!(f, "{calls} calls in flight are not within 1 to {}", Gate::MAX)
            }
            Self::Queue(calls) => {
                write!(f, "a queue of {calls} calls is longer than {}", Gate::MAX)
            }
            Self::Contradiction { queue_max, max_wait } => write!(
                f,
                "a queue of {queue_max} calls and a wait of {max_wait:?} contradict each other: \
                 both must be zero, or neither"
            ),
        }
    }
}

impl std::error::Error for InvalidBulkhead {}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_cannot_work_is_refused_with_the_rule() {
        let policy = BulkheadPolicy::default();
        let told = |outcome: Result<BulkheadPolicy, InvalidBulkhead>| {
            outcome.map_err(|error| error.to_string()).unwrap_err()
        };
        assert_eq!(told(BulkheadPolicy::new(0)), "0 calls in flight are not within 1 to 2097151");
        assert!(BulkheadPolicy::new(u32::MAX).is_err() && BulkheadPolicy::new(Gate::MAX).is_ok());
        let rule = "contradict each other: both must be zero, or neither";
        assert_eq!(
            told(policy.with_queue(5, Duration::ZERO)),
            format!("a queue of 5 calls and a wait of 0ns {rule}")
        );
        assert_eq!(
            told(policy.with_queue(0, SECOND)),
            format!("a queue of 0 calls and a wait of 1s {rule}")
        );
        let long = told(policy.with_queue(u32::MAX, SECOND));
        assert_eq!(long, "a queue of 4294967295 calls is longer than 2097151");
    }

    #[test]
    fn setters_keep_what_they_are_not_about() {
        let policy = BulkheadPolicy::new(3).unwrap().with_scope(BulkheadScope::All);
        assert!(policy.with_queue(2_097_151, SECOND).is_ok());
        assert!(policy.with_queue(2_097_152, SECOND).is_err());
        let policy = policy.with_queue(7, SECOND).unwrap();
        assert_eq!((policy.in_flight_max(), policy.scope()), (3, BulkheadScope::All));
        assert_eq!((policy.queue_max(), policy.max_wait()), (7, SECOND));
        let policy = policy.with_queue(0, Duration::ZERO).unwrap();
        assert_eq!((policy.queue_max(), policy.max_wait()), (0, Duration::ZERO));
        assert_eq!(BulkheadPolicy::default(), BulkheadPolicy::new(64).unwrap());
    }
}
