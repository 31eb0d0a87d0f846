//! When to hedge, as data.

use std::{fmt, time::Duration};

use crate::quantile::Quantile;

/// When to hedge, and how often.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::{HedgePolicy, Quantile};
///
/// let millis = Duration::from_millis;
/// let policy = HedgePolicy::tracked(Quantile::percent(99.0)?)?
///     .with_initial_delay(millis(200))?
///     .with_bounds(millis(5), millis(2_000))?
///     .with_max_hedges(2)?;
/// assert_eq!(policy.quantile(), Some(Quantile::percent(99.0)?));
/// assert_eq!(HedgePolicy::fixed(millis(50)).fixed_delay(), Some(millis(50)));
/// # Ok::<(), redial_core::InvalidHedge>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HedgePolicy {
    delay: Delay,
    max_hedges: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Delay {
    Fixed(Duration),
    Tracked { quantile: Quantile, initial: Duration, min: Duration, max: Duration },
}

/// The values given do not form a hedge policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InvalidHedge {
    /// A percentage is not within its range.
    Quantile {
        /// The percentage.
        percent: f64,
    },
    /// What should be a quantile is not written as one.
    NoQuantile,
    /// Below the median, more calls would be hedged than not.
    QuantileBelowMedian {
        /// The quantile.
        quantile: Quantile,
    },
    /// There are too many copies, or none.
    MaxHedges {
        /// The number of copies after the first.
        max_hedges: u32,
    },
    /// The floor is above the ceiling.
    Bounds {
        /// The floor.
        min: Duration,
        /// The ceiling.
        max: Duration,
    },
    /// An initial delay or bounds were given to a delay that is fixed.
    FixedDelay {
        /// The fixed delay.
        delay: Duration,
    },
}

impl HedgePolicy {
    /// Creates a policy that sends the next copy after a quantile of what calls took recently.
    ///
    /// The share of calls that are hedged then stays what the quantile leaves, one in twenty for
    /// p95, however fast or slow the upstream becomes.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidHedge::QuantileBelowMedian`] for less than p50.
    pub fn tracked(quantile: Quantile) -> Result<Self, InvalidHedge> {
        if quantile < Quantile::P50 {
            return Err(InvalidHedge::QuantileBelowMedian { quantile });
        }
        Ok(Self { delay: tracked(quantile), max_hedges: MAX_HEDGES })
    }

