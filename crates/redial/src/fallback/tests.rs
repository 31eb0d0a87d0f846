use std::{
    future::{Ready, ready},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use redial_core::{FallbackErrors, Policy};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{PolicyCell, Rejection};

type Whole = Full<Bytes>;
type Outcome = Result<Response<Whole>, BoxError>;

fn answer(status: u16, text: &'static str) -> Outcome {
    Ok(Response::builder().status(status).body(Full::from(text))?)
}

fn refused() -> Outcome {
    Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
}

fn page() -> Arc<FallbackPolicy> {
    let policy = FallbackPolicy::default().with_header("Content-Type", "text/html");
    Arc::new(policy.and_then(|policy| policy.with_body("<p>Thank you</p>")).unwrap())
}

fn post(text: &'static str) -> Request<Whole> {
    Request::post("http://pay.example/charges").body(Full::from(text)).unwrap()
}

async fn text<B>(response: Response<B>) -> Bytes
where
    B: Body<Data = Bytes, Error: fmt::Debug>,
{
    response.into_body().collect().await.unwrap().to_bytes()
}

fn fell_back<B>(response: &Response<B>) -> Option<FellBack> {
    response.extensions().get().copied()
}

/// A service that answers every request with what `reply` says.
fn upstream<R>(
    reply: impl Fn() -> Outcome + Clone + Send + 'static,
) -> impl Service<R, Response = Response<Whole>, Error = BoxError, Future = Ready<Outcome>>
+ Clone
+ Send
+ 'static {
    service_fn(move |_: R| ready(reply()))
}

#[tokio::test]
async fn what_succeeds_and_what_is_not_meant_passes_untouched() {
    for status in [200, 301, 404, 429] {
        let service = FallbackLayer::new(page()).layer(upstream(move || answer(status, "own")));
        let response = service.oneshot(post("x")).await.unwrap();
        assert_eq!((response.status().as_u16(), fell_back(&response)), (status, None));
        assert_eq!(text(response).await, "own");
    }
    let only_statuses = FallbackPolicy::default().with_trigger_words(["5xx"]).unwrap();
    let service = FallbackLayer::new(Arc::new(only_statuses)).layer(upstream(refused));
    let error = service.oneshot(post("x")).await.unwrap_err();
    assert!(error.is::<io::Error>(), "the upstream's own error");
}

#[tokio::test]
async fn when_the_payment_fails_the_order_still_gets_its_confirmation_page() {
    let failures: [(fn() -> Outcome, FellBack); 3] = [
        (
            || answer(503, "down"),
            FellBack { status: Some(StatusCode::SERVICE_UNAVAILABLE), fault: None },
        ),
        (refused, FellBack { status: None, fault: Some(Fault::ConnectionRefused) }),
        (
            || Err(Rejection::BreakerOpen { retry_after: None }.into()),
            FellBack { status: None, fault: Some(Fault::Rejected) },
        ),
    ];
    for (failure, expected) in failures {
        let service = FallbackLayer::new(page()).layer(upstream(failure));
        let response = service.oneshot(post("x")).await.unwrap();
        assert_eq!((response.status().as_u16(), fell_back(&response)), (200, Some(expected)));
        assert_eq!(response.headers()["content-type"], "text/html");
        assert_eq!(response.headers()["content-length"], "16");
        assert_eq!(text(response).await, "<p>Thank you</p>");
    }
}

#[tokio::test]
async fn the_failure_is_told_and_success_is_not() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let layer = FallbackLayer::new(page()).observe(move |call: &Call<'_>, event: &Event| {
        telling.lock().unwrap().push((call.uri.path().to_owned(), *event));
    });
    layer.layer(upstream(|| answer(200, ""))).oneshot(post("x")).await.unwrap();
    assert!(told.lock().unwrap().is_empty());
    layer.layer(upstream(|| answer(502, ""))).oneshot(post("x")).await.unwrap();
    layer.layer(upstream(refused)).oneshot(post("x")).await.unwrap();
    let path = "/charges".to_owned();
    let fault = Some(Fault::ConnectionRefused);
    assert_eq!(
        *told.lock().unwrap(),
        [
            (path.clone(), Event::FellBack { status: Some(502), fault: None }),
            (path, Event::FellBack { status: None, fault })
        ]
    );
}

