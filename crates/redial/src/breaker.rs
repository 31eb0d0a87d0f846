//! Leaves an upstream alone that does not answer well, origin by origin.
//!
//! When to open and close is decided in [`redial_core`]; this module only asks before each attempt
//! and reports after it. An attempt that goes well takes no lock, allocates nothing, and writes to no
//! cache line that another thread writes to.

mod breakers;
mod held;
mod lanes;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Extensions, Method, Request, Response, Uri};
use pin_project_lite::pin_project;
use redial_core::{Admission, BreakerPolicy, BreakerRefusal, Entropy, Event, Policy, Severity};
use tower_layer::Layer;
use tower_service::Service;

pub use self::breakers::Breakers;
use self::{held::Held, lanes::Lanes};
use crate::{
    admitted::Admitted,
    assess::{Assess, HttpAssess},
    clock,
    diagnose::Rejection,
    observe::{Call, Observe, Observer},
    policies::Ruling,
};

/// Wraps services in [`CircuitBreaker`].
#[derive(Clone, Debug)]
pub struct BreakerLayer<A = HttpAssess> {
    shared: Arc<Shared<A>>,
}

/// A service that refuses attempts to an origin that does not answer well, before they are made.
///
/// A refusal comes at once, as [`Rejection::BreakerOpen`]; nothing waits for a breaker to close. Every
/// origin has a breaker of its own, and clones of the service share them. It sits below
/// [`Retry`](crate::Retry), so that each attempt counts, and above
/// [`AttemptTimeout`](crate::AttemptTimeout), so that silence counts as well.
///
/// How long an attempt took is measured to the head of its answer.
///
/// # Cancellation
///
/// Dropping the future drops the attempt and gives a probe's place back. What the attempt counts as,
/// the policy's [`Abandoned`](redial_core::Abandoned) says.
#[derive(Debug)]
pub struct CircuitBreaker<S, A = HttpAssess> {
    shared: Arc<Shared<A>>,
    lanes: Arc<Lanes<Shared<A>>>,
    inner: S,
}

#[derive(Debug)]
struct Shared<A> {
    policy: Ruling<BreakerPolicy>,
    assess: A,
    breakers: Breakers,
    observer: Observer,
    seed: u64,
}

pin_project! {
    /// An attempt that was let through, or the refusal of one that was not.
    #[derive(Debug)]
    pub struct CircuitBreakerFuture<F, A = HttpAssess> {
        #[pin]
        attempt: Admitted<F>,
        held: Option<Held<A>>,
        // Whose call it is, where somebody wants to be told of changes: boxed, so that others do not
        // carry it around.
        call: Option<Box<(Method, Uri)>>,
    }

    impl<F, A> PinnedDrop for CircuitBreakerFuture<F, A> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // Still here only if the attempt was given up, which it is before anybody takes its place.
            if let Some(held) = this.held.take() {
                this.attempt.set(Admitted::NONE);
                held.abandon(this.call.as_deref());
            }
        }
    }
}

