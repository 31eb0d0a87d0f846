//! What reqwest, hyper, h2 and the kernel report, in the words of `redial-core`.
//!
//! Types and kinds are looked at, and reqwest's own predicates; never words.

use std::io;

use redial::{Diagnosis, chain, lost_connection};
use redial_core::{Fault, Proof};

use crate::body::{Course, Trace};

/// Returns why a request brought no answer, and what that proves.
///
/// What would prove that the request was not processed counts only if `course` says that it was not
/// redirected before.
pub(crate) fn sending(error: &reqwest::Error, trace: &Trace, course: Course) -> Diagnosis {
    if error.is_body() || error.is_decode() {
        return reading(error);
    }
    if let Some(status) = error.status() {
        return Diagnosis { fault: Fault::Other, proof: Proof::UnclearStatus(status.as_u16()) };
    }
    if error.is_redirect() {
        // A chain of redirects that is not followed is made of answers.
        return Diagnosis { fault: Fault::Other, proof: Proof::Answered };
    }
    let fault = if trace.has_failed() { Fault::RequestBody } else { answering(error) };
    let proof = match fault.proof() {
        proof if proof.evidence().is_unapplied() && !course.supports(proof) => Proof::Sent,
        proof => proof,
    };
    Diagnosis { fault, proof }
}

/// Returns why an answer's body could not be read to its end.
pub(crate) fn reading(error: &reqwest::Error) -> Diagnosis {
    let fault = if error.is_timeout() { Fault::AttemptTimeout } else { breaking(error) };
    Diagnosis { fault, proof: Proof::Answered }
}

fn answering(error: &reqwest::Error) -> Fault {
    if error.is_builder() {
        return Fault::InvalidRequest;
    }
    if error.is_connect() {
        return connecting(error);
    }
    if error.is_timeout() {
        return Fault::AttemptTimeout;
    }
    for cause in chain::causes(error) {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return stream(error);
        }
        if let Some(fault) = cause.downcast_ref::<io::Error>().and_then(connection) {
            return fault;
        }
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            if error.is_canceled() {
                // hyper gives back a request that it has not begun, and this is how.
                return Fault::StaleConnection;
            }
            if error.is_incomplete_message() {
                return Fault::ConnectionClosed;
            }
            if error.is_parse() {
                return Fault::Protocol;
            }
        }
    }
    Fault::Other
}

fn connecting(error: &reqwest::Error) -> Fault {
    if error.is_timeout() {
        return Fault::ConnectTimeout;
    }
    if error.is_dns() {
        return Fault::Dns;
    }
    #[cfg(feature = "rustls")]
    if let Some(error) = chain::find::<tokio_rustls::rustls::Error>(error) {
        return tls(error);
    }
    match chain::find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => Fault::ConnectionRefused,
        // The kernel connects or does not; it is TLS that reads, and may read nonsense.
        Some(io::ErrorKind::InvalidData) => Fault::Tls,
        _ => Fault::ConnectFailed,
    }
}

#[cfg(feature = "rustls")]
const fn tls(error: &tokio_rustls::rustls::Error) -> Fault {
    use tokio_rustls::rustls::Error;

    match error {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Fault::TlsCertificate,
        _ => Fault::Tls,
    }
}

fn stream(error: &h2::Error) -> Fault {
    if error.is_go_away() && error.is_remote() {
        // h2 gives this error to streams above the last one that the server names, and to no other.
        return Fault::Goaway;
    }
    if error.is_reset() && error.is_remote() {
        let is_refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
        return if is_refused { Fault::RefusedStream } else { Fault::StreamReset };
    }
    if let Some(error) = error.get_io() {
        return connection(error).unwrap_or(Fault::ConnectionClosed);
    }
    Fault::Protocol
}

/// Returns what happened to the connection, where the kind of `error` tells. A time-out is reqwest's to tell.
fn connection(error: &io::Error) -> Option<Fault> {
    if error.kind() == io::ErrorKind::TimedOut { None } else { lost_connection(error) }
}

fn breaking(error: &reqwest::Error) -> Fault {
    for cause in chain::causes(error) {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let fault = stream(error);
            return if fault == Fault::Protocol { fault } else { Fault::ResponseTruncated };
        }
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && error.is_parse()
        {
            return Fault::Protocol;
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            // hyper's words for a chunk that is none.
            let is_nonsense =
                matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
            return if is_nonsense { Fault::Protocol } else { Fault::ResponseTruncated };
        }
    }
    // Read to its end and not understood: JSON that is none.
    if error.is_decode() { Fault::Protocol } else { Fault::ResponseTruncated }
}

#[cfg(all(test, feature = "rustls"))]
mod tests {
    use tokio_rustls::rustls::{CertificateError, Error};

    use super::*;

    #[test]
    fn a_certificate_that_is_not_trusted_is_told_from_other_failures_of_tls() {
        let untrusted = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(tls(&untrusted), Fault::TlsCertificate);
        assert_eq!(tls(&Error::HandshakeNotComplete), Fault::Tls);
    }
}
