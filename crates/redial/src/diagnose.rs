//! What an error tells about the attempt that it ended.
//!
//! Transports know what they sent; layers above must not guess it from an error's text. A transport's
//! error says through [`Diagnose`] what went wrong and what is proven, and everything else follows.

use std::{error::Error, io, time::Duration};

use redial_core::{Fault, Proof};

/// Any error that can cross threads.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Errors that tell what went wrong with an attempt, and what is known about the server having
/// acted.
pub trait Diagnose {
    /// Returns what this error tells.
    fn diagnose(&self) -> Diagnosis;
}

/// What an error tells about the attempt that it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Diagnosis {
    /// What went wrong.
    pub fault: Fault,
    /// What is known about the server having acted.
    pub proof: Proof,
}

/// Our own refusal to wait, or to go on: never an upstream's error in disguise.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// An attempt did not bring an answer in the time that one attempt has.
    #[error("no answer within the attempt timeout of {after:?}")]
    AttemptTimeout {
        /// The time that an attempt has.
        after: Duration,
    },
    /// The whole call did not end before its deadline.
    #[error("the call did not end within its deadline of {after:?}")]
    DeadlineExceeded {
        /// The time that the call had when it reached the layer that kept it.
        after: Duration,
    },
    /// The breaker for this upstream is open.
    #[error("the breaker for this upstream is open{}", again(.retry_after))]
    BreakerOpen {
        /// How long until it lets a call through to see; `None` until somebody closes it, or while
        /// its probes are out.
        retry_after: Option<Duration>,
    },
    /// There were too many calls in too short a time.
    #[error("rate limit reached{}", again(&Some(*.retry_after)))]
    RateLimited {
        /// How long until a call would be let through.
        retry_after: Duration,
    },
    /// As many calls are in flight, and waiting, as the bulkhead allows.
    #[error("{in_flight_max} calls are in flight and the queue is full")]
    BulkheadFull {
        /// How many calls may be in flight.
        in_flight_max: u32,
    },
    /// The bulkhead had no place in the time that a call may wait for one.
    #[error("{in_flight_max} calls are in flight and none ended within {after:?}")]
    BulkheadTimeout {
        /// How many calls may be in flight.
        in_flight_max: u32,
        /// How long this one waited.
        after: Duration,
    },
    /// As many attempts are in flight as the upstream was seen to bear.
    #[error("the learned limit of {limit} attempts in flight is reached")]
    LimitReached {
        /// How many attempts may be in flight now.
        limit: u32,
    },
    /// Most calls to this upstream are refused there, so this one was refused here.
    #[error("this upstream refuses most calls, so this one was not sent")]
    Throttled,
    /// A body brought nothing for too long.
    #[error("the body brought nothing for {after:?}")]
    Stalled {
        /// How long nothing came.
        after: Duration,
    },
    /// A body brought too little for too long.
    #[error(
        "the body stayed below {bytes_per_second_min} bytes a second for longer than {grace:?}"
    )]
    TooSlow {
        /// What should have come each second.
        bytes_per_second_min: u64,
        /// How long less than that was borne.
        grace: Duration,
    },
    /// A download broke off, and what it was to go on with is not the same any more.
    #[error("the download broke off after {at} bytes, and was changed on the server meanwhile")]
    Changed {
        /// How many bytes were handed on before.
        at: u64,
    },
    /// An answer's body ended before, or went on after, the length that was announced.
    #[error("the answer's body ended at {bytes} bytes instead of {announced}")]
    WrongLength {
        /// How many bytes there were.
        bytes: u64,
        /// How many were announced.
        announced: u64,
    },
    /// All bytes of an answer's body came, but they are not those that the server announced.
    #[error("the answer's body does not have the {algorithm} digest that was announced (RFC 9530)")]
    WrongDigest {
        /// By what it was checked: `sha-256` or `sha-512`.
        algorithm: &'static str,
    },
    /// Chaos reset the connection, on purpose.
    #[error("chaos: connection reset")]
    InjectedReset,
    /// Chaos cut the answer's body, on purpose.
    #[error("chaos: body cut after {at} bytes")]
    InjectedCut {
        /// How many bytes were handed on before.
        at: u64,
    },
}

/// A mark in a request's extensions: send this one over a connection of its own, not over a pooled
/// one that may be as dead or as misdirected as the last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fresh;

/// The number of an attempt, in the extensions of every request after a call's first: of retries and
/// of hedges. A first attempt has none, so that a call that succeeds pays nothing for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AttemptNumber(pub u32);

impl Rejection {
    /// Returns the name used in logs, counters and reports: `breaker_open`, …
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AttemptTimeout { .. } => "attempt_timeout",
            Self::DeadlineExceeded { .. } => "deadline_exceeded",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::RateLimited { .. } => "rate_limited",
            Self::BulkheadFull { .. } => "bulkhead_full",
            Self::BulkheadTimeout { .. } => "bulkhead_timeout",
            Self::LimitReached { .. } => "limit_reached",
            Self::Throttled => "throttled",
            Self::Stalled { .. } => "stalled",
            Self::TooSlow { .. } => "too_slow",
            Self::Changed { .. } => "changed",
            Self::WrongLength { .. } => "wrong_length",
            Self::WrongDigest { .. } => "wrong_digest",
            Self::InjectedReset => "injected_reset",
            Self::InjectedCut { .. } => "injected_cut",
        }
    }
}

fn again(retry_after: &Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wait| format!("; try again in {wait:?}"))
}

impl From<Fault> for Diagnosis {
    /// Takes what the fault proves by itself.
    fn from(fault: Fault) -> Self {
        Self { fault, proof: fault.proof() }
    }
}

