//! Tries again while that may help.
//!
//! *Whether* to retry is decided in [`redial_core`]; *what an outcome means* is read in
//! [`crate::http`]. This module only carries decisions out. The first attempt is polled in place; only
//! a failure starts the loop, which is boxed, once. A call that succeeds pays for the copy of the
//! request's head that a retry would have needed, and for nothing else.

mod head;
mod repeat;
mod story;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use redial_core::{Budget, BudgetPolicy, Entropy, Policy, Verdict};
use tower_layer::Layer;
use tower_service::Service;

use self::repeat::Kept;
use crate::{
    budgets::Budgets,
    classify::{Asked, Classify, HttpClassifier},
    clock,
    diagnose::{BoxError, Diagnose},
    hedge::hedge_of,
    observe::{Observe, Observer},
    policies::PolicyCell,
    replay::{Replay, ReplayBody},
};

/// Wraps services in [`Retry`].
#[derive(Clone, Debug)]
pub struct RetryLayer<C = HttpClassifier> {
    shared: Arc<Shared<C>>,
}

/// A service that repeats failed requests as its policy decides.
///
/// When it stops, the last outcome is returned as it came: a retry never replaces the upstream's own
/// answer with an error of ours.
///
/// A request may bring a policy of its own, as an `Arc<Policy>` in its extensions. Under a policy that
/// hedges, requests that may be hedged are not retried: gRFC A6 has it one or the other.
///
/// # Cancellation
///
/// Dropping the future drops the attempt or the wait that it is in; nothing is sent any more.
#[derive(Debug)]
pub struct Retry<S, C = HttpClassifier> {
    again: Arc<Again<S, C>>,
    inner: S,
}

/// How many attempts an answer took: an extension of responses that took more than one, where the layer
/// [marks](RetryLayer::mark) them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempts(pub u32);

/// What it takes to send again, shared by all calls.
#[derive(Debug)]
struct Again<S, C> {
    /// Cloned for a call's first retry, so that a call that succeeds clones no service.
    service: Mutex<S>,
    shared: Arc<Shared<C>>,
}

#[derive(Debug)]
struct Shared<C> {
    policy: PolicyCell,
    classifier: C,
    budgets: Budgets,
    observer: Observer,
    entropy: Entropy,
    marks: bool,
}

pin_project! {
    /// The call in flight: its first attempt, polled in place, then, only if that fails, the loop.
    pub struct RetryFuture<S, C, B>
    where
        S: Service<Request<ReplayBody<B>>>,
    {
        #[pin]
        first: Option<S::Future>,
        kept: Option<Kept<S, C, B>>,
        repeat: Option<Repeat<S::Response, S::Error>>,
    }
}

type Repeat<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl RetryLayer {
    /// Creates a layer that retries by `policy`: a fixed one, or the one that a [`PolicyCell`] holds
    /// at the moment.
    pub fn new(policy: impl Into<PolicyCell>) -> Self {
        let shared = Shared {
            policy: policy.into(),
            classifier: HttpClassifier,
            budgets: Budgets::new(),
            observer: Observer::default(),
            entropy: Entropy::seeded(seed()),
            marks: false,
        };
        Self { shared: Arc::new(shared) }
    }
}

impl<C> RetryLayer<C> {
    /// Reads outcomes with `classifier` instead of [`HttpClassifier`].
    pub fn classifier<D>(self, classifier: D) -> RetryLayer<D>
    where
        C: Clone,
    {
        let Shared { policy, budgets, observer, entropy, marks, .. } = self.into_shared();
        let shared = Shared { policy, classifier, budgets, observer, entropy, marks };
        RetryLayer { shared: Arc::new(shared) }
    }

