//! Why a call brought no answer, and what is proven about the server having acted.

use std::{error::Error as StdError, fmt};

use redial::{Diagnose, Diagnosis, Rejection};
use redial_core::{Evidence, Fault, Proof};

use crate::{
    body::{Course, Trace},
    fault,
};

/// Why a call brought no answer, or why its answer could not be read to the end.
///
/// [`fault`](Self::fault) says what went wrong and [`evidence`](Self::evidence) what is known about
/// the server having acted. `Display` names the server but not the path or the query, which carry
/// secrets; reqwest's own error is in [`source`](StdError::source), and
/// [`into_reqwest`](Self::into_reqwest) gives it back as it came.
pub struct Error {
    diagnosis: Diagnosis,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Failed(reqwest::Error),
    Rejected(Rejection),
    #[cfg(feature = "middleware")]
    Inner(reqwest_middleware::Error),
    #[cfg(feature = "middleware")]
    Astray,
}

impl Error {
    /// Returns what went wrong.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        self.diagnosis.fault
    }

    /// Returns how it is known what the server did.
    #[must_use]
    pub const fn proof(&self) -> Proof {
        self.diagnosis.proof
    }

    /// Returns what is known about the server having acted.
    #[must_use]
    pub const fn evidence(&self) -> Evidence {
        self.diagnosis.proof.evidence()
    }

    /// Returns our own refusal, where no upstream failed: a timeout, a deadline, an open breaker.
    #[must_use]
    pub const fn rejection(&self) -> Option<&Rejection> {
        match &self.why {
            Why::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// Returns whether this is our own refusal, and not an upstream's failure.
    #[must_use]
    pub const fn is_rejection(&self) -> bool {
        self.rejection().is_some()
    }

    /// Returns whether there was no connection to send the request over: no name, no route, no
    /// listener, no TLS.
    #[must_use]
    pub const fn is_connect(&self) -> bool {
        matches!(
            self.diagnosis.fault,
            Fault::Dns
                | Fault::ConnectionRefused
                | Fault::ConnectFailed
                | Fault::ConnectTimeout
                | Fault::Tls
                | Fault::TlsCertificate
        )
    }

    /// Returns whether time ran out: for connecting, for an attempt, for the call or for its body.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self.diagnosis.fault, Fault::ConnectTimeout | Fault::AttemptTimeout)
            || matches!(
                self.rejection(),
                Some(Rejection::DeadlineExceeded { .. } | Rejection::Stalled { .. })
            )
    }

    /// Returns the error of reqwest, if it is one.
    #[must_use]
    pub const fn as_reqwest(&self) -> Option<&reqwest::Error> {
        match &self.why {
            Why::Failed(error) => Some(error),
            #[cfg(feature = "middleware")]
            Why::Inner(reqwest_middleware::Error::Reqwest(error)) => Some(error),
            _ => None,
        }
    }

    /// Returns the error of reqwest, as it came.
    ///
    /// # Errors
    ///
    /// Returns `self` if it is not reqwest's: a [`Rejection`], or an error of another middleware.
    pub fn into_reqwest(self) -> Result<reqwest::Error, Self> {
        match self.why {
            Why::Failed(error) => Ok(error),
            #[cfg(feature = "middleware")]
            Why::Inner(reqwest_middleware::Error::Reqwest(error)) => Ok(error),
            _ => Err(self),
        }
    }

    pub(crate) fn sending(error: reqwest::Error, trace: &Trace, course: Course) -> Self {
        let diagnosis = fault::sending(&error, trace, course);
        Self { diagnosis, why: Why::Failed(error) }
    }
}

impl Diagnose for Error {
    fn diagnose(&self) -> Diagnosis {
        self.diagnosis
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self { diagnosis: rejection.diagnose(), why: Why::Rejected(rejection) }
    }
}

