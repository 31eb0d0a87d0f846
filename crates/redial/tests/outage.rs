//! What the layers promise when an upstream fails as a whole, slows down, or fails by chance.

#![expect(clippy::unwrap_used, reason = "a test whose policy is invalid should stop")]

#[path = "support/upstream_model.rs"]
mod upstream_model;

use std::time::Duration;

use redial::{
    AttemptTimeoutLayer, BreakerLayer, RetryLayer, ThrottleLayer,
    core::{Backoff, BreakerPolicy, BudgetPolicy, Jitter, Policy, ThrottlePolicy},
};
use tower::ServiceBuilder;

use crate::upstream_model::{Client, Traffic, Upstream, Weather, client};

/// Retries with short waits.
fn policy() -> Policy {
    let policy = Policy::default();
    let (initial, max) = (Duration::from_millis(100), Duration::from_secs(60));
    let backoff = Backoff::exponential(initial, 2.0, max).unwrap().jitter(Jitter::Full).unwrap();
    Policy { retry: policy.retry.backoff(backoff), ..policy }
}

/// Retries under the default budget, and half a second for an attempt.
fn retrying(upstream: Upstream, seed: u64) -> Client {
    retrying_by(policy())(upstream, seed)
}

fn retrying_by(policy: Policy) -> impl Fn(Upstream, u64) -> Client {
    move |upstream, seed| {
        let stack = ServiceBuilder::new()
            .layer(RetryLayer::new(policy.clone()).seed(seed))
            .layer(AttemptTimeoutLayer::new(Duration::from_millis(500)));
        client(stack.service(upstream))
    }
}

/// As [`retrying`], with a breaker and a throttle under their defaults.
fn guarded(upstream: Upstream, seed: u64) -> Client {
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(policy()).seed(seed))
        .layer(ThrottleLayer::new(ThrottlePolicy::default()).seed(seed))
        .layer(BreakerLayer::new(BreakerPolicy::default()).seed(seed))
        .layer(AttemptTimeoutLayer::new(Duration::from_millis(500)));
    client(stack.service(upstream))
}

/// Twenty clients at `load` times what the upstream can bear.
fn traffic(load: f64, lasts: f64, weather: &[Weather]) -> Traffic {
    let rate = load * Traffic::CAPACITY;
    let weather = weather.to_vec();
    Traffic { clients: 20, rate, lasts, weather, drops_abandoned: false, seed: 1 }
}

const fn failing(from: f64, failing: f64) -> Weather {
    Weather { from, slowdown: 1.0, failing }
}

#[tokio::test(start_paused = true)]
async fn an_outage_from_the_start_costs_the_first_credit_and_the_floor() {
    let (clients, lasts) = (20.0, 60.0);
    let ledger = traffic(0.5, lasts, &[failing(0.0, 1.0)]).run(retrying).await;
    let attempts = as_f64(ledger.attempts.len());
    // A fresh account holds the retries of one call of the class that may be retried most, and a tenth of
    // a token comes every second. The last calls wait for less than a second.
    let credit = clients * (f64::from(policy().retry.most_retries()) + 0.1 * (lasts + 1.0));
    let retries = attempts - as_f64(ledger.calls.len());
    assert!(retries <= credit, "{retries} retries out of {credit}");
    assert!(credit - 2.0 * clients <= retries, "what is there is used: {retries} of {credit}");
    assert!(ledger.load(0.0, lasts) < 1.04, "{}", ledger.load(0.0, lasts));
}

#[tokio::test(start_paused = true)]
async fn an_outage_after_good_times_costs_at_most_what_was_kept_and_the_floor() {
    let ledger = traffic(0.5, 90.0, &[failing(30.0, 1.0)]).run(retrying).await;
    let retries = as_f64(ledger.attempts(30.0, 92.0) - ledger.within(30.0, 90.0).count());
    // Ten tokens are kept at most.
    assert!(retries <= 20.0 * (10.0 + 0.1 * 62.0), "{retries} retries");
    // Once they are used up, there is the floor alone.
    let load = ledger.load(60.0, 90.0);
    assert!(load <= 1.0 + 20.0 * 0.1 / 100.0 * 1.1, "{load} attempts a call");
    assert!(ledger.success(0.0, 30.0) > 0.99);
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_an_outage_costs_every_retry() {
    let free = Policy { budget: BudgetPolicy::Unlimited, ..policy() };
    let ledger = traffic(0.5, 10.0, &[failing(0.0, 1.0)]).run(retrying_by(free)).await;
    assert_eq!(ledger.attempts.len(), 4 * ledger.calls.len());
}

#[tokio::test(start_paused = true)]
async fn a_breaker_and_a_throttle_send_less_than_the_calls_into_an_outage() {
    let ledger = traffic(0.5, 90.0, &[failing(30.0, 1.0)]).run(guarded).await;
    let load = ledger.load(30.0, 90.0);
    assert!(load < 0.25, "{load} attempts a call");
    let refused = ledger.within(35.0, 90.0).filter(|call| call.attempts == 0).count();
    assert!(0.9 < as_f64(refused) / as_f64(ledger.within(35.0, 90.0).count()));
}

/// Ten seconds, five times slower than usual, at four fifths of the capacity: the queue that is left makes
/// every attempt run out of time, and retries that go on would keep it so.
const BROWN_OUT: [Weather; 2] = [
    Weather { from: 20.0, slowdown: 5.0, failing: 0.0 },
    Weather { from: 30.0, slowdown: 1.0, failing: 0.0 },
];

#[tokio::test(start_paused = true)]
async fn after_a_brown_out_at_four_fifths_of_its_capacity_the_upstream_recovers_within_a_minute() {
    let ledger = traffic(0.8, 120.0, &BROWN_OUT).run(retrying).await;
    let recovery = ledger.recovery(30.0, 120.0, 5.0, 0.95);
    assert!(recovery.is_some_and(|after| after <= 60.0), "{recovery:?}");
    assert!(0.95 < ledger.success(95.0, 120.0), "and stays well");
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_it_does_not_recover() {
    let free = Policy { budget: BudgetPolicy::Unlimited, ..policy() };
    let ledger = traffic(0.8, 90.0, &BROWN_OUT).run(retrying_by(free)).await;
    assert_eq!(ledger.recovery(30.0, 90.0, 5.0, 0.95), None);
}

#[tokio::test(start_paused = true)]
async fn if_every_fifth_attempt_fails_by_chance_98_calls_of_100_go_well_all_the_same() {
    let ledger = traffic(0.5, 60.0, &[failing(0.0, 0.2)]).run(retrying).await;
    let (success, load) = (ledger.success(0.0, 60.0), ledger.load(0.0, 60.0));
    assert!(0.98 <= success, "{success}");
    assert!(load < 1.27, "{load} attempts a call");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_and_a_throttle_do_not_take_that_for_an_outage() {
    let ledger = traffic(0.5, 30.0, &[failing(0.0, 0.2)]).run(guarded).await;
    assert!(0.98 <= ledger.success(0.0, 30.0), "{}", ledger.success(0.0, 30.0));
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are small")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
