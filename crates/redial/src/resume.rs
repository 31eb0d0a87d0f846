//! Downloads that break off and go on.
//!
//! A long answer that breaks off in the middle is not lost: the rest can be asked for (RFC 9110 §14),
//! if both sides can be sure that it is the rest of the same thing. Then the caller reads on and never
//! knows. What it takes is kept beside the body, and costs the copy of the request's head.

mod again;
mod body;
mod digest;
mod representation;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Method, Request, Response, StatusCode, header::RANGE};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use redial_core::{Entropy, ResumePolicy};
use tower_layer::Layer;
use tower_service::Service;

use self::again::{Again, AgainBy, Through};
pub use self::{
    body::ResumedBody,
    digest::DigestCheck,
    representation::{Continuation, Representation},
};
use crate::{
    observe::{Observe, Observer},
    policies::Ruling,
    retry::seed,
};

/// Wraps services in [`Resume`].
#[derive(Clone, Debug)]
pub struct ResumeLayer {
    shared: Arc<Shared>,
}

/// A service whose downloads go on where they broke off.
///
/// Of a `GET` without a `Range` and a body of its own, a 200 that breaks off is continued with
/// `Range` and `If-Range` when the answer had a `Content-Length` and a strong validator, and the
/// server then sends the rest of the very same bytes. If nothing was handed on yet, it is asked for
/// from the start, whatever validators it has, and must be described by the same fields.
///
/// Otherwise reading fails as it would have without this layer; with [`Rejection::Changed`] when
/// something else is there by now; with [`Rejection::WrongLength`] when the body ends at another
/// length than was announced; and, in place of the last bytes, with [`Rejection::WrongDigest`] when they are
/// not the bytes that `Repr-Digest` or `Content-Digest` announced ([`DigestCheck`]). Both are looked at for
/// every answer that could go on; the digest where nobody can have decoded the body on its way, which is
/// where `Content-Length` is there or the request said `Accept-Encoding: identity`.
///
/// A request that goes on has the head of the first one, and goes through the services below, with
/// [`Fresh`](crate::Fresh) in its extensions. The errors of the body are those of the service.
///
/// [`Rejection::Changed`]: crate::Rejection::Changed
/// [`Rejection::WrongLength`]: crate::Rejection::WrongLength
/// [`Rejection::WrongDigest`]: crate::Rejection::WrongDigest
///
/// # Cancellation
///
/// Dropping the future drops the call; dropping the body drops the wait or the request that it is in.
#[derive(Clone, Debug)]
pub struct Resume<S> {
    shared: Arc<Shared>,
    inner: S,
}

pin_project! {
    /// A request's body: the caller's in the first request, and none in one that goes on.
    #[derive(Debug)]
    pub struct OnceBody<B> {
        #[pin]
        body: Option<B>,
    }
}

pin_project! {
    /// A call in flight, and what it takes to go on with its answer.
    pub struct ResumeFuture<F, B, E> {
        #[pin]
        call: F,
        // Boxed, so that calls that are not resumed do not carry it around.
        again: Option<Box<Again<B, E>>>,
    }
}

#[derive(Clone, Debug)]
struct Shared {
    policy: Ruling<ResumePolicy>,
    observer: Observer,
    entropy: Arc<Entropy>,
}

impl ResumeLayer {
    /// Creates a layer that lets downloads go on by `policy`: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says when the call begins.
    pub fn new(policy: impl Into<Ruling<ResumePolicy>>) -> Self {
        let entropy = Arc::new(Entropy::seeded(seed()));
        let shared = Shared { policy: policy.into(), observer: Observer::default(), entropy };
        Self { shared: Arc::new(shared) }
    }

    /// Tells `observe` of every download that goes on.
    #[must_use]
    pub fn observe(mut self, observe: impl Observe + 'static) -> Self {
        Arc::make_mut(&mut self.shared).observer = Observer::new(observe);
        self
    }

    /// Draws jitter from `seed`, so that a run can be repeated.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        Arc::make_mut(&mut self.shared).entropy = Arc::new(Entropy::seeded(seed));
        self
    }
}

impl<S> Layer<S> for ResumeLayer {
    type Service = Resume<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Resume { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S, Q, B> Service<Request<Q>> for Resume<S>
where
    S: Service<Request<OnceBody<Q>>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    Q: Body + 'static,
    B: Body,
{
    type Response = Response<ResumedBody<B, S::Error>>;
    type Error = S::Error;
    type Future = ResumeFuture<S::Future, B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        if self.shared.policy.is_off(request.extensions()) {
            let call = self.inner.call(request.map(OnceBody::first));
            return ResumeFuture { call, again: None };
        }
        self.call_again(request)
    }
}

impl<S> Resume<S> {
    /// Apart from `call`, so that where nothing is to be done the request is moved once.
    #[inline(never)]
    fn call_again<Q, B>(&mut self, request: Request<Q>) -> ResumeFuture<S::Future, B, S::Error>
    where
        S: Service<Request<OnceBody<Q>>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send,
        Q: Body + 'static,
    {
        let policy = self.shared.policy.copied(request.extensions());
        let policy = policy.filter(|policy| 0 < policy.resumes() && may_go_on(&request));
        let Some(policy) = policy else {
            let call = self.inner.call(request.map(OnceBody::first));
            return ResumeFuture { call, again: None };
        };
        // The clone stays behind; the instance that was made ready goes with the answer.
        let clone = self.inner.clone();
        let mut service = mem::replace(&mut self.inner, clone);
        let (head, body) = request.into_parts();
        let copy = head.clone();
        let call = service.call(Request::from_parts(head, OnceBody::first(body)));
        let again = AgainBy::new(Through::new(service), copy, policy, Arc::clone(&self.shared));
        ResumeFuture { call, again: Some(Box::new(again)) }
    }
}

fn may_go_on<Q: Body>(request: &Request<Q>) -> bool {
    request.method() == Method::GET
        && !request.headers().contains_key(RANGE)
        && request.body().is_end_stream()
}

impl<F, B, E> Future for ResumeFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ResumedBody<B, E>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match ready!(this.call.poll(cx)) {
            Ok(answer) => answer,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let again = match this.again {
            Some(again) if answer.status() == StatusCode::OK => {
                let length = again.note_head(answer.headers()).unwrap_or(0);
                // Of what has come as a whole, nothing is kept.
                let is_whole =
                    answer.body().is_end_stream() && length == 0 && !again.awaits_digest();
                this.again.take().filter(|_| !is_whole)
            }
            _ => None,
        };
        Poll::Ready(Ok(answer.map(|body| ResumedBody::new(body, again))))
    }
}

impl<B> OnceBody<B> {
    const fn first(body: B) -> Self {
        Self { body: Some(body) }
    }

    const fn none() -> Self {
        Self { body: None }
    }
}

impl<B: Body> Body for OnceBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().body.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<F, B, E> fmt::Debug for ResumeFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeFuture").field("may_go_on", &self.again.is_some()).finish()
    }
}