    /// Creates a policy that sends the next copy after `delay`, whatever answers usually take. Zero
    /// sends it as soon as the one before is not answered at once.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self { delay: Delay::Fixed(delay), max_hedges: MAX_HEDGES }
    }

    /// Sets the delay that holds while too few answers are known. The bounds apply to it as well.
    /// 500 ms unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidHedge::FixedDelay`] where the delay is fixed.
    pub fn with_initial_delay(mut self, delay: Duration) -> Result<Self, InvalidHedge> {
        match &mut self.delay {
            Delay::Fixed(delay) => Err(InvalidHedge::FixedDelay { delay: *delay }),
            Delay::Tracked { initial, .. } => {
                *initial = delay;
                Ok(self)
            }
        }
    }

    /// Sets the floor and the ceiling of a delay that is tracked. 1 ms and 30 s unless set.
    ///
    /// A ceiling below what answers take while the upstream is slow means hedging most calls then.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidHedge::Bounds`] unless `floor <= ceiling`, and [`InvalidHedge::FixedDelay`]
    /// where the delay is fixed.
    pub fn with_bounds(mut self, floor: Duration, ceiling: Duration) -> Result<Self, InvalidHedge> {
        if ceiling < floor {
            return Err(InvalidHedge::Bounds { min: floor, max: ceiling });
        }
        match &mut self.delay {
            Delay::Fixed(delay) => Err(InvalidHedge::FixedDelay { delay: *delay }),
            Delay::Tracked { min, max, .. } => {
                (*min, *max) = (floor, ceiling);
                Ok(self)
            }
        }
    }

    /// Sets how many copies may follow the first. 1 unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidHedge::MaxHedges`] unless it is 1 to 4.
    pub const fn with_max_hedges(mut self, max_hedges: u32) -> Result<Self, InvalidHedge> {
        if max_hedges == 0 || MAX_HEDGES_MOST < max_hedges {
            return Err(InvalidHedge::MaxHedges { max_hedges });
        }
        self.max_hedges = max_hedges;
        Ok(self)
    }

    /// Returns the delay, where it is fixed.
    #[must_use]
    pub const fn fixed_delay(&self) -> Option<Duration> {
        match self.delay {
            Delay::Fixed(delay) => Some(delay),
            Delay::Tracked { .. } => None,
        }
    }

    /// Returns the quantile that the delay follows, where it is not fixed.
    #[must_use]
    pub const fn quantile(&self) -> Option<Quantile> {
        match self.delay {
            Delay::Fixed(_) => None,
            Delay::Tracked { quantile, .. } => Some(quantile),
        }
    }

    /// Returns the delay while too few answers are known, where it is not fixed.
    #[must_use]
    pub const fn initial_delay(&self) -> Option<Duration> {
        match self.delay {
            Delay::Fixed(_) => None,
            Delay::Tracked { initial, .. } => Some(initial),
        }
    }

    /// Returns the floor and the ceiling of the delay, where it is not fixed.
    #[must_use]
    pub const fn bounds(&self) -> Option<(Duration, Duration)> {
        match self.delay {
            Delay::Fixed(_) => None,
            Delay::Tracked { min, max, .. } => Some((min, max)),
        }
    }

    /// Returns how many copies may follow the first.
    #[must_use]
    pub const fn max_hedges(&self) -> u32 {
        self.max_hedges
    }

    /// Returns the delay for an upstream whose quantile is `known`, or not known yet.
    #[must_use]
    pub fn delay(&self, known: Option<Duration>) -> Duration {
        match self.delay {
            Delay::Fixed(delay) => delay,
            Delay::Tracked { initial, min, max, .. } => known.unwrap_or(initial).max(min).min(max),
        }
    }
}

const fn tracked(quantile: Quantile) -> Delay {
    Delay::Tracked { quantile, initial: INITIAL, min: MIN, max: MAX }
}

impl Default for HedgePolicy {
    /// One copy after the p95 of recent calls: 5 % more requests for most of what can be had
    /// (`science.md` B13: p99.9 at 0.12 to 0.49 of unhedged, up to a load of 0.9).
    fn default() -> Self {
        Self { delay: tracked(Quantile::P95), max_hedges: MAX_HEDGES }
    }
}

impl fmt::Display for InvalidHedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantile { percent } => {
                write!(f, "quantile p{percent} is not within p0.1 to p99.9")
            }
            Self::NoQuantile => {
                f.write_str("a quantile is a p and a percentage, such as p95 or p99.9")
            }
            Self::QuantileBelowMedian { quantile } => {
                write!(f, "quantile {quantile} is below p50, so most calls would be hedged")
            }
            Self::MaxHedges { max_hedges } => {
                write!(f, "max hedges {max_hedges} is not within 1 to {MAX_HEDGES_MOST}")
            }
            Self::Bounds { min, max } => {
                write!(f, "least delay {min:?} is above the greatest, {max:?}")
            }
            Self::FixedDelay { delay } => write!(
                f,
                "an initial, least or greatest delay does not go with the fixed delay {delay:?}"
            ),
        }
    }
}

impl std::error::Error for InvalidHedge {}

/// One copy does most of the good ("The Tail at Scale"; Finagle sends one as well).
const MAX_HEDGES: u32 = 1;
/// gRFC A6: no more than five attempts.
const MAX_HEDGES_MOST: u32 = 4;
/// The `hedgingDelay` of gRFC A6's example.
const INITIAL: Duration = Duration::from_millis(500);
/// The finest step of the runtime's timers.
const MIN: Duration = Duration::from_millis(1);
/// The default attempt timeout, after which an attempt is over anyway.
const MAX: Duration = Duration::from_secs(30);