impl From<reqwest::Error> for Error {
    /// Takes an error of reqwest whose request nobody watched, such as one of reading a body.
    ///
    /// Its [`evidence`](Self::evidence) is never that a request was not processed: reqwest may have
    /// followed a redirect before it failed.
    fn from(error: reqwest::Error) -> Self {
        Self::sending(error, &Trace::UNWATCHED, Course::UNKNOWN)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("fault", &self.fault())
            .field("proof", &self.proof())
            .field("why", &self.why)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Rejected(rejection) => rejection.fmt(f),
            Why::Failed(error) => write_failure(f, self.fault(), &Server(error.url())),
            #[cfg(feature = "middleware")]
            Why::Inner(error) => match error {
                reqwest_middleware::Error::Reqwest(error) => {
                    write_failure(f, self.fault(), &Server(error.url()))
                }
                reqwest_middleware::Error::Middleware(error) => error.fmt(f),
            },
            #[cfg(feature = "middleware")]
            Why::Astray => f.write_str("an attempt went astray: it does not belong to a call"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.why {
            Why::Failed(error) => Some(error),
            Why::Rejected(_) => None,
            #[cfg(feature = "middleware")]
            Why::Inner(reqwest_middleware::Error::Reqwest(error)) => Some(error),
            #[cfg(feature = "middleware")]
            Why::Inner(reqwest_middleware::Error::Middleware(error)) => error.source(),
            #[cfg(feature = "middleware")]
            Why::Astray => None,
        }
    }
}

fn write_failure(f: &mut fmt::Formatter<'_>, fault: Fault, server: &Server<'_>) -> fmt::Result {
    match fault {
        Fault::Dns => write!(f, "the name of {server} could not be resolved"),
        Fault::ConnectionRefused => write!(f, "{server} refused the connection"),
        Fault::ConnectFailed => write!(f, "no connection to {server} could be made"),
        Fault::ConnectTimeout => write!(f, "no connection to {server} was made in time"),
        Fault::Tls => write!(f, "tls with {server} failed"),
        Fault::TlsCertificate => write!(f, "the certificate of {server} is not trusted"),
        Fault::StaleConnection => write!(f, "a pooled connection to {server} was dead"),
        Fault::ConnectionReset => write!(f, "{server} reset the connection"),
        Fault::ConnectionClosed => write!(f, "{server} closed the connection without an answer"),
        Fault::RefusedStream => write!(f, "{server} refused the stream unprocessed"),
        Fault::Goaway => write!(f, "{server} went away without processing the stream"),
        Fault::StreamReset => write!(f, "{server} reset the stream"),
        Fault::AttemptTimeout => write!(f, "reqwest's own timeout for {server} ran out"),
        Fault::ResponseTruncated => write!(f, "the answer of {server} ended too early"),
        Fault::Protocol => write!(f, "the answer of {server} is not valid"),
        Fault::RequestBody => write!(f, "the request's body failed on its way to {server}"),
        Fault::InvalidRequest => write!(f, "the request to {server} cannot be sent"),
        fault => write!(f, "the call to {server} failed: {fault}"),
    }
}

/// As much of a URL as may be told.
struct Server<'a>(Option<&'a reqwest::Url>);

impl fmt::Display for Server<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((url, host)) = self.0.and_then(|url| Some((url, url.host_str()?))) else {
            return f.write_str("the server");
        };
        write!(f, "{}://{host}", url.scheme())?;
        url.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(feature = "middleware")]
mod middleware {
    use super::{Course, Diagnosis, Error, Fault, Proof, Rejection, StdError, Trace, Why};
    use redial::{Diagnose, chain};

    use crate::fault;

    impl Error {
        /// Takes what came out of the rest of a chain of middlewares.
        pub(crate) fn inner(
            error: reqwest_middleware::Error,
            trace: &Trace,
            course: Course,
        ) -> Self {
            let diagnosis = match &error {
                reqwest_middleware::Error::Reqwest(error) => fault::sending(error, trace, course),
                reqwest_middleware::Error::Middleware(error) => {
                    let cause: &(dyn StdError + 'static) = error.as_ref();
                    of_middleware(cause, trace, course)
                }
            };
            Self { diagnosis, why: Why::Inner(error) }
        }

        /// Reports a request that does not belong to a call, or to one that is over.
        pub(crate) const fn astray() -> Self {
            let diagnosis = Diagnosis { fault: Fault::Cancelled, proof: Proof::NothingWritten };
            Self { diagnosis, why: Why::Astray }
        }

        /// Returns the error for those who know only middlewares: what came, as it came.
        pub(crate) fn into_middleware(self) -> reqwest_middleware::Error {
            match self.why {
                Why::Failed(error) => error.into(),
                Why::Inner(error) => error,
                Why::Rejected(rejection) => reqwest_middleware::Error::middleware(rejection),
                Why::Astray => reqwest_middleware::Error::middleware(self),
            }
        }
    }

    /// Looks for an error that can tell among the causes of another middleware's.
    fn of_middleware(error: &(dyn StdError + 'static), trace: &Trace, course: Course) -> Diagnosis {
        let told = chain::causes(error).find_map(|cause| {
            let rejection = cause.downcast_ref::<Rejection>().map(Diagnose::diagnose);
            let failed = |error| fault::sending(error, trace, course);
            rejection
                .or_else(|| cause.downcast_ref::<reqwest::Error>().map(failed))
                .or_else(|| inside(cause).map(failed))
        });
        told.unwrap_or_else(|| Fault::Other.into())
    }

    /// Opens an error that shows its cause's cause instead of its cause.
    fn inside<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a reqwest::Error> {
        match error.downcast_ref()? {
            reqwest_middleware::Error::Reqwest(error) => Some(error),
            reqwest_middleware::Error::Middleware(error) => {
                chain::find(error.as_ref() as &(dyn StdError + 'static))
            }
        }
    }
}
