//! Duplicates while the first is carried out, holders that go silent, and callers that go away.

use std::{sync::atomic::Ordering, time::Duration};

use redial::{
    core::KeyOutcome,
    idempotency::{Abandoned, IdempotencyLayer, IdempotencyPolicy, MemoryStore},
};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer, ServiceExt};

use crate::shop::{Faulty, Shop, ask, post, told};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_duplicate_waits_for_the_first_within_its_bound() {
    let shop = Shop::default();
    let service = IdempotencyLayer::new(MemoryStore::default()).layer(shop.clone());
    let began = Instant::now();
    let duplicate = async {
        sleep(SECOND / 10).await;
        let answer = ask(&service, post("/orders?after=1", "k")).await;
        assert!(began.elapsed() < SECOND + SECOND / 100, "woken at once, not polling");
        answer
    };
    let (first, second) = tokio::join!(ask(&service, post("/orders?after=1", "k")), duplicate);
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    assert!(second.is_replayed());
    assert_eq!(shop.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_in_another_process_polls_and_finds_the_answer() {
    let (shop, store) = (Shop::default(), MemoryStore::default());
    let here = IdempotencyLayer::new(store.clone()).layer(shop.clone());
    let there = IdempotencyLayer::new(store).layer(shop.clone());
    let duplicate = async {
        sleep(SECOND / 10).await;
        ask(&there, post("/orders?after=1", "k")).await
    };
    let (first, second) = tokio::join!(ask(&here, post("/orders?after=1", "k")), duplicate);
    assert_eq!((second.is_replayed(), &second.body), (true, &first.body));
    assert_eq!(shop.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_bound_it_gets_409_and_what_is_left_of_the_lease() {
    let shop = Shop::default();
    let service = IdempotencyLayer::new(MemoryStore::default()).layer(shop.clone());
    let began = Instant::now();
    let duplicate = async {
        sleep(SECOND / 2).await;
        let answer = ask(&service, post("/orders?after=60", "k")).await;
        assert!(began.elapsed() < SECOND * 3);
        assert_eq!((answer.status, answer.problem().as_str()), (409, "in-progress"));
        // 30 s from the beginning, and it began 2.5 s ago.
        assert_eq!(answer.retry_after(), Some("28"));
        // A lease that is renewed does not run out while the first works on.
        sleep(SECOND * 50).await;
        assert_eq!(ask(&service, post("/orders?after=60", "k")).await.status, 409);
    };
    let (first, ()) = tokio::join!(ask(&service, post("/orders?after=60", "k")), duplicate);
    assert_eq!((first.status, shop.begun()), (201, 1));
    assert!(ask(&service, post("/orders?after=60", "k")).await.is_replayed());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_crashed_is_followed_once_when_its_lease_is_over() {
    let (shop, store) = (Shop::default(), MemoryStore::default());
    // What a process that was killed leaves behind: a lease, and nobody who renews it.
    let policy = IdempotencyPolicy::default().abandoned(Abandoned::Cancel);
    let faulty = Faulty::new(store.clone());
    let crashed = IdempotencyLayer::new(faulty.clone()).policy(policy).layer(shop.clone());
    let killed = timeout(SECOND, crashed.oneshot(post("/orders?after=9", "k"))).await;
    assert!(killed.is_err());
    faulty.is_down.store(true, Ordering::SeqCst);
    tokio::task::yield_now().await;

    let service = IdempotencyLayer::new(store).layer(shop.clone());
    let early = ask(&service, post("/orders?after=9", "k")).await;
    assert_eq!((early.status, early.retry_after()), (409, Some("27")));
    advance(SECOND * 27).await;
    let (a, b) = tokio::join!(
        ask(&service, post("/orders?after=9", "k")),
        ask(&service, post("/orders?after=9", "k"))
    );
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!((statuses, shop.begun(), shop.ended()), ([201, 409], 2, 1));
    let tokens = shop.tokens();
    assert!(tokens[0] < tokens[1]);
}

#[tokio::test(start_paused = true)]
async fn who_lost_the_lease_cannot_store_its_answer_and_does_not_give_it_either() {
    let (shop, store) = (Shop::default(), MemoryStore::default());
    let cut_off = Faulty::new(store.clone());
    let (layer, outcomes) = told(IdempotencyLayer::new(cut_off.clone()));
    let (here, there) =
        (layer.layer(shop.clone()), IdempotencyLayer::new(store).layer(shop.clone()));
    let first = ask(&here, post("/orders?after=50", "k"));
    let (first, second) = tokio::join!(first, async {
        sleep(SECOND).await;
        cut_off.is_down.store(true, Ordering::SeqCst);
        sleep(SECOND * 30).await;
        cut_off.is_down.store(false, Ordering::SeqCst);
        ask(&there, post("/orders?after=50", "k")).await
    });
    assert_eq!((first.status, first.problem().as_str()), (409, "lease-lost"));
    assert_eq!(first.retry_after(), Some("1"));
    assert_eq!(second.status, 201);
    assert_eq!(*outcomes.lock().unwrap(), [KeyOutcome::LeaseLost]);
    let executions = shop.executions.lock().unwrap().clone();
    assert!(executions[0].token() < executions[1].token(), "its writes can be refused");
    assert!(!executions[0].is_held() && executions[1].is_held());
    let again = ask(&here, post("/orders?after=50", "k")).await;
    assert_eq!((again.is_replayed(), &again.body), (true, &second.body));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_runs_on_and_its_answer_is_kept() {
    let shop = Shop::default();
    let service = IdempotencyLayer::new(MemoryStore::default()).layer(shop.clone());
    let gone = timeout(SECOND, service.clone().oneshot(post("/orders?after=45", "k"))).await;
    assert!(gone.is_err());
    sleep(SECOND * 40).await;
    assert_eq!(ask(&service, post("/orders?after=45", "k")).await.status, 409, "renewed still");
    sleep(SECOND * 10).await;
    assert_eq!((shop.begun(), shop.ended()), (1, 1));
    assert!(ask(&service, post("/orders?after=45", "k")).await.is_replayed());
}

#[tokio::test(start_paused = true)]
async fn where_the_policy_says_so_it_is_cancelled_and_the_key_is_free() {
    let shop = Shop::default();
    let policy = IdempotencyPolicy::default().abandoned(Abandoned::Cancel);
    let layer = IdempotencyLayer::new(MemoryStore::default()).policy(policy);
    let service = layer.layer(shop.clone());
    let gone = timeout(SECOND, service.clone().oneshot(post("/orders?after=9", "k"))).await;
    assert!(gone.is_err());
    sleep(SECOND * 10).await;
    assert_eq!((shop.begun(), shop.ended()), (1, 0));
    let answer = ask(&service, post("/orders?after=9", "k")).await;
    assert_eq!((answer.status, shop.begun(), shop.ended()), (201, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stored_its_answer_itself_is_believed() {
    let (shop, store) = (Shop::default(), MemoryStore::default());
    let service = IdempotencyLayer::new(store.clone()).layer(shop.clone());
    let first = ask(&service, post("/orders?done", "k")).await;
    assert_eq!(first.status, 201);
    // Nothing was stored in fact, so the layer has not done it: the key is still held.
    let second = ask(&service, post("/orders?done", "k")).await;
    assert_eq!(second.problem(), "in-progress");
    let execution = shop.executions.lock().unwrap()[0].clone();
    assert_eq!(execution.client_key().as_str(), "k");
    assert_eq!(execution.key().as_str().len(), 64);
    assert!(execution.is_held());
}
