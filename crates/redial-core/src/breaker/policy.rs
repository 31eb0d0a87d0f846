//! When a breaker opens, for how long, and how it finds out that the upstream is back.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::TripReason;
use crate::{
    backoff::{Backoff, Jitter},
    window::{Counts, Window, nanos},
};

/// When a breaker opens, for how long, and how it finds out that the upstream is back.
///
/// Three triggers, each of which can be off: failures in a row, the share of failing calls in a
/// window, and the share of slow ones. Thresholds are met at `>=`. Only a call that failed or was slow
/// can meet one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::{BreakerPolicy, Window};
///
/// let second = Duration::from_secs(1);
/// let policy = BreakerPolicy::default()
///     .with_consecutive_failures(5)
///     .with_slow_calls(second * 2, 0.8)?
///     .with_window(Window::time(second * 30)?)?
///     .with_probes(1)?;
/// assert_eq!(policy.slow_after(), Some(second * 2));
///
/// // Twenty calls can never be a hundred.
/// let error = policy.with_window(Window::calls(20)?).unwrap_err();
/// assert_eq!(error.to_string(), "at least 100 calls are never within a window of 20 calls");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    consecutive_failures: u32,
    failure_ratio: Share,
    slow_ratio: Share,
    /// The longest time there is, where slow calls are not looked for.
    slow_after_nanos: u64,
    window: Window,
    min_calls: u32,
    open: Backoff,
    pushback_max: Duration,
    probes: u32,
    probe_successes: u32,
    half_open_max: Duration,
    abandoned: Abandoned,
    is_observing: bool,
}

/// What a call counts as whose caller went away before it ended.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Abandoned {
    /// As if it had not been made.
    #[default]
    Ignore,
    /// As a failure: for callers that leave only because nothing comes.
    Failure,
}

/// The values given do not form a policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InvalidBreaker {
    /// A share of calls is not within `0 <= ratio <= 1`.
    Ratio(f64),
    /// Calls would be slow after no time at all.
    SlowAfterZero,
    /// The window never holds as many calls as the ratios need.
    MinCallsAboveWindow {
        /// How many calls the ratios need.
        min_calls: u32,
        /// How many the window holds.
        window_calls: u32,
    },
    /// A number of probes is not within 1 to 1,000.
    Probes(u32),
    /// Probes would have no time at all, or more than a day.
    HalfOpenMax(Duration),
    /// Every wait of the schedule is zero: the breaker would never refuse anything.
    NeverOpen,
}

impl BreakerPolicy {
    /// Opens after so many failures in a row, however far apart they are. Zero turns this off. 10
    /// unless set.
    #[must_use]
    pub const fn with_consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// Opens when this share of the calls in the window failed, exact to a millionth. Zero turns this
    /// off. 0.5 unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBreaker::Ratio`] unless `0 <= ratio <= 1`.
    pub fn with_failure_ratio(mut self, ratio: f64) -> Result<Self, InvalidBreaker> {
        self.failure_ratio = Share::new(ratio)?;
        Ok(self)
    }

    /// Calls a call slow that took `after` or longer, and opens when this share of the calls in the
    /// window was slow; a probe that is slow has failed. A ratio of zero turns this off, as it is
    /// unless set: what is slow, only those who know the upstream can tell.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBreaker`] unless `0 <= ratio <= 1`, and when `after` is zero and the ratio is
    /// not.
    pub fn with_slow_calls(mut self, after: Duration, ratio: f64) -> Result<Self, InvalidBreaker> {
        self.slow_ratio = Share::new(ratio)?;
        self.slow_after_nanos = match nanos(after) {
            _ if self.slow_ratio.is_off() => u64::MAX,
            0 => return Err(InvalidBreaker::SlowAfterZero),
            nanos => nanos,
        };
        Ok(self)
    }

    /// Counts the calls of this window for the ratios. 10 s unless set.
    ///
    /// Under another window than before, counts begin anew; everything else goes on.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBreaker::MinCallsAboveWindow`] for a window of fewer calls than the ratios
    /// need.
    pub const fn with_window(mut self, window: Window) -> Result<Self, InvalidBreaker> {
        self.window = window;
        self.checked()
    }

    /// Lets no ratio count before so many calls are in the window. Zero is the same as one. 100 unless
    /// set. Failures in a row count at once.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBreaker::MinCallsAboveWindow`] when a window of calls never holds as many.
    pub const fn with_min_calls(mut self, calls: u32) -> Result<Self, InvalidBreaker> {
        self.min_calls = calls;
        self.checked()
    }

    /// Stays open for what `open` says, whose step is the number of trips since it was last closed. 5 s
    /// doubling up to 15 s, ± 20 %, unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBreaker::NeverOpen`] for a schedule that never waits.
    pub fn with_open(mut self, open: Backoff) -> Result<Self, InvalidBreaker> {
        if open.max().is_zero() {
            return Err(InvalidBreaker::NeverOpen);
        }
        self.open = open;
        Ok(self)
    }

