//! Who says what an outcome means.

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, request::Parts,
};
use redial_core::{Idempotency, Policy, Reading};

use crate::{
    clock,
    diagnose::Diagnose,
    http as semantics,
    idempotency::{KeySent, Provider},
};

/// Reads what an attempt's outcome means. It sees everything: the policy, the request's head, and
/// the response with its fields or the error.
///
/// A classifier that knows better for some outcomes leaves the rest to [`HttpClassifier`]. Closures
/// over the same arguments are classifiers.
///
/// # Examples
///
/// ```
/// use http::Response;
/// use redial::{
///     Asked, BoxError, Classify, HttpClassifier,
///     core::{Class, Policy, Reading, Verdict},
/// };
///
/// // This server says 200 and means "not yet".
/// fn read<T>(
///     policy: &Policy,
///     asked: &Asked<'_>,
///     outcome: &Result<Response<T>, BoxError>,
/// ) -> Reading {
///     match outcome {
///         Ok(response) if response.headers().contains_key("x-pending") => {
///             Reading::new(Verdict::Transient(Class::Other))
///         }
///         _ => HttpClassifier.classify(policy, asked, outcome),
///     }
/// }
/// # let _: fn(&Policy, &Asked<'_>, &Result<Response<()>, BoxError>) -> Reading = read;
/// ```
pub trait Classify<T, E> {
    /// Returns what `outcome` means under `policy`.
    fn classify(
        &self,
        policy: &Policy,
        asked: &Asked<'_>,
        outcome: &Result<Response<T>, E>,
    ) -> Reading;

    /// Returns whether `outcome` is a success whatever the policy says, at a glance: then nothing more is
    /// asked. A classifier that cannot tell says no.
    fn is_success(&self, outcome: &Result<Response<T>, E>) -> bool {
        let _ = outcome;
        false
    }
}

/// The head of a request, as far as reading the outcome needs it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// What else travels with the request inside this process.
    pub extensions: &'a Extensions,
    fields: Fields<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Fields<'a> {
    Map(&'a HeaderMap),
    List(&'a [(HeaderName, HeaderValue)]),
}

impl<'a> Asked<'a> {
    pub(crate) const fn listed(
        (method, uri): (&'a Method, &'a Uri),
        fields: &'a [(HeaderName, HeaderValue)],
        extensions: &'a Extensions,
    ) -> Self {
        Self { method, uri, extensions, fields: Fields::List(fields) }
    }

    /// Returns the first value of a header field, if there is one.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&'a HeaderValue> {
        match self.fields {
            Fields::Map(map) => map.get(name),
            Fields::List(list) => list.iter().find(|(own, _)| own == name).map(|(_, value)| value),
        }
    }

    /// Returns why repeating the request is harmless, if it is: its method, a key that the server honors,
    /// or the policy that declares it so.
    #[must_use]
    pub fn idempotency(&self, is_declared: bool) -> Idempotency {
        semantics::idempotency(self.method, || self.honored_by().is_some(), is_declared)
    }

    /// Returns the rules by which the server honors the key of this request, if it has one and the server
    /// is known to: [`IdempotencyKeyLayer`](crate::idempotency::IdempotencyKeyLayer) tells, and where there
    /// is none, a key is the caller's word for it.
    #[must_use]
    pub fn honored_by(&self) -> Option<Provider> {
        match self.extensions.get::<KeySent>() {
            Some(sent) => sent.honored_by,
            None => self.header(&semantics::IDEMPOTENCY_KEY).map(|_| Provider::DRAFT),
        }
    }
}

impl<'a> From<&'a Parts> for Asked<'a> {
    fn from(head: &'a Parts) -> Self {
        let Parts { method, uri, headers, extensions, .. } = head;
        Self { method, uri, extensions, fields: Fields::Map(headers) }
    }
}

impl<'a, B> From<&'a Request<B>> for Asked<'a> {
    fn from(request: &'a Request<B>) -> Self {
        let (method, uri) = (request.method(), request.uri());
        let fields = Fields::Map(request.headers());
        Self { method, uri, extensions: request.extensions(), fields }
    }
}

/// Reads outcomes as HTTP means them: see [`crate::http::read`].
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpClassifier;

impl<T, E: Diagnose> Classify<T, E> for HttpClassifier {
    fn classify(
        &self,
        policy: &Policy,
        asked: &Asked<'_>,
        outcome: &Result<Response<T>, E>,
    ) -> Reading {
        let outcome = match outcome {
            Ok(response) => {
                Ok(semantics::Answer { status: response.status(), headers: response.headers() })
            }
            Err(error) => Err(error.diagnose()),
        };
        semantics::read(policy, asked, outcome, clock::unix_now, |_| {})
    }

    fn is_success(&self, outcome: &Result<Response<T>, E>) -> bool {
        outcome.as_ref().is_ok_and(|response| response.status().as_u16() < 400)
    }
}

impl<F, T, E> Classify<T, E> for F
where
    F: Fn(&Policy, &Asked<'_>, &Result<Response<T>, E>) -> Reading,
{
    fn classify(
        &self,
        policy: &Policy,
        asked: &Asked<'_>,
        outcome: &Result<Response<T>, E>,
    ) -> Reading {
        self(policy, asked, outcome)
    }
}
