use std::{
    collections::VecDeque,
    mem,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full};
use redial_core::{
    Backoff, Class, Event, Fault, Jitter, Reading, RetryPolicy, Severity, StatusSet, Stop,
    TokenBudget, Tokens, Triggers,
};
use tokio::time::Instant as TokioInstant;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{
    deadline::DeadlineLayer,
    diagnose::{Diagnosis, Fresh},
};

type Answer = Result<Response<Full<Bytes>>, Broken>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Broken(Fault);

impl Diagnose for Broken {
    fn diagnose(&self) -> Diagnosis {
        self.0.into()
    }
}

impl From<crate::Rejection> for Broken {
    fn from(_: crate::Rejection) -> Self {
        Self(Fault::Rejected)
    }
}

/// An upstream that gives one scripted answer a request, and remembers what came.
#[derive(Clone, Default)]
struct Upstream {
    script: Arc<Mutex<VecDeque<Answer>>>,
    seen: Arc<Mutex<Vec<(Parts, Bytes, TokioInstant)>>>,
}

impl Upstream {
    fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        Self { script: Arc::new(Mutex::new(script.into_iter().collect())), ..Self::default() }
    }

    async fn answer(self, request: Request<ReplayBody<Full<Bytes>>>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.seen.lock().unwrap().push((head, body, TokioInstant::now()));
        let next = self.script.lock().unwrap().pop_front();
        next.unwrap_or_else(|| status(200))
    }

    fn hits(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn status(code: u16) -> Answer {
    let status = StatusCode::from_u16(code).unwrap();
    Ok(Response::builder().status(status).body(Full::from("why not")).unwrap())
}

fn wishing(code: u16, seconds: &str) -> Answer {
    status(code).map(|mut response| {
        response.headers_mut().insert("retry-after", seconds.parse().unwrap());
        response
    })
}

fn plain() -> Policy {
    let backoff = Backoff::fixed(Duration::from_millis(100)).jitter(Jitter::None).unwrap();
    Policy { retry: RetryPolicy::default().backoff(backoff), ..Policy::default() }
}

fn request(method: Method) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri("http://shop.example/pay");
    builder.body(Full::from("twelve euros")).unwrap()
}

