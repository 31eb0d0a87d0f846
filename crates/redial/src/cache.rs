//! Answers that need no call: a cache by RFC 9111 and RFC 5861, and calls that share one answer.
//!
//! Rules are applied to heads in `directives`, `rules` and `outlook`; `store` keeps entries, in a bounded
//! number of bytes; `flights` knows which calls for the same are out; `fetch` makes the best of an answer that
//! comes; `step` and `wait` put requests on their way.

mod body;
mod directives;
mod entry;
mod fetch;
mod flights;
mod key;
mod outlook;
mod rules;
mod step;
mod store;
mod wait;

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use redial_core::CachePolicy;
use tower_layer::Layer;
use tower_service::Service;

pub use self::{body::CachedBody, store::CacheStore};
use self::{
    fetch::{Errand, Fetch},
    step::Step,
};
use crate::{
    observe::{Observe, Observer},
    policies::Ruling,
};

/// Wraps services in [`Cache`].
#[derive(Clone, Debug)]
pub struct CacheLayer {
    ruling: Ruling<CachePolicy>,
    store: CacheStore,
    observer: Observer,
}

/// A service that answers from what it has stored where HTTP allows it, and lets calls that ask for the
/// same at the same time share one.
///
/// It answers GET, and HEAD from a stored GET. Everything else passes; a call that may have changed
/// something, and went well, makes it forget what it has of that resource. Requests that are
/// conditional, for a part, with a body, or `no-store` pass as well. A stored answer carries `Age`, and
/// every answer that the cache had a say in a
/// [`CacheOutcome`](redial_core::CacheOutcome) in its extensions.
///
/// Answers that are being stored are read to their end first, up to the policy's bound and for 2 s at
/// most; then, or if they are longer, they stream on as they come.
///
/// Like every layer it is ready when the service below is, for hits as well.
///
/// # Cancellation
///
/// Dropping the future drops the call. Calls that waited for it are not lost: one of them goes in its
/// place. Renewals in the background go on.
#[derive(Clone, Debug)]
pub struct Cache<S> {
    layer: Arc<CacheLayer>,
    inner: S,
}

/// When the attempt that brought an answer was sent: an extension of responses.
///
/// The age of an answer counts from there (RFC 9111 §4.2.3). Layers below that send more than one
/// attempt put it in; without it, age counts from the beginning of the call, which is never too young.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SentAt(pub Instant);

pin_project! {
    /// A call in flight: an answer that is there, a call below, or a wait for another call.
    pub struct CacheFuture<F, B: Body, E> {
        #[pin]
        fetch: Option<Fetch<F, B>>,
        answer: Option<Box<Response<CachedBody<B>>>>,
        wait: Option<Waiting<B, E>>,
    }
}

type Waiting<B, E> = Pin<Box<dyn Future<Output = Result<Response<CachedBody<B>>, E>> + Send>>;

impl CacheLayer {
    /// Creates a layer that caches as a policy says: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says at that moment. It has a store of its own, as large as the
    /// largest policy that rules; it grows with policies, and does not shrink.
    pub fn new(ruling: impl Into<Ruling<CachePolicy>>) -> Self {
        let (store, observer) = (CacheStore::growing(), Observer::default());
        Self { ruling: ruling.into(), store, observer }
    }

    /// Keeps answers in `store`, which other clients may share and whose size is its own.
    #[must_use]
    pub fn store(self, store: CacheStore) -> Self {
        Self { store, ..self }
    }

    /// Tells `observe` how answers came about.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self {
        Self { observer: Observer::new(observe), ..self }
    }

    /// Returns the store, to look into it or to invalidate by hand.
    #[must_use]
    pub fn handle(&self) -> CacheStore {
        self.store.clone()
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Cache { inner, layer: Arc::new(self.clone()) }
    }
}

impl<S, R, B> Service<Request<R>> for Cache<S>
where
    S: Service<Request<R>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send,
    R: Body + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    type Response = Response<CachedBody<B>>;
    type Error = S::Error;
    type Future = CacheFuture<S::Future, B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        if self.layer.ruling.is_off(request.extensions()) {
            let fetch = Fetch { call: self.inner.call(request), errand: Errand::Pass };
            return CacheFuture { fetch: Some(fetch), answer: None, wait: None };
        }
        self.call_cached(request)
    }
}

impl<S> Cache<S> {
    /// Apart from `call`, so that where nothing is to be done the request is not even moved.
    #[inline(never)]
    fn call_cached<R, B>(&mut self, request: Request<R>) -> CacheFuture<S::Future, B, S::Error>
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Send + 'static,
        S::Future: Send,
        R: Body + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let Some(policy) = self.layer.ruling.copied(request.extensions()) else {
            let fetch = Fetch { call: self.inner.call(request), errand: Errand::Pass };
            return CacheFuture { fetch: Some(fetch), answer: None, wait: None };
        };
        match self.layer.step(&policy, request, policy.is_coalescing()) {
            Step::Answer(response) => {
                CacheFuture { fetch: None, answer: Some(Box::new(response)), wait: None }
            }
            Step::Fetch(request, errand) => {
                let fetch = Fetch { call: self.inner.call(request), errand };
                CacheFuture { fetch: Some(fetch), answer: None, wait: None }
            }
            Step::Renew(response, request, plan, place) => {
                wait::renew(self.take(), request, plan, place);
                CacheFuture { fetch: None, answer: Some(Box::new(response)), wait: None }
            }
            Step::Wait(request, queued) => {
                let (service, layer) = (self.take(), Arc::clone(&self.layer));
                let wait: Waiting<B, S::Error> = Box::pin(layer.wait(service, request, queued));
                CacheFuture { fetch: None, answer: None, wait: Some(wait) }
            }
        }
    }
}

impl<S: Clone> Cache<S> {
    /// Takes the instance that `poll_ready` made ready; a clone stays behind.
    fn take(&mut self) -> S {
        let clone = self.inner.clone();
        mem::replace(&mut self.inner, clone)
    }
}

impl<F, B, E> Future for CacheFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<CachedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(fetch) = this.fetch.as_pin_mut() {
            return fetch.poll(cx);
        }
        if let Some(wait) = this.wait {
            return wait.as_mut().poll(cx);
        }
        match this.answer.take() {
            Some(answer) => Poll::Ready(Ok(*answer)),
            // A future that has finished is not polled again.
            None => Poll::Pending,
        }
    }
}

impl<F, B: Body, E> fmt::Debug for CacheFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
