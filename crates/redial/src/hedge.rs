//! Sends a second copy while the first is still out, and takes whichever answer comes first.
//!
//! *When* is decided in [`redial_core::Hedging`]; this module carries it out. The first copy is polled
//! in place, without a timer if it is ready at once and without a box unless a hedge is sent. Copies
//! live in the caller's task, so dropping the call, or losing, drops them at that moment.

mod copy;
mod future;
mod race;

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response, Uri, header};
use http_body::Body;
use redial_core::{
    Budget, BudgetPolicy, Entropy, HedgePolicy, HedgeTracker, Hedging, Idempotency, Policy,
};
use tower_layer::Layer;
use tower_service::Service;

pub use self::future::HedgeFuture;
use self::race::{Race, Run};
use crate::{
    budgets::Budgets,
    classify::{Asked, Classify, HttpClassifier},
    clock,
    diagnose::{BoxError, Diagnose},
    observe::{Observe, Observer},
    origins::{Origins, PerOrigin},
    policies::PolicyCell,
    replay::{Replay, ReplayBody},
};

/// Wraps services in [`Hedge`].
#[derive(Clone, Debug)]
pub struct HedgeLayer<C = HttpClassifier> {
    shared: Arc<Shared<C>>,
}

/// A service that sends a further copy of a request that is not answered in time, as
/// [`Policy::hedge`] says.
///
/// Hedged are requests that may be repeated (their method is safe or idempotent, they carry an
/// idempotency key, or the policy declares them idempotent), whose body is empty or in one piece,
/// and that ask for no upgrade. Everything else passes through as it is, and so does everything
/// while the policy has no hedge.
///
/// The first copy that succeeds wins, and the others are dropped at that moment, which closes their
/// connections or resets their streams. A failure that another copy may not meet never wins over a
/// copy that is still out: it sends the next one at once, or when the upstream asked for. One that
/// every copy would meet ends the call, unless another copy of a request that changes something may
/// be the reason for it: 404, 409, 410, 412, 423. When all copies have failed, the last outcome is returned
/// as it came. An answer that took more than one copy carries [`Attempts`](crate::Attempts), and
/// copies after the first carry [`AttemptNumber`](crate::AttemptNumber).
///
/// Each hedge takes a token from the origin's [`Budgets`]; without one it is not sent. Successes
/// put tokens in, and a hedge that wins gets its own back.
///
/// A request may bring a policy of its own, as an `Arc<Policy>` in its extensions.
///
/// # Cancellation
///
/// Dropping the future drops all copies.
#[derive(Debug)]
pub struct Hedge<S, C = HttpClassifier> {
    shared: Arc<Shared<C>>,
    inner: S,
}

#[derive(Debug)]
struct Shared<C> {
    policy: PolicyCell,
    classifier: C,
    budgets: Budgets,
    trackers: Origins<HedgeTracker>,
    observer: Observer,
    entropy: Entropy,
}

