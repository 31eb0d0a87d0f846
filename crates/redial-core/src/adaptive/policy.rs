//! How a limit is learned, and the one step that leads from a limit to the next.

use std::{fmt, time::Duration};

use crate::gate::Gate;

/// How a limit on attempts in flight is learned.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::{AdaptivePolicy, LimitAlgorithm, LimitRound};
///
/// let policy = AdaptivePolicy::default().with_algorithm(LimitAlgorithm::Vegas).with_limits(1, 20, 100)?;
///
/// // Answers take as long as they do without load, and all 20 places were used: there is room.
/// let unloaded = Duration::from_millis(10);
/// let round = LimitRound { in_flight_max: 20, baseline: unloaded, latency: unloaded };
/// assert_eq!(policy.next_limit(20.0, &round), 26.0);
///
/// // Twice as long: half of them only wait over there.
/// let round = LimitRound { latency: unloaded * 2, ..round };
/// assert_eq!(policy.next_limit(20.0, &round), 19.0);
/// # Ok::<(), redial_core::InvalidAdaptiveLimit>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptivePolicy {
    algorithm: LimitAlgorithm,
    min: u32,
    initial: u32,
    max: u32,
    tolerance: f64,
    slow_after: Duration,
    overload_ratio: f64,
    window: Duration,
    samples_min: u32,
    probe_interval: Duration,
}

/// How the next limit follows from what was seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LimitAlgorithm {
    /// One more a window while all is well, a tenth less when the upstream is overloaded or slower
    /// than a fixed time. Needs an upstream that says so, or a time that is known to be too long.
    Aimd,
    /// Estimates how many attempts wait at the upstream, from the latency with and without load, and
    /// keeps a few of them there (after TCP Vegas, and Netflix's `VegasLimit`).
    Vegas,
    /// Shrinks as the latency of a window exceeds the long-term latency by more than a tolerance, and
    /// otherwise grows a little (after Netflix's `Gradient2Limit`).
    #[default]
    Gradient2,
}

/// What was seen in a window of time, as far as it moves a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LimitRound {
    /// The most attempts that were in flight at once.
    pub in_flight_max: u32,
    /// How long an answer takes without load, or has taken for long.
    pub baseline: Duration,
    /// How long an answer took.
    pub latency: Duration,
}

/// The values given do not form an adaptive limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InvalidAdaptiveLimit {
    /// Not `1 <= min <= initial <= max <= 2,097,151`.
    Limits {
        /// The lowest limit.
        min: u32,
        /// The limit to begin with.
        initial: u32,
        /// The highest limit.
        max: u32,
    },
    /// The tolerance is not within 1 to 10.
    Tolerance(f64),
    /// The time after which an answer counts as slow is zero.
    SlowAfter,
    /// The share of overloaded attempts is not above 0 and at most 1.
    OverloadRatio(f64),
    /// The window is longer than 60 s, or needs no sample.
    Window {
        /// Its length.
        window: Duration,
        /// How many samples it needs.
        samples_min: u32,
    },
    /// The interval between two probes is not within 1 s to 1 h.
    ProbeInterval(Duration),
}

impl AdaptivePolicy {
    /// Learns by `algorithm`. [`LimitAlgorithm::Gradient2`] unless set.
    #[must_use]
    pub const fn with_algorithm(mut self, algorithm: LimitAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Begins at `initial` and stays within `min` and `max`. 1, 20 and 200 unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidAdaptiveLimit::Limits`] unless `1 <= min <= initial <= max <= 2,097,151`.
    pub const fn with_limits(
        mut self,
        min: u32,
        initial: u32,
        max: u32,
    ) -> Result<Self, InvalidAdaptiveLimit> {
        if min == 0 || initial < min || max < initial || Gate::MAX < max {
            return Err(InvalidAdaptiveLimit::Limits { min, initial, max });
        }
        (self.min, self.initial, self.max) = (min, initial, max);
        Ok(self)
    }

    /// Lets the latency of a window be `tolerance` times the long-term one before the limit shrinks.
    /// 1.5 unless set. For [`LimitAlgorithm::Gradient2`] only.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidAdaptiveLimit::Tolerance`] unless `1 <= tolerance <= 10`.
    pub fn with_tolerance(mut self, tolerance: f64) -> Result<Self, InvalidAdaptiveLimit> {
        if !(1.0..=10.0).contains(&tolerance) {
            return Err(InvalidAdaptiveLimit::Tolerance(tolerance));
        }
        self.tolerance = tolerance;
        Ok(self)
    }

