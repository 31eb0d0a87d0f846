//! As many attempts at once as the upstream was seen to bear.
//!
//! Below a retry and a hedge, so that every attempt counts, and above an attempt timeout, so that one
//! without an answer is seen as what it is. There is no queue: a learned limit says that whatever is
//! sent beyond it only waits at the upstream, and waiting here instead would hide from the caller, and
//! from the retries above, what they should know.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{Method, Request, Response, Uri, uri::Authority};
use http_body::Body;
use pin_project_lite::pin_project;
use redial_core::{AdaptiveLimit, AdaptivePolicy, Event, LimitChange, LimitPermit, Severity};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    admitted::Admitted,
    assess::{Assess, HttpAssess},
    clock,
    diagnose::{AttemptNumber, Rejection},
    held::HeldBody,
    observe::{Call, Observe, Observer},
    origins::{Origins, PerOrigin},
    policies::Ruling,
};

/// Wraps services in [`WithAdaptiveLimit`]. Clones, and all services that it wraps, share the limits.
#[derive(Clone, Debug)]
pub struct AdaptiveLimitLayer<A = HttpAssess> {
    shared: Arc<Shared<A>>,
}

/// A service that lets as many attempts out to an origin as its limit allows, and learns the limit.
///
/// Beyond the limit an attempt is refused with [`Rejection::LimitReached`]. An attempt is in flight
/// until its answer's body has ended or is dropped; its latency is the time to the answer's head. Only
/// first attempts that went well give a latency. Retries and hedges, which carry an [`AttemptNumber`],
/// are in flight like all others, and their overload counts.
///
/// # Cancellation
///
/// Dropping the future gives up the place. If the attempt had been out for longer than answers take,
/// that counts as a latency.
#[derive(Debug)]
pub struct WithAdaptiveLimit<S, A = HttpAssess> {
    shared: Arc<Shared<A>>,
    inner: S,
}

/// The learned limits of all origins. Clones share them.
///
/// At most 1,024 origins are remembered; then one that was not used for long makes room.
#[derive(Clone)]
pub struct AdaptiveLimits {
    origins: Origins<AdaptiveLimit>,
}

#[derive(Debug)]
struct Shared<A> {
    policy: Ruling<AdaptivePolicy>,
    limits: AdaptiveLimits,
    assess: A,
    observer: Observer,
}

pin_project! {
    /// An attempt: in flight, or refused.
    pub struct AdaptiveLimitFuture<F, A> {
        #[pin]
        attempt: Admitted<F>,
        flight: Option<Flight<A>>,
    }
}

/// An attempt whose answer has not come, as the limit sees it.
struct Flight<A> {
    /// Taken when the answer comes.
    permit: Option<Place>,
    is_repeat: bool,
    shared: Arc<Shared<A>>,
    /// Whom the change of a limit is told of; `None` where nobody listens. Boxed, as few do.
    call: Option<Box<(Method, Uri)>>,
}

type Place = LimitPermit<Arc<AdaptiveLimit>>;

impl AdaptiveLimits {
    /// Creates limits without any origin in them.
    #[must_use]
    pub fn new() -> Self {
        Self { origins: Origins::new() }
    }

    /// Returns all origins that are remembered, in no order.
    #[must_use]
    pub fn authorities(&self) -> Vec<Authority> {
        self.origins.all().into_iter().map(|(authority, _)| authority).collect()
    }

    /// Returns how many attempts to `authority` may be in flight now; `None` before the first one.
    #[must_use]
    pub fn limit(&self, authority: &Authority) -> Option<u32> {
        self.origins.find(authority).map(|limit| limit.limit())
    }

    /// Returns how many attempts to `authority` are in flight.
    #[must_use]
    pub fn in_flight(&self, authority: &Authority) -> u32 {
        self.origins.find(authority).map_or(0, |limit| limit.in_flight())
    }

    /// Returns how long an answer of `authority` takes without load, as far as that is known.
    #[must_use]
    pub fn baseline(&self, authority: &Authority) -> Option<Duration> {
        self.origins.find(authority)?.baseline()
    }
}

impl Default for AdaptiveLimits {
    fn default() -> Self {
        Self::new()
    }
}

impl PerOrigin for AdaptiveLimit {
    type Policy = AdaptivePolicy;

    fn open(policy: &AdaptivePolicy, now: Instant) -> Self {
        Self::synchronized(policy, now, clock::since_1970())
    }

    fn serves(&self, policy: &AdaptivePolicy) -> bool {
        self.policy() == policy
    }

    fn succeeded_by(&self, policy: &AdaptivePolicy, now: Instant) -> Self {
        self.succeeded_by(policy, now)
    }
}