impl BreakerLayer {
    /// Creates a layer of breakers under `policy`: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says at the moment.
    ///
    /// When the policy is switched, breakers keep their state; under another window their counts begin
    /// anew.
    pub fn new(policy: impl Into<Ruling<BreakerPolicy>>) -> Self {
        let shared = Shared {
            policy: policy.into(),
            assess: HttpAssess,
            breakers: Breakers::new(),
            observer: Observer::default(),
            seed: seed(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl<A> BreakerLayer<A> {
    /// Reads outcomes with `assess` instead of [`HttpAssess`].
    pub fn assess<N>(self, assess: N) -> BreakerLayer<N>
    where
        A: Clone,
    {
        let Shared { policy, breakers, observer, seed, .. } = self.into_shared();
        BreakerLayer { shared: Arc::new(Shared { policy, assess, breakers, observer, seed }) }
    }

    /// Asks `breakers`, which other clients may share, and which can be shown and moved by hand.
    #[must_use]
    pub fn breakers(self, breakers: Breakers) -> Self
    where
        A: Clone,
    {
        let shared = Shared { breakers, ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    /// Tells `observe` when a breaker changes, and of each refusal.
    ///
    /// Changes by hand belong to no call and are not told.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self
    where
        A: Clone,
    {
        let shared = Shared { observer: Observer::new(observe), ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    /// Spreads open times by `seed`, so that a run can be repeated.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self
    where
        A: Clone,
    {
        let shared = Shared { seed, ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    fn into_shared(self) -> Shared<A>
    where
        A: Clone,
    {
        Arc::try_unwrap(self.shared).unwrap_or_else(|shared| Shared {
            policy: shared.policy.clone(),
            assess: shared.assess.clone(),
            breakers: shared.breakers.clone(),
            observer: shared.observer.clone(),
            seed: shared.seed,
        })
    }
}

impl<S, A> Layer<S> for BreakerLayer<A> {
    type Service = CircuitBreaker<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        let lanes = Arc::new(Lanes::of(&self.shared));
        CircuitBreaker { inner, shared: Arc::clone(&self.shared), lanes }
    }
}

impl<S: Clone, A> Clone for CircuitBreaker<S, A> {
    fn clone(&self) -> Self {
        let (shared, lanes) = (Arc::clone(&self.shared), Arc::clone(&self.lanes));
        Self { shared, lanes, inner: self.inner.clone() }
    }
}

impl<S, A, B, T> Service<Request<B>> for CircuitBreaker<S, A>
where
    S: Service<Request<B>, Response = Response<T>, Error: From<Rejection>>,
    A: Assess<T, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CircuitBreakerFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.shared.policy.is_off(request.extensions()) {
            let attempt = Admitted::call(self.inner.call(request));
            return CircuitBreakerFuture { attempt, held: None, call: None };
        }
        self.call_if_admitted(request)
    }
}

impl<S, A> CircuitBreaker<S, A> {
    /// Apart from `call`, so that where nothing is to be done the request is not even moved.
    #[inline(never)]
    fn call_if_admitted<B>(&mut self, request: Request<B>) -> CircuitBreakerFuture<S::Future, A>
    where
        S: Service<Request<B>>,
    {
        let shared = &*self.shared;
        let (mut held, mut refusal) = (None, None);
        shared.policy.with(request.extensions(), |policy| {
            let Some(policy) = policy else { return };
            let now = clock::now();
            shared.breakers.with(request.uri(), policy, |origin| {
                let breaker = origin.breaker();
                let draw = || draw(shared.seed, breaker.generation());
                match breaker.admit(policy, now, draw) {
                    Ok(admission) => {
                        let (breaker, shared) =
                            (origin.lanes().get(&admission), self.lanes.get(&admission));
                        held = Some(Held { admission, breaker, shared, own: None });
                    }
                    Err(refused) => refusal = Some(refused),
                }
            });
        });
        if let Some(refusal) = refusal {
            let attempt = Admitted::refused(shared.refuse(&request, refusal));
            return CircuitBreakerFuture { attempt, held: None, call: None };
        }
        if let Some(held) = &mut held {
            held.own = shared.policy.own(request.extensions());
        }
        if shared.observer.is_some() {
            return self.call_and_tell(request, held);
        }
        let attempt = Admitted::call(self.inner.call(request));
        CircuitBreakerFuture { attempt, held, call: None }
    }

    #[inline(never)]
    fn call_and_tell<B>(
        &mut self,
        request: Request<B>,
        held: Option<Held<A>>,
    ) -> CircuitBreakerFuture<S::Future, A>
    where
        S: Service<Request<B>>,
    {
        let shared = &*self.shared;
        if let Some(held) = &held {
            shared.tell_admitted(&request, &held.admission);
        }
        let is_told = held.is_some() && shared.wants_changes();
        let call = is_told.then(|| Box::new((request.method().clone(), request.uri().clone())));
        let attempt = Admitted::call(self.inner.call(request));
        CircuitBreakerFuture { attempt, held, call }
    }
}

impl<F, A, T, E> Future for CircuitBreakerFuture<F, A>
where
    F: Future<Output = Result<Response<T>, E>>,
    A: Assess<T, E>,
    E: From<Rejection>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.attempt.poll(cx));
        if this.held.is_some() {
            Held::end(this.held, &outcome, this.call.as_deref());
        }
        Poll::Ready(outcome)
    }
}

impl<A> Shared<A> {
    /// Runs `work` with the policy that rules now for a request that brought `own`.
    fn ruling<R>(
        &self,
        own: Option<&Arc<Policy>>,
        work: impl FnOnce(Option<&BreakerPolicy>) -> R,
    ) -> R {
        let mut extensions = Extensions::new();
        if let Some(own) = own {
            extensions.insert(Arc::clone(own));
        }
        self.policy.with(&extensions, work)
    }

    #[cold]
    fn refuse<B>(&self, request: &Request<B>, refusal: BreakerRefusal) -> Rejection {
        let BreakerRefusal { retry_after, change } = refusal;
        let rejection = Rejection::BreakerOpen { retry_after };
        let call = Call { method: request.method(), uri: request.uri() };
        if let Some(change) = change {
            self.observer.tell(&call, held::changed(change));
        }
        self.observer.tell(&call, Event::Refused { by: rejection.name() });
        rejection
    }

    /// Tells what letting a call through changed, and whether it was let through at all only because
    /// nothing is refused.
    fn tell_admitted<B>(&self, request: &Request<B>, admission: &Admission) {
        let call = Call { method: request.method(), uri: request.uri() };
        if let Some(change) = admission.change() {
            self.observer.tell(&call, held::changed(change));
        }
        if admission.would_be_refused() {
            let rejection = Rejection::BreakerOpen { retry_after: None };
            self.observer.tell(&call, Event::WouldRefuse { by: rejection.name() });
        }
    }

    fn wants_changes(&self) -> bool {
        self.observer.wants(Severity::Error) || self.observer.wants(Severity::Warning)
    }
}

/// Returns the draw for the change that ends state number `generation`.
///
/// A function of the two, so that no attempt has to carry a generator that all of them write to.
fn draw(seed: u64, generation: u32) -> u64 {
    Entropy::seeded(seed.wrapping_add(generation.into())).draw()
}

/// A seed that differs from process to process and from layer to layer.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests;
