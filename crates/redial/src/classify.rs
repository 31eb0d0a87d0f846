//! Who says what an outcome means.

use http::{Response, request::Parts};
use redial_core::{Policy, Reading};

use crate::{clock, diagnose::Diagnose, http as semantics};

/// Reads what an attempt's outcome means. It sees everything: the policy, the request's head, and
/// the response with its fields or the error.
///
/// A classifier that knows better for some outcomes leaves the rest to [`HttpClassifier`]. Closures
/// over the same arguments are classifiers.
///
/// # Examples
///
/// ```
/// use http::{Response, request::Parts};
/// use redial::{
///     BoxError, Classify, HttpClassifier,
///     core::{Class, Policy, Reading, Verdict},
/// };
///
/// // This server says 200 and means "not yet".
/// fn read<T>(policy: &Policy, request: &Parts, outcome: &Result<Response<T>, BoxError>) -> Reading {
///     match outcome {
///         Ok(response) if response.headers().contains_key("x-pending") => {
///             Reading::new(Verdict::Transient(Class::Other))
///         }
///         _ => HttpClassifier.classify(policy, request, outcome),
///     }
/// }
/// # let _: fn(&Policy, &Parts, &Result<Response<()>, BoxError>) -> Reading = read;
/// ```
pub trait Classify<T, E> {
    /// Returns what `outcome` means under `policy`.
    fn classify(
        &self,
        policy: &Policy,
        request: &Parts,
        outcome: &Result<Response<T>, E>,
    ) -> Reading;
}

/// Reads outcomes as HTTP means them: see [`crate::http::read`].
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpClassifier;

impl<T, E: Diagnose> Classify<T, E> for HttpClassifier {
    fn classify(
        &self,
        policy: &Policy,
        request: &Parts,
        outcome: &Result<Response<T>, E>,
    ) -> Reading {
        let outcome = match outcome {
            Ok(response) => {
                Ok(semantics::Answer { status: response.status(), headers: response.headers() })
            }
            Err(error) => Err(error.diagnose()),
        };
        semantics::read(policy, request, outcome, clock::unix_now, |_| {})
    }
}

impl<F, T, E> Classify<T, E> for F
where
    F: Fn(&Policy, &Parts, &Result<Response<T>, E>) -> Reading,
{
    fn classify(
        &self,
        policy: &Policy,
        request: &Parts,
        outcome: &Result<Response<T>, E>,
    ) -> Reading {
        self(policy, request, outcome)
    }
}