    /// Stays open for as long as the upstream asks, if that is longer, but no longer than this. Zero
    /// ignores its wishes. 120 s unless set.
    #[must_use]
    pub const fn with_pushback_max(mut self, max: Duration) -> Self {
        self.pushback_max = max;
        self
    }

    /// Lets so many probes be out at once. 3 unless set.
    ///
    /// Successful probes keep their places: no more are let through than there are probes, or
    /// successes needed, whichever is more.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBreaker::Probes`] unless the number is within 1 to 1,000.
    pub const fn with_probes(mut self, at_once: u32) -> Result<Self, InvalidBreaker> {
        if at_once < 1 || PROBES_MAX < at_once {
            return Err(InvalidBreaker::Probes(at_once));
        }
        self.probes = at_once;
        Ok(self)
    }

    /// Closes after so many successful probes. 2 unless set. One that fails opens at once.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBreaker::Probes`] unless the number is within 1 to 1,000.
    pub const fn with_probe_successes(mut self, successes: u32) -> Result<Self, InvalidBreaker> {
        if successes < 1 || PROBES_MAX < successes {
            return Err(InvalidBreaker::Probes(successes));
        }
        self.probe_successes = successes;
        Ok(self)
    }

    /// Gives the probe that was let through last so much time; if none has decided the matter by then,
    /// the next call opens the breaker again. 60 s unless set.
    ///
    /// Take more than an attempt may take, or else a slow upstream's late success counts for nothing.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBreaker::HalfOpenMax`] for zero, and for more than a day.
    pub fn with_half_open_max(mut self, max: Duration) -> Result<Self, InvalidBreaker> {
        if max.is_zero() || DAY < max {
            return Err(InvalidBreaker::HalfOpenMax(max));
        }
        self.half_open_max = max;
        Ok(self)
    }

    /// Counts calls whose caller went away as this. [`Abandoned::Ignore`] unless set.
    #[must_use]
    pub const fn with_abandoned(mut self, abandoned: Abandoned) -> Self {
        self.abandoned = abandoned;
        self
    }

    /// Counts, changes state and tells of it, but refuses nothing, to see what a policy would do.
    /// Off unless set.
    #[must_use]
    pub const fn with_observe_only(mut self, is_observing: bool) -> Self {
        self.is_observing = is_observing;
        self
    }

