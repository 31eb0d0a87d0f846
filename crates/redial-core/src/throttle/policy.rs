//! When to refuse, and how often to look.

use std::{fmt, time::Duration};

use super::recovery;

/// When to refuse calls locally, because most of them are refused at the upstream.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::ThrottlePolicy;
///
/// // As in the book, recovery takes minutes; as it is unless set, seconds.
/// let book = ThrottlePolicy::book();
/// assert!(Duration::from_secs(400) < book.predicted_recovery(10.0));
/// assert!(ThrottlePolicy::default().predicted_recovery(10.0) < Duration::from_secs(15));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThrottlePolicy {
    /// In millionths.
    ratio: u32,
    window: Duration,
    padding: u32,
    /// In millionths; 0 for none.
    probes_per_second: u32,
    /// In millionths.
    refused_max: u32,
    counts_refused: bool,
    /// Kept beside what it follows from, so that no call divides.
    probe_nanos: u64,
}

/// The values given do not form a throttle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InvalidThrottle {
    /// The ratio is not within 1 to 100.
    Ratio(f64),
    /// The window is not within 1 s to 1 h.
    Window(Duration),
    /// The padding is not within 1 to 1,000,000.
    Padding(u32),
    /// The probes a second are neither 0 nor within 0.001 to 1,000.
    Probes(f64),
    /// The most that may be refused is not above 0, or above 1.
    RefusedMax(f64),
}

/// How likely a call is refused, as a fraction of whole numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Odds {
    against: u128,
    of: u128,
}

impl ThrottlePolicy {
    /// The book's own figures: everything is counted, over two minutes, without probes.
    ///
    /// What is refused here keeps the share of refusals up, so letting go after an outage takes
    /// minutes ([`predicted_recovery`](Self::predicted_recovery)).
    #[must_use]
    pub fn book() -> Self {
        Self {
            window: Duration::from_secs(120),
            padding: 1,
            probes_per_second: 0,
            probe_nanos: 0,
            counts_refused: true,
            ..Self::default()
        }
    }

    /// Refuses nothing as long as one call in `ratio` is accepted: at 2, calls are refused when less
    /// than half of them is. Kept in millionths. 2 unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidThrottle::Ratio`] unless it is within 1 to 100.
    pub fn ratio(self, ratio: f64) -> Result<Self, InvalidThrottle> {
        if !(1.0..=100.0).contains(&ratio) {
            return Err(InvalidThrottle::Ratio(ratio));
        }
        Ok(Self { ratio: millionths(ratio), ..self })
    }

    /// Counts what happened in the last `window`; recovery takes its `ratio`-th part at most. 30 s
    /// unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidThrottle::Window`] unless it is within 1 s to 1 h.
    pub const fn window(self, window: Duration) -> Result<Self, InvalidThrottle> {
        if window.as_nanos() < 1_000_000_000 || 3_600_000_000_000 < window.as_nanos() {
            return Err(InvalidThrottle::Window(window));
        }
        Ok(Self { window, ..self })
    }

    /// Divides by the requests and `padding`: the larger, the less do a few failures mean. 8 unless
    /// set; the book has 1.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidThrottle::Padding`] unless it is within 1 to 1,000,000.
    pub const fn padding(self, padding: u32) -> Result<Self, InvalidThrottle> {
        if padding == 0 || 1_000_000 < padding {
            return Err(InvalidThrottle::Padding(padding));
        }
        Ok(Self { padding, ..self })
    }

    /// Lets at least so many calls a second go through whatever the odds: one after each such part of
    /// a second in which none did. 0 for none. 1 unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidThrottle::Probes`] unless it is 0 or within 0.001 to 1,000.
    pub fn probes_per_second(self, probes: f64) -> Result<Self, InvalidThrottle> {
        if probes != 0.0 && !(0.001..=1_000.0).contains(&probes) {
            return Err(InvalidThrottle::Probes(probes));
        }
        let probes_per_second = millionths(probes);
        let probe_nanos = 1_000_000_000_000_000_u64.checked_div(u64::from(probes_per_second));
        Ok(Self { probes_per_second, probe_nanos: probe_nanos.unwrap_or_default(), ..self })
    }

    /// Refuses at most this share of the calls, whatever is counted; 1 for no bound, which is how it
    /// is unless set. Kept in millionths.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidThrottle::RefusedMax`] unless it is above 0 and at most 1; what rounds to no
    /// millionth counts as 0.
    pub fn refused_max(self, share: f64) -> Result<Self, InvalidThrottle> {
        let refused_max = millionths(share);
        if !(0.0..=1.0).contains(&share) || refused_max == 0 {
            return Err(InvalidThrottle::RefusedMax(share));
        }
        Ok(Self { refused_max, ..self })
    }

