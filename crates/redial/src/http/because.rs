//! The rules that an outcome was read by, each with its source.

use std::{fmt, time::Duration};

use redial_core::{Fault, Proof};

/// One rule that applied while an outcome was read.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Because {
    /// The status is below 400.
    Succeeded(u16),
    /// The status is one that the policy retries.
    Listed(u16),
    /// The status is not one that the policy retries.
    NotListed(u16),
    /// The class of the status has retries of its own.
    ClassRetries(u16),
    /// The fault is one that the policy retries.
    FaultListed(Fault),
    /// The fault is not one that the policy retries.
    FaultNotListed(Fault),
    /// 413 names a time to come back.
    TooLargeForNow,
    /// 421: another connection may lead to the right server.
    Misdirected,
    /// 417: the same request without `Expect` may pass.
    WithoutExpect,
    /// A 403 or 429 that says that a quota is used up.
    QuotaUsedUp(u16),
    /// The stream was refused; it may be sent again at once.
    StreamRefused,
    /// The same key is still being worked on.
    KeyInProgress,
    /// The same key was used with another payload.
    KeyReused(u16),
    /// The server keeps this answer, and gives it to every repetition.
    KeptByKey(u16),
    /// The server says that it does not honor the key.
    KeyIgnored,
    /// The server forbids repeating.
    Vetoed,
    /// The server invites repeating.
    Invited,
    /// The server asks for a wait.
    Asked {
        /// The field that asks.
        field: &'static str,
        /// For how long.
        wait: Duration,
    },
    /// What is known about the server having acted.
    Proven(Proof),
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded(status) => write!(f, "status {status} is below 400: success"),
            Self::Listed(status) => {
                write!(f, "status {status} is retried by the policy{}", source_of(*status))
            }
            Self::NotListed(status) => {
                write!(f, "status {status} is not retried by the policy{}", source_of(*status))
            }
            Self::ClassRetries(status) => {
                write!(f, "status {status} is retried by the policy's rule for its class")
            }
            Self::FaultListed(fault) => write!(f, "{fault} is retried by the policy"),
            Self::FaultNotListed(fault) => write!(f, "{fault} is not retried by the policy"),
            Self::TooLargeForNow => {
                f.write_str("413 with Retry-After is temporary (RFC 9110 §15.5.14)")
            }
            Self::Misdirected => f.write_str(
                "421 may be repeated once over another connection, whatever the method (RFC 9110 §15.5.20)",
            ),
            Self::WithoutExpect => {
                f.write_str("417 is repeated once without Expect (RFC 9110 §10.1.1)")
            }
            Self::QuotaUsedUp(status) => {
                write!(f, "status {status} says that a quota is used up: throttled")
            }
            Self::StreamRefused => f.write_str(
                "a refused stream is sent again at once, one time (RFC 9113 §8.7, gRFC A6)",
            ),
            Self::KeyInProgress => f.write_str(
                "409: the request with this idempotency key is still in progress \
                 (draft-ietf-httpapi-idempotency-key-header-07 §2.7)",
            ),
            Self::KeyReused(status) => {
                write!(f, "status {status} says that the idempotency key was used for another request")
            }
            Self::KeptByKey(status) => write!(
                f,
                "status {status} is kept by the server, and would come again with this idempotency key"
            ),
            Self::KeyIgnored => f.write_str("the server says that it ignored the idempotency key"),
            Self::Vetoed => f.write_str("the server forbids repeating this request"),
            Self::Invited => f.write_str("the server invites repeating this request"),
            Self::Asked { field, wait } => write!(f, "{field} asks to wait for {wait:?}"),
            Self::Proven(proof) => write!(f, "{}: {proof}", proof.evidence()),
        }
    }
}

/// Returns where the meaning of a status is laid down, as a note in brackets.
fn source_of(status: u16) -> &'static str {
    match status {
        401 => " (RFC 9110 §15.5.2)",
        403 => " (RFC 9110 §15.5.4)",
        408 => " (RFC 9110 §15.5.9)",
        409 => " (RFC 9110 §15.5.10)",
        413 => " (RFC 9110 §15.5.14)",
        425 => " (RFC 8470 §5.2)",
        429 => " (RFC 6585 §4)",
        400..=499 => " (RFC 9110 §15.5)",
        501 => ": it stays so (RFC 9110 §15.6.2)",
        502 => " (RFC 9110 §15.6.3)",
        503 => " (RFC 9110 §15.6.4)",
        504 => " (RFC 9110 §15.6.5)",
        505 => ": it stays so (RFC 9110 §15.6.6)",
        _ => " (RFC 9110 §15.6)",
    }
}