impl Diagnose for Rejection {
    fn diagnose(&self) -> Diagnosis {
        match self {
            Self::AttemptTimeout { .. } => Fault::AttemptTimeout.into(),
            Self::DeadlineExceeded { .. } => {
                Diagnosis { fault: Fault::Rejected, proof: Proof::Sent }
            }
            Self::BreakerOpen { .. }
            | Self::RateLimited { .. }
            | Self::BulkheadFull { .. }
            | Self::BulkheadTimeout { .. }
            | Self::LimitReached { .. }
            | Self::Throttled => Fault::Rejected.into(),
            Self::Stalled { .. }
            | Self::TooSlow { .. }
            | Self::Changed { .. }
            | Self::WrongLength { .. }
            | Self::WrongDigest { .. }
            | Self::InjectedCut { .. } => Fault::ResponseTruncated.into(),
            Self::InjectedReset => Fault::ConnectionReset.into(),
        }
    }
}

/// Returns what happened to a connection that had been made, where the kind of `error` tells.
///
/// Errors of the kernel are told from those that h2 makes up: only the former carry a number. A time-out is
/// the kernel's, which gave the connection up.
#[must_use]
pub fn lost_connection(error: &io::Error) -> Option<Fault> {
    match error.kind() {
        io::ErrorKind::ConnectionReset => Some(Fault::ConnectionReset),
        // From the kernel: the peer has reset what we write to. Without its number: h2 saw the end.
        io::ErrorKind::BrokenPipe if error.raw_os_error().is_some() => Some(Fault::ConnectionReset),
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Some(Fault::ConnectionClosed),
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => Some(Fault::ConnectionReset),
        _ => None,
    }
}

impl Diagnose for io::Error {
    fn diagnose(&self) -> Diagnosis {
        let fault = match self.kind() {
            io::ErrorKind::ConnectionRefused => Fault::ConnectionRefused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable => Fault::ConnectFailed,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Fault::ConnectionReset,
            io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof => {
                Fault::ConnectionClosed
            }
            io::ErrorKind::TimedOut => Fault::AttemptTimeout,
            _ => Fault::Other,
        };
        fault.into()
    }
}

impl Diagnose for BoxError {
    /// Looks for the innermost error that can tell: a [`Rejection`] or an [`io::Error`].
    fn diagnose(&self) -> Diagnosis {
        let mut found = None;
        let mut next: Option<&(dyn Error + 'static)> = Some(self.as_ref());
        while let Some(error) = next {
            let told = error.downcast_ref::<Rejection>().map(Diagnose::diagnose);
            found = told
                .or_else(|| error.downcast_ref::<io::Error>().map(Diagnose::diagnose))
                .or(found);
            next = error.source();
        }
        found.unwrap_or_else(|| Fault::Other.into())
    }
}

impl Diagnose for std::convert::Infallible {
    fn diagnose(&self) -> Diagnosis {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use redial_core::Evidence;

    use super::*;

    #[test]
    fn io_errors_tell_what_their_kind_tells() {
        let table = [
            (io::ErrorKind::ConnectionRefused, Fault::ConnectionRefused, Evidence::NeverSent),
            (io::ErrorKind::NetworkUnreachable, Fault::ConnectFailed, Evidence::NeverSent),
            (io::ErrorKind::ConnectionReset, Fault::ConnectionReset, Evidence::MaybeApplied),
            (io::ErrorKind::UnexpectedEof, Fault::ConnectionClosed, Evidence::MaybeApplied),
            (io::ErrorKind::TimedOut, Fault::AttemptTimeout, Evidence::MaybeApplied),
            (io::ErrorKind::InvalidData, Fault::Other, Evidence::MaybeApplied),
        ];
        for (kind, fault, evidence) in table {
            let Diagnosis { fault: told, proof } = io::Error::from(kind).diagnose();
            assert_eq!((told, proof.evidence()), (fault, evidence), "{kind}");
        }
    }

    #[test]
    fn a_broken_pipe_is_a_reset_only_if_the_kernel_says_so() {
        let from_kernel = io::Error::from_raw_os_error(32);
        assert_eq!(from_kernel.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(lost_connection(&from_kernel), Some(Fault::ConnectionReset));
        let from_h2 = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(lost_connection(&from_h2), Some(Fault::ConnectionClosed));
        assert_eq!(lost_connection(&io::Error::from(io::ErrorKind::InvalidData)), None);
    }

    #[test]
    fn boxed_errors_are_searched_to_the_root() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] BoxError);

        let rejection = Rejection::AttemptTimeout { after: Duration::from_secs(1) };
        let boxed: BoxError = Box::new(Outer(Box::new(Outer(rejection.into()))));
        assert_eq!(boxed.diagnose().fault, Fault::AttemptTimeout);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let boxed: BoxError = Box::new(Outer(Box::new(refused)));
        assert_eq!(boxed.diagnose().fault, Fault::ConnectionRefused);
        let boxed: BoxError = "who knows".into();
        assert_eq!(boxed.diagnose().fault, Fault::Other);
    }

    #[test]
    fn our_own_refusals_say_how_long_we_waited() {
        let after = Duration::from_millis(1_500);
        let rejections =
            [Rejection::AttemptTimeout { after }, Rejection::DeadlineExceeded { after }];
        assert_eq!(
            rejections.map(|rejection| rejection.to_string()),
            [
                "no answer within the attempt timeout of 1.5s",
                "the call did not end within its deadline of 1.5s"
            ]
        );
        assert_eq!(
            rejections.map(|r| r.diagnose().fault),
            [Fault::AttemptTimeout, Fault::Rejected]
        );
    }
}