impl AdaptiveLimitLayer {
    /// Creates a layer under `policy`: a fixed one, or what a [`PolicyCell`](crate::PolicyCell) says at
    /// that moment. What was learned survives a switch, as far as the new policy allows it.
    pub fn new(policy: impl Into<Ruling<AdaptivePolicy>>) -> Self {
        let shared = Shared {
            policy: policy.into(),
            limits: AdaptiveLimits::new(),
            assess: HttpAssess,
            observer: Observer::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl<A: Clone> AdaptiveLimitLayer<A> {
    /// Learns what outcomes say from `assess` instead of [`HttpAssess`].
    pub fn assess<N>(self, assess: N) -> AdaptiveLimitLayer<N> {
        let Shared { policy, limits, observer, .. } = self.into_shared();
        AdaptiveLimitLayer { shared: Arc::new(Shared { policy, limits, assess, observer }) }
    }

    /// Learns into `limits`, which other clients may share.
    #[must_use]
    pub fn limits(self, limits: AdaptiveLimits) -> Self {
        let shared = Shared { limits, ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    /// Tells `observe` of every attempt that is refused, and of every change of a limit.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self {
        let shared = Shared { observer: Observer::new(observe), ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    fn into_shared(self) -> Shared<A> {
        Arc::try_unwrap(self.shared).unwrap_or_else(|shared| Shared {
            policy: shared.policy.clone(),
            limits: shared.limits.clone(),
            assess: shared.assess.clone(),
            observer: shared.observer.clone(),
        })
    }
}

impl<S, A> Layer<S> for AdaptiveLimitLayer<A> {
    type Service = WithAdaptiveLimit<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        WithAdaptiveLimit { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S: Clone, A> Clone for WithAdaptiveLimit<S, A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), inner: self.inner.clone() }
    }
}

impl<S, A, B, T> Service<Request<B>> for WithAdaptiveLimit<S, A>
where
    S: Service<Request<B>, Response = Response<T>, Error: From<Rejection>>,
    A: Assess<T, S::Error>,
    T: Body,
{
    type Response = Response<HeldBody<T, Place>>;
    type Error = S::Error;
    type Future = AdaptiveLimitFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.shared.policy.is_off(request.extensions()) {
            let attempt = Admitted::call(self.inner.call(request));
            return AdaptiveLimitFuture { attempt, flight: None };
        }
        self.call_if_admitted(request)
    }
}

impl<S, A> WithAdaptiveLimit<S, A> {
    /// Apart from `call`, so that where nothing is to be done the request is not even moved.
    #[inline(never)]
    fn call_if_admitted<B>(&mut self, request: Request<B>) -> AdaptiveLimitFuture<S::Future, A>
    where
        S: Service<Request<B>>,
    {
        let flight = match self.shared.admit(&request) {
            Ok(permit) => permit.map(|permit| Flight::new(permit, &self.shared, &request)),
            Err(limit) => {
                let attempt = Admitted::refused(self.shared.refuse(request, limit));
                return AdaptiveLimitFuture { attempt, flight: None };
            }
        };
        if self.shared.observer.is_some() {
            return self.call_and_tell(request, flight);
        }
        AdaptiveLimitFuture { attempt: Admitted::call(self.inner.call(request)), flight }
    }

    #[inline(never)]
    fn call_and_tell<B>(
        &mut self,
        request: Request<B>,
        mut flight: Option<Flight<A>>,
    ) -> AdaptiveLimitFuture<S::Future, A>
    where
        S: Service<Request<B>>,
    {
        let copy = || Box::new((request.method().clone(), request.uri().clone()));
        if let Some(flight) = &mut flight {
            flight.call = self.shared.observer.wants(Severity::Debug).then(copy);
        }
        AdaptiveLimitFuture { attempt: Admitted::call(self.inner.call(request)), flight }
    }
}

impl<F, A, T, E> Future for AdaptiveLimitFuture<F, A>
where
    F: Future<Output = Result<Response<T>, E>>,
    E: From<Rejection>,
    A: Assess<T, E>,
    T: Body,
{
    type Output = Result<Response<HeldBody<T, Place>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.attempt.poll(cx));
        let permit = this.flight.take().and_then(|flight| flight.land(&outcome));
        match outcome {
            Ok(answer) => Poll::Ready(Ok(answer.map(|body| HeldBody::new(body, permit)))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<A> Flight<A> {
    fn new<B>(permit: Place, shared: &Arc<Shared<A>>, request: &Request<B>) -> Self {
        let is_repeat = request.extensions().get::<AttemptNumber>().is_some();
        Self { permit: Some(permit), is_repeat, shared: Arc::clone(shared), call: None }
    }

    /// The head of the answer is here, or the error.
    fn land<T, E>(mut self, outcome: &Result<Response<T>, E>) -> Option<Place>
    where
        A: Assess<T, E>,
    {
        let permit = self.permit.take()?;
        let health = self.shared.assess.assess(outcome).health;
        self.tell(permit.record(health, self.is_repeat, clock::now()));
        Some(permit)
    }

    fn tell(&self, change: Option<LimitChange>) {
        if let (Some(LimitChange { from, to }), Some(call)) = (change, &self.call) {
            let (method, uri) = &**call;
            self.shared.observer.tell(&Call { method, uri }, Event::LimitChanged { from, to });
        }
    }
}

impl<A> Drop for Flight<A> {
    fn drop(&mut self) {
        // Still here only if the attempt was given up.
        if let Some(permit) = self.permit.take() {
            self.tell(permit.abandon(self.is_repeat, clock::now()));
        }
    }
}

impl<A> Shared<A> {
    #[cold]
    #[expect(clippy::needless_pass_by_value, reason = "one that is only lent is moved otherwise")]
    fn refuse<B>(&self, request: Request<B>, limit: u32) -> Rejection {
        let rejection = Rejection::LimitReached { limit };
        let call = Call { method: request.method(), uri: request.uri() };
        self.observer.tell(&call, Event::Refused { by: rejection.name() });
        rejection
    }

    /// Returns no permit where no policy rules, and the limit where it is reached.
    fn admit<B>(&self, request: &Request<B>) -> Result<Option<Place>, u32> {
        self.policy.with(request.extensions(), |policy| {
            let Some(policy) = policy else { return Ok(None) };
            let acquire = |limit: &Arc<AdaptiveLimit>| {
                LimitPermit::try_acquire(Arc::clone(limit), clock::now()).map(Some)
            };
            self.limits.origins.with(request.uri(), policy, acquire)
        })
    }
}

impl<F, A> fmt::Debug for AdaptiveLimitFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimitFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for AdaptiveLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimits").field("len", &self.origins.len()).finish()
    }
}

#[cfg(test)]
mod tests;
