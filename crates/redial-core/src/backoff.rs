//! How long to wait between attempts.
//!
//! A [`Backoff`] is a pure function of the retry's number, the wait before it and one random draw.
//! It holds no clock, counter or generator, so one value serves every request, and any schedule can
//! be replayed from its seed. All arithmetic is in whole nanoseconds; no input overflows.

use std::{fmt, time::Duration};

/// A capped schedule of waits.
///
/// Before retry `n`, counted from 1, the *ceiling* grows as [`Growth`] says and is cut at `max`;
/// then [`Jitter`] spreads the wait. The cap comes first, so a jitter that adds may exceed it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::{Backoff, Jitter};
///
/// let ms = Duration::from_millis;
/// let backoff = Backoff::exponential(ms(50), 2.0, ms(2_000))?;
/// assert_eq!(backoff.ceiling(1), ms(50));
/// assert_eq!(backoff.ceiling(3), ms(200));
/// assert_eq!(backoff.ceiling(9), ms(2_000));
///
/// let halfway = u64::MAX / 2 + 1;
/// assert_eq!(backoff.delay(3, ms(0), halfway), ms(100));
/// assert_eq!(backoff.jitter(Jitter::Equal)?.delay(3, ms(0), halfway), ms(150));
/// assert_eq!(backoff.jitter(Jitter::Additive)?.bounds(3), (ms(200), ms(400)));
/// # Ok::<(), redial_core::InvalidBackoff>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    growth: Growth,
    factor: Ratio,
    initial: Duration,
    max: Duration,
    jitter: Jitter,
}

/// How the ceiling grows from retry to retry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// Always `initial`.
    Fixed,
    /// `initial × n`.
    Linear,
    /// `initial × factorⁿ⁻¹`, for a factor of at least 1, exact to a millionth.
    Exponential(f64),
    /// Uniform between `initial` and three times the wait before, cut at `max`: AWS's "decorrelated
    /// jitter". It is random by itself and takes no [`Jitter`].
    Decorrelated,
}

/// How a wait is spread around its ceiling, so that clients that failed together do not return
/// together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Jitter {
    /// Always the ceiling. For a lone caller only: many callers would retry in step.
    None,
    /// Uniform from zero up to the ceiling: spreads load best.
    #[default]
    Full,
    /// Uniform from half the ceiling up to the ceiling: keeps a floor under the wait.
    Equal,
    /// Uniform within ± this share of the ceiling, from 0 to 1, exact to a millionth. gRPC uses 0.2,
    /// cenkalti/backoff 0.5.
    Proportional(f64),
    /// The ceiling plus uniform from zero up to the ceiling.
    Additive,
}

/// The values given do not form a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InvalidBackoff {
    /// The first wait is longer than the longest.
    InitialAboveMax {
        /// The first wait.
        initial: Duration,
        /// The longest wait.
        max: Duration,
    },
    /// The factor is not within `1 <= factor <= 1000`.
    Factor(f64),
    /// The share is not within `0 <= share <= 1`.
    Proportion(f64),
    /// Decorrelated growth is random by itself; no jitter may be put on top.
    DecorrelatedJitter(Jitter),
}

impl Backoff {
    /// Creates a schedule that grows from `initial` to `max` as `growth` says, with
    /// [`Jitter::Full`], or none for [`Growth::Decorrelated`].
    ///
    /// An `initial` of zero never waits.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBackoff`] unless `initial <= max` and `1 <= factor <= 1000`.
    pub fn new(growth: Growth, initial: Duration, max: Duration) -> Result<Self, InvalidBackoff> {
        if max < initial {
            return Err(InvalidBackoff::InitialAboveMax { initial, max });
        }
        let factor = match growth {
            Growth::Exponential(factor) if !(1.0..=1_000.0).contains(&factor) => {
                return Err(InvalidBackoff::Factor(factor));
            }
            Growth::Exponential(factor) => Ratio::new(factor),
            Growth::Fixed | Growth::Linear | Growth::Decorrelated => Ratio::new(1.0),
        };
        let jitter = match growth {
            Growth::Decorrelated => Jitter::None,
            Growth::Fixed | Growth::Linear | Growth::Exponential(_) => Jitter::Full,
        };
        Ok(Self { growth, factor, initial, max, jitter })
    }

