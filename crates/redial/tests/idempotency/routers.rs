//! The server's layer around an axum router, as a whole and around one route.

use axum::{Extension, Router, body::Body, routing};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use redial::idempotency::{Execution, IdempotencyLayer, IdempotencyPolicy, MemoryStore};
use tower::ServiceExt;

async fn order(Extension(execution): Extension<Execution>, body: Bytes) -> (StatusCode, String) {
    (StatusCode::CREATED, format!("order {} of {} bytes", execution.token(), body.len()))
}

async fn answers(router: Router) -> Vec<(u16, bool, Bytes)> {
    let mut answers = Vec::new();
    for _ in 0..2 {
        let request = Request::post("/orders").header("idempotency-key", "\"k\"");
        let request = request.body(Body::from("one apple")).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let is_replayed = answer.headers().contains_key("idempotent-replayed");
        let status = answer.status().as_u16();
        answers.push((status, is_replayed, answer.into_body().collect().await.unwrap().to_bytes()));
    }
    answers
}

#[tokio::test]
async fn a_router_or_one_of_its_routes_is_served_once_a_key() {
    let policy = IdempotencyPolicy::default().require_key();
    let layer = || IdempotencyLayer::new(MemoryStore::default()).policy(policy.clone());
    let all = Router::new().route("/orders", routing::post(order)).layer(layer());
    let one = Router::new().route("/orders", routing::post(order).layer(layer()));
    for router in [all, one] {
        let [first, second] = answers(router.clone()).await.try_into().unwrap();
        assert_eq!((first.0, first.1), (201, false));
        assert_eq!((second.0, second.1, second.2), (201, true, first.2));
        let without = Request::post("/orders").body(Body::empty()).unwrap();
        assert_eq!(router.oneshot(without).await.unwrap().status(), 400);
    }
}
