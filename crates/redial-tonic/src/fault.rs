//! What tonic, hyper, h2 and the kernel report, in the words of `redial-core` and of gRPC.

use std::{error::Error, io};

use h2::Reason;
use redial::{Diagnosis, Rejection, chain, lost_connection};
use redial_core::{Fault, Proof};
use tonic::{Code, ConnectError, Status, TimeoutExpired};

/// Returns what `error` of a transport tells, and the code that gRPC has for it. A status that a
/// service further in made an error of is taken at its word.
pub(crate) fn told(error: &(dyn Error + 'static)) -> (Diagnosis, Code) {
    for cause in chain::causes(error) {
        if let Some(connect) = cause.downcast_ref::<ConnectError>() {
            return by_fault(connecting(connect));
        }
        if cause.is::<TimeoutExpired>() {
            return by_fault(Fault::AttemptTimeout);
        }
        if let Some(status) = cause.downcast_ref::<Status>() {
            return (Fault::Other.into(), status.code());
        }
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return stream(error);
        }
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            if error.is_canceled() {
                // Over HTTP/2, hyper cancels what it had not begun to send, and nothing else.
                return by_fault(Fault::StaleConnection);
            }
            if error.is_timeout() {
                // A PING that nobody answered.
                return by_fault(Fault::ConnectionClosed);
            }
        }
        if let Some(fault) = cause.downcast_ref::<io::Error>().and_then(lost_connection) {
            return by_fault(fault);
        }
    }
    match chain::find::<hyper::Error>(error) {
        Some(error) if error.is_closed() || error.is_user() => by_fault(Fault::ConnectionClosed),
        Some(_) => by_fault(Fault::Protocol),
        None => by_fault(Fault::Other),
    }
}

/// Returns what an answer's body that broke off tells: the server had begun to answer.
pub(crate) fn told_while_reading(error: &(dyn Error + 'static)) -> (Diagnosis, Code) {
    // tonic wraps what h2 says about a body in a status of its own, more coarsely.
    let (told, code) = chain::find::<h2::Error>(error).map_or_else(|| told(error), stream);
    let fault = if told.fault == Fault::Protocol { told.fault } else { Fault::ResponseTruncated };
    (Diagnosis { fault, proof: Proof::Answered }, code)
}

/// Returns gRPC's code for a refusal of ours.
pub(crate) const fn code_of_rejection(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::AttemptTimeout { .. }
        | Rejection::DeadlineExceeded { .. }
        | Rejection::Stalled { .. }
        | Rejection::TooSlow { .. } => Code::DeadlineExceeded,
        Rejection::RateLimited { .. }
        | Rejection::BulkheadFull { .. }
        | Rejection::BulkheadTimeout { .. }
        | Rejection::LimitReached { .. }
        | Rejection::Throttled => Code::ResourceExhausted,
        Rejection::BreakerOpen { .. }
        | Rejection::InjectedReset
        | Rejection::InjectedCut { .. } => Code::Unavailable,
        Rejection::Changed { .. }
        | Rejection::WrongLength { .. }
        | Rejection::WrongDigest { .. } => Code::DataLoss,
    }
}

fn by_fault(fault: Fault) -> (Diagnosis, Code) {
    (fault.into(), code_of(fault))
}

const fn code_of(fault: Fault) -> Code {
    match fault {
        Fault::AttemptTimeout => Code::DeadlineExceeded,
        Fault::Protocol | Fault::InvalidRequest | Fault::RequestBody => Code::Internal,
        Fault::Other => Code::Unknown,
        _ => Code::Unavailable,
    }
}

fn connecting(error: &ConnectError) -> Fault {
    match chain::find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => Fault::ConnectionRefused,
        Some(io::ErrorKind::TimedOut) => Fault::ConnectTimeout,
        _ => Fault::ConnectFailed,
    }
}

fn stream(error: &h2::Error) -> (Diagnosis, Code) {
    if error.is_go_away() && error.is_remote() {
        // h2 gives this error to streams above the last one that the server names, and to no other.
        return by_fault(Fault::Goaway);
    }
    if error.is_reset() && error.is_remote() {
        return match error.reason() {
            Some(Reason::REFUSED_STREAM) => by_fault(Fault::RefusedStream),
            reason => (Fault::StreamReset.into(), code_of_reset(reason)),
        };
    }
    if let Some(error) = error.get_io() {
        return by_fault(lost_connection(error).unwrap_or(Fault::ConnectionClosed));
    }
    let is_ours = error.is_reset() && !error.is_library();
    // We reset a stream whose request's body failed; without a reason, h2 did not take the request.
    by_fault(match error.reason() {
        Some(_) if is_ours => Fault::RequestBody,
        Some(_) => Fault::Protocol,
        None => Fault::InvalidRequest,
    })
}

