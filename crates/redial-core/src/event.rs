//! What happened, as plain data: every edge of the way from a request to its last word.
//!
//! Deciding code hands these on; an observer decides whether they become a log line, a counter, a
//! span or nothing.

use std::time::Duration;

use crate::{
    evidence::Proof,
    fault::Fault,
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
            Self::AttemptStarted { .. } | Self::AttemptEnded { .. } | Self::Succeeded { .. } => {
                Severity::Debug
            }
            Self::Retrying { .. } => Severity::Warning,
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
        ];
        for (event, severity, name) in table {
            assert_eq!((event.severity(), event.name()), (severity, name));
        }
    }
}
