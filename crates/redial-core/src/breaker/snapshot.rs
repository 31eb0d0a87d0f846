//! A breaker's state, for showing.

use std::time::{Duration, Instant};

use super::{Breaker, BreakerState, TripReason, word::Phase};
use crate::{
    sync::{AtomicU64, Ordering, yield_now},
    window::Counts,
};

/// What a breaker was like at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BreakerSnapshot {
    /// The one state that it was in. An open one stays open until a call comes after `until`.
    pub state: BreakerState,
    /// Since when.
    pub since: Instant,
    /// Until when it refuses calls; `None` unless it is open, and where only a hand can close it.
    pub until: Option<Instant>,
    /// What is in the window, of the calls since it was last closed; nothing unless it is closed.
    pub counts: Counts,
    /// How many calls failed in a row just now; nothing unless it is closed.
    pub consecutive_failures: u32,
    /// How many probes are out.
    pub probes_out: u32,
    /// How many probes went well.
    pub probe_successes: u32,
    /// How often it opened by itself since it was last closed.
    pub trips: u32,
    /// Why it last opened, if it ever did.
    pub last_trip: Option<TripReason>,
}

/// Why it opened, in words that can be read one by one.
#[derive(Debug)]
pub(super) struct Reason {
    kind: AtomicU64,
    part: AtomicU64,
    whole: AtomicU64,
}

impl Breaker {
    /// Returns what it is like at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> BreakerSnapshot {
        let mut read = self.read_once(now);
        for _ in 0..ATTEMPTS_MAX {
            let Some(snapshot) = read else {
                // Somebody was changing it: a few stores, then there is one state again.
                yield_now();
                read = self.read_once(now);
                continue;
            };
            return snapshot;
        }
        self.read(now)
    }

    /// Returns what it is like if nothing changed while it was read.
    fn read_once(&self, now: Instant) -> Option<BreakerSnapshot> {
        let before = self.word();
        if before.phase == Phase::Opening {
            return None;
        }
        let snapshot = self.read(now);
        (before.generation == self.word().generation).then_some(snapshot)
    }

    fn read(&self, now: Instant) -> BreakerSnapshot {
        let word = self.word();
        let state = word.phase.state();
        let until = self.until.load(Ordering::Acquire);
        let is_open = state == BreakerState::Open;
        BreakerSnapshot {
            state,
            since: self.instant(self.since.load(Ordering::Acquire)).unwrap_or(self.epoch),
            until: if is_open { self.instant(until) } else { None },
            counts: self.counts.read_at(word.generation, self.nanos(now)),
            consecutive_failures: self.consecutive.0.read(word.generation),
            probes_out: word.out,
            probe_successes: word.successes,
            trips: word.trips,
            last_trip: self.reason.load(),
        }
    }

    /// Returns the moment so long after creation; `None` for the end of time.
    fn instant(&self, nanos: u64) -> Option<Instant> {
        if nanos == u64::MAX {
            return None;
        }
        self.epoch.checked_add(Duration::from_nanos(nanos))
    }
}

impl Reason {
    pub(super) fn new() -> Self {
        Self { kind: AtomicU64::new(0), part: AtomicU64::new(0), whole: AtomicU64::new(0) }
    }

    pub(super) fn of(reason: Option<TripReason>) -> Self {
        let new = Self::new();
        new.store(reason);
        new
    }

    pub(super) fn store(&self, reason: Option<TripReason>) {
        let (kind, part, whole) = match reason {
            None => (0, 0, 0),
            Some(TripReason::ConsecutiveFailures { failures }) => (1, failures.into(), 0),
            Some(TripReason::FailureRatio { failures, calls }) => (2, failures, calls),
            Some(TripReason::SlowRatio { slow, calls }) => (3, slow, calls),
            Some(TripReason::ProbeFailed) => (4, 0, 0),
            Some(TripReason::HalfOpenExpired) => (5, 0, 0),
            Some(TripReason::Manual) => (6, 0, 0),
        };
        self.kind.store(kind, Ordering::Release);
        self.part.store(part, Ordering::Release);
        self.whole.store(whole, Ordering::Release);
    }

    pub(super) fn load(&self) -> Option<TripReason> {
        let (part, whole) = (self.part.load(Ordering::Acquire), self.whole.load(Ordering::Acquire));
        match self.kind.load(Ordering::Acquire) {
            1 => {
                let failures = u32::try_from(part).unwrap_or(u32::MAX);
                Some(TripReason::ConsecutiveFailures { failures })
            }
            2 => Some(TripReason::FailureRatio { failures: part, calls: whole }),
            3 => Some(TripReason::SlowRatio { slow: part, calls: whole }),
            4 => Some(TripReason::ProbeFailed),
            5 => Some(TripReason::HalfOpenExpired),
            6 => Some(TripReason::Manual),
            _ => None,
        }
    }
}

const ATTEMPTS_MAX: u32 = 16;