/// The table under "Errors" in gRPC over HTTP/2.
fn code_of_reset(reason: Option<Reason>) -> Code {
    match reason {
        Some(Reason::CANCEL) => Code::Cancelled,
        Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(
            Reason::NO_ERROR
            | Reason::PROTOCOL_ERROR
            | Reason::INTERNAL_ERROR
            | Reason::FLOW_CONTROL_ERROR
            | Reason::SETTINGS_TIMEOUT
            | Reason::FRAME_SIZE_ERROR
            | Reason::COMPRESSION_ERROR
            | Reason::CONNECT_ERROR
            | Reason::HTTP_1_1_REQUIRED,
        ) => Code::Internal,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redial_core::Evidence;

    use super::*;
    use crate::test_error::{Outer, outer};

    fn read(error: &Outer) -> (Fault, Evidence, Code) {
        let (told, code) = told(error);
        (told.fault, told.proof.evidence(), code)
    }

    #[test]
    fn connections_that_never_came_to_be_never_sent_anything() {
        let table = [
            (io::ErrorKind::ConnectionRefused, Fault::ConnectionRefused),
            (io::ErrorKind::TimedOut, Fault::ConnectTimeout),
            (io::ErrorKind::NetworkUnreachable, Fault::ConnectFailed),
        ];
        for (kind, fault) in table {
            let error = outer(ConnectError(Box::new(outer(io::Error::from(kind)))));
            assert_eq!(read(&error), (fault, Evidence::NeverSent, Code::Unavailable));
        }
    }

    #[test]
    fn what_happens_to_a_connection_leaves_it_open_whether_the_server_acted() {
        let table = [
            (io::ErrorKind::ConnectionReset, Fault::ConnectionReset, Code::Unavailable),
            (io::ErrorKind::UnexpectedEof, Fault::ConnectionClosed, Code::Unavailable),
            (io::ErrorKind::HostUnreachable, Fault::ConnectionReset, Code::Unavailable),
            (io::ErrorKind::InvalidData, Fault::Other, Code::Unknown),
        ];
        for (kind, fault, code) in table {
            let error = outer(io::Error::from(kind));
            assert_eq!(read(&error), (fault, Evidence::MaybeApplied, code), "{kind}");
        }
    }

    #[test]
    fn resets_of_ours_are_about_the_requests_body() {
        // What h2 makes of a bare reason is a reset by the user.
        let (told, code) = stream(&h2::Error::from(Reason::INTERNAL_ERROR));
        assert_ne!(told.fault, Fault::StreamReset);
        assert_eq!(code, Code::Internal);
    }

    #[test]
    fn reasons_of_resets_have_codes() {
        let table = [
            (Reason::CANCEL, Code::Cancelled),
            (Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
            (Reason::INADEQUATE_SECURITY, Code::PermissionDenied),
            (Reason::INTERNAL_ERROR, Code::Internal),
            (Reason::NO_ERROR, Code::Internal),
            (Reason::STREAM_CLOSED, Code::Unknown),
        ];
        for (reason, code) in table {
            assert_eq!(code_of_reset(Some(reason)), code, "{reason:?}");
        }
    }

    #[test]
    fn a_status_further_in_is_taken_at_its_word() {
        let error = outer(Status::not_found("no such order"));
        assert_eq!(read(&error), (Fault::Other, Evidence::MaybeApplied, Code::NotFound));
    }

    #[test]
    fn each_refusal_of_ours_has_the_code_that_grpc_has_for_it() {
        let after = Duration::from_secs(1);
        let table = [
            (Rejection::AttemptTimeout { after }, Code::DeadlineExceeded),
            (Rejection::DeadlineExceeded { after }, Code::DeadlineExceeded),
            (Rejection::Stalled { after }, Code::DeadlineExceeded),
            (Rejection::BreakerOpen { retry_after: None }, Code::Unavailable),
            (Rejection::InjectedReset, Code::Unavailable),
            (Rejection::RateLimited { retry_after: after }, Code::ResourceExhausted),
            (Rejection::BulkheadFull { in_flight_max: 1 }, Code::ResourceExhausted),
            (Rejection::BulkheadTimeout { in_flight_max: 1, after }, Code::ResourceExhausted),
            (Rejection::LimitReached { limit: 1 }, Code::ResourceExhausted),
            (Rejection::Throttled, Code::ResourceExhausted),
        ];
        for (rejection, code) in table {
            assert_eq!(code_of_rejection(&rejection), code, "{rejection}");
        }
    }
}
