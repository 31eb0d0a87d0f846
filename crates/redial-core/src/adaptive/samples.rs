//! What the attempts of a window showed, added up without a lock.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

/// Sums that many threads add to. One atomic addition an attempt; the rest is read.
#[derive(Debug)]
pub(super) struct Samples {
    /// Latencies under load, and those of attempts that found little in flight.
    loaded: AtomicSum,
    quiet: AtomicSum,
    /// Attempts without a latency; those of them that were overloaded count in the upper half too.
    others: AtomicU64,
    in_flight_max: AtomicU64,
    /// The plan of the window that is open. No probe is late at [`NEVER`].
    due_nanos: AtomicU64,
    late_nanos: AtomicU64,
    quiet_limit: AtomicU64,
    samples: AtomicU64,
}

#[derive(Debug)]
struct AtomicSum(AtomicU64);

/// A number of latencies, and their sum.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) count: u64,
    pub(super) micros: u64,
}

/// Everything that the attempts of a window showed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    pub(super) loaded: Sum,
    pub(super) quiet: Sum,
    pub(super) in_flight_max: u32,
    pub(super) others: u64,
    pub(super) overloaded: u64,
}

/// When the next window may close, and what counts as quiet in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) due: Duration,
    /// When it closes whatever was seen, if this is a probe.
    pub(super) late: Option<Duration>,
    pub(super) quiet_limit: u32,
    /// How many attempts it takes; in a probe, quiet ones.
    pub(super) samples: u64,
}

impl Samples {
    pub(super) fn new(plan: Plan) -> Self {
        let samples = Self {
            loaded: AtomicSum::new(),
            quiet: AtomicSum::new(),
            others: AtomicU64::new(0),
            in_flight_max: AtomicU64::new(0),
            due_nanos: AtomicU64::new(0),
            late_nanos: AtomicU64::new(NEVER),
            quiet_limit: AtomicU64::new(0),
            samples: AtomicU64::new(0),
        };
        samples.follow(plan);
        samples
    }

    pub(super) fn add_latency(&self, latency: Duration, in_flight: u32) {
        self.note_in_flight(in_flight);
        let is_quiet = u64::from(in_flight) <= self.quiet_limit.load(Ordering::Relaxed);
        if is_quiet { self.quiet.add(latency) } else { self.loaded.add(latency) }
    }

    pub(super) fn add_other(&self, is_overloaded: bool, in_flight: u32) {
        self.note_in_flight(in_flight);
        self.others.fetch_add(if is_overloaded { OVERLOADED } else { 1 }, Ordering::Relaxed);
    }

    /// Returns whether the window may be closed at `now`: it is old and full enough.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let now = nanos(now);
        if now < self.due_nanos.load(Ordering::Acquire) {
            return false;
        }
        let wanted = self.samples.load(Ordering::Relaxed);
        match self.late_nanos.load(Ordering::Relaxed) {
            NEVER => wanted <= self.count(),
            late => late <= now || wanted <= self.quiet.load().count,
        }
    }

    /// Returns whether a probe goes on that has taken too long at `now`.
    pub(super) fn is_probe_late(&self, now: Duration) -> bool {
        self.late_nanos.load(Ordering::Relaxed) <= nanos(now)
    }

    /// Takes all that was added out. For one thread at a time; others may go on adding.
    pub(super) fn take(&self) -> Window {
        let others = self.others.swap(0, Ordering::Relaxed);
        Window {
            loaded: self.loaded.take(),
            quiet: self.quiet.take(),
            in_flight_max: u32::try_from(self.in_flight_max.swap(0, Ordering::Relaxed))
                .unwrap_or(u32::MAX),
            others: others & (OVERLOADED - 1),
            overloaded: others / OVERLOADED,
        }
    }

    pub(super) fn follow(&self, plan: Plan) {
        self.late_nanos.store(plan.late.map_or(NEVER, nanos), Ordering::Relaxed);
        self.quiet_limit.store(u64::from(plan.quiet_limit), Ordering::Relaxed);
        self.samples.store(plan.samples, Ordering::Relaxed);
        self.due_nanos.store(nanos(plan.due), Ordering::Release);
    }

    fn count(&self) -> u64 {
        let others = self.others.load(Ordering::Relaxed);
        let others = (others & (OVERLOADED - 1)) + others / OVERLOADED;
        self.loaded.load().count + self.quiet.load().count + others
    }

    fn note_in_flight(&self, in_flight: u32) {
        let in_flight = u64::from(in_flight);
        // Mostly a read of a value that is the most already.
        if self.in_flight_max.load(Ordering::Relaxed) < in_flight {
            self.in_flight_max.fetch_max(in_flight, Ordering::Relaxed);
        }
    }
}

impl Window {
    /// How many attempts have ended in it.
    pub(super) const fn count(&self) -> u64 {
        self.loaded.count + self.quiet.count + self.others + self.overloaded
    }

    /// The mean of all latencies, in microseconds.
    pub(super) fn latency(&self) -> Option<f64> {
        self.loaded.plus(self.quiet).mean()
    }
}

impl Sum {
    pub(super) const fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, micros: self.micros + other.micros }
    }

    #[expect(clippy::cast_precision_loss, reason = "44 bits of microseconds fit")]
    pub(super) fn mean(self) -> Option<f64> {
        (self.count != 0).then(|| self.micros as f64 / self.count as f64)
    }
}

impl AtomicSum {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds a latency, in microseconds and at most a minute. Counts a quarter of a million of them
    /// without overflow, in one word, so that sum and count always belong together.
    fn add(&self, latency: Duration) {
        if self.load().count < COUNT_MAX {
            let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(MICROS_MAX);
            self.0.fetch_add(micros << COUNT_BITS | 1, Ordering::Relaxed);
        }
    }

    fn load(&self) -> Sum {
        Sum::unpack(self.0.load(Ordering::Relaxed))
    }

    fn take(&self) -> Sum {
        Sum::unpack(self.0.swap(0, Ordering::Relaxed))
    }
}

impl Sum {
    const fn unpack(word: u64) -> Self {
        Self { count: word & ((1 << COUNT_BITS) - 1), micros: word >> COUNT_BITS }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A time that no clock reaches.
const NEVER: u64 = u64::MAX;

const COUNT_BITS: u32 = 19;

/// Half of what the bits hold, so that threads that have seen one less still fit.
const COUNT_MAX: u64 = 1 << (COUNT_BITS - 1);

/// 67 s: 2¹⁸ of them are within 45 bits, and within one bit more with all who come late.
const MICROS_MAX: u64 = 1 << 26;

/// One overloaded attempt, beside the count of the others.
const OVERLOADED: u64 = 1 << 32;