    /// Spends from `budgets`, which other clients may share.
    #[must_use]
    pub fn budgets(self, budgets: Budgets) -> Self
    where
        C: Clone,
    {
        let shared = Shared { budgets, ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    /// Tells `observe` of every step of every call.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self
    where
        C: Clone,
    {
        let shared = Shared { observer: Observer::new(observe), ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    /// Draws jitter from `seed`, so that a run can be repeated.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self
    where
        C: Clone,
    {
        let shared = Shared { entropy: Entropy::seeded(seed), ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    /// Numbers attempts: requests of a retry carry
    /// [`AttemptNumber`](crate::AttemptNumber) in their extensions, and answers that took more than one
    /// attempt carry [`Attempts`]. Off unless set; the standard stack sets it. Costs a retried call a few
    /// allocations.
    #[must_use]
    pub fn mark(self) -> Self
    where
        C: Clone,
    {
        let shared = Shared { marks: true, ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    fn into_shared(self) -> Shared<C>
    where
        C: Clone,
    {
        Arc::try_unwrap(self.shared).unwrap_or_else(|shared| Shared {
            policy: shared.policy.clone(),
            classifier: shared.classifier.clone(),
            budgets: shared.budgets.clone(),
            observer: shared.observer.clone(),
            entropy: Entropy::seeded(shared.entropy.draw()),
            marks: shared.marks,
        })
    }
}

impl<S: Clone, C> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let (service, shared) = (Mutex::new(inner.clone()), Arc::clone(&self.shared));
        Retry { inner, again: Arc::new(Again { service, shared }) }
    }
}

impl<S: Clone, C> Clone for Retry<S, C> {
    fn clone(&self) -> Self {
        Self { again: Arc::clone(&self.again), inner: self.inner.clone() }
    }
}

impl<S, C, B, T> Service<Request<B>> for Retry<S, C>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<T>> + Clone + Send + 'static,
    S::Error: Diagnose + Send + 'static,
    S::Future: Send,
    T: Body + Send + 'static,
    C: Classify<T, S::Error> + Send + Sync + 'static,
    B: Body<Error: Into<BoxError>> + Unpin + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, C, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = &*self.again.shared;
        let own = request.extensions().get::<Arc<Policy>>();
        // Most requests need nothing of the policy before they fail.
        if shared.policy.is_plain() && own.is_none() && request.body().is_end_stream() {
            return RetryFuture {
                kept: Some(Kept::new(&self.again, &request, Replay::empty())),
                first: Some(self.inner.call(request.map(|_| ReplayBody::empty()))),
                repeat: None,
            };
        }
        let own = own.map(Arc::clone);
        let policy = own.unwrap_or_else(|| shared.policy.load());
        let hedge = hedge_of(&policy, &Asked::from(&request));
        let is_hedged = hedge.is_some();
        let (head, body) = request.into_parts();
        let (body, replay) = Replay::split(body, policy.replay_bytes_max);
        let request = Request::from_parts(head, body);
        if is_hedged && replay.is_whole() {
            // The layer below sends copies of it: one or the other (gRFC A6).
            let first = self.inner.call(request);
            return RetryFuture { kept: None, first: Some(first), repeat: None };
        }
        if matches!(policy.budget, BudgetPolicy::Window(_)) {
            let deposit = |budget: &Budget| budget.deposit_call(clock::now());
            shared.budgets.with(request.uri(), &policy, deposit);
        }
        RetryFuture {
            kept: Some(Kept::new(&self.again, &request, replay)),
            first: Some(self.inner.call(request)),
            repeat: None,
        }
    }
}

impl<S, C, B, T> Future for RetryFuture<S, C, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<T>> + Clone + Send + 'static,
    S::Error: Diagnose + Send + 'static,
    S::Future: Send,
    T: Body + Send + 'static,
    C: Classify<T, S::Error> + Send + Sync + 'static,
    B: Body<Error: Into<BoxError>> + Unpin + Send + 'static,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(first) = this.first.as_mut().as_pin_mut() {
            let outcome = ready!(first.poll(cx));
            // Nothing is kept of a call that is hedged.
            let Some(kept) = this.kept else { return Poll::Ready(outcome) };
            let reading = kept.read(&outcome);
            if reading.verdict == Verdict::Success {
                kept.succeed(None);
                return Poll::Ready(outcome);
            }
            // What the first attempt holds is free for the next.
            this.first.set(None);
            let Some(kept) = this.kept.take() else { return Poll::Ready(outcome) };
            *this.repeat = Some(Box::pin(kept.repeat(outcome, reading)));
        }
        match this.repeat {
            Some(repeat) => repeat.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<S, C, B> fmt::Debug for RetryFuture<S, C, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").finish_non_exhaustive()
    }
}

/// A seed that differs from process to process and from layer to layer.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests;
