//! What is known to go wrong with breakers elsewhere, each held against ours.

#![expect(clippy::unwrap_used, reason = "policies and requests that are known to be valid")]

#[path = "support/road.rs"]
mod road;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response, uri::Authority};
use redial::{
    BoxError, BreakerLayer, Breakers, Rejection,
    core::{
        Abandoned, Backoff, BreakerPolicy, BreakerSnapshot, BreakerState, Jitter, Sample,
        SlidingCounts, TripReason, Window,
    },
};
use tokio::{sync::oneshot, time::advance};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> BreakerPolicy {
    BreakerPolicy::default()
        .with_consecutive_failures(0)
        .with_open(Backoff::fixed(SECOND * 5).jitter(Jitter::None).unwrap())
        .and_then(|policy| policy.with_probes(1))
        .and_then(|policy| policy.with_probe_successes(1))
        .unwrap()
}

/// A call that ends when the test says so.
struct Order(oneshot::Receiver<u16>);

/// A client whose calls end as ordered, and the breakers that it asks.
fn client(
    policy: BreakerPolicy,
) -> (impl Service<Request<Order>, Response = Response<()>, Error = BoxError> + Clone, Breakers) {
    let breakers = Breakers::new();
    let layer = BreakerLayer::new(policy).breakers(breakers.clone());
    let upstream = service_fn(|request: Request<Order>| async {
        let status = request.into_body().0.await?;
        Ok::<_, BoxError>(Response::builder().status(status).body(())?)
    });
    (layer.layer(upstream), breakers)
}

fn order() -> (oneshot::Sender<u16>, Request<Order>) {
    let (end, order) = oneshot::channel();
    let request = Request::get("http://shop.example/").body(Order(order)).unwrap();
    (end, request)
}

/// A call that ends at once; returns whether it was let through.
async fn call<S>(client: &S, status: u16) -> bool
where
    S: Service<Request<Order>, Response = Response<()>, Error = BoxError> + Clone,
{
    let (end, request) = order();
    end.send(status).unwrap();
    match client.clone().oneshot(request).await {
        Ok(response) => response.status() == status,
        Err(error) => !error.is::<Rejection>(),
    }
}

fn shop(breakers: &Breakers) -> BreakerSnapshot {
    breakers.snapshot(&Authority::from_static("shop.example")).unwrap()
}

/// Guards against lifetime counts, under which the failures have to outnumber all successes ever.
#[tokio::test(start_paused = true)]
async fn a_long_healthy_past_delays_no_trip() {
    for window in [100, 1_000] {
        let by_calls = policy()
            .with_window(Window::calls(window).unwrap())
            .and_then(|policy| policy.with_failure_ratio(0.5))
            .unwrap();
        let (client, _) = client(by_calls);
        for _ in 0..10_000 {
            assert!(call(&client, 200).await);
        }
        let mut failures = 0;
        while call(&client, 500).await {
            failures += 1;
            assert!(failures <= window / 2, "half of the window is enough");
        }
        assert_eq!(failures, window / 2);
    }
}

/// The same over time: what is older than the window is forgotten, not averaged in.
#[tokio::test(start_paused = true)]
async fn a_healthy_hour_is_forgotten_after_a_window() {
    let (client, breakers) = client(policy().with_failure_ratio(0.5).unwrap());
    for _ in 0..10_000 {
        assert!(call(&client, 200).await);
    }
    advance(SECOND * 10).await;
    for _ in 0..100 {
        assert!(call(&client, 500).await);
    }
    assert!(!call(&client, 500).await);
    let reason = TripReason::FailureRatio { failures: 100, calls: 100 };
    assert_eq!(shop(&breakers).last_trip, Some(reason));
}

/// Guards against results without a generation: there, a success from before the trip closes it.
#[tokio::test(start_paused = true)]
async fn a_success_from_before_the_trip_does_not_close_what_is_half_open() {
    let (client, breakers) = client(policy().with_consecutive_failures(2));
    let (end_early, request) = order();
    let mut early = pin!(client.clone().oneshot(request));
    assert!(is_pending(early.as_mut()).await);
    assert!(call(&client, 500).await && call(&client, 500).await);
    advance(SECOND * 5).await;
    let (end_probe, request) = order();
    let mut probe = pin!(client.clone().oneshot(request));
    assert!(is_pending(probe.as_mut()).await);
    end_early.send(200).unwrap();
    early.await.unwrap();
    assert_eq!(shop(&breakers).state, BreakerState::HalfOpen, "the probe decides");
    assert_eq!(shop(&breakers).probes_out, 1);
    end_probe.send(500).unwrap();
    probe.await.unwrap();
    assert_eq!(shop(&breakers).state, BreakerState::Open);
}

