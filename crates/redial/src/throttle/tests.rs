use std::{
    future::ready,
    sync::{
        Mutex,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use redial_core::{Health, Policy};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{BoxError, PolicyCell, RetryLayer};

const SECOND: Duration = Duration::from_secs(1);

/// An upstream that answers with a status, or with none, and counts.
#[derive(Clone, Default)]
struct Upstream {
    status: Arc<AtomicU16>,
    calls: Arc<AtomicU32>,
}

impl Upstream {
    fn answering(status: u16) -> Self {
        let upstream = Self::default();
        upstream.answer(status);
        upstream
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn service<B>(
        &self,
    ) -> impl Service<Request<B>, Response = Response<String>, Error = BoxError, Future: Send>
    + Clone
    + use<B> {
        let upstream = self.clone();
        service_fn(move |_: Request<B>| {
            upstream.calls.fetch_add(1, Ordering::Relaxed);
            ready(match upstream.status.load(Ordering::Relaxed) {
                0 => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()),
                status => {
                    let mut response = Response::new(String::new());
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    Ok(response)
                }
            })
        })
    }
}

fn request() -> Request<()> {
    Request::get("http://shop.example/a").body(()).unwrap()
}

fn shop() -> Authority {
    Authority::from_static("shop.example")
}

fn is_throttled(outcome: &Result<Response<String>, BoxError>) -> bool {
    let rejection = outcome.as_ref().err().and_then(|error| error.downcast_ref::<Rejection>());
    rejection == Some(&Rejection::Throttled)
}

/// Makes `calls` calls, ten a second; returns how many were refused.
async fn refused<S>(service: &S, calls: u32) -> u32
where
    S: Service<Request<()>, Response = Response<String>, Error = BoxError> + Clone,
{
    let mut refused = 0;
    for _ in 0..calls {
        tokio::time::advance(SECOND / 10).await;
        refused += u32::from(is_throttled(&service.clone().oneshot(request()).await));
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_refuses_is_spared_and_found_to_be_well_again() {
    let upstream = Upstream::answering(200);
    let layer = ThrottleLayer::new(ThrottlePolicy::default()).seed(7);
    let service = layer.layer(upstream.service());
    assert_eq!(refused(&service, 600).await, 0);
    upstream.answer(503);
    assert!((2_300..2_800).contains(&refused(&service, 3_000).await), "of 3,000 in five minutes");
    upstream.answer(200);
    // The promise is 15 s to 99 %: of the 150 calls in them some are refused, and hardly any after.
    let during = refused(&service, 150).await;
    assert!((1..100).contains(&during), "{during}");
    let after = refused(&service, 600).await;
    assert!(after <= 6, "{after}");
}

#[tokio::test(start_paused = true)]
async fn as_the_book_has_it_most_calls_are_refused_for_minutes_after() {
    let upstream = Upstream::answering(503);
    let service = ThrottleLayer::new(ThrottlePolicy::book()).seed(7).layer(upstream.service());
    refused(&service, 3_000).await;
    upstream.answer(200);
    assert!(1_400 < refused(&service, 1_500).await, "of 1,500 in two and a half minutes");
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_everything_goes_and_nothing_is_counted() {
    let upstream = Upstream::answering(503);
    let layer = ThrottleLayer::new(None);
    assert_eq!(refused(&layer.layer(upstream.service()), 300).await, 0);
    assert!(layer.shared.throttles.is_empty());
}

#[tokio::test(start_paused = true)]
async fn errors_of_an_upstream_at_work_are_no_refusals_and_no_answer_is_one() {
    let strict = || ThrottleLayer::new(ThrottlePolicy::default()).seed(7);
    for (status, is_refusal) in
        [(200, false), (404, false), (500, false), (501, false), (429, true), (502, true)]
            .into_iter()
            .chain([(503, true), (504, true), (0, true)])
    {
        let service = strict().layer(Upstream::answering(status).service());
        assert_eq!(0 < refused(&service, 300).await, is_refusal, "{status}");
    }
    let by_health = strict().assess(HttpAssess).layer(Upstream::answering(500).service());
    assert!(0 < refused(&by_health, 300).await, "unless every failure is to count");
    let told = strict().assess(|_: &Result<Response<String>, BoxError>| Health::Unknown.into());
    assert_eq!(refused(&told.layer(Upstream::answering(503).service()), 300).await, 0);
}

#[tokio::test(start_paused = true)]
async fn our_own_refusals_below_tell_nothing() {
    let below = service_fn(|_: Request<()>| {
        let rejection = Rejection::RateLimited { retry_after: SECOND };
        ready(Err::<Response<String>, BoxError>(rejection.into()))
    });
    let layer = ThrottleLayer::new(ThrottlePolicy::default());
    let service = layer.layer(below);
    assert_eq!(refused(&service, 300).await, 0);
    assert!(layer.shared.throttles.find(&shop()).unwrap().is_quiet());
}

#[tokio::test(start_paused = true)]
async fn clients_that_are_given_the_same_throttles_learn_from_each_other() {
    let throttles = Throttles::default();
    let policy = ThrottlePolicy::default();
    let [one, two] = [(), ()].map(|()| {
        let layer = ThrottleLayer::new(policy).throttles(throttles.clone()).seed(7);
        layer.layer(Upstream::answering(503).service())
    });
    refused(&one, 300).await;
    assert!(20 < refused(&two, 50).await);
    assert_eq!(format!("{throttles:?}"), "Throttles { len: 1 }");
    let known = throttles.find(&shop()).unwrap();
    assert!(0.7 < known.refusal(&policy, clock::now()));
    assert!(SECOND < known.predicted_recovery(&policy, clock::now()));
    assert_eq!(throttles.all().len(), 1);
    let other = Request::get("http://other.example/").body(()).unwrap();
    assert!(!is_throttled(&two.clone().oneshot(other).await), "origins stand for themselves");
}

#[tokio::test(start_paused = true)]
async fn policies_that_differ_in_their_ratio_count_together() {
    let with = |ratio: f64| {
        let throttle = Some(ThrottlePolicy::default().ratio(ratio).unwrap());
        Policy { throttle, ..Policy::default() }
    };
    let cell = PolicyCell::new(with(2.0));
    let layer = ThrottleLayer::new(cell.clone()).seed(7);
    let service = layer.layer(Upstream::answering(503).service());
    refused(&service, 300).await;
    cell.switch(with(1.5));
    assert!(20 < refused(&service, 50).await);
    assert_eq!(layer.shared.throttles.len(), 1);
    cell.switch(Policy::default());
    assert_eq!(refused(&service, 50).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_dropped_is_not_counted() {
    let silent =
        service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, BoxError>>());
    let layer = ThrottleLayer::new(ThrottlePolicy::default());
    let service = layer.layer(silent);
    for _ in 0..100 {
        let attempt = service.clone().oneshot(request());
        assert!(tokio::time::timeout(SECOND, attempt).await.is_err());
    }
    let known = layer.shared.throttles.find(&shop()).unwrap();
    assert_eq!(known.refusal(&ThrottlePolicy::default(), clock::now()).to_bits(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_of_a_call_is_counted_and_a_refusal_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&told);
    let observe = move |call: &Call<'_>, event: &Event| {
        note.lock().unwrap().push((call.method.clone(), *event));
    };
    let upstream = Upstream::answering(503);
    let layer = ThrottleLayer::new(ThrottlePolicy::default()).seed(1).observe(observe);
    let client = RetryLayer::new(Policy::default()).layer(layer.layer(upstream.service()));
    for _ in 0..50 {
        let request = Request::get("http://shop.example/a").body(String::new()).unwrap();
        let _ = client.clone().oneshot(request).await;
    }
    let sent = upstream.calls.load(Ordering::Relaxed);
    let told = told.lock().unwrap();
    let expected = (http::Method::GET, Event::Refused { by: "throttled" });
    assert!(!told.is_empty() && told.iter().all(|entry| *entry == expected));
    let known = layer.shared.throttles.find(&shop()).unwrap();
    let sent = f64::from(sent);
    let share = known.refusal(&ThrottlePolicy::default(), clock::now());
    assert!(share <= sent / (sent + 8.0), "{share}, {sent}");
    assert!(0.0 < share);
}
