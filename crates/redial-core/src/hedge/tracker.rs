//! What calls to one upstream usually take.

use std::time::{Duration, Instant};

use super::policy::HedgePolicy;
use crate::{
    quantile::{LatencyWindow, Quantile},
    sync::{AtomicU64, Ordering},
};

/// How long calls to one upstream took recently, and the delay that follows from it. Lock-free.
///
/// Fed with successful calls, each from its *call's* start to its answer, whichever copy brought it.
/// Then the share of calls that take longer than the delay is the share that was to be hedged, and
/// stays what the quantile says. Measured from the winner's own start, every straggler that a hedge
/// has rescued would look fast; the delay would sink, and the share of hedges grow with its success.
#[derive(Debug)]
pub struct HedgeTracker {
    latencies: LatencyWindow,
    /// The quantile in the upper 16 bits and what it was found to be, in nanoseconds, in the lower
    /// 48: they hold 78 hours. Zero for not enough samples.
    known: AtomicU64,
    /// When to look again, in nanoseconds since the epoch.
    fresh_until: AtomicU64,
    epoch: Instant,
}

impl HedgeTracker {
    /// Begins at `now`, without any sample.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            latencies: LatencyWindow::new(WINDOW),
            known: AtomicU64::new(0),
            fresh_until: AtomicU64::new(0),
            epoch: now,
        }
    }

    /// Notes that a call succeeded at `now`, `latency` after its start.
    pub fn record(&self, latency: Duration, now: Instant) {
        self.latencies.record(latency, self.elapsed(now));
    }

    /// Returns the delay that `policy` means at `now`.
    ///
    /// The quantile is looked up every 100 ms at most; in between, this is two reads. It counts as
    /// known once five samples should lie beyond it: from 100 samples for p95, 500 for p99.
    #[must_use]
    pub fn delay(&self, policy: &HedgePolicy, now: Instant) -> Duration {
        policy.delay(policy.quantile().and_then(|quantile| self.known(quantile, now)))
    }

    fn known(&self, quantile: Quantile, now: Instant) -> Option<Duration> {
        let elapsed = self.elapsed(now);
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let (until, known) =
            (self.fresh_until.load(Ordering::Relaxed), self.known.load(Ordering::Relaxed));
        let is_for_this = known >> NANOS_BITS == u64::from(quantile.per_mille());
        if nanos < until && (is_for_this || known == 0) {
            return told(known);
        }
        let next = nanos.saturating_add(FRESH_NANOS);
        let claimed =
            self.fresh_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
        // One of those who meet here looks, the others take what was known.
        if claimed.is_err() && is_for_this {
            return told(known);
        }
        let samples_min = quantile.samples_for(BEYOND);
        let found = self.latencies.quantile_of(quantile, elapsed, samples_min);
        let nanos = found.map(|found| u64::try_from(found.as_nanos()).unwrap_or(u64::MAX));
        let nanos = nanos.map(|nanos| nanos.clamp(1, NANOS_MASK));
        let known = nanos.map_or(0, |nanos| u64::from(quantile.per_mille()) << NANOS_BITS | nanos);
        self.known.store(known, Ordering::Relaxed);
        told(known)
    }

    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }
}

fn told(known: u64) -> Option<Duration> {
    (known != 0).then(|| Duration::from_nanos(known & NANOS_MASK))
}

/// 30 s, as in Finagle's `WindowedPercentileHistogram`.
const WINDOW: Duration = Duration::from_secs(30);
/// How many samples should lie beyond a quantile before it is believed.
const BEYOND: u64 = 5;
const FRESH_NANOS: u64 = 100_000_000;
const NANOS_BITS: u32 = 48;
const NANOS_MASK: u64 = (1 << NANOS_BITS) - 1;
