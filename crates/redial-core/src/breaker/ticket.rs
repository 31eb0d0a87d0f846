//! Proof of having been let through.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{Breaker, BreakerChange, BreakerPolicy, BreakerState, TripReason};
use crate::health::Assessment;

/// Proof that a [`Breaker`] let a call through: to be handed to [`Breaker::record`] when the call has
/// ended, or to [`Breaker::abandon`] when its caller went away.
///
/// Plain data, for layers that keep the breaker alive by other means. One that is dropped keeps its
/// probe's place until the breaker's `half_open_max` has passed; a [`Ticket`] gives it back.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "a probe's place is kept until the admission is recorded or abandoned"]
pub struct Admission {
    /// From when on it is slow, if it ever is. A moment and not a number, because taking two moments
    /// apart costs more than all the rest of letting a call through.
    pub(super) slow_at: Option<Instant>,
    pub(super) generation: u32,
    pub(super) kind: Kind,
    pub(super) lane: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Normal,
    Probe,
    /// The probe that found the open time over.
    FirstProbe,
    /// Let through only because nothing is refused.
    Excused,
    /// The same, and it found that the probes' time was over.
    ExcusedLate,
}

/// A refusal by a [`Breaker`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BreakerRefusal {
    /// How long until a call is let through to see; `None` until somebody closes the breaker, and
    /// while probes are out, whose end nobody knows.
    pub retry_after: Option<Duration>,
    /// What changed as this call came: the probes' time was over, and the breaker opened again.
    pub change: Option<BreakerChange>,
}

/// An [`Admission`] that is abandoned when it is dropped.
///
/// Under [`Abandoned::Failure`](super::Abandoned::Failure) a dropped ticket counts as of the moment
/// of its admission, because a drop knows no time; [`abandon`](Self::abandon) is told it.
#[must_use = "a dropped ticket abandons its call"]
pub struct Ticket<'a> {
    pub(super) breaker: &'a Breaker,
    pub(super) policy: &'a BreakerPolicy,
    pub(super) admission: Option<Admission>,
    pub(super) at: Instant,
}

impl Admission {
    #[inline]
    pub(super) fn is_slow(&self, now: Instant) -> bool {
        self.slow_at.is_some_and(|slow_at| slow_at <= now)
    }

    /// Returns whether this call is to show whether the upstream is back.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        matches!(self.kind, Kind::Probe | Kind::FirstProbe)
    }

    /// Returns whether this call was let through only because the policy refuses nothing.
    #[must_use]
    pub const fn would_be_refused(&self) -> bool {
        matches!(self.kind, Kind::Excused | Kind::ExcusedLate)
    }

    /// Returns what changed as this call came.
    #[must_use]
    pub const fn change(&self) -> Option<BreakerChange> {
        match self.kind {
            Kind::Normal | Kind::Probe | Kind::Excused => None,
            Kind::FirstProbe => Some(BreakerChange {
                from: BreakerState::Open,
                to: BreakerState::HalfOpen,
                reason: None,
            }),
            Kind::ExcusedLate => Some(EXPIRED),
        }
    }

    /// Returns the number of the breaker's state: grows with every change, and comes around after
    /// 2³² of them.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the group of the thread that asked, below [`Breaker::LANES`]: what else is counted for
    /// each group apart does not make threads meet.
    #[must_use]
    pub const fn lane(&self) -> usize {
        self.lane as usize
    }
}

impl Ticket<'_> {
    /// Returns what was let through.
    #[must_use]
    pub const fn admission(&self) -> Option<&Admission> {
        self.admission.as_ref()
    }

    /// Records how the call ended; see [`Breaker::record`].
    pub fn record(
        mut self,
        assessment: impl Into<Assessment>,
        now: Instant,
        draw: impl FnOnce() -> u64,
    ) -> Option<BreakerChange> {
        let admission = self.admission.take()?;
        self.breaker.record(self.policy, admission, assessment.into(), now, draw)
    }

    /// Records that the caller went away; see [`Breaker::abandon`].
    pub fn abandon(mut self, now: Instant, draw: impl FnOnce() -> u64) -> Option<BreakerChange> {
        let admission = self.admission.take()?;
        self.breaker.abandon(self.policy, admission, now, draw)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            // Half of all draws: the middle of what jitter allows.
            self.breaker.abandon(self.policy, admission, self.at, || u64::MAX / 2);
        }
    }
}

impl fmt::Debug for Ticket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("admission", &self.admission).finish_non_exhaustive()
    }
}

impl fmt::Display for BreakerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the breaker is open")?;
        match self.retry_after {
            Some(after) => write!(f, "; try again in {after:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for BreakerRefusal {}

pub(super) const EXPIRED: BreakerChange = BreakerChange {
    from: BreakerState::HalfOpen,
    to: BreakerState::Open,
    reason: Some(TripReason::HalfOpenExpired),
};
