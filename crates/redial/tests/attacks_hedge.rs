//! What hedging does elsewhere that ours does not: an answer of 503 that beats a good one which is
//! still on its way (tower's hedge, tower-resilience and rhedge take the first outcome, whatever it
//! is); losers that go on working (a spawned copy is not cancelled with its caller); and a hedge for
//! every call just when everything is slow (none of them has a budget).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use redial::{
    Attempts, HedgeLayer, ReplayBody,
    core::{HedgePolicy, Policy, Quantile},
};
use redial_testkit::{H2Reply, Reply, Upstream};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

type Body = Full<Bytes>;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn hedged(hedge: HedgePolicy) -> Policy {
    Policy { hedge: Some(hedge), ..Policy::default() }
}

/// Hyper's own client: the sockets, the pool and the cancelling are real.
fn client(
    is_http2: bool,
) -> impl Service<
    Request<ReplayBody<Body>>,
    Response = Response<Incoming>,
    Error = io::Error,
    Future: Send,
> + Clone {
    let client = Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http();
    client.map_err(io::Error::other)
}

fn get(upstream: &Upstream) -> Request<Body> {
    Request::get(upstream.url("/item")).body(Body::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_fast_503_never_beats_a_200_that_is_still_on_its_way() {
    let slow = Reply::ok("the answer").after(millis(120));
    let upstream = Upstream::script([slow, Reply::status(503), Reply::status(503)]).await;
    let hedge = HedgePolicy::fixed(millis(20)).with_max_hedges(2).unwrap();
    let client = HedgeLayer::new(hedged(hedge)).layer(client(false));
    let answer = client.oneshot(get(&upstream)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.extensions().get(), Some(&Attempts(3)));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "the answer");
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fast_503_or_429_calls_for_the_next_copy_at_once() {
    for status in [503, 429] {
        let upstream = Upstream::script([Reply::status(status), Reply::ok("good")]).await;
        let hedge = HedgePolicy::fixed(Duration::from_secs(3_600));
        let client = HedgeLayer::new(hedged(hedge)).layer(client(false));
        let answer = client.oneshot(get(&upstream)).await.unwrap();
        assert_eq!((answer.status().as_u16(), upstream.requests().len()), (200, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_losers_connection_is_closed_and_the_upstream_sees_it() {
    let upstream = Upstream::script([Reply::hang(), Reply::ok("fast")]).await;
    let client = HedgeLayer::new(hedged(HedgePolicy::fixed(millis(20)))).layer(client(false));
    let answer = client.oneshot(get(&upstream)).await.unwrap();
    assert_eq!(answer.status(), 200);
    upstream.until(|upstream| upstream.requests()[0].abandoned).await;
    let requests = upstream.requests();
    assert!(!requests[1].abandoned, "the winner's connection lives on");
    assert_ne!(requests[0].connection, requests[1].connection);
}

#[tokio::test(start_paused = true)]
async fn a_losers_stream_is_reset_and_its_connection_serves_the_winner() {
    let upstream = Upstream::h2_script([H2Reply::hang(), H2Reply::status(200)]).await;
    let client = HedgeLayer::new(hedged(HedgePolicy::fixed(millis(20)))).layer(client(true));
    let answer = client.oneshot(get(&upstream)).await.unwrap();
    assert_eq!(answer.status(), 200);
    upstream.until(|upstream| upstream.requests()[0].abandoned).await;
    assert_eq!(upstream.connections(), 1);
    assert!(!upstream.requests()[1].abandoned);
}

#[tokio::test(start_paused = true)]
async fn every_copy_is_cancelled_with_its_caller() {
    let upstream = Upstream::script([Reply::hang(), Reply::hang()]).await;
    let client = HedgeLayer::new(hedged(HedgePolicy::fixed(millis(5)))).layer(client(false));
    let call = tokio::spawn(client.oneshot(get(&upstream)));
    upstream.until(|upstream| upstream.requests().len() == 2).await;
    call.abort();
    upstream.until(|upstream| upstream.requests().iter().all(|sent| sent.abandoned)).await;
}

#[tokio::test(start_paused = true)]
async fn a_post_without_a_key_is_sent_once_and_one_with_a_key_carries_it_on_every_copy() {
    let slow = || Reply::ok("done").after(millis(60));
    let upstream = Upstream::script([slow(), slow(), slow()]).await;
    let client = HedgeLayer::new(hedged(HedgePolicy::fixed(millis(10)))).layer(client(false));
    let post = |key: Option<&str>| {
        let post = Request::post(upstream.url("/orders"));
        let post = key.into_iter().fold(post, |post, key| post.header("idempotency-key", key));
        post.body(Body::from("one apple")).unwrap()
    };
    client.clone().oneshot(post(None)).await.unwrap();
    assert_eq!(upstream.requests().len(), 1);
    client.clone().oneshot(post(Some("k-1"))).await.unwrap();
    let requests = upstream.requests();
    assert_eq!(requests.len(), 3);
    for copy in &requests[1..] {
        assert_eq!(
            (copy.header("idempotency-key"), &copy.body[..]),
            (Some("k-1"), &b"one apple"[..])
        );
    }
}

#[tokio::test(start_paused = true)]
async fn when_everything_is_slow_hedges_stay_within_the_budget() {
    let sent = Arc::new(AtomicU32::new(0));
    let tally = Arc::clone(&sent);
    let slow = service_fn(move |_: Request<ReplayBody<Body>>| {
        tally.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, io::Error>(Response::new(Body::default()))
        }
    });
    // The worst there is: every call outlasts its delay, and no hedge ever wins.
    let hedge = HedgePolicy::fixed(millis(50)).with_max_hedges(4).unwrap();
    let layer = HedgeLayer::new(hedged(hedge));
    let started = Instant::now();
    let mut successes = 0;
    for _ in 0..50 {
        let mut wave = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let request = Request::get("http://shop.example/").body(Body::default()).unwrap();
            wave.spawn(layer.layer(slow.clone()).oneshot(request));
        }
        successes += wave.join_all().await.iter().filter(|outcome| outcome.is_ok()).count();
    }
    let hedges = f64::from(sent.load(Ordering::Relaxed)) - 1_000.0;
    assert_eq!(successes, 1_000);
    let (initial, floor) = (5.0, 0.1 * started.elapsed().as_secs_f64());
    assert!(hedges <= initial + 100.0 + floor, "{hedges} hedges");
    assert!(90.0 <= hedges, "and they are used: {hedges}");
}

#[tokio::test(start_paused = true)]
async fn when_everything_becomes_slow_a_tracked_delay_follows_and_hedging_stays_rare() {
    let sent = Arc::new(AtomicU32::new(0));
    let tally = Arc::clone(&sent);
    let upstream = service_fn(move |request: Request<ReplayBody<Body>>| {
        tally.fetch_add(1, Ordering::Relaxed);
        let latency = request.uri().path().trim_start_matches('/').parse().unwrap();
        async move {
            tokio::time::sleep(millis(latency)).await;
            Ok::<_, io::Error>(Response::new(Body::default()))
        }
    });
    let hedge = HedgePolicy::tracked(Quantile::P95).unwrap();
    let client = HedgeLayer::new(hedged(hedge)).layer(upstream);
    let mut hedges = Vec::new();
    for latency in [10, 200] {
        let before = sent.load(Ordering::Relaxed);
        for _ in 0..500 {
            let uri = format!("http://shop.example/{latency}");
            let request = Request::get(uri).body(Body::default()).unwrap();
            client.clone().oneshot(request).await.unwrap();
        }
        hedges.push(sent.load(Ordering::Relaxed) - before - 500);
    }
    assert_eq!(hedges[0], 0, "nobody is slower than the others");
    assert!(hedges[1] <= 50, "only until the quantile has followed: {hedges:?}");
}
