//! What clients of the server's layer get.

use std::{sync::atomic::Ordering, time::Duration};

use http::{Method, Request};
use http_body_util::Full;
use redial::{
    core::KeyOutcome,
    idempotency::{
        Idempotency, IdempotencyLayer, IdempotencyPolicy, MemoryStore, Outage, Remember,
    },
};
use tower::{Layer, ServiceExt};

use crate::shop::{Faulty, Shop, ask, post, told};

fn served(policy: IdempotencyPolicy) -> (Shop, Idempotency<Shop, MemoryStore>) {
    let shop = Shop::default();
    let layer = IdempotencyLayer::new(MemoryStore::default()).policy(policy);
    (shop.clone(), layer.layer(shop))
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_gets_the_answer_of_the_first_and_nothing_is_done_again() {
    let (shop, service) = served(IdempotencyPolicy::default());
    let first = ask(&service, post("/orders", "\"k\"")).await;
    assert_eq!((first.status, first.body.as_str()), (201, "order 1 of 9 bytes"));
    assert!(!first.is_replayed() && first.headers.contains_key("set-cookie"));
    // In quotes or without, it is the same key.
    for key in ["\"k\"", "k"] {
        let again = ask(&service, post("/orders", key)).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(again.headers["location"], "/1");
        assert!(again.is_replayed() && !again.headers.contains_key("set-cookie"));
    }
    assert_eq!(shop.begun(), 1);
    tokio::time::advance(Duration::from_secs(24 * 60 * 60 + 1)).await;
    assert_eq!(ask(&service, post("/orders", "k")).await.headers["location"], "/2");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_something_else_is_served_apart() {
    let (shop, service) = served(IdempotencyPolicy::default());
    let mut requests = ["/orders", "/refunds"].map(|path| post(path, "k")).to_vec();
    for secret in ["Bearer me", "Bearer you"] {
        let mut request = post("/orders", "k");
        request.headers_mut().insert("authorization", secret.parse().unwrap());
        requests.push(request);
    }
    let mut patch = post("/orders", "k");
    *patch.method_mut() = Method::PATCH;
    requests.push(patch);
    requests.push(post("/orders", "k2"));
    let expected = u32::try_from(requests.len()).unwrap();
    for request in requests {
        assert!(!ask(&service, request).await.is_replayed());
    }
    assert_eq!(shop.begun(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_principal_is_whoever_the_service_says() {
    let shop = Shop::default();
    let layer = IdempotencyLayer::new(MemoryStore::default())
        .principal(|head| head.headers.get("x-account").map_or(vec![], |v| v.as_bytes().to_vec()));
    let service = layer.layer(shop.clone());
    for (account, token, begun) in [("a", "1", 1), ("a", "2", 1), ("b", "2", 2)] {
        let mut request = post("/orders", "k");
        request.headers_mut().insert("x-account", account.parse().unwrap());
        request.headers_mut().insert("authorization", token.parse().unwrap());
        ask(&service, request).await;
        assert_eq!(shop.begun(), begun);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_another_payload_is_refused() {
    let (shop, service) = served(IdempotencyPolicy::default());
    ask(&service, post("/orders?a=1", "k")).await;
    let mut others = vec![post("/orders?a=2", "k"), post("/orders?a=1", "k")];
    *others[1].body_mut() = Full::from("two apples");
    let mut typed = post("/orders?a=1", "k");
    typed.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    others.push(typed);
    for other in others {
        let answer = ask(&service, other).await;
        assert_eq!((answer.status, answer.problem().as_str()), (422, "key-reused"));
        assert_eq!(answer.retry_after(), None);
    }
    assert_eq!(shop.begun(), 1);
    assert!(ask(&service, post("/orders?a=1", "k")).await.is_replayed());
}

#[tokio::test(start_paused = true)]
async fn keys_are_required_or_not_and_are_keys() {
    let keyless = |method: Method| {
        Request::builder().method(method).uri("/orders").body(Full::from("one apple")).unwrap()
    };
    let (shop, service) = served(IdempotencyPolicy::default());
    for _ in 0..2 {
        assert_eq!(ask(&service, keyless(Method::POST)).await.status, 201);
    }
    assert_eq!(shop.begun(), 2, "without a key nothing is a duplicate");
    let (shop, service) = served(IdempotencyPolicy::default().require_key());
    let answer = ask(&service, keyless(Method::POST)).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "key-missing"));
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        assert_eq!(ask(&service, keyless(method)).await.status, 201);
    }
    assert_eq!(shop.begun(), 3, "a key is for what is not idempotent");
    for malformed in ["\"a", "\"a\", \"b\"", &"k".repeat(256), "a\tb"] {
        let answer = ask(&service, post("/orders", malformed)).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "key-malformed"));
    }
    assert_eq!(ask(&service, post("/orders", "")).await.problem(), "key-missing");
    let mut twice = post("/orders", "a");
    twice.headers_mut().append("idempotency-key", "b".parse().unwrap());
    assert_eq!(ask(&service, twice).await.problem(), "key-malformed");
    assert_eq!(shop.begun(), 3);
}

#[tokio::test(start_paused = true)]
async fn answers_are_kept_as_the_policy_says_and_other_keys_are_free_again() {
    let table = [
        (Remember::Final, 500, true),
        (Remember::Final, 422, true),
        (Remember::Final, 503, false),
        (Remember::Final, 401, false),
        (Remember::Everything, 503, true),
        (Remember::Successes, 500, false),
        (Remember::Successes, 201, true),
    ];
    for (remember, status, is_kept) in table {
        let note = format!("{remember:?}, {status}");
        let (shop, service) = served(IdempotencyPolicy::default().remember(remember));
        let target = format!("/orders?status={status}");
        assert_eq!(ask(&service, post(&target, "k")).await.status, status);
        let again = ask(&service, post(&target, "k")).await;
        assert_eq!((again.status, again.is_replayed()), (status, is_kept), "{note}");
        assert_eq!(shop.begun(), if is_kept { 1 } else { 2 }, "{note}");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_are_bounded_on_both_ways() {
    let policy = IdempotencyPolicy::default().body_bytes_max(20).answer_bytes_max(100);
    let (shop, service) = served(policy);
    let mut long = post("/orders", "long");
    *long.body_mut() = Full::from("x".repeat(21));
    let answer = ask(&service, long).await;
    assert_eq!((answer.status, answer.problem().as_str()), (413, "body-too-large"));
    assert_eq!(shop.begun(), 0);

    let first = ask(&service, post("/orders?body=101", "k")).await;
    assert_eq!((first.status, first.body.len()), (201, 101), "the first gets all of it");
    let again = ask(&service, post("/orders?body=101", "k")).await;
    assert_eq!((again.status, again.problem().as_str()), (409, "not-replayable"));
    assert!(again.is_replayed() && again.retry_after().is_none());
    assert_eq!(again.headers["location"], "/1", "it tells where the result is");
    assert_eq!(shop.begun(), 1);
    let other = ask(&service, post("/orders?body=100", "k2")).await;
    assert_eq!(other.body.len(), 100);
    assert_eq!(ask(&service, post("/orders?body=100", "k2")).await.body, other.body);
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_free_the_key() {
    let (shop, service) = served(IdempotencyPolicy::default());
    let failed = service.clone().oneshot(post("/orders?fail", "k")).await;
    assert_eq!(failed.unwrap_err().to_string(), "as it was told to", "the service's own error");
    assert!(service.clone().oneshot(post("/orders?fail", "k")).await.is_err());
    assert_eq!(shop.begun(), 2);
    for begun in [3, 4] {
        let panics = tokio::spawn(service.clone().oneshot(post("/orders?panic", "p")));
        assert!(panics.await.unwrap_err().is_panic(), "the panic comes through");
        tokio::task::yield_now().await;
        assert_eq!(shop.begun(), begun);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_closes_or_opens_the_door_as_the_policy_says() {
    for (outage, is_hanging) in [
        (Outage::FailClosed, false),
        (Outage::FailClosed, true),
        (Outage::FailOpen, false),
        (Outage::FailOpen, true),
    ] {
        let (shop, store) = (Shop::default(), Faulty::new(MemoryStore::default()));
        let policy = IdempotencyPolicy::default().outage(outage);
        let (layer, outcomes) = told(IdempotencyLayer::new(store.clone()).policy(policy));
        let service = layer.layer(shop.clone());
        let broken = if is_hanging { &store.hangs } else { &store.is_down };
        broken.store(true, Ordering::SeqCst);
        let answer = ask(&service, post("/orders", "k")).await;
        if outage == Outage::FailClosed {
            assert_eq!((answer.status, answer.problem().as_str()), (503, "store-unavailable"));
            assert_eq!((answer.retry_after(), shop.begun()), (Some("1"), 0));
            assert_eq!(*outcomes.lock().unwrap(), [KeyOutcome::Refused]);
        } else {
            assert_eq!((answer.status, shop.begun()), (201, 1));
            assert_eq!(*outcomes.lock().unwrap(), [KeyOutcome::Unprotected]);
        }
        broken.store(false, Ordering::SeqCst);
        assert_eq!(ask(&service, post("/orders", "k")).await.status, 201);
        assert!(ask(&service, post("/orders", "k")).await.is_replayed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_carried_out_is_answered_even_if_it_cannot_be_stored() {
    let (shop, store) = (Shop::default(), Faulty::new(MemoryStore::default()));
    let (layer, outcomes) = told(IdempotencyLayer::new(store.clone()));
    let service = layer.layer(shop.clone());
    let ask_slow = ask(&service, post("/orders?after=1", "k"));
    let (answer, ()) = tokio::join!(ask_slow, async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        store.is_down.store(true, Ordering::SeqCst);
    });
    assert_eq!((answer.status, shop.ended()), (201, 1));
    assert_eq!(*outcomes.lock().unwrap(), [KeyOutcome::NotStored]);
}

#[tokio::test(start_paused = true)]
async fn everything_that_happens_to_a_key_is_told() {
    let (layer, outcomes) = told(IdempotencyLayer::new(MemoryStore::default()));
    let service = layer.layer(Shop::default());
    ask(&service, post("/orders", "k")).await;
    ask(&service, post("/orders", "k")).await;
    ask(&service, post("/orders?x", "k")).await;
    ask(&service, post("/orders", "\"")).await;
    ask(&service, post("/orders?status=503", "k2")).await;
    use KeyOutcome::{Executed, Mismatch, Released, Replayed, Unusable};
    assert_eq!(*outcomes.lock().unwrap(), [Executed, Replayed, Mismatch, Unusable, Released]);
}