    /// Takes an answer that took this long, or longer, as a sign of overload. 5 s unless set. For
    /// [`LimitAlgorithm::Aimd`] only; the others learn what is slow.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidAdaptiveLimit::SlowAfter`] if it is zero.
    pub const fn with_slow_after(
        mut self,
        slow_after: Duration,
    ) -> Result<Self, InvalidAdaptiveLimit> {
        if slow_after.is_zero() {
            return Err(InvalidAdaptiveLimit::SlowAfter);
        }
        self.slow_after = slow_after;
        Ok(self)
    }

    /// Cuts the limit by a tenth after a window in which this share of the attempts, or more, were
    /// [`Overloaded`](crate::Health::Overloaded). 0.1 unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidAdaptiveLimit::OverloadRatio`] unless `0 < ratio <= 1`.
    pub fn with_overload_ratio(mut self, ratio: f64) -> Result<Self, InvalidAdaptiveLimit> {
        if !(f64::MIN_POSITIVE..=1.0).contains(&ratio) {
            return Err(InvalidAdaptiveLimit::OverloadRatio(ratio));
        }
        self.overload_ratio = ratio;
        Ok(self)
    }

    /// Moves the limit after at least `window`, twice the latency, and `samples_min` attempts that
    /// ended: whichever takes longest. A zero `window` leaves the other two. 1 s and 10 unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidAdaptiveLimit::Window`] unless `window <= 60 s` and `1 <= samples_min`.
    pub const fn with_window(
        mut self,
        window: Duration,
        samples_min: u32,
    ) -> Result<Self, InvalidAdaptiveLimit> {
        if WINDOW_NANOS_MAX < window.as_nanos() || samples_min == 0 {
            return Err(InvalidAdaptiveLimit::Window { window, samples_min });
        }
        (self.window, self.samples_min) = (window, samples_min);
        Ok(self)
    }

    /// Measures the latency without load at least this often, by lowering the limit for a few round
    /// trips; unless calls were few enough meanwhile for it to be seen anyway. 30 s unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidAdaptiveLimit::ProbeInterval`] unless it is within 1 s to 1 h.
    pub const fn with_probe_interval(
        mut self,
        probe_interval: Duration,
    ) -> Result<Self, InvalidAdaptiveLimit> {
        if probe_interval.as_secs() < 1 || HOUR_NANOS < probe_interval.as_nanos() {
            return Err(InvalidAdaptiveLimit::ProbeInterval(probe_interval));
        }
        self.probe_interval = probe_interval;
        Ok(self)
    }

    /// Returns the algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> LimitAlgorithm {
        self.algorithm
    }

    /// Returns the limit to begin with.
    #[must_use]
    pub const fn initial(&self) -> u32 {
        self.initial
    }

    /// Returns the lowest limit.
    #[must_use]
    pub const fn min(&self) -> u32 {
        self.min
    }

    /// Returns the highest limit.
    #[must_use]
    pub const fn max(&self) -> u32 {
        self.max
    }

    /// Returns how many times the long-term latency a window's may be.
    #[must_use]
    pub const fn tolerance(&self) -> f64 {
        self.tolerance
    }

    /// Returns how long an answer takes that is slow.
    #[must_use]
    pub const fn slow_after(&self) -> Duration {
        self.slow_after
    }

    /// Returns the share of overloaded attempts that cuts the limit.
    #[must_use]
    pub const fn overload_ratio(&self) -> f64 {
        self.overload_ratio
    }

    /// Returns the least length of a window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// Returns how many attempts a window needs.
    #[must_use]
    pub const fn samples_min(&self) -> u32 {
        self.samples_min
    }

    /// Returns how often the latency without load is measured at least.
    #[must_use]
    pub const fn probe_interval(&self) -> Duration {
        self.probe_interval
    }

    /// Returns the limit that follows `limit` after a window like `round`, fractions included.
    ///
    /// Where fewer than half of the places were used, nothing was learned about the limit, and it
    /// stays. It never grows beyond twice of what was in flight.
    #[must_use]
    pub fn next_limit(&self, limit: f64, round: &LimitRound) -> f64 {
        let used = 2.0 * f64::from(round.in_flight_max);
        if used < limit {
            return limit;
        }
        let next = match self.algorithm {
            LimitAlgorithm::Aimd => limit + 1.0,
            LimitAlgorithm::Vegas => vegas(limit, round),
            LimitAlgorithm::Gradient2 => self.gradient2(limit, round),
        };
        self.clamp(next.min(used.max(limit)))
    }

    /// Returns the limit that follows `limit` after a window of overload: a tenth less.
    #[must_use]
    pub fn cut_limit(&self, limit: f64) -> f64 {
        self.clamp(limit * LEFT_AFTER_CUT)
    }

    pub(super) fn clamp(&self, limit: f64) -> f64 {
        limit.clamp(f64::from(self.min), f64::from(self.max))
    }

    fn gradient2(&self, limit: f64, round: &LimitRound) -> f64 {
        let gradient = (self.tolerance * round.ratio()).clamp(0.5, 1.0);
        limit * (1.0 - SMOOTHING) + SMOOTHING * (limit * gradient + HEADROOM)
    }
}

