//! Refusing calls that would be refused anyway.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use http::{Request, Response, uri::Authority};
use pin_project_lite::pin_project;
use redial_core::{AdaptiveThrottle, Assessment, Entropy, Event, Health, ThrottlePolicy};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    assess::{Assess, HttpAssess},
    clock,
    diagnose::{Diagnose, Rejection},
    observe::{Call, Observe, Observer},
    origins::{Origins, PerOrigin},
    policies::Ruling,
};

/// Wraps services in [`Throttle`].
#[derive(Clone, Debug)]
pub struct ThrottleLayer<A = HttpAdmission> {
    shared: Arc<Shared<A>>,
}

/// A service that refuses some of the attempts itself while the upstream refuses most of them.
///
/// Each origin is counted by itself. An attempt that is not sent fails with
/// [`Rejection::Throttled`]. Belongs below the layer that retries, so that it sees every attempt.
///
/// # Cancellation
///
/// Dropping the future drops the attempt, which is not counted then.
#[derive(Debug)]
pub struct Throttle<S, A = HttpAdmission> {
    shared: Arc<Shared<A>>,
    inner: S,
}

/// What each origin took and refused, lately. Clones share it.
///
/// Two clients that are given the same throttles learn from each other's attempts. At most 1,024
/// origins are remembered; then one that was not used for long makes room.
#[derive(Clone)]
pub struct Throttles {
    origins: Origins<AdaptiveThrottle>,
}

/// Assesses whether an upstream took a call, whatever came of it: what a throttle counts.
///
/// As [`HttpAssess`], but a call that was answered with 500, or another 5xx that a server gives only
/// once it is at work, was taken. 502 and 504 were not: a gateway gives them in the place of an upstream
/// that did not answer it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpAdmission;

#[derive(Clone, Debug)]
struct Shared<A> {
    policy: Ruling<ThrottlePolicy>,
    throttles: Throttles,
    assess: A,
    observer: Observer,
    entropy: Arc<Entropy>,
}

pin_project! {
    /// An attempt in flight, or refused.
    #[derive(Debug)]
    pub struct ThrottleFuture<F, A> {
        // None where it is refused.
        #[pin]
        attempt: Option<F>,
        watch: Option<Watch<A>>,
    }
}

/// What has to be told of an attempt's outcome.
#[derive(Debug)]
struct Watch<A> {
    shared: Arc<Shared<A>>,
    throttle: Arc<AdaptiveThrottle>,
}

impl ThrottleLayer {
    /// Creates a layer that refuses by `policy`: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says at that moment. With none it does nothing.
    pub fn new(policy: impl Into<Ruling<ThrottlePolicy>>) -> Self {
        let shared = Shared {
            policy: policy.into(),
            throttles: Throttles::new(),
            assess: HttpAdmission,
            observer: Observer::default(),
            // Differs from process to process and from layer to layer.
            entropy: Arc::new(Entropy::seeded(RandomState::new().hash_one(()))),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl<A: Clone> ThrottleLayer<A> {
    /// Assesses outcomes with `assess` instead of [`HttpAdmission`]: [`Health::Well`] is a call taken,
    /// every failure a call refused.
    #[must_use]
    pub fn assess<N>(self, assess: N) -> ThrottleLayer<N> {
        let Shared { policy, throttles, observer, entropy, .. } = Arc::unwrap_or_clone(self.shared);
        let shared = Shared { policy, throttles, assess, observer, entropy };
        ThrottleLayer { shared: Arc::new(shared) }
    }

    /// Counts in `throttles`, which other clients may share.
    #[must_use]
    pub fn throttles(self, throttles: Throttles) -> Self {
        self.with(|shared| shared.throttles = throttles)
    }

    /// Tells `observe` of every attempt that is refused.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self {
        self.with(|shared| shared.observer = Observer::new(observe))
    }

    /// Draws from `seed`, so that a run can be repeated.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.with(|shared| shared.entropy = Arc::new(Entropy::seeded(seed)))
    }

    fn with(self, change: impl FnOnce(&mut Shared<A>)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.shared);
        change(&mut shared);
        Self { shared: Arc::new(shared) }
    }
}

impl<S, A> Layer<S> for ThrottleLayer<A> {
    type Service = Throttle<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        Throttle { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S: Clone, A> Clone for Throttle<S, A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), inner: self.inner.clone() }
    }
}