#[tokio::test]
async fn a_head_request_gets_no_body_and_a_204_no_length() {
    let service = FallbackLayer::new(page()).layer(upstream(refused));
    let request = Request::head("http://pay.example/").body(Whole::default()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-length"], "16");
    assert_eq!(text(response).await, "");

    let empty = Arc::new(FallbackPolicy::default().with_status(204).unwrap());
    let response =
        FallbackLayer::new(empty).layer(upstream(refused)).oneshot(post("x")).await.unwrap();
    assert!(!response.headers().contains_key("content-length"));
}

#[tokio::test]
async fn without_a_policy_every_form_changes_nothing() {
    let layer = FallbackLayer::new(None);
    assert!(layer.layer(upstream(refused)).oneshot(post("x")).await.is_err());
    let layer =
        FallbackLayer::function(None, |_, outcome: Outcome| async { Instead::Unchanged(outcome) });
    assert!(layer.layer(upstream(refused)).oneshot(post("x")).await.is_err());
    let layer = FallbackLayer::service(None, upstream(|| answer(200, "other")), 1_024);
    assert!(layer.layer(upstream(refused)).oneshot(post("x")).await.is_err());
}

#[tokio::test]
async fn a_policy_can_be_switched_and_a_request_may_bring_its_own() {
    let cell = PolicyCell::new(Policy::default());
    let service = FallbackLayer::new(cell.clone()).layer(upstream(refused));
    assert!(service.clone().oneshot(post("x")).await.is_err());
    cell.switch(Policy { fallback: Some(page()), ..Policy::default() });
    assert!(service.clone().oneshot(post("x")).await.is_ok());
    let mut request = post("x");
    request.extensions_mut().insert(Arc::new(Policy::default()));
    assert!(service.oneshot(request).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_function_sees_the_request_and_the_failure_and_takes_its_time() {
    let layer = FallbackLayer::function(page(), |head: Parts, outcome: Outcome| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let status = outcome.as_ref().map_or(0, |response| response.status().as_u16());
        match status {
            503 => Instead::Answer(Response::new(format!("{} {status}", head.uri.path()).into())),
            _ => Instead::Unchanged(outcome),
        }
    });
    let answered = layer.layer(upstream(|| answer(503, "down"))).oneshot(post("x")).await.unwrap();
    assert!(fell_back(&answered).is_some());
    assert_eq!(text(answered).await, "/charges 503");

    let kept = layer.layer(upstream(|| answer(500, "bug"))).oneshot(post("x")).await.unwrap();
    assert_eq!((kept.status().as_u16(), fell_back(&kept)), (500, None));
    assert_eq!(text(kept).await, "bug");
    let error = layer.layer(upstream(refused)).oneshot(post("x")).await.unwrap_err();
    assert!(error.is::<io::Error>());
    let fine = layer.layer(upstream(|| answer(200, "fine"))).oneshot(post("x")).await.unwrap();
    assert_eq!(text(fine).await, "fine");
}

/// Reads a request's body and sends it back.
fn echo<R>()
-> impl Service<Request<ReplayBody<R>>, Response = Response<Whole>, Error = BoxError, Future: Send>
+ Clone
+ Send
where
    R: Body<Error: Into<BoxError>> + Unpin + Send + 'static,
{
    service_fn(|request: Request<ReplayBody<R>>| async move {
        let bytes = request.into_body().collect().await?.to_bytes();
        Ok(Response::new(Full::from(bytes)))
    })
}

/// Reads a request's body and fails.
async fn read_and_fail(request: Request<ReplayBody<Whole>>) -> Outcome {
    request.into_body().collect().await?;
    answer(503, "down")
}

#[tokio::test]
async fn another_service_gets_the_same_request_again() {
    let layer = FallbackLayer::service(page(), echo(), 1_024);
    let service = layer.layer(service_fn(read_and_fail));
    let response = service.oneshot(post("the order")).await.unwrap();
    assert_eq!(response.status(), 200);
    let down = Some(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(fell_back(&response), Some(FellBack { status: down, fault: None }));
    assert_eq!(text(response).await, "the order");
}

#[tokio::test]
async fn a_body_that_was_not_kept_cannot_be_sent_again_and_the_failure_goes_out() {
    let layer = FallbackLayer::service(page(), echo(), 4);
    let service = layer.layer(service_fn(read_and_fail));
    let response = service.oneshot(post("the order")).await.unwrap();
    assert_eq!((response.status().as_u16(), fell_back(&response)), (503, None));
    assert_eq!(text(response).await, "down");
}

#[tokio::test]
async fn when_the_other_service_fails_too_the_first_failure_goes_out() {
    for second in [refused as fn() -> Outcome, || answer(500, "second")] {
        let layer = FallbackLayer::service(page(), upstream(second), 1_024);
        let service = layer.layer(service_fn(read_and_fail));
        let response = service.oneshot(post("x")).await.unwrap();
        assert_eq!((response.status().as_u16(), fell_back(&response)), (503, None));
        assert_eq!(text(response).await, "down");
    }
}

#[tokio::test]
async fn the_other_service_is_asked_only_once_it_is_ready_and_only_on_failure() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let other = service_fn(move |_: Request<ReplayBody<Whole>>| {
        counted.fetch_add(1, Ordering::Relaxed);
        ready(answer(200, "other"))
    });
    let other = tower::limit::ConcurrencyLimit::new(other, 1);
    let layer = FallbackLayer::service(page(), other, 1_024);
    layer.layer(upstream(|| answer(200, "own"))).oneshot(post("x")).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    let service = layer.layer(upstream(refused));
    let (a, b) = tokio::join!(service.clone().oneshot(post("x")), service.oneshot(post("x")));
    assert_eq!((text(a.unwrap()).await, text(b.unwrap()).await), ("other".into(), "other".into()));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn refusals_can_be_the_only_failures_that_are_answered() {
    let policy = FallbackPolicy::default()
        .with_triggers(redial_core::StatusSet::EMPTY, FallbackErrors::Refusals)
        .unwrap();
    let layer = FallbackLayer::new(Arc::new(policy));
    let late = || Err(Rejection::DeadlineExceeded { after: Duration::from_secs(1) }.into());
    assert!(layer.layer(upstream(late)).oneshot(post("x")).await.is_ok());
    assert!(layer.layer(upstream(refused)).oneshot(post("x")).await.is_err());
    let status = layer.layer(upstream(|| answer(503, ""))).oneshot(post("x")).await.unwrap();
    assert_eq!(status.status(), 503);
}
