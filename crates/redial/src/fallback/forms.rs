//! The three forms of a fallback: a fixed answer, a function, another service.

use std::{
    fmt,
    future::{Future, poll_fn},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use redial_core::FallbackPolicy;
use tower_service::Service;

use super::{Answering, Case, FallbackBody, FellBack, unchanged};
use crate::{
    diagnose::{BoxError, Diagnose},
    replay::{Replay, ReplayBody},
};

/// The policy's own answer.
#[derive(Clone, Copy, Debug)]
pub struct FixedFallback;

/// What a function returns.
#[derive(Clone)]
pub struct FunctionFallback<F>(pub(super) F);

/// What another service answers.
#[derive(Clone, Copy, Debug)]
pub struct ServiceFallback<T> {
    pub(super) service: T,
    pub(super) body_bytes_max: usize,
}

/// What a function makes of a failure.
#[derive(Debug)]
pub enum Instead<B, E> {
    /// This answer goes to the caller.
    Answer(Response<Bytes>),
    /// The failure goes to the caller, as it came.
    Unchanged(Result<Response<B>, E>),
}

/// What it takes to answer a failure.
pub(super) trait Relief<B, C, E> {
    fn relieve(
        self,
        case: Case,
        failure: FellBack,
        outcome: Result<Response<B>, E>,
    ) -> Relieved<B, C, E>;
}

/// An answer that is there, or will be.
pub(super) enum Relieved<B, C, E> {
    Now(Response<FallbackBody<B, C>>),
    Later(Answering<B, C, E>),
}

/// A question to a function.
#[expect(unnameable_types, reason = "a part of a future, which has no name to its user")]
pub struct Asking<F> {
    pub(super) head: Parts,
    pub(super) function: F,
}

/// A request to another service.
#[expect(unnameable_types, reason = "a part of a future, which has no name to its user")]
pub struct Sending<T, R> {
    pub(super) service: T,
    pub(super) head: Parts,
    pub(super) replay: Replay<R>,
}

impl<B, E> Relief<B, B, E> for FixedFallback {
    fn relieve(
        self,
        case: Case,
        failure: FellBack,
        _: Result<Response<B>, E>,
    ) -> Relieved<B, B, E> {
        let answer = fixed(&case.policy, case.is_head);
        Relieved::Now(case.settle(failure, answer))
    }
}

impl<F, U, B, E> Relief<B, B, E> for Asking<F>
where
    F: Fn(Parts, Result<Response<B>, E>) -> U,
    U: Future<Output = Instead<B, E>> + Send + 'static,
    B: 'static,
    E: 'static,
{
    fn relieve(
        self,
        case: Case,
        failure: FellBack,
        outcome: Result<Response<B>, E>,
    ) -> Relieved<B, B, E> {
        let asked = (self.function)(self.head, outcome);
        Relieved::Later(Box::pin(async move {
            match asked.await {
                Instead::Answer(answer) => {
                    Ok(case.settle(failure, answer.map(FallbackBody::fixed)))
                }
                Instead::Unchanged(outcome) => unchanged(outcome),
            }
        }))
    }
}

impl<T, R, B, C, E> Relief<B, C, E> for Sending<T, R>
where
    T: Service<Request<ReplayBody<R>>, Response = Response<C>, Error: Diagnose + Send>,
    T: Send + 'static,
    T::Future: Send,
    R: Body<Error: Into<BoxError>> + Unpin + Send + 'static,
    B: Send + 'static,
    C: Send + 'static,
    E: Send + 'static,
{
    fn relieve(
        self,
        case: Case,
        failure: FellBack,
        outcome: Result<Response<B>, E>,
    ) -> Relieved<B, C, E> {
        let Self { mut service, head, replay } = self;
        Relieved::Later(Box::pin(async move {
            if !replay.is_possible() {
                return unchanged(outcome);
            }
            let request = Request::from_parts(head, replay.again());
            let second = match poll_fn(|cx| service.poll_ready(cx)).await {
                Ok(()) => service.call(request).await,
                Err(error) => Err(error),
            };
            match second {
                Ok(answer) if !case.policy.stands_in_for_status(answer.status().as_u16()) => {
                    Ok(case.settle(failure, answer.map(FallbackBody::other)))
                }
                // What failed first is what went wrong.
                _ => unchanged(outcome),
            }
        }))
    }
}

/// Makes a policy's answer. Building it cannot fail: the policy has checked its parts.
fn fixed<B, C>(policy: &FallbackPolicy, is_head: bool) -> Response<FallbackBody<B, C>> {
    let body = if is_head { &[] } else { policy.body() };
    let mut response = Response::new(FallbackBody::fixed(Bytes::copy_from_slice(body)));
    *response.status_mut() = StatusCode::from_u16(policy.status()).unwrap_or_default();
    let headers = response.headers_mut();
    for (name, value) in policy.headers() {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    }
    if !matches!(policy.status(), 204 | 304) {
        headers.insert(header::CONTENT_LENGTH, policy.body().len().into());
    }
    response
}

impl<F> fmt::Debug for Asking<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}

impl<T, R> fmt::Debug for Sending<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for FunctionFallback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionFallback").finish_non_exhaustive()
    }
}
