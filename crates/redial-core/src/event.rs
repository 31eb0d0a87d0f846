//! What happened, as plain data: every edge of the way from a request to its last word.
//!
//! Deciding code hands these on; an observer decides whether they become a log line, a counter, a
//! span or nothing.

use std::time::Duration;

use crate::{
    breaker::{BreakerState, TripReason},
    cache::CacheOutcome,
    evidence::Proof,
    fault::Fault,
    idempotency::KeyOutcome,
    pushback::Pushback,
    retry::{Stop, Why},
    verdict::Verdict,
};

/// One step of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An attempt is being sent.
    AttemptStarted {
        /// Its number, from 1.
        attempt: u32,
    },
    /// An attempt has ended, and this is what its outcome means.
    AttemptEnded {
        /// Its number, from 1.
        attempt: u32,
        /// How long it took, to the head of the answer.
        took: Duration,
        /// The answer's status, where there was an answer.
        status: Option<u16>,
        /// What went wrong, where there was none.
        fault: Option<Fault>,
        /// What it means.
        verdict: Verdict,
        /// What is known about the server having acted.
        proof: Option<Proof>,
        /// The wait that the server asked for.
        pushback: Option<Pushback>,
    },
    /// The call will be tried again, after a wait.
    Retrying {
        /// The number of the attempt that failed.
        attempt: u32,
        /// How long the wait is.
        after: Duration,
        /// What the wait's length came from.
        why: Why,
    },
    /// A second copy of a request is sent while earlier ones are still out.
    Hedged {
        /// The number of the new attempt, from 2.
        attempt: u32,
        /// How long after the one before it.
        after: Duration,
        /// What called for it.
        cause: HedgeCause,
    },
    /// A hedged call has its answer, and the other copies are cancelled: no errors, just superfluous.
    HedgeSettled {
        /// The number of the attempt that won.
        winner: u32,
        /// How many others were still out.
        cancelled: u32,
    },
    /// A breaker has changed its state.
    BreakerChanged {
        /// What it was.
        from: BreakerState,
        /// What it is now.
        to: BreakerState,
        /// Why it opened, where it did.
        reason: Option<TripReason>,
    },
    /// We refused a call, or an attempt, ourselves.
    Refused {
        /// Who refused: `breaker_open`, `rate_limited`, …
        by: &'static str,
    },
    /// A breaker that only observes would have refused here.
    WouldRefuse {
        /// Who would have refused.
        by: &'static str,
    },
    /// A learned limit on calls in flight has moved.
    LimitChanged {
        /// What it was.
        from: u32,
        /// What it is now.
        to: u32,
    },
    /// A failed call was answered by its fallback.
    FellBack {
        /// The status of the failed answer, where there was one.
        status: Option<u16>,
        /// What kept an answer from coming, where there was none.
        fault: Option<Fault>,
    },
    /// A cache had a say in the answer.
    Cached {
        /// Which one.
        outcome: CacheOutcome,
    },
    /// Chaos did something to an attempt on purpose.
    Injected {
        /// What: `latency`, `status`, `reset`, `truncated`, `slow_body`.
        what: &'static str,
    },
    /// A download that broke off goes on where it stopped.
    Resumed {
        /// How many bytes were there already.
        at: u64,
    },
    /// A server has seen to a request with an idempotency key.
    Keyed {
        /// What came of it.
        outcome: KeyOutcome,
    },
    /// The call has succeeded.
    Succeeded {
        /// How many attempts it took.
        attempts: u32,
    },
    /// The call has failed for good: its last outcome goes to the caller as it came.
    GaveUp {
        /// How many attempts were made.
        attempts: u32,
        /// Why there are no more.
        stop: Stop,
    },
}

/// What called for a hedge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HedgeCause {
    /// No answer came in the time that most answers take.
    Delay,
    /// A copy failed in a way that another may not.
    Failure,
    /// The upstream said when to come again.
    Pushback,
}

impl HedgeCause {
    /// Returns the name used in reports and events: `delay`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Failure => "failure",
            Self::Pushback => "pushback",
        }
    }
}