impl HedgeLayer {
    /// Creates a layer that hedges by `policy`: a fixed one, or the one that a [`PolicyCell`] holds
    /// at the moment. It takes the whole policy, because what a failure means, and who pays, is in
    /// other parts of it.
    pub fn new(policy: impl Into<PolicyCell>) -> Self {
        use std::hash::{BuildHasher, RandomState};
        let shared = Shared {
            policy: policy.into(),
            classifier: HttpClassifier,
            budgets: Budgets::new(),
            trackers: Origins::new(),
            observer: Observer::default(),
            entropy: Entropy::seeded(RandomState::new().hash_one(())),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl<C> HedgeLayer<C> {
    /// Reads outcomes with `classifier` instead of [`HttpClassifier`].
    pub fn classifier<D>(self, classifier: D) -> HedgeLayer<D>
    where
        C: Clone,
    {
        let Shared { policy, budgets, trackers, observer, entropy, .. } = self.into_shared();
        let shared = Shared { policy, classifier, budgets, trackers, observer, entropy };
        HedgeLayer { shared: Arc::new(shared) }
    }

    /// Spends from `budgets`: those of the [`RetryLayer`](crate::RetryLayer) beside it, most of all.
    #[must_use]
    pub fn budgets(self, budgets: Budgets) -> Self
    where
        C: Clone,
    {
        let shared = Shared { budgets, ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    /// Tells `observe` of every step of every call that may be hedged.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self
    where
        C: Clone,
    {
        let shared = Shared { observer: Observer::new(observe), ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    /// Draws the jitter on the upstream's wishes from `seed`, so that a run can be repeated.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self
    where
        C: Clone,
    {
        let shared = Shared { entropy: Entropy::seeded(seed), ..self.into_shared() };
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
            trackers: shared.trackers.clone(),
            observer: shared.observer.clone(),
            entropy: Entropy::seeded(shared.entropy.draw()),
        })
    }
}

impl<S, C> Layer<S> for HedgeLayer<C> {
    type Service = Hedge<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Hedge { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S: Clone, C> Clone for Hedge<S, C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), inner: self.inner.clone() }
    }
}

impl<S, C, B, T> Service<Request<B>> for Hedge<S, C>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<T>> + Clone,
    S::Error: Diagnose,
    C: Classify<T, S::Error>,
    B: Body<Error: Into<BoxError>> + Unpin,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = HedgeFuture<S, C, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = &self.shared;
        let own = request.extensions().get::<Arc<Policy>>();
        if own.is_none() && !shared.policy.has::<HedgePolicy>() {
            return HedgeFuture::straight(self.inner.call(request.map(ReplayBody::once)));
        }
        self.call_hedged(request)
    }
}

impl<S, C> Hedge<S, C> {
    /// Apart from `call`, so that where nothing is to be done the request is not even moved.
    #[inline(never)]
    fn call_hedged<B>(&mut self, request: Request<B>) -> HedgeFuture<S, C, B>
    where
        S: Service<Request<ReplayBody<B>>> + Clone,
        B: Body<Error: Into<BoxError>> + Unpin,
    {
        let shared = &self.shared;
        let own = request.extensions().get::<Arc<Policy>>().map(Arc::clone);
        let hedge = shared.under(own.as_deref(), |policy| {
            let hedge = hedge_of(policy, &Asked::from(&request))?;
            Some((*hedge, policy.replay_bytes_max))
        });
        let Some((hedge, bytes_max)) = hedge else {
            return HedgeFuture::straight(self.inner.call(request.map(ReplayBody::once)));
        };
        let (head, body) = request.into_parts();
        let (body, replay) = Replay::split(body, bytes_max);
        if !replay.is_whole() {
            replay.forgo();
            return HedgeFuture::straight(self.inner.call(Request::from_parts(head, body)));
        }
        let started = clock::now();
        shared.note_call(&head.uri, own.as_deref());
        let hedging = Hedging::new(&hedge, shared.delay(&hedge, &head.uri, started));
        let run = Run { shared: Arc::clone(shared), own, head: head.clone(), started };
        // The instance that `poll_ready` made ready takes the first copy; a clone of it stays with
        // the call, and is made ready for each further one.
        let service = self.inner.clone();
        let race = Race::new(run, hedging, service, replay, hedge.quantile().is_some());
        HedgeFuture::hedged(self.inner.call(Request::from_parts(head, body)), race)
    }
}

/// Returns how a request may be hedged under `policy`, if it may: it is harmless to repeat, and does
/// not ask for a connection to be handed over, of which there would be two. Whether its body allows
/// it, [`Replay::is_whole`] tells.
///
/// What is hedged is not retried, so a layer that retries asks the same.
pub(crate) fn hedge_of<'a>(policy: &'a Policy, asked: &Asked<'_>) -> Option<&'a HedgePolicy> {
    let hedge = policy.hedge.as_ref()?;
    let idempotency = asked.idempotency(policy.is_idempotent);
    let may_be_hedged =
        idempotency != Idempotency::None && asked.header(&header::UPGRADE).is_none();
    may_be_hedged.then_some(hedge)
}

impl<C> Shared<C> {
    /// Runs `work` under a request's own policy, or the one that rules now.
    fn under<R>(&self, own: Option<&Policy>, work: impl FnOnce(&Policy) -> R) -> R {
        match own {
            Some(policy) => work(policy),
            None => work(&self.policy.peek()),
        }
    }

    fn delay(&self, hedge: &HedgePolicy, uri: &Uri, now: Instant) -> Duration {
        match hedge.fixed_delay() {
            Some(delay) => delay,
            None => self.trackers.with(uri, &(), |tracker| tracker.delay(hedge, now)),
        }
    }

    /// Tells a budget that counts calls of a new one.
    fn note_call(&self, uri: &Uri, own: Option<&Policy>) {
        if own.is_none() && !self.policy.counts_calls() {
            return;
        }
        self.under(own, |policy| {
            if matches!(policy.budget, BudgetPolicy::Window(_)) {
                let deposit = |budget: &Budget| budget.deposit_call(clock::now());
                self.budgets.with(uri, policy, deposit);
            }
        });
    }
}

impl PerOrigin for HedgeTracker {
    /// What an upstream takes does not depend on what is made of it.
    type Policy = ();

    fn open((): &(), now: Instant) -> Self {
        Self::new(now)
    }

    fn serves(&self, (): &()) -> bool {
        true
    }

    fn succeeded_by(&self, policy: &(), now: Instant) -> Self {
        Self::open(policy, now)
    }
}

#[cfg(test)]
mod tests;
