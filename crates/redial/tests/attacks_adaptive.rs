//! Where adaptive limits of others go wrong (attack E). Each test says what theirs do.

#![expect(clippy::unwrap_used, reason = "a request that cannot be built should stop the test")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, uri::Authority};
use http_body_util::Full;
use redial::{
    AdaptiveLimitLayer, AdaptiveLimits, BoxError, RetryLayer,
    core::{AdaptivePolicy, Backoff, LimitAlgorithm, Policy},
};
use tower::{Layer, Service, ServiceExt, service_fn};

const MILLI: Duration = Duration::from_millis(1);
const SHOP: Authority = Authority::from_static("shop.example");
const ALL: [LimitAlgorithm; 3] =
    [LimitAlgorithm::Aimd, LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2];

fn get() -> Request<Full<Bytes>> {
    Request::get("http://shop.example/").body(Full::default()).unwrap()
}

/// Answers the `n`th request after `latency(n)`, with `status(n)`.
fn upstream<B: Send + 'static>(
    latency: impl Fn(u32) -> Duration + Clone + Send,
    status: impl Fn(u32) -> u16 + Clone + Send,
) -> impl Service<
    Request<B>,
    Response = Response<Full<Bytes>>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send,
> + Clone
+ Send {
    let count = Arc::new(AtomicU32::new(0));
    service_fn(move |_: Request<B>| {
        let n = count.fetch_add(1, Ordering::Relaxed) + 1;
        let (latency, status) = (latency(n), status(n));
        async move {
            tokio::time::sleep(latency).await;
            Ok(Response::builder().status(status).body(Full::default()).unwrap())
        }
    })
}

/// tower-resilience 0.13 adds one to its limit for each fast success, whatever is in flight: after a
/// hundred calls, one after the other, it allows a hundred at once without having seen two.
#[tokio::test(start_paused = true)]
async fn the_limit_does_not_grow_at_concurrency_one() {
    for algorithm in ALL {
        let limits = AdaptiveLimits::new();
        let policy = AdaptivePolicy::default().with_algorithm(algorithm);
        let layer = AdaptiveLimitLayer::new(policy).limits(limits.clone());
        let client = layer.layer(upstream(|_| 10 * MILLI, |_| 200));
        for _ in 0..20_000 {
            assert!(client.clone().oneshot(get()).await.is_ok());
        }
        assert_eq!(limits.limit(&SHOP), Some(20), "{algorithm:?}");
    }
}

/// From a limit of one, too: with one in flight the limit is used up, and still nothing was seen that
/// says that three would do.
#[tokio::test(start_paused = true)]
async fn the_limit_stays_within_twice_of_what_was_in_flight() {
    for algorithm in ALL {
        let limits = AdaptiveLimits::new();
        let policy = AdaptivePolicy::default().with_algorithm(algorithm);
        let policy = policy.with_limits(1, 1, 200).unwrap();
        let layer = AdaptiveLimitLayer::new(policy).limits(limits.clone());
        let client = layer.layer(upstream(|_| 10 * MILLI, |_| 200));
        for _ in 0..10_000 {
            assert!(client.clone().oneshot(get()).await.is_ok());
        }
        assert!(limits.limit(&SHOP).unwrap() <= 2, "{algorithm:?}: {:?}", limits.limit(&SHOP));
    }
}

/// tower-resilience 0.13 keeps the least latency of all time: one answer out of a cache, and every
/// later one looks slow, for ever. Here the least latency is of a window's mean, and is measured again.
#[tokio::test(start_paused = true)]
async fn one_fast_outlier_does_not_pin_the_baseline() {
    for algorithm in [LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2] {
        let limits = AdaptiveLimits::new();
        let policy = AdaptivePolicy::default().with_algorithm(algorithm);
        let layer = AdaptiveLimitLayer::new(policy).limits(limits.clone());
        let fast = |n| if n == 500 { MILLI / 10 } else { 20 * MILLI };
        let client = layer.layer(upstream(fast, |_| 200));
        waves(&client, 2_000).await;
        let baseline = limits.baseline(&SHOP).unwrap();
        assert!(18 * MILLI <= baseline, "{algorithm:?}: {baseline:?}");
        assert!(20 <= limits.limit(&SHOP).unwrap(), "{algorithm:?}: {:?}", limits.limit(&SHOP));
    }
}

/// An average that begins with a slow first answer, a connection that is just opened, takes the load
/// that follows for none at all.
#[tokio::test(start_paused = true)]
async fn one_slow_first_answer_does_not_pin_the_baseline() {
    for algorithm in [LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2] {
        let limits = AdaptiveLimits::new();
        let policy = AdaptivePolicy::default().with_algorithm(algorithm);
        let layer = AdaptiveLimitLayer::new(policy).limits(limits.clone());
        let slow = |n| if n == 1 { 5_000 * MILLI } else { 20 * MILLI };
        let client = layer.layer(upstream(slow, |_| 200));
        waves(&client, 5_000).await;
        let baseline = limits.baseline(&SHOP).unwrap();
        assert!(baseline <= 25 * MILLI, "{algorithm:?}: {baseline:?}");
    }
}

/// Vector's controller timed whole calls, its own waits between retries included, until its #26123: a
/// 503 that was repeated after 2 s looked like an answer that took 2 s. Here each attempt is in flight
/// by itself, and the wait is not.
#[tokio::test(start_paused = true)]
async fn attempts_are_measured_and_not_calls() {
    let limits = AdaptiveLimits::new();
    let policy = AdaptivePolicy::default();
    let layer = AdaptiveLimitLayer::new(policy).limits(limits.clone());
    let backoff = Backoff::fixed(Duration::from_secs(2));
    let retry = Policy { retry: Policy::default().retry.backoff(backoff), ..Policy::default() };
    let in_flight_while_waiting = Arc::new(Mutex::new(Vec::new()));
    let (seen, watched) = (Arc::clone(&in_flight_while_waiting), limits.clone());
    let observe = move |_: &redial::Call<'_>, event: &redial::core::Event| {
        if matches!(event, redial::core::Event::Retrying { .. }) {
            seen.lock().unwrap().push(watched.in_flight(&SHOP));
        }
    };
    // Every 40th attempt is answered with 503: too few to be overload.
    let status = |n: u32| if n.is_multiple_of(40) { 503 } else { 200 };
    let transport = layer.layer(upstream(|_| 20 * MILLI, status));
    let client = RetryLayer::new(retry).observe(observe).layer(transport);
    for _ in 0..2_000 {
        assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200);
    }
    let baseline = limits.baseline(&SHOP).unwrap();
    assert!(baseline.abs_diff(20 * MILLI) <= 2 * MILLI, "{baseline:?}");
    let seen = in_flight_while_waiting.lock().unwrap();
    assert!(50 <= seen.len() && seen.iter().all(|count| *count == 0), "{seen:?}");
}

/// Ten calls at a time.
async fn waves<S>(client: &S, count: u32)
where
    S: Service<Request<Full<Bytes>>> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
{
    for _ in 0..count {
        let calls: Vec<_> = (0..10).map(|_| tokio::spawn(client.clone().oneshot(get()))).collect();
        for call in calls {
            drop(call.await.unwrap());
        }
    }
}