/// How much an event matters to whoever keeps the system running.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Of interest while looking for something.
    Debug,
    /// Something was repaired.
    Warning,
    /// A call failed for good: worth an alert.
    Error,
}

impl Event {
    /// Returns how much this event matters.
    ///
    /// A caller that goes away is no fault of anybody's; every other end without success is one.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::AttemptStarted { .. }
            | Self::AttemptEnded { .. }
            | Self::Succeeded { .. }
            | Self::Hedged { .. }
            | Self::HedgeSettled { .. }
            | Self::WouldRefuse { .. }
            | Self::LimitChanged { .. }
            | Self::Injected { .. } => Severity::Debug,
            Self::Cached { outcome } if outcome.hides_failure() => Severity::Warning,
            Self::Cached { .. } => Severity::Debug,
            Self::Keyed { outcome } if outcome.is_trouble() => Severity::Warning,
            Self::Keyed { .. } => Severity::Debug,
            Self::BreakerChanged { to: BreakerState::Open, .. } => Severity::Error,
            Self::Retrying { .. }
            | Self::BreakerChanged { .. }
            | Self::Refused { .. }
            | Self::FellBack { .. }
            | Self::Resumed { .. } => Severity::Warning,
            Self::GaveUp { stop: Stop::Cancelled, .. } => Severity::Debug,
            Self::GaveUp { .. } => Severity::Error,
        }
    }

    /// Returns the name used in logs and counters: `attempt_started`, …
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AttemptStarted { .. } => "attempt_started",
            Self::AttemptEnded { .. } => "attempt_ended",
            Self::Retrying { .. } => "retrying",
            Self::Hedged { .. } => "hedged",
            Self::HedgeSettled { .. } => "hedge_settled",
            Self::BreakerChanged { .. } => "breaker_changed",
            Self::Refused { .. } => "refused",
            Self::WouldRefuse { .. } => "would_refuse",
            Self::LimitChanged { .. } => "limit_changed",
            Self::FellBack { .. } => "fell_back",
            Self::Cached { .. } => "cached",
            Self::Injected { .. } => "injected",
            Self::Resumed { .. } => "resumed",
            Self::Keyed { .. } => "keyed",
            Self::Succeeded { .. } => "succeeded",
            Self::GaveUp { .. } => "gave_up",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_up_is_an_error_unless_the_caller_left() {
        let gave_up = |stop| Event::GaveUp { attempts: 1, stop };
        for stop in Stop::ALL {
            let expected = if stop == Stop::Cancelled { Severity::Debug } else { Severity::Error };
            assert_eq!(gave_up(stop).severity(), expected, "{stop:?}");
            assert_eq!(gave_up(stop).name(), "gave_up");
        }
    }

    #[test]
    fn a_retry_is_a_warning_and_the_rest_is_detail() {
        let retrying = Event::Retrying { attempt: 1, after: Duration::ZERO, why: Why::Backoff };
        let ended = Event::AttemptEnded {
            attempt: 1,
            took: Duration::ZERO,
            status: None,
            fault: Some(Fault::Dns),
            verdict: Verdict::Success,
            proof: None,
            pushback: None,
        };
        let table = [
            (retrying, Severity::Warning, "retrying"),
            (ended, Severity::Debug, "attempt_ended"),
            (Event::AttemptStarted { attempt: 1 }, Severity::Debug, "attempt_started"),
            (Event::Succeeded { attempts: 1 }, Severity::Debug, "succeeded"),
            (Event::Cached { outcome: CacheOutcome::Hit }, Severity::Debug, "cached"),
            (Event::Cached { outcome: CacheOutcome::StaleIfError }, Severity::Warning, "cached"),
            (Event::FellBack { status: Some(503), fault: None }, Severity::Warning, "fell_back"),
            (Event::Keyed { outcome: KeyOutcome::Replayed }, Severity::Debug, "keyed"),
            (Event::Keyed { outcome: KeyOutcome::Unprotected }, Severity::Warning, "keyed"),
        ];
        for (event, severity, name) in table {
            assert_eq!((event.severity(), event.name()), (severity, name));
        }
    }
}