    /// Counts calls refused here among the requests, as the book does, or only those that were sent,
    /// as it is unless set.
    ///
    /// Counted, they keep the load of an overloaded upstream at `ratio` calls for each that it
    /// accepts, and keep it low for minutes after it has recovered. Not counted, a load of λ on a
    /// capacity of C comes down to √(ratio·λ·C).
    #[must_use]
    pub const fn count_refused(self, counts_refused: bool) -> Self {
        Self { counts_refused, ..self }
    }

    /// Returns the probability that a call is refused after `requests`, of which `accepts` were
    /// accepted.
    #[must_use]
    pub fn refusal(&self, requests: u64, accepts: u64) -> f64 {
        self.odds(requests, accepts).as_f64()
    }

    /// Predicts how long it takes after an outage longer than the window until 99 % of
    /// `calls_per_second` go through again: what to tell people who choose a policy.
    ///
    /// For figures that are not finite, or below one call an hour, it is zero: such calls are never
    /// refused.
    #[must_use]
    pub fn predicted_recovery(&self, calls_per_second: f64) -> Duration {
        recovery::after_outage(self, calls_per_second)
    }

    /// Returns how many requests one accepted call makes up for.
    #[must_use]
    pub fn accepted_ratio(&self) -> f64 {
        f64::from(self.ratio) / f64::from(MILLION)
    }

    /// Returns how far back the counting goes.
    #[must_use]
    pub const fn span(&self) -> Duration {
        self.window
    }

    /// Returns what is added to the requests that are divided by.
    #[must_use]
    pub const fn request_padding(&self) -> u32 {
        self.padding
    }

    /// Returns how many calls a second go through at least.
    #[must_use]
    pub fn probe_rate(&self) -> f64 {
        f64::from(self.probes_per_second) / f64::from(MILLION)
    }

    /// Returns the largest share of calls that is refused.
    #[must_use]
    pub fn most_refused(&self) -> f64 {
        f64::from(self.refused_max) / f64::from(MILLION)
    }

    /// Returns whether calls that are refused here count among the requests.
    #[must_use]
    pub const fn does_count_refused(&self) -> bool {
        self.counts_refused
    }

    pub(super) const fn probe_nanos(&self) -> u64 {
        self.probe_nanos
    }

    pub(super) fn odds(&self, requests: u64, accepts: u64) -> Odds {
        let million = u128::from(MILLION);
        let allowed = u128::from(accepts) * u128::from(self.ratio);
        let against = (u128::from(requests) * million).saturating_sub(allowed);
        let of = (u128::from(requests) + u128::from(self.padding)) * million;
        let most = (u128::from(requests) + u128::from(self.padding)) * u128::from(self.refused_max);
        Odds { against: against.min(most), of }
    }
}

impl Odds {
    /// Decides, without rounding: the draw is one of 2⁶⁴, and that share of them refuses.
    pub(super) fn refuse(self, draw: impl FnOnce() -> u64) -> bool {
        // 10 slices of 22 bits and a million make 46 bits: 110 with the draw.
        self.against != 0 && u128::from(draw()) * self.of < self.against << 64
    }

    #[expect(clippy::cast_precision_loss, reason = "for showing")]
    pub(super) fn as_f64(self) -> f64 {
        self.against as f64 / self.of as f64
    }
}

impl Default for ThrottlePolicy {
    /// A ratio of 2 (Site Reliability Engineering, "Handling Overload"); 30 s and a padding of 8, as
    /// grpc-go's throttle has (its `rls/internal/adaptive`); only what was sent counts, as in
    /// failsafe-go and Envoy's admission control; a probe a second; no other bound.
    ///
    /// After an outage, 99 % of the calls go through again within 13 s at 2 calls a second, 8 s at 10,
    /// and 2 s at 1,000; with the book's figures it takes 380, 500 and 850 s (`predicted_recovery`, and
    /// tests that run both).
    fn default() -> Self {
        Self {
            ratio: 2 * MILLION,
            window: Duration::from_secs(30),
            padding: 8,
            probes_per_second: MILLION,
            refused_max: MILLION,
            counts_refused: false,
            probe_nanos: 1_000_000_000,
        }
    }
}

impl fmt::Display for InvalidThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(ratio) => write!(f, "ratio {ratio} is not within 1 to 100"),
            Self::Window(window) => write!(f, "window {window:?} is not within 1s to 1h"),
            Self::Padding(padding) => write!(f, "padding {padding} is not within 1 to 1000000"),
            Self::Probes(probes) => {
                write!(f, "{probes} probes a second are neither 0 nor within 0.001 to 1000")
            }
            Self::RefusedMax(share) => {
                write!(f, "largest share refused {share} is not above 0 and at most 1")
            }
        }
    }
}

impl std::error::Error for InvalidThrottle {}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "callers have checked the range: 0 to 1000; what is not a number becomes 0"
)]
fn millionths(number: f64) -> u32 {
    (number * f64::from(MILLION)).round() as u32
}

const MILLION: u32 = 1_000_000;