impl LimitRound {
    /// The baseline over the latency.
    fn ratio(&self) -> f64 {
        let seconds = |span: Duration| span.max(LEAST).as_secs_f64();
        seconds(self.baseline) / seconds(self.latency)
    }
}

fn vegas(limit: f64, round: &LimitRound) -> f64 {
    let waiting = (limit * (1.0 - round.ratio())).ceil();
    // Whole logarithms, at least one: what Netflix's table holds.
    let step = limit.log10().floor().max(1.0);
    if waiting <= step {
        limit + 6.0 * step
    } else if waiting < 3.0 * step {
        limit + step
    } else if waiting <= 6.0 * step {
        limit
    } else {
        limit - step
    }
}

impl Default for AdaptivePolicy {
    /// [`LimitAlgorithm::Gradient2`], from 20 within 1 and 200, with a tolerance of 1.5, over windows
    /// of 1 s and 10 samples: the defaults of Netflix's `Gradient2Limit` and `WindowedLimit`, but for
    /// the lowest limit, which is 20 there and hides any upstream that bears less. 5 s is slow
    /// (Netflix's `AIMDLimit`); a tenth of overloaded attempts is too many. A probe every 30 s takes
    /// 1 % of the capacity of an upstream that answers in 100 ms, less of a faster one (`docs/adaptive-limit.md`).
    fn default() -> Self {
        Self {
            algorithm: LimitAlgorithm::Gradient2,
            min: 1,
            initial: 20,
            max: 200,
            tolerance: 1.5,
            slow_after: Duration::from_secs(5),
            overload_ratio: 0.1,
            window: Duration::from_secs(1),
            samples_min: 10,
            probe_interval: Duration::from_secs(30),
        }
    }
}

impl LimitAlgorithm {
    /// Returns the name used in files and reports: `aimd`, `vegas` or `gradient2`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aimd => "aimd",
            Self::Vegas => "vegas",
            Self::Gradient2 => "gradient2",
        }
    }
}

impl fmt::Display for InvalidAdaptiveLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limits { min, initial, max } => write!(
                f,
                "limits of {min} at least, {initial} at first and {max} at most are not within 1 to \
                 {} and in that order",
                Gate::MAX
            ),
            Self::Tolerance(tolerance) => write!(f, "tolerance {tolerance} is not within 1 to 10"),
            Self::SlowAfter => write!(f, "answers cannot be slow after no time at all"),
            Self::OverloadRatio(ratio) => {
                write!(f, "overload ratio {ratio} is not above 0 and at most 1")
            }
            Self::Window { window, samples_min } => write!(
                f,
                "a window of {window:?} and {samples_min} samples is not within 60s and of 1 sample \
                 at least"
            ),
            Self::ProbeInterval(interval) => {
                write!(f, "probe interval {interval:?} is not within 1s to 1h")
            }
        }
    }
}

impl std::error::Error for InvalidAdaptiveLimit {}

/// What a cut leaves of a limit, the weight of a step of `Gradient2`, and how many attempts it lets
/// wait at the upstream: Netflix's `backoffRatio`, `smoothing` and `queueSize`.
const LEFT_AFTER_CUT: f64 = 0.9;
const SMOOTHING: f64 = 0.2;
const HEADROOM: f64 = 4.0;

const WINDOW_NANOS_MAX: u128 = 60_000_000_000;
const HOUR_NANOS: u128 = 3_600_000_000_000;

/// What a latency is at least, so that nothing is divided by zero.
const LEAST: Duration = Duration::from_micros(1);