async fn call(layer: RetryLayer, upstream: &Upstream, request: Request<Full<Bytes>>) -> Answer {
    let upstream = upstream.clone();
    let service = service_fn(move |request| upstream.clone().answer(request));
    layer.layer(service).oneshot(request).await
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_request_is_repeated_until_it_succeeds() {
    let upstream = Upstream::new([status(503), Err(Broken(Fault::ConnectionReset)), status(200)]);
    let started = TokioInstant::now();
    let response =
        call(RetryLayer::new(plain()).mark(), &upstream, request(Method::PUT)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.extensions().get(), Some(&Attempts(3)));
    assert_eq!(started.elapsed(), Duration::from_millis(200));
    let seen = upstream.seen.lock().unwrap();
    assert!(seen.iter().all(|(head, body, _)| head.method == "PUT" && body == "twelve euros"));
    let fresh: Vec<_> = seen.iter().map(|(head, ..)| head.extensions.get::<Fresh>()).collect();
    assert_eq!(fresh, [None, None, Some(&Fresh)], "after a reset, another connection");
}

#[tokio::test(start_paused = true)]
async fn a_post_is_sent_once_when_it_may_have_been_applied() {
    for answer in [status(503), status(504), Err(Broken(Fault::ConnectionReset))] {
        let expected = answer.as_ref().map(Response::status).map_err(|error| *error);
        let upstream = Upstream::new([answer]);
        let got = call(RetryLayer::new(plain()), &upstream, request(Method::POST)).await;
        assert_eq!(got.map(|response| response.status()), expected, "the outcome as it came");
        assert_eq!(upstream.hits(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_is_repeated_when_that_is_proven_safe() {
    for answer in [status(429), Err(Broken(Fault::ConnectionRefused)), status(421)] {
        let upstream = Upstream::new([answer]);
        let got = call(RetryLayer::new(plain()), &upstream, request(Method::POST)).await;
        assert_eq!(got.unwrap().status(), 200);
        assert_eq!(upstream.hits(), 2);
    }
    let upstream = Upstream::new([status(503)]);
    let mut keyed = request(Method::POST);
    keyed.headers_mut().insert("idempotency-key", "\"k\"".parse().unwrap());
    let got = call(RetryLayer::new(plain()), &upstream, keyed).await;
    assert_eq!(got.unwrap().status(), 200);
    let seen = upstream.seen.lock().unwrap();
    assert!(seen.iter().all(|(head, ..)| head.headers["idempotency-key"] == "\"k\""));
}

#[tokio::test(start_paused = true)]
async fn the_servers_wish_is_obeyed_and_one_too_long_ends_the_call() {
    let upstream = Upstream::new([wishing(503, "2")]);
    let started = TokioInstant::now();
    call(RetryLayer::new(plain()), &upstream, request(Method::GET)).await.unwrap();
    let elapsed = started.elapsed();
    assert!(Duration::from_secs(2) <= elapsed && elapsed <= Duration::from_millis(2_501));

    let upstream = Upstream::new([wishing(503, "86400")]);
    let started = TokioInstant::now();
    let response = call(RetryLayer::new(plain()), &upstream, request(Method::GET)).await.unwrap();
    assert_eq!(response.headers()["retry-after"], "86400", "the caller sees the wish");
    assert_eq!((started.elapsed(), upstream.hits()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_does_not_fit_before_the_deadline_is_not_begun() {
    let upstream = Upstream::new([wishing(503, "3"), status(200)]);
    let seen = upstream.clone();
    let service = service_fn(move |request| seen.clone().answer(request));
    let layers = (DeadlineLayer::new(Duration::from_secs(2)), RetryLayer::new(plain()));
    let started = TokioInstant::now();
    let response = layers.layer(service).oneshot(request(Method::GET)).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!((started.elapsed(), upstream.hits()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn retries_end_where_the_policy_says_and_the_last_outcome_is_returned() {
    let upstream = Upstream::new((0..9).map(|_| status(503)));
    let policy = Policy { retry: plain().retry.max_retries(2), ..plain() };
    let response = call(RetryLayer::new(policy), &upstream, request(Method::GET)).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "why not");
    assert_eq!(upstream.hits(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_417_is_repeated_without_the_expectation() {
    let upstream = Upstream::new([status(417)]);
    let mut expecting = request(Method::POST);
    expecting.headers_mut().insert(header::EXPECT, "100-continue".parse().unwrap());
    let started = TokioInstant::now();
    call(RetryLayer::new(plain()), &upstream, expecting).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    let seen = upstream.seen.lock().unwrap();
    let expectations: Vec<_> =
        seen.iter().map(|(head, ..)| head.headers.contains_key(header::EXPECT)).collect();
    assert_eq!(expectations, [true, false]);
}

#[tokio::test(start_paused = true)]
async fn all_calls_to_an_origin_share_its_budget() {
    let tokens = TokenBudget {
        initial: Some(Tokens::ONE),
        floor_per_second: Tokens::ZERO,
        ..TokenBudget::default()
    };
    let policy = Policy { budget: BudgetPolicy::Tokens(tokens), ..plain() };
    let budgets = Budgets::new();
    let layer = || RetryLayer::new(policy.clone()).budgets(budgets.clone());
    let upstream = Upstream::new((0..9).map(|_| status(503)));
    call(layer(), &upstream, request(Method::GET)).await.unwrap();
    assert_eq!(upstream.hits(), 2, "one token, one retry");
    call(layer(), &upstream, request(Method::GET)).await.unwrap();
    assert_eq!(upstream.hits(), 3, "none left");

    let budgets = Budgets::new();
    let layer = || RetryLayer::new(policy.clone()).budgets(budgets.clone());
    for _ in 0..5 {
        let upstream = Upstream::new([status(503), status(200)]);
        call(layer(), &upstream, request(Method::GET)).await.unwrap();
        assert_eq!(upstream.hits(), 2, "a retry that helps is given back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_may_bring_its_own_policy() {
    let upstream = Upstream::new([status(404)]);
    let statuses = StatusSet::EMPTY.with(404);
    let own = Policy { triggers: Triggers { statuses, ..Triggers::NONE }, ..plain() };
    let mut special = request(Method::GET);
    special.extensions_mut().insert(Arc::new(own));
    let response = call(RetryLayer::new(plain()), &upstream, special).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_switched_while_calls_are_running() {
    let cell = PolicyCell::new(Policy { retry: plain().retry.max_retries(0), ..plain() });
    let layer = RetryLayer::new(cell.clone());
    let upstream = Upstream::new([status(503), status(503)]);
    assert_eq!(call(layer.clone(), &upstream, request(Method::GET)).await.unwrap().status(), 503);
    cell.switch(plain());
    assert_eq!(call(layer, &upstream, request(Method::GET)).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn every_step_is_told_in_order() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let layer = RetryLayer::new(plain()).observe(move |call: &crate::Call<'_>, event: &Event| {
        assert_eq!(call.uri.host(), Some("shop.example"));
        told.lock().unwrap().push(*event);
    });
    let upstream = Upstream::new([status(503), status(401)]);
    call(layer, &upstream, request(Method::GET)).await.unwrap();
    let events = events.lock().unwrap();
    let names: Vec<_> = events.iter().map(Event::name).collect();
    assert_eq!(
        names,
        [
            "attempt_started",
            "attempt_ended",
            "retrying",
            "attempt_started",
            "attempt_ended",
            "gave_up"
        ]
    );
    assert_eq!(events[5], Event::GaveUp { attempts: 2, stop: Stop::Permanent });
    assert_eq!(events[5].severity(), Severity::Error);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_tells_so_and_sends_nothing_more() {
    let stops = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&stops);
    let layer = RetryLayer::new(plain()).observe(move |_: &crate::Call<'_>, event: &Event| {
        if let Event::GaveUp { stop, .. } = event {
            told.lock().unwrap().push(*stop);
        }
    });
    let upstream = Upstream::new([wishing(503, "5")]);
    let call = call(layer, &upstream, request(Method::GET));
    assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(upstream.hits(), 1);
    assert_eq!(*stops.lock().unwrap(), [Stop::Cancelled]);
}

#[tokio::test(start_paused = true)]
async fn only_a_service_that_is_ready_is_called() {
    #[derive(Clone)]
    struct Strict {
        is_ready: Arc<AtomicBool>,
        own: bool,
    }
    impl<R> Service<R> for Strict {
        type Response = Response<Full<Bytes>>;
        type Error = Broken;
        type Future = std::future::Ready<Answer>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
            self.own = true;
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: R) -> Self::Future {
            assert!(mem::take(&mut self.own), "called without being ready");
            let first = !self.is_ready.swap(true, Ordering::Relaxed);
            std::future::ready(if first { status(503) } else { status(200) })
        }
    }
    let strict = Strict { is_ready: Arc::default(), own: false };
    let response = RetryLayer::new(plain()).layer(strict).oneshot(request(Method::GET)).await;
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_the_waits() {
    let run = |seed| async move {
        let upstream = Upstream::new([status(503), status(503), status(503)]);
        let layer = RetryLayer::new(Policy::default()).seed(seed);
        let started = TokioInstant::now();
        call(layer, &upstream, request(Method::GET)).await.unwrap();
        started.elapsed()
    };
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await, run(2).await);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_of_ones_own_sees_everything() {
    let not_yet = |policy: &Policy, asked: &Asked<'_>, outcome: &Answer| match outcome {
        Ok(response) if response.status() == 202 && *asked.method == Method::GET => {
            Reading::new(Verdict::Transient(Class::Other))
        }
        _ => HttpClassifier.classify(policy, asked, outcome),
    };
    let upstream = Upstream::new([status(202), status(202)]);
    let seen = upstream.clone();
    let service = service_fn(move |request| seen.clone().answer(request));
    let layer = RetryLayer::new(plain()).classifier(not_yet);
    let response = layer.layer(service).oneshot(request(Method::GET)).await.unwrap();
    assert_eq!((response.status(), upstream.hits()), (StatusCode::OK, 3));
}
