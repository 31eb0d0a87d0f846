//! Why a call brought no answer, and what is proven about the server having acted.

use std::{error::Error as StdError, fmt, time::Duration};

use redial::{BoxError, Diagnose, Diagnosis, Rejection};
use redial_core::{Fault, Proof};

use crate::{
    connect::ConnectError,
    fault,
    lease::Unanswered,
    origin::{InvalidTarget, Origin},
    pool::AcquireError,
    request::Failure,
};

/// Why a call brought no answer, or why its answer could not be read to the end.
///
/// [`fault`](Self::fault) says what went wrong and [`proof`](Self::proof) what is known about the
/// server having acted; `Display` says both parties' part in one line, and the cause is in
/// [`source`](StdError::source). Everything is told from the types of hyper, h2, rustls and the
/// kernel, and from the bytes counted, never from words.
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    diagnosis: Diagnosis,
    origin: Option<Origin>,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Failed(BoxError),
    Rejected(Rejection),
}

/// The pool had no connection for a call; the [`source`](StdError::source) of an [`Error`] whose
/// fault is `Rejected`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolExhausted {
    /// As many calls wait for a connection to the host as may.
    #[error("{max_waiting_per_host} calls wait for a connection already")]
    QueueFull {
        /// How many may wait.
        max_waiting_per_host: usize,
    },
    /// As many connections are open as may be, and none became free in time.
    #[error("all connections that may be open are in use, and none was free within {after:?}")]
    Timeout {
        /// How long the call waited.
        after: Duration,
    },
}

impl Error {
    /// Returns what went wrong.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.inner.diagnosis.fault
    }

    /// Returns what is known about the server having acted.
    #[must_use]
    pub fn proof(&self) -> Proof {
        self.inner.diagnosis.proof
    }

    /// Returns our own refusal, where no upstream failed: a timeout or a deadline of a layer above.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.inner.why {
            Why::Rejected(rejection) => Some(rejection),
            Why::Failed(_) => None,
        }
    }

    fn failed(
        (fault, proof): (Fault, Proof),
        origin: Option<&Origin>,
        cause: impl Into<BoxError>,
    ) -> Self {
        let diagnosis = Diagnosis { fault, proof };
        let why = Why::Failed(cause.into());
        Self { inner: Box::new(Inner { diagnosis, origin: origin.cloned(), why }) }
    }

    pub(crate) fn target(error: InvalidTarget) -> Self {
        Self::failed((Fault::InvalidRequest, Proof::NothingWritten), None, error)
    }

    fn connecting(origin: &Origin, error: ConnectError) -> Self {
        Self::failed((fault::connecting(&error), Proof::NoConnection), Some(origin), error)
    }

    /// Says that the pool had no connection.
    pub(crate) fn acquiring(origin: &Origin, error: AcquireError) -> Self {
        match error {
            AcquireError::Connect(error) => Self::connecting(origin, error),
            AcquireError::Exhausted(error) => {
                Self::failed((Fault::Rejected, Proof::NoConnection), Some(origin), error)
            }
        }
    }

    /// Says why no answer came over a connection, from hyper's error and from what was written.
    pub(crate) fn unanswered(origin: &Origin, ended: Unanswered, body: &Failure) -> Self {
        let nothing_written = ended.request.is_some() || !ended.wrote;
        let fault = match (body.get(), fault::answering(&ended.error)) {
            (Some(_), _) => Fault::RequestBody,
            (None, Fault::ConnectionReset | Fault::ConnectionClosed)
                if nothing_written && ended.is_reused =>
            {
                Fault::StaleConnection
            }
            // The connection made no sense before the request came, and was only gone after that.
            (None, Fault::ConnectionClosed) if ended.before == Some(Fault::Protocol) => {
                Fault::Protocol
            }
            (None, fault) => fault,
        };
        let proof = match fault {
            Fault::RefusedStream | Fault::Goaway | Fault::InvalidRequest => fault.proof(),
            _ if nothing_written => Proof::NothingWritten,
            _ => Proof::Sent,
        };
        let told = (fault, proof);
        match body.get() {
            Some(cause) => Self::failed(told, Some(origin), cause.clone()),
            None => Self::failed(told, Some(origin), ended.error),
        }
    }

    /// Says why the answer's body could not be read to its end.
    pub(crate) fn reading(origin: &Origin, error: hyper::Error) -> Self {
        Self::failed((fault::reading(&error), Proof::Answered), Some(origin), error)
    }

    /// Says why the answer's body could not be decoded.
    pub(crate) fn decoding(origin: &Origin, fault: Fault, error: BoxError) -> Self {
        Self::failed((fault, Proof::Answered), Some(origin), error)
    }
}