    /// Creates a schedule that always waits for the same time, before jitter.
    #[must_use]
    pub fn fixed(delay: Duration) -> Self {
        let factor = Ratio::new(1.0);
        Self { growth: Growth::Fixed, factor, initial: delay, max: delay, jitter: Jitter::Full }
    }

    /// Creates a schedule of `initial × factorⁿ⁻¹`, never above `max`, with [`Jitter::Full`].
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBackoff`] as [`Backoff::new`] does.
    pub fn exponential(
        initial: Duration,
        factor: f64,
        max: Duration,
    ) -> Result<Self, InvalidBackoff> {
        Self::new(Growth::Exponential(factor), initial, max)
    }

    /// Creates a schedule that doubles from `initial` up to `max`, which is not below it.
    pub(crate) fn doubling(initial: Duration, max: Duration) -> Self {
        debug_assert!(initial <= max, "a schedule of ours is in order");
        let growth = Growth::Exponential(2.0);
        Self { growth, factor: Ratio::new(2.0), initial, max, jitter: Jitter::Full }
    }

    /// Spreads waits with `jitter`.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBackoff`] when the share of [`Jitter::Proportional`] is not within 0 to 1, or
    /// when the growth is decorrelated and `jitter` is not [`Jitter::None`].
    pub fn jitter(self, jitter: Jitter) -> Result<Self, InvalidBackoff> {
        match jitter {
            Jitter::Proportional(share) if !(0.0..=1.0).contains(&share) => {
                Err(InvalidBackoff::Proportion(share))
            }
            jitter if self.growth == Growth::Decorrelated && jitter != Jitter::None => {
                Err(InvalidBackoff::DecorrelatedJitter(jitter))
            }
            jitter => Ok(Self { jitter, ..self }),
        }
    }

    /// Returns how the ceiling grows.
    #[must_use]
    pub const fn growth(&self) -> Growth {
        self.growth
    }

    /// Returns the first ceiling.
    #[must_use]
    pub const fn initial(&self) -> Duration {
        self.initial
    }

    /// Returns what no ceiling exceeds.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// Returns how waits are spread.
    #[must_use]
    pub const fn spread(&self) -> Jitter {
        self.jitter
    }

    /// Returns the wait before retry `retry`, given the wait before the previous one and 64
    /// uniformly random bits.
    ///
    /// Total: every `draw` is valid, and `retry == 0` counts as 1. Only decorrelated growth looks at
    /// `previous`; less than `initial`, as before the first retry, counts as `initial`.
    #[must_use]
    pub fn delay(&self, retry: u32, previous: Duration, draw: u64) -> Duration {
        if self.growth == Growth::Decorrelated {
            let low = self.initial.as_nanos();
            let high = previous.max(self.initial).as_nanos() * 3;
            return duration(low + share_of(high - low, draw)).min(self.max);
        }
        let (low, high) = self.range(retry);
        duration(low + share_of(high - low, draw))
    }

    /// Returns the earliest and the latest wait before retry `retry`.
    #[must_use]
    pub fn bounds(&self, retry: u32) -> (Duration, Duration) {
        if self.growth == Growth::Decorrelated {
            return (self.initial, self.ceiling(retry));
        }
        let (low, high) = self.range(retry);
        (duration(low), duration(high))
    }

    /// Returns the wait before retry `retry` as it is before jitter.
    ///
    /// For decorrelated growth this is the longest possible wait. Exponential growth is level from
    /// retry 4,096 on, where it has not reached `max` by then.
    #[must_use]
    pub fn ceiling(&self, retry: u32) -> Duration {
        let (initial, max) = (self.initial.as_nanos(), self.max.as_nanos());
        let retry = retry.max(1);
        match self.growth {
            Growth::Fixed => self.initial,
            Growth::Linear => duration((initial * u128::from(retry)).min(max)),
            Growth::Exponential(_) => duration(grown(initial, max, self.factor, retry - 1)),
            Growth::Decorrelated => duration(grown(initial, max, Ratio::new(3.0), retry)),
        }
    }

    fn range(&self, retry: u32) -> (u128, u128) {
        let ceiling = self.ceiling(retry).as_nanos();
        match self.jitter {
            Jitter::None => (ceiling, ceiling),
            Jitter::Full => (0, ceiling),
            Jitter::Equal => (ceiling / 2, ceiling),
            Jitter::Proportional(share) => {
                let spread = Ratio::new(share).of(ceiling);
                (ceiling - spread, ceiling + spread)
            }
            Jitter::Additive => (ceiling, ceiling * 2),
        }
    }
}

