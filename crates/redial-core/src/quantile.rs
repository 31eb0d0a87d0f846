//! How long answers take, as quantiles over a sliding window.
//!
//! Latencies fall into buckets whose bounds grow by a 32nd of a power of two, and time falls
//! into slices that take turns. A bucket's word holds the number of its slice's turn beside its
//! count, so that whoever comes first after a turn begins anew, and nobody has to sweep.

use std::{array, fmt, time::Duration};

use crate::{
    hedge::InvalidHedge,
    sync::{AtomicU64, Ordering},
};

/// A share of all answers: at p95, 95 of 100 come within that time.
///
/// # Examples
///
/// ```
/// use redial_core::Quantile;
///
/// assert_eq!("p99.9".parse(), Ok(Quantile::percent(99.9).unwrap()));
/// assert_eq!(Quantile::P95.to_string(), "p95");
/// assert!("p100".parse::<Quantile>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Quantile {
    per_mille: u16,
}

/// The latencies of a sliding window. Lock-free; recording is one atomic step on one word.
///
/// The window is cut into three slices, so a latency counts for two to three thirds of it. A quantile
/// is never below the latency of its rank, and at most 3.2 % above: where answers take the same time
/// always, none of them takes longer than the quantile says. Below 1 ms it is at most 33 µs above,
/// and what takes longer than 137 s counts as that much. 13.5 KiB, whatever is recorded.
///
/// Time is counted from the window's creation.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::{LatencyWindow, Quantile};
///
/// let window = LatencyWindow::new(Duration::from_secs(30));
/// for millis in 1..=100 {
///     window.record(Duration::from_millis(millis), Duration::ZERO);
/// }
/// let p95 = window.quantile(Quantile::P95, Duration::from_secs(1)).unwrap();
/// assert!(Duration::from_millis(95) <= p95 && p95 <= Duration::from_millis(98));
/// assert_eq!(window.quantile(Quantile::P95, Duration::from_secs(31)), None);
/// ```
pub struct LatencyWindow {
    slice_nanos: u64,
    /// One word a bucket and slice: the turn in the upper half, the count in the lower.
    words: Box<[AtomicU64]>,
}

impl Quantile {
    /// Half of all answers come within this time.
    pub const P50: Self = Self { per_mille: 500 };
    /// 95 of 100 answers do.
    pub const P95: Self = Self { per_mille: 950 };

    /// Creates the quantile of `percent`, rounded to a tenth.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidHedge::Quantile`] unless `0.1 <= percent <= 99.9`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "1 to 999 fits, and the range is checked"
    )]
    pub fn percent(percent: f64) -> Result<Self, InvalidHedge> {
        let per_mille = (percent * 10.0).round();
        if !(1.0..=999.0).contains(&per_mille) {
            return Err(InvalidHedge::Quantile { percent });
        }
        Ok(Self { per_mille: per_mille as u16 })
    }

    /// Returns the share in thousandths.
    #[must_use]
    pub const fn per_mille(self) -> u16 {
        self.per_mille
    }

    /// Returns how many samples it takes for `beyond` of them to lie above this quantile.
    pub(crate) const fn samples_for(self, beyond: u64) -> u64 {
        (beyond * 1_000).div_ceil(1_000 - self.per_mille as u64)
    }
}