impl Diagnose for Error {
    fn diagnose(&self) -> Diagnosis {
        self.inner.diagnosis
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let diagnosis = rejection.diagnose();
        let why = Why::Rejected(rejection);
        Self { inner: Box::new(Inner { diagnosis, origin: None, why }) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("fault", &self.fault())
            .field("proof", &self.proof())
            .field("origin", &self.inner.origin.as_ref().map(ToString::to_string))
            .field("why", &self.inner.why)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Why::Rejected(rejection) = &self.inner.why {
            return rejection.fmt(f);
        }
        let Some(origin) = &self.inner.origin else {
            return f.write_str("the request cannot be sent");
        };
        match self.fault() {
            Fault::Dns => write!(f, "the name in {origin} could not be resolved"),
            Fault::ConnectionRefused => write!(f, "{origin} refused the connection"),
            Fault::ConnectFailed => write!(f, "no connection to {origin} could be made"),
            Fault::ConnectTimeout => write!(f, "no connection to {origin} was made in time"),
            Fault::Tls => write!(f, "tls with {origin} failed"),
            Fault::TlsCertificate => write!(f, "the certificate of {origin} is not trusted"),
            Fault::StaleConnection => write!(f, "a pooled connection to {origin} was dead"),
            Fault::ConnectionReset => write!(f, "{origin} reset the connection"),
            Fault::ConnectionClosed => {
                write!(f, "{origin} closed the connection without an answer")
            }
            Fault::Rejected => write!(f, "the pool has no connection to {origin} for this call"),
            Fault::RefusedStream => write!(f, "{origin} refused the stream unprocessed"),
            Fault::Goaway => write!(f, "{origin} went away without processing the stream"),
            Fault::StreamReset => write!(f, "{origin} reset the stream"),
            Fault::ResponseTruncated => write!(f, "the answer of {origin} ended too early"),
            Fault::Protocol => write!(f, "the answer of {origin} is not valid"),
            Fault::RequestBody => write!(f, "the request's body failed on its way to {origin}"),
            Fault::InvalidRequest => write!(f, "the request to {origin} cannot be sent"),
            fault => write!(f, "the call to {origin} failed: {fault}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.inner.why {
            Why::Failed(cause) => Some(cause.as_ref()),
            Why::Rejected(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_stays_what_it_is() {
        let rejection = Rejection::AttemptTimeout { after: Duration::from_secs(1) };
        let error = Error::from(rejection);
        assert_eq!(error.rejection(), Some(&rejection));
        assert_eq!((error.fault(), error.proof()), (Fault::AttemptTimeout, Proof::Sent));
        assert_eq!(error.to_string(), "no answer within the attempt timeout of 1s");
        assert!(error.source().is_none());
    }

    #[test]
    fn a_timeout_says_how_long_and_for_whom() {
        let origin = Origin::of(&http::Uri::from_static("http://a.example:81/x")).unwrap();
        let after = Duration::from_millis(250);
        let error = Error::connecting(&origin, ConnectError::Timeout { after });
        assert_eq!(error.to_string(), "no connection to http://a.example:81 was made in time");
        assert_eq!(error.source().unwrap().to_string(), "connecting did not end within 250ms");
        assert_eq!(error.diagnose().proof, Proof::NoConnection);
        assert!(error.rejection().is_none());
    }

    #[test]
    fn an_exhausted_pool_is_our_own_refusal_and_sends_nothing() {
        let origin = Origin::of(&http::Uri::from_static("http://a.example/")).unwrap();
        let full = PoolExhausted::QueueFull { max_waiting_per_host: 3 };
        let error = Error::acquiring(&origin, AcquireError::Exhausted(full));
        assert_eq!((error.fault(), error.proof()), (Fault::Rejected, Proof::NoConnection));
        let text = "the pool has no connection to http://a.example for this call";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.source().unwrap().downcast_ref(), Some(&full));
        assert_eq!(full.to_string(), "3 calls wait for a connection already");
    }
}