impl Jitter {
    /// Returns the name used in flags and files: `full`, `proportional`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Full => "full",
            Self::Equal => "equal",
            Self::Proportional(_) => "proportional",
            Self::Additive => "additive",
        }
    }
}

impl Growth {
    /// Returns the name used in flags and files: `fixed`, `exponential`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Linear => "linear",
            Self::Exponential(_) => "exponential",
            Self::Decorrelated => "decorrelated",
        }
    }
}

impl fmt::Display for InvalidBackoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InitialAboveMax { initial, max } => {
                write!(f, "initial delay {initial:?} is above the longest delay {max:?}")
            }
            Self::Factor(factor) => write!(f, "factor {factor} is not within 1 to 1000"),
            Self::Proportion(share) => {
                write!(f, "proportional jitter {share} is not within 0 to 1")
            }
            Self::DecorrelatedJitter(jitter) => write!(
                f,
                "decorrelated backoff is random by itself and takes no {} jitter",
                jitter.name()
            ),
        }
    }
}

impl std::error::Error for InvalidBackoff {}

/// A positive fraction, exact to a millionth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Ratio {
    millionths: u32,
}

impl Ratio {
    /// Rounds `value` to a millionth; callers have checked that it is within 0 to 1000.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 10⁹ fits, and a cast from a float saturates"
    )]
    fn new(value: f64) -> Self {
        Self { millionths: (value * 1e6).round() as u32 }
    }

    fn of(self, whole: u128) -> u128 {
        whole * u128::from(self.millionths) / MILLION
    }
}

/// Returns `initial × factorˢᵗᵉᵖˢ`, rounded to the nearest nanosecond, or `max` when that is less.
fn grown(initial: u128, max: u128, factor: Ratio, steps: u32) -> u128 {
    if initial == 0 || factor.millionths <= 1_000_000 {
        return initial;
    }
    // Guard bits keep the rounding of each step below a nanosecond. Schedules beyond 584 years do
    // without: their values alone fill the integer.
    let guard = if max <= u128::from(u64::MAX) { 32 } else { 0 };
    let (mut value, limit) = (initial << guard, max << guard);
    for _ in 0..steps.min(STEPS_MAX) {
        value = factor.of(value);
        if limit <= value {
            return max;
        }
    }
    let half = if guard == 0 { 0 } else { 1 << (guard - 1) };
    (value + half) >> guard
}

/// Returns `draw`'s share of `whole`: every value from 0 to `whole`, both included, alike.
fn share_of(whole: u128, draw: u64) -> u128 {
    let (whole, draw) = (whole + 1, u128::from(draw));
    let (high, low) = (whole >> 64, whole & u128::from(u64::MAX));
    high * draw + ((low * draw) >> 64)
}

/// Returns up to `jitter` times `whole`, as `draw` picks.
pub(crate) fn share(whole: Duration, jitter: f64, draw: u64) -> Duration {
    duration(share_of(Ratio::new(jitter).of(whole.as_nanos()), draw))
}

fn duration(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / NANOS_A_SECOND);
    let rest = u32::try_from(nanos % NANOS_A_SECOND).unwrap_or_default();
    seconds.map_or(Duration::MAX, |seconds| Duration::new(seconds, rest))
}

const MILLION: u128 = 1_000_000;
const NANOS_A_SECOND: u128 = 1_000_000_000;
const STEPS_MAX: u32 = 4_095;

#[cfg(test)]
mod tests;
