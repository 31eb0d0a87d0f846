//! What hyper, h2, rustls and the kernel report, in the words of `redial-core`.
//!
//! One function for each phase of a call: connecting, waiting for the answer, reading its body. They
//! look at types and kinds only.

use std::{error::Error as StdError, io};

use redial::{chain, lost_connection};
use redial_core::Fault;
use tokio_rustls::rustls;

use crate::{connect::ConnectError, request::SendBodyError, tls::TlsError};

/// Returns why there is no connection.
pub(crate) fn connecting(error: &ConnectError) -> Fault {
    match error {
        ConnectError::Resolve(_) => Fault::Dns,
        ConnectError::Tcp(error) => tcp(error.as_ref()),
        ConnectError::Handshake(_) | ConnectError::Ended => Fault::ConnectFailed,
        ConnectError::Timeout { .. } => Fault::ConnectTimeout,
        ConnectError::Target(_) | ConnectError::Tls(TlsError::ServerName(_)) => {
            Fault::InvalidRequest
        }
        ConnectError::Tls(TlsError::NoRoots) => Fault::TlsCertificate,
        ConnectError::Tls(TlsError::Setup(_)) => Fault::Tls,
        ConnectError::Tls(TlsError::Handshake(error)) => match chain::find(error) {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                Fault::TlsCertificate
            }
            _ => Fault::Tls,
        },
    }
}

fn tcp(error: &(dyn StdError + 'static)) -> Fault {
    match chain::find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => Fault::ConnectionRefused,
        Some(io::ErrorKind::TimedOut) => Fault::ConnectTimeout,
        _ => Fault::ConnectFailed,
    }
}

/// Returns why no answer came over a connection that was there.
pub(crate) fn answering(error: &hyper::Error) -> Fault {
    for cause in chain::causes(error) {
        if cause.is::<SendBodyError>() {
            return Fault::RequestBody;
        }
        if cause.is::<rustls::Error>() {
            return Fault::Tls;
        }
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return stream(error);
        }
        if let Some(fault) = cause.downcast_ref::<io::Error>().and_then(lost_connection) {
            return fault;
        }
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            if error.is_incomplete_message() {
                return Fault::ConnectionClosed;
            }
            if error.is_parse() {
                return Fault::Protocol;
            }
        }
    }
    let is_gone = error.is_canceled() || error.is_closed() || error.is_user();
    let cause = StdError::source(error).and_then(|cause| cause.downcast_ref::<hyper::Error>());
    // What is left as the cause of a canceled request is an answer that nobody had asked for.
    if is_gone && cause.is_none() { Fault::ConnectionClosed } else { Fault::Protocol }
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
        return lost_connection(error).unwrap_or(Fault::ConnectionClosed);
    }
    // No frame and no reason: h2 would not take the request as it is.
    if error.reason().is_none() { Fault::InvalidRequest } else { Fault::Protocol }
}

/// Returns why the answer's body could not be read to its end.
pub(crate) fn reading(error: &hyper::Error) -> Fault {
    for cause in chain::causes(error) {
        if cause.is::<SendBodyError>() {
            return Fault::RequestBody;
        }
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return match stream(error) {
                Fault::Protocol => Fault::Protocol,
                _ => Fault::ResponseTruncated,
            };
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            // hyper's words for a chunk that is none.
            let is_nonsense =
                matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
            let is_tls = chain::find::<rustls::Error>(error).is_some();
            return if is_nonsense && !is_tls { Fault::Protocol } else { Fault::ResponseTruncated };
        }
    }
    if error.is_parse() { Fault::Protocol } else { Fault::ResponseTruncated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connecting_fails_for_what_the_kernel_says() {
        let table = [
            (io::ErrorKind::ConnectionRefused, Fault::ConnectionRefused),
            (io::ErrorKind::TimedOut, Fault::ConnectTimeout),
            (io::ErrorKind::NetworkUnreachable, Fault::ConnectFailed),
        ];
        for (kind, fault) in table {
            assert_eq!(connecting(&ConnectError::Tcp(io::Error::from(kind).into())), fault);
        }
        assert_eq!(connecting(&ConnectError::Tls(TlsError::NoRoots)), Fault::TlsCertificate);
    }
}