/// Guards against places that are lost with the call that held them.
#[tokio::test(start_paused = true)]
async fn a_dropped_probe_wedges_nothing() {
    let (client, breakers) = client(policy().with_consecutive_failures(1));
    call(&client, 500).await;
    for _ in 0..100 {
        advance(SECOND * 5).await;
        let (_end, request) = order();
        let mut probe = Box::pin(client.clone().oneshot(request));
        assert!(is_pending(probe.as_mut()).await, "let through");
        drop(probe);
        assert_eq!(shop(&breakers).probes_out, 0);
    }
    assert!(call(&client, 200).await);
    assert_eq!(shop(&breakers).state, BreakerState::Closed);
}

/// Guards against waiting for a probe that never ends.
#[tokio::test(start_paused = true)]
async fn a_hung_probe_wedges_nothing() {
    let (client, breakers) = client(policy().with_consecutive_failures(1));
    call(&client, 500).await;
    advance(SECOND * 5).await;
    let (_end, request) = order();
    let mut probe = pin!(client.clone().oneshot(request));
    assert!(is_pending(probe.as_mut()).await);
    advance(SECOND * 60).await;
    assert!(!call(&client, 200).await, "it opens again");
    assert_eq!(shop(&breakers).last_trip, Some(TripReason::HalfOpenExpired));
    advance(SECOND * 5).await;
    assert!(call(&client, 200).await, "another probe");
    assert_eq!(shop(&breakers).state, BreakerState::Closed);
}

/// Guards against an upstream that never answers and is never counted, because its callers give up.
#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_count_by_policy() {
    for (abandoned, state) in
        [(Abandoned::Ignore, BreakerState::Closed), (Abandoned::Failure, BreakerState::Open)]
    {
        let policy = policy().with_consecutive_failures(3).with_abandoned(abandoned);
        let (client, breakers) = client(policy);
        for _ in 0..3 {
            let (_end, request) = order();
            let hung = client.clone().oneshot(request);
            assert!(tokio::time::timeout(SECOND, hung).await.is_err());
        }
        assert_eq!(shop(&breakers).state, state);
    }
}

/// Guards against records one by one, where a decision takes as long as there were calls: state has a
/// fixed size and nothing is allocated, so neither recording nor reading can cost more than all of it.
#[test]
fn a_million_calls_in_the_window_weigh_as_much_as_a_thousand() {
    for window in [Window::time(SECOND * 10).unwrap(), Window::calls(1_000).unwrap()] {
        let mut weight = Vec::new();
        for calls in [1_000_u64, 1_000_000] {
            let mut counts = None;
            let opened = allocation_counter::measure(|| counts = Some(SlidingCounts::new(window)));
            let counts = counts.unwrap();
            let used = allocation_counter::measure(|| {
                for call in 0..calls {
                    let sample = Sample { is_failure: call % 3 == 0, is_slow: call % 5 == 0 };
                    counts.enter(sample, 0, Duration::from_micros(call));
                }
                std::hint::black_box(counts.read(0, SECOND));
            });
            assert_eq!(used.count_total, 0, "{window}: {calls} calls");
            weight.push((opened.bytes_current, size_of_val(&counts)));
        }
        assert_eq!(weight[0], weight[1], "{window}");
    }
}

/// An attempt that goes well allocates nothing, and neither does one that is refused.
#[test]
fn neither_an_attempt_nor_a_refusal_allocates() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let breakers = Breakers::new();
    let layer = BreakerLayer::new(policy()).breakers(breakers.clone());
    let mut client = layer.layer(road::Ideal);
    assert!(road::call(&mut client, road::request(0)), "the first call begins the breaker");
    let allocations = |client: &mut _, is_through| {
        let request = road::request(0);
        let used = allocation_counter::measure(|| {
            assert_eq!(road::call(client, request), is_through);
        });
        used.count_total
    };
    assert_eq!(allocations(&mut client, true), 0);
    breakers.open(&Authority::from_static("shop.example"), None);
    assert_eq!(allocations(&mut client, false), 0);
}

/// Guards against gauges that show a breaker as open and half-open at once.
#[tokio::test(start_paused = true)]
async fn a_breaker_is_in_one_state_at_a_time() {
    let (client, breakers) = client(policy().with_consecutive_failures(1));
    let states = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];
    let hot = |breakers: &Breakers| {
        let state = shop(breakers).state;
        states.map(|shown| u8::from(shown == state))
    };
    call(&client, 200).await;
    assert_eq!(hot(&breakers), [1, 0, 0]);
    call(&client, 500).await;
    assert_eq!(hot(&breakers), [0, 1, 0]);
    advance(SECOND * 5).await;
    let (_end, request) = order();
    let mut probe = pin!(client.clone().oneshot(request));
    assert!(is_pending(probe.as_mut()).await);
    assert_eq!(hot(&breakers), [0, 0, 1]);
}

/// Guards against a refusal that takes the time that it should save.
#[test]
fn a_refusal_is_there_on_the_first_poll() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let (mut client, breakers) = client(policy());
    breakers.open(&Authority::from_static("shop.example"), Some(SECOND));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(client.poll_ready(&mut cx).is_ready());
    let (_end, request) = order();
    let refused = pin!(client.call(request));
    assert!(matches!(refused.poll(&mut cx), Poll::Ready(Err(error)) if error.is::<Rejection>()));
}

async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}
