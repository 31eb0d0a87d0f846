//! The contract that every layer keeps, whatever its policy: the service below is called only when it is
//! ready, outcomes come through as they are, a call that is dropped leaves nothing behind, clones share, and
//! a service that takes one call at a time is not asked for two (attack J: peers' adapters call a clone that
//! was never ready).

#![expect(clippy::unwrap_used, reason = "a policy that is refused should stop the test")]

mod checks;
mod probe;

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, header};
use redial::{
    AdaptiveLimitLayer, AttemptTimeoutLayer, BreakerLayer, BufferAnswerLayer, BulkheadLayer,
    CacheLayer, ChaosLayer, DeadlineLayer, FallbackLayer, HedgeLayer, InboundLayer, LogEvents,
    LogLayer, Omit, PropagateLayer, RateLimitLayer, ResumeLayer, RetryLayer, SetHeadersLayer,
    StallTimeoutLayer, ThrottleLayer,
    core::{
        AdaptivePolicy, BreakerPolicy, BulkheadPolicy, CachePolicy, ChaosPolicy, ChaosRule,
        FallbackPolicy, HedgePolicy, Policy, RateLimitPolicy, ResumePolicy, StallPolicy,
        ThrottlePolicy,
    },
    idempotency::{
        Abandoned, IdempotencyKeyLayer, IdempotencyLayer, IdempotencyPolicy, MemoryStore, Provider,
    },
};
use tower::{Layer, Service};

use crate::checks::check;

/// One test a layer: `name: the layer;`.
macro_rules! layers {
    ($($name:ident: $layer:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let layer = $layer;
            check(|probe| layer.layer(probe), |limited| layer.layer(limited)).await;
        }
    )*};
}

layers! {
    adaptive_limit: AdaptiveLimitLayer::new(AdaptivePolicy::default());
    attempt_timeout: AttemptTimeoutLayer::new(SECOND);
    breaker: BreakerLayer::new(BreakerPolicy::default());
    breaker_that_observes: BreakerLayer::new(BreakerPolicy::default()).observe(LogEvents);
    buffered_answer: BufferAnswerLayer::new(1_024, SECOND);
    bulkhead: BulkheadLayer::new(BulkheadPolicy::default());
    cache: CacheLayer::new(CachePolicy::default());
    chaos: ChaosLayer::new(elsewhere());
    deadline: DeadlineLayer::new(SECOND);
    fallback: FallbackLayer::new(Arc::new(unused_fallback()));
    headers: SetHeadersLayer::new().set(header::ACCEPT, HeaderValue::from_static("*/*"));
    hedge: HedgeLayer::new(hedging());
    inbound: InboundLayer::new().default_to(SECOND);
    idempotency: (IdempotencyKeyLayer::new(), IdempotencyLayer::new(MemoryStore::default()).policy(cancelling()));
    idempotency_key: IdempotencyKeyLayer::new().honored_by(Provider::DRAFT);
    log: LogLayer::new();
    omit: Omit;
    propagate: PropagateLayer::new();
    propagate_below_a_deadline: (DeadlineLayer::new(SECOND), PropagateLayer::new());
    rate_limit: RateLimitLayer::new(RateLimitPolicy::new(1_000, SECOND / 1_000).unwrap());
    resume: ResumeLayer::new(ResumePolicy::default());
    retry: RetryLayer::new(Policy::default());
    retry_that_marks_and_tells: RetryLayer::new(Policy::default()).mark().observe(LogEvents);
    retry_that_hedges: redial::RetryLayers::new(hedging());
    stall: StallTimeoutLayer::new(StallPolicy::default());
    throttle: ThrottleLayer::new(ThrottlePolicy::default());
    standard_stack: redial::stack(Policy::default());
    standard_stack_with_every_policy: redial::stack(every_policy());
}

/// A policy that uses everything, in measures that none of these calls exceeds.
fn every_policy() -> Policy {
    Policy {
        deadline: Some(SECOND),
        breaker: Some(BreakerPolicy::default()),
        rate_limit: Some(RateLimitPolicy::new(1_000, SECOND / 1_000).unwrap()),
        throttle: Some(ThrottlePolicy::default()),
        bulkhead: Some(BulkheadPolicy::default()),
        adaptive_limit: Some(AdaptivePolicy::default()),
        cache: Some(CachePolicy::default()),
        resume: Some(ResumePolicy::default()),
        stall: Some(StallPolicy::default()),
        fallback: Some(Arc::new(unused_fallback())),
        chaos: Some(elsewhere()),
        ..hedging()
    }
}

fn hedging() -> Policy {
    Policy { hedge: Some(HedgePolicy::default()), is_idempotent: false, ..Policy::default() }
}

/// One whose executions end with their calls.
fn cancelling() -> IdempotencyPolicy {
    IdempotencyPolicy::default().abandoned(Abandoned::Cancel)
}

/// An answer for statuses that the probe does not give.
fn unused_fallback() -> FallbackPolicy {
    FallbackPolicy::default().with_trigger_words(["599"]).unwrap()
}

/// Failures for another host than the one that is called.
fn elsewhere() -> Arc<ChaosPolicy> {
    let rule = ChaosRule::new().host("else.example").and_then(ChaosRule::reset).unwrap();
    Arc::new(ChaosPolicy::default().rule(rule).unwrap())
}

const SECOND: Duration = Duration::from_secs(1);

/// A layer as peers have it: its calls go to a clone that was never asked whether it is ready.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "called without being ready")]
async fn a_layer_that_calls_an_unready_clone_is_found_out() {
    check(|service| Hasty { service }, |service| Hasty { service }).await;
}

#[derive(Clone)]
struct Hasty<S> {
    service: S,
}

impl<S: Service<R> + Clone, R> Service<R> for Hasty<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.service.clone().call(request)
    }
}