    /// Returns how many failures in a row open; zero for no number of them.
    #[must_use]
    pub const fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }

    /// Returns the share of failing calls that opens; zero for none.
    #[must_use]
    pub fn failure_ratio(&self) -> f64 {
        self.failure_ratio.as_f64()
    }

    /// Returns the share of slow calls that opens; zero for none.
    #[must_use]
    pub fn slow_ratio(&self) -> f64 {
        self.slow_ratio.as_f64()
    }

    /// Returns how long a call takes that is slow; `None` where slow calls are not looked for.
    #[must_use]
    pub const fn slow_after(&self) -> Option<Duration> {
        match self.slow_after_nanos {
            u64::MAX => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// Returns which calls the ratios are taken of.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// Returns how many calls the ratios need.
    #[must_use]
    pub const fn min_calls(&self) -> u32 {
        self.min_calls
    }

    /// Returns the schedule of open times.
    #[must_use]
    pub const fn open(&self) -> &Backoff {
        &self.open
    }

    /// Returns how long the upstream's wish can keep it open.
    #[must_use]
    pub const fn pushback_max(&self) -> Duration {
        self.pushback_max
    }

    /// Returns how many probes may be out at once.
    #[must_use]
    pub const fn probes(&self) -> u32 {
        self.probes
    }

    /// Returns how many successful probes close.
    #[must_use]
    pub const fn probe_successes(&self) -> u32 {
        self.probe_successes
    }

    /// Returns how long a probe may take.
    #[must_use]
    pub const fn half_open_max(&self) -> Duration {
        self.half_open_max
    }

    /// Returns what a call counts as whose caller went away.
    #[must_use]
    pub const fn abandoned(&self) -> Abandoned {
        self.abandoned
    }

    /// Returns whether nothing is refused.
    #[must_use]
    pub const fn is_observing(&self) -> bool {
        self.is_observing
    }

    /// Returns from when on a call is slow that is let through at `now`.
    #[inline]
    pub(super) fn slow_at(&self, now: Instant) -> Option<Instant> {
        match self.slow_after_nanos {
            u64::MAX => None,
            nanos => now.checked_add(Duration::from_nanos(nanos)),
        }
    }

    pub(super) const fn trips_on_consecutive(&self, failures: u32) -> bool {
        0 < self.consecutive_failures && self.consecutive_failures <= failures
    }

    /// Returns whether a ratio is met, and which.
    pub(super) fn trips_on(&self, counts: Counts) -> Option<TripReason> {
        let Counts { calls, failures, slow } = counts;
        if calls < u64::from(self.min_calls.max(1)) {
            return None;
        }
        if self.failure_ratio.is_met(failures, calls) {
            return Some(TripReason::FailureRatio { failures, calls });
        }
        self.slow_ratio.is_met(slow, calls).then_some(TripReason::SlowRatio { slow, calls })
    }

    pub(super) const fn looks_at_ratios(&self) -> bool {
        !self.failure_ratio.is_off() || !self.slow_ratio.is_off()
    }

    /// Returns how long to stay open after `trips` in succession, the last of which lasted `previous`.
    pub(super) fn open_time(
        &self,
        trips: u32,
        previous: Duration,
        pushback: Option<Duration>,
        draw: u64,
    ) -> Duration {
        let wish = pushback.unwrap_or_default().min(self.pushback_max);
        self.open.delay(trips, previous, draw).max(wish)
    }

    /// Returns whether a probe more may go out.
    pub(super) fn has_place(&self, out: u32, successes: u32) -> bool {
        // The first always has one, however the policy was switched meanwhile.
        let places = self.probes.max(self.probe_successes);
        out == 0 || (out < self.probes && out + successes < places)
    }

    const fn checked(self) -> Result<Self, InvalidBreaker> {
        match self.window.call_count() {
            Some(window_calls) if window_calls < self.min_calls => {
                Err(InvalidBreaker::MinCallsAboveWindow { min_calls: self.min_calls, window_calls })
            }
            _ => Ok(self),
        }
    }
}

impl Default for BreakerPolicy {
    /// Trips on 10 failures in a row, or half of at least 100 calls within 10 s failing.
    ///
    /// - Where a fifth of the calls fail independently, a breaker only does harm: classic ones let 38
    ///   to 49 % of the calls succeed where plain retries reach 98 % (`science.md` B12). Under such
    ///   failures, 10 in a row come once in 12 million calls, where 5 come once in 3,900; half of 100
    ///   practically never, where half of 20 comes within hundreds of windows.
    /// - 100 calls: the minimum of Polly and resilience4j; a half: resilience4j; a window of 10 s:
    ///   linkerd2-proxy.
    /// - Open for 5 s (Polly) growing to 15 s by ± 20 % (gRFC A6): doubling to 60 s, callers were refused for
    ///   20 s on average after an outage had ended, and up to 34 s (`COMPARE.md`).
    /// - The upstream's wish up to 120 s, which is what retries accept, too (R38).
    /// - 2 successes (Semian's `success_threshold` in B12) of 3 probes; 60 s for them: more than the
    ///   30 s that an attempt may take, so that a slow success still counts.
    /// - Abandoned calls are ignored: a hedge's loser and a caller that leaves say nothing about the
    ///   upstream, and an attempt timeout below the breaker is seen.
    fn default() -> Self {
        let open = Backoff::doubling(Duration::from_secs(5), Duration::from_secs(15));
        Self {
            consecutive_failures: 10,
            failure_ratio: Share { millionths: 500_000 },
            slow_ratio: Share::OFF,
            slow_after_nanos: u64::MAX,
            window: Window::seconds(10),
            min_calls: 100,
            // A share of a fifth is in range.
            open: open.jitter(Jitter::Proportional(0.2)).unwrap_or(open),
            pushback_max: Duration::from_secs(120),
            probes: 3,
            probe_successes: 2,
            half_open_max: Duration::from_secs(60),
            abandoned: Abandoned::Ignore,
            is_observing: false,
        }
    }
}

impl Abandoned {
    /// Returns the name used in files and reports: `ignore`, `failure`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Failure => "failure",
        }
    }
}

impl fmt::Display for InvalidBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(ratio) => write!(f, "ratio {ratio} is not within 0 to 1"),
            Self::SlowAfterZero => f.write_str("a call that takes 0s cannot be called slow"),
            Self::MinCallsAboveWindow { min_calls, window_calls } => write!(
                f,
                "at least {min_calls} calls are never within a window of {window_calls} calls"
            ),
            Self::Probes(probes) => {
                write!(f, "{probes} probes are not within 1 to {PROBES_MAX}")
            }
            Self::HalfOpenMax(max) => {
                write!(f, "{max:?} for probes are not above 0s and within a day")
            }
            Self::NeverOpen => f.write_str("a breaker that is open for 0s refuses nothing"),
        }
    }
}

impl std::error::Error for InvalidBreaker {}

/// A share of calls, exact to a millionth; none is off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Share {
    millionths: u32,
}

impl Share {
    const OFF: Self = Self { millionths: 0 };

    /// Rounds to a millionth, but never down to off.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to a million fits"
    )]
    fn new(ratio: f64) -> Result<Self, InvalidBreaker> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(InvalidBreaker::Ratio(ratio));
        }
        let millionths = (ratio * 1e6).round() as u32;
        Ok(Self { millionths: if 0.0 < ratio { millionths.max(1) } else { 0 } })
    }

    const fn is_off(self) -> bool {
        self.millionths == 0
    }

    fn is_met(self, part: u64, whole: u64) -> bool {
        let (part, whole) = (u128::from(part), u128::from(whole));
        !self.is_off() && u128::from(self.millionths) * whole <= part * 1_000_000
    }

    fn as_f64(self) -> f64 {
        f64::from(self.millionths) / 1e6
    }
}

const PROBES_MAX: u32 = 1_000;
const DAY: Duration = Duration::from_secs(86_400);