impl<S, A, B, T> Service<Request<B>> for Throttle<S, A>
where
    S: Service<Request<B>, Response = Response<T>, Error: From<Rejection>>,
    A: Assess<T, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ThrottleFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.shared.policy.is_off(request.extensions()) {
            return ThrottleFuture { attempt: Some(self.inner.call(request)), watch: None };
        }
        self.call_if_admitted(request)
    }
}

impl<S, A> Throttle<S, A> {
    /// Apart from `call`, so that where nothing is to be done the request is not even moved.
    #[inline(never)]
    fn call_if_admitted<B>(&mut self, request: Request<B>) -> ThrottleFuture<S::Future, A>
    where
        S: Service<Request<B>>,
    {
        let asked = self.shared.policy.with(request.extensions(), |policy| {
            policy.map(|policy| {
                self.shared.throttles.origins.with(request.uri(), policy, |throttle| {
                    self.shared.admits(policy, throttle).then(|| Arc::clone(throttle))
                })
            })
        });
        let throttle = match asked {
            Some(Some(throttle)) => Some(throttle),
            Some(None) => {
                let call = Call { method: request.method(), uri: request.uri() };
                let by = Rejection::Throttled.name();
                self.shared.observer.tell(&call, Event::Refused { by });
                return ThrottleFuture { attempt: None, watch: None };
            }
            None => None,
        };
        let watch = throttle.map(|throttle| Watch { shared: Arc::clone(&self.shared), throttle });
        ThrottleFuture { attempt: Some(self.inner.call(request)), watch }
    }
}

impl<F, A, T, E> Future for ThrottleFuture<F, A>
where
    F: Future<Output = Result<Response<T>, E>>,
    A: Assess<T, E>,
    E: From<Rejection>,
{
    type Output = Result<Response<T>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(attempt) = this.attempt.as_pin_mut() else {
            return Poll::Ready(Err(Rejection::Throttled.into()));
        };
        let outcome = ready!(attempt.poll(cx));
        if let Some(Watch { shared, throttle }) = this.watch.take() {
            let Assessment { health, .. } = shared.assess.assess(&outcome);
            if health != Health::Unknown {
                throttle.record(health, clock::now());
            }
        }
        Poll::Ready(outcome)
    }
}

impl<A> Shared<A> {
    fn admits(&self, policy: &ThrottlePolicy, throttle: &AdaptiveThrottle) -> bool {
        // While nothing fails no clock is read.
        throttle.is_quiet() || throttle.try_acquire(policy, clock::now(), || self.entropy.draw())
    }
}

impl Throttles {
    /// Creates throttles without any origin in them.
    #[must_use]
    pub fn new() -> Self {
        Self { origins: Origins::new() }
    }

    /// Returns how many origins are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Returns whether no origin is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what is known of an origin, if anything is: for showing how much of its calls is
    /// refused, and for how long that will last.
    #[must_use]
    pub fn find(&self, authority: &Authority) -> Option<Arc<AdaptiveThrottle>> {
        self.origins.find(authority)
    }

    /// Returns every origin that is remembered, and what is known of it, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<(Authority, Arc<AdaptiveThrottle>)> {
        self.origins.all()
    }
}

impl Default for Throttles {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Throttles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttles").field("len", &self.len()).finish()
    }
}

impl PerOrigin for AdaptiveThrottle {
    type Policy = ThrottlePolicy;

    const SIDE_BY_SIDE: bool = true;

    fn open(policy: &ThrottlePolicy, now: Instant) -> Self {
        Self::new(policy, now)
    }

    fn serves(&self, policy: &ThrottlePolicy) -> bool {
        self.serves(policy)
    }

    fn succeeded_by(&self, policy: &ThrottlePolicy, now: Instant) -> Self {
        self.succeeded_by(policy, now)
    }
}

impl<T, E: Diagnose> Assess<T, E> for HttpAdmission {
    fn assess(&self, outcome: &Result<Response<T>, E>) -> Assessment {
        match outcome {
            Ok(response) => match response.status().as_u16() {
                429 | 502..=504 => Health::Overloaded.into(),
                _ => Health::Well.into(),
            },
            Err(_) => HttpAssess.assess(outcome),
        }
    }
}

#[cfg(test)]
mod tests;
