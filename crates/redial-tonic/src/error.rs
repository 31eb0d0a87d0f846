//! The error of a gRPC call: a status first of all.

use std::sync::Arc;

use redial::{BoxError, Diagnose, Diagnosis, Rejection, chain};
use tonic::{Code, Status};

use crate::fault;

/// Why a call has no answer: what became of the transport, or a [`Rejection`] of ours.
///
/// tonic makes a [`Status`] of it that has the right code, and this error as its source.
#[derive(Debug, thiserror::Error)]
#[error("{}", status.message())]
pub struct GrpcError {
    #[source]
    status: Status,
    told: Diagnosis,
    rejection: Option<Rejection>,
}

impl GrpcError {
    /// Returns the code that gRPC has for this error.
    #[must_use]
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// Returns our own refusal, where that is what ended the call.
    #[must_use]
    pub const fn rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref()
    }

    /// Reads what a transport reports in place of an answer.
    pub(crate) fn from_transport(error: BoxError) -> Self {
        Self::read(error, fault::told)
    }

    /// Reads what a transport reports while an answer's body is read.
    pub(crate) fn from_body(error: BoxError) -> Self {
        Self::read(error, fault::told_while_reading)
    }

    fn read(
        error: BoxError,
        told: fn(&(dyn std::error::Error + 'static)) -> (Diagnosis, Code),
    ) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => return *own,
            Err(error) => error,
        };
        if let Some(rejection) = chain::find::<Rejection>(error.as_ref()) {
            return (*rejection).into();
        }
        let (told, code) = told(error.as_ref());
        let mut status = match chain::find::<Status>(error.as_ref()) {
            Some(inner) => Status::with_details_and_metadata(
                code,
                inner.message(),
                inner.details().to_vec().into(),
                inner.metadata().clone(),
            ),
            None => Status::new(code, words(error.as_ref())),
        };
        status.set_source(Arc::from(error));
        Self { status, told, rejection: None }
    }
}

impl From<Rejection> for GrpcError {
    fn from(rejection: Rejection) -> Self {
        let status = Status::new(fault::code_of_rejection(&rejection), rejection.to_string());
        Self { status, told: rejection.diagnose(), rejection: Some(rejection) }
    }
}

impl From<Status> for GrpcError {
    /// Reads what tonic reports while an answer's body is read.
    fn from(status: Status) -> Self {
        Self::from_body(status.into())
    }
}

impl Diagnose for GrpcError {
    fn diagnose(&self) -> Diagnosis {
        self.told
    }
}

/// Returns the refusal of ours that `status` came of, where one did: an open breaker, a rate limit,
/// a deadline, …
///
/// # Examples
///
/// ```
/// use redial::Rejection;
/// use redial_tonic::{GrpcError, rejection_of};
/// use tonic::{Code, Status};
///
/// let status = Status::from_error(GrpcError::from(Rejection::Throttled).into());
/// assert_eq!(status.code(), Code::ResourceExhausted);
/// assert_eq!(rejection_of(&status), Some(&Rejection::Throttled));
/// assert_eq!(rejection_of(&Status::unavailable("the server's own")), None);
/// ```
#[must_use]
pub fn rejection_of(status: &Status) -> Option<&Rejection> {
    chain::find::<GrpcError>(status)?.rejection()
}

/// Returns the status of an answer's body that broke off.
pub(crate) fn status_of_body(error: BoxError) -> Status {
    match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(error) => Status::from_error(GrpcError::from_body(error).into()),
    }
}

/// Returns the words of `error` and of all its causes.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let words: Vec<String> = chain::causes(error).map(ToString::to_string).collect();
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use redial_core::{Evidence, Fault};
    use tonic::ConnectError;

    use super::*;
    use crate::test_error::outer;

    #[test]
    fn tonic_finds_the_right_code_and_the_words_of_every_cause() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = outer(ConnectError(Box::new(refused)));
        let error = GrpcError::from_transport(Box::new(error));
        assert_eq!(error.diagnose(), Fault::ConnectionRefused.into());
        let status = Status::from_error(error.into());
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "outer: connection refused: connection refused");
        assert_eq!(rejection_of(&status), None);
    }

    #[test]
    fn a_refusal_of_ours_is_found_wherever_it_is() {
        let rejection = Rejection::DeadlineExceeded { after: Duration::from_secs(3) };
        for error in [
            GrpcError::from(rejection),
            GrpcError::from_transport(outer(rejection).into()),
            GrpcError::from_transport(GrpcError::from(rejection).into()),
        ] {
            assert_eq!(error.rejection(), Some(&rejection));
            let status = Status::from_error(error.into());
            assert_eq!(status.code(), Code::DeadlineExceeded);
            assert_eq!(status.message(), "the call did not end within its deadline of 3s");
        }
        let status = status_of_body(rejection.into());
        assert_eq!(
            (status.code(), rejection_of(&status)),
            (Code::DeadlineExceeded, Some(&rejection))
        );
    }

    #[test]
    fn a_status_of_a_service_further_in_keeps_its_details() {
        let inner = Status::with_details(Code::Aborted, "again", vec![7].into());
        let status = Status::from_error(GrpcError::from_transport(outer(inner).into()).into());
        assert_eq!(
            (status.code(), status.message(), status.details()),
            (Code::Aborted, "again", &[7][..])
        );
        assert_eq!(status_of_body(Status::data_loss("lost").into()).code(), Code::DataLoss);
    }

    #[test]
    fn a_body_that_breaks_off_was_an_answer() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = GrpcError::from_body(outer(reset).into());
        assert_eq!(error.diagnose().proof.evidence(), Evidence::Applied);
        assert_eq!(
            (error.diagnose().fault, error.code()),
            (Fault::ResponseTruncated, Code::Unavailable)
        );
    }
}
