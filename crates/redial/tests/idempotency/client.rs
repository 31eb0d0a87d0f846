//! What goes out, and which calls are repeated because of it.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use redial::{
    RetryLayers,
    core::{HedgePolicy, Policy},
    idempotency::{IdempotencyKey, IdempotencyKeyLayer, KeyDialect, Provider},
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const FIELD: HeaderName = HeaderName::from_static("idempotency-key");

/// Sends a request under `policy` to an upstream that takes a second, and answers so and so, attempt after
/// attempt, the last one for ever. Returns the keys that arrived, and the status of the answer.
async fn keys(
    layer: &IdempotencyKeyLayer,
    policy: Policy,
    request: Request<Full<Bytes>>,
    statuses: &[u16],
) -> (Vec<Option<HeaderValue>>, u16) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, statuses) = (Arc::clone(&seen), statuses.to_vec());
    let upstream = service_fn(move |request: Request<_>| {
        let mut noted = noted.lock().unwrap();
        let status = statuses[noted.len().min(statuses.len() - 1)];
        let headers: &http::HeaderMap = request.headers();
        let key = headers.get(FIELD).or_else(|| headers.get("cko-idempotency-key"));
        noted.push(key.cloned());
        // The upstream has no use for the body, whose type nothing else would tell.
        let _: Request<redial::ReplayBody<redial::ReplayBody<Full<Bytes>>>> = request;
        async move {
            tokio::time::sleep(SECOND).await;
            let answer = Response::builder().status(status);
            let answer = if status == 409 { answer.header("retry-after", "3") } else { answer };
            Ok::<_, redial::BoxError>(answer.body(Full::<Bytes>::default())?)
        }
    });
    let client =
        ServiceBuilder::new().layer(layer).layer(RetryLayers::new(policy)).service(upstream);
    let status = client.oneshot(request).await.unwrap().status().as_u16();
    let seen = seen.lock().unwrap().clone();
    (seen, status)
}

fn post() -> Request<Full<Bytes>> {
    Request::post("http://shop.example/orders").body(Full::from("one apple")).unwrap()
}

fn honored() -> IdempotencyKeyLayer {
    IdempotencyKeyLayer::new().honored_by(Provider::DRAFT)
}

fn hedging() -> Policy {
    let hedge = HedgePolicy::fixed(SECOND / 10);
    Policy { hedge: Some(hedge), ..Policy::default() }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_of_a_call_carries_the_same_key_and_every_call_another() {
    let (first, status) = keys(&honored(), Policy::default(), post(), &[503, 503, 200]).await;
    assert_eq!((first.len(), status), (3, 200));
    assert!(first.iter().all(|key| key.is_some() && *key == first[0]), "{first:?}");
    let key = first[0].as_ref().unwrap();
    assert!(key.to_str().unwrap().starts_with('"'), "as the draft has it");
    assert!(IdempotencyKey::read(key).is_ok());
    let (second, _) = keys(&honored(), Policy::default(), post(), &[200]).await;
    assert_ne!(second[0], first[0]);
}

#[tokio::test(start_paused = true)]
async fn every_hedge_carries_the_same_key() {
    let (copies, _) = keys(&honored(), hedging(), post(), &[200]).await;
    assert_eq!(copies.len(), 2);
    assert!(copies[0].is_some() && copies[0] == copies[1]);
}

#[tokio::test(start_paused = true)]
async fn a_generated_key_that_nobody_is_known_to_honor_makes_nothing_repeatable() {
    let layer = IdempotencyKeyLayer::new();
    let (seen, status) = keys(&layer, Policy::default(), post(), &[503, 200]).await;
    assert_eq!((seen.len(), status), (1, 503));
    assert!(seen[0].is_some(), "it is sent all the same");
    let (copies, _) = keys(&layer, hedging(), post(), &[200]).await;
    assert_eq!(copies.len(), 1);
    let declared = Policy { is_idempotent: true, ..Policy::default() };
    let (seen, status) = keys(&layer, declared, post(), &[503, 200]).await;
    assert_eq!((seen.len(), status), (2, 200), "the policy's word counts as ever");
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_key_goes_out_as_it_is_and_is_the_callers_word() {
    let mut request = post();
    request.headers_mut().insert(FIELD, HeaderValue::from_static("my key"));
    let (seen, status) =
        keys(&IdempotencyKeyLayer::new(), Policy::default(), request, &[503, 200]).await;
    assert_eq!(status, 200);
    let own = Some(HeaderValue::from_static("my key"));
    assert_eq!(seen, [own.clone(), own]);
}

#[tokio::test(start_paused = true)]
async fn a_request_in_progress_is_waited_for_with_the_same_key() {
    let began = tokio::time::Instant::now();
    let (seen, status) = keys(&honored(), Policy::default(), post(), &[409, 409, 201]).await;
    assert_eq!((seen.len(), status), (3, 201));
    assert!(SECOND * 9 <= began.elapsed(), "three times a second, and twice what it asked for");
    let (seen, status) = keys(&honored(), Policy::default(), post(), &[422, 201]).await;
    assert_eq!((seen.len(), status), (1, 422));
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_keeps_is_not_asked_for_again() {
    for (provider, status, attempts) in [
        (Provider::STRIPE_V1, 500, 1),
        (Provider::STRIPE_V1, 503, 2),
        (Provider::STRIPE_V2, 500, 2),
        (Provider::CHECKOUT_COM, 500, 2),
    ] {
        let layer = IdempotencyKeyLayer::new().honored_by(provider);
        let (seen, _) = keys(&layer, Policy::default(), post(), &[status, 201]).await;
        assert_eq!(seen.len(), attempts, "{} and {status}", provider.name);
        let key = seen[0].as_ref().unwrap().to_str().unwrap();
        assert!(!key.starts_with('"'), "{} expects it raw", provider.name);
    }
}

#[tokio::test]
async fn methods_field_and_dialect_are_the_callers_to_choose() {
    let echo =
        service_fn(
            |request: Request<()>| async move { Ok::<_, Infallible>(request.headers().clone()) },
        );
    let request = |method: Method| Request::builder().method(method).uri("/").body(()).unwrap();
    let service = IdempotencyKeyLayer::default().layer(echo);
    for (method, has_key) in [
        (Method::POST, true),
        (Method::PATCH, true),
        (Method::GET, false),
        (Method::PUT, false),
        (Method::DELETE, false),
    ] {
        let headers = service.clone().oneshot(request(method.clone())).await.unwrap();
        assert_eq!(headers.contains_key(FIELD), has_key, "{method}");
    }
    let field = HeaderName::from_static("x-request-key");
    let layer = IdempotencyKeyLayer::new()
        .methods([Method::PUT])
        .field(field.clone())
        .dialect(KeyDialect::Raw);
    let headers = layer.layer(echo).oneshot(request(Method::PUT)).await.unwrap();
    assert_eq!(headers.len(), 1);
    assert_eq!(headers[field].len(), 36);
}