impl LatencyWindow {
    /// Creates an empty window of this length, whose slices can be told apart for 1.4 billion times as
    /// long: 45 years for a second. Nothing leaves it after that.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        let slice = window.as_nanos() / SLICES as u128;
        Self {
            slice_nanos: u64::try_from(slice).unwrap_or(u64::MAX).max(1),
            words: (0..SLICES * BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Takes note of a latency at `elapsed`.
    ///
    /// Who comes so late that the slice has been taken over by a later turn is not counted.
    pub fn record(&self, latency: Duration, elapsed: Duration) {
        let turn = self.turn(elapsed);
        let Some(word) = self.words.get(place(turn) + bucket(latency)) else { return };
        // The counts order nothing but themselves.
        let mut bits = word.load(Ordering::Relaxed);
        loop {
            let (of, count) = unpack(bits);
            if turn < of {
                return;
            }
            let count = if of == turn { count.saturating_add(1) } else { 1 };
            match word.compare_exchange_weak(
                bits,
                pack(turn, count),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(moved) => bits = moved,
            }
        }
    }

    /// Returns the time within which this share of the window's latencies lies; `None` when there
    /// are none. Reads all buckets: about a microsecond.
    #[must_use]
    pub fn quantile(&self, quantile: Quantile, elapsed: Duration) -> Option<Duration> {
        self.quantile_of(quantile, elapsed, 1)
    }

    /// Returns how many latencies the window holds.
    #[must_use]
    pub fn samples(&self, elapsed: Duration) -> u64 {
        self.counts(elapsed).into_iter().sum()
    }

    /// As [`quantile`](Self::quantile), and `None` as well for fewer than `samples_min`.
    pub(crate) fn quantile_of(
        &self,
        quantile: Quantile,
        elapsed: Duration,
        samples_min: u64,
    ) -> Option<Duration> {
        let counts = self.counts(elapsed);
        let samples = counts.iter().sum::<u64>();
        if samples < samples_min.max(1) {
            return None;
        }
        let rank = (samples * u64::from(quantile.per_mille)).div_ceil(1_000);
        let mut below = 0;
        let index = counts.iter().position(|count| {
            below += count;
            rank <= below
        });
        index.map(top)
    }

    /// The counts of the slices that are in the window.
    fn counts(&self, elapsed: Duration) -> [u64; BUCKETS] {
        let turn = self.turn(elapsed);
        array::from_fn(|bucket| {
            let words = self.words.iter().skip(bucket).step_by(BUCKETS);
            let counts = words.map(|word| {
                let (of, count) = unpack(word.load(Ordering::Relaxed));
                // A turn that others began ahead of this reader's clock counts as well.
                if turn < of.saturating_add(SLICES_U32) { u64::from(count) } else { 0 }
            });
            counts.sum()
        })
    }

    fn turn(&self, elapsed: Duration) -> u32 {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        u32::try_from(nanos / self.slice_nanos).unwrap_or(u32::MAX)
    }
}

/// Returns where a turn's slice begins.
const fn place(turn: u32) -> usize {
    (turn % SLICES_U32) as usize * BUCKETS
}

/// Returns the bucket of a latency: one a unit for the first 32, then 32 for each doubling.
fn bucket(latency: Duration) -> usize {
    let units = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX) >> UNIT_BITS;
    let octave = units.max(1).ilog2().saturating_sub(STEP_BITS);
    let index = u64::from(octave) * STEPS + (units >> octave);
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// Returns the time that everything in a bucket is below, by at most a 32nd.
fn top(bucket: usize) -> Duration {
    let index = bucket as u64;
    let octave = (index / STEPS).saturating_sub(1);
    let (lower, width) = ((index - octave * STEPS) << octave, 1 << octave);
    Duration::from_nanos((lower + width) << UNIT_BITS)
}

const fn pack(turn: u32, count: u32) -> u64 {
    (turn as u64) << 32 | count as u64
}

#[expect(clippy::cast_possible_truncation, reason = "each half is 32 bits")]
const fn unpack(bits: u64) -> (u32, u32) {
    ((bits >> 32) as u32, bits as u32)
}

impl fmt::Debug for LatencyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyWindow").finish_non_exhaustive()
    }
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.per_mille / 10, self.per_mille % 10) {
            (percent, 0) => write!(f, "p{percent}"),
            (percent, tenths) => write!(f, "p{percent}.{tenths}"),
        }
    }
}

impl std::str::FromStr for Quantile {
    type Err = InvalidHedge;

    /// Reads `p95`, `p99.9`: a `p` and a percentage with at most one decimal.
    fn from_str(text: &str) -> Result<Self, InvalidHedge> {
        let digits = text.strip_prefix('p').ok_or(InvalidHedge::NoQuantile)?;
        let is_number = digits.split_once('.').map_or_else(
            || is_digits(digits),
            |(whole, tenths)| is_digits(whole) && is_digits(tenths) && tenths.len() == 1,
        );
        if !is_number {
            return Err(InvalidHedge::NoQuantile);
        }
        Self::percent(digits.parse().map_err(|_| InvalidHedge::NoQuantile)?)
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Three, as in Finagle's `WindowedPercentileHistogram`, which found more not to help.
const SLICES_U32: u32 = 3;
const SLICES: usize = SLICES_U32 as usize;
/// A unit is 2¹⁵ ns, 33 µs: no timer of ours is finer than a millisecond.
const UNIT_BITS: u32 = 15;
/// 32 steps a doubling: a step is at most 1/32, 3.2 %.
const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;
/// Up to 2²² units, 137 s.
#[cfg(not(loom))]
const BUCKETS: usize = (22 - STEP_BITS as usize + 1) << STEP_BITS;
/// A model of one bucket is a model of each.
#[cfg(loom)]
const BUCKETS: usize = 1;

#[cfg(all(test, not(loom)))]
mod tests;
