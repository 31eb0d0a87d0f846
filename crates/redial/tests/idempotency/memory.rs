//! The store in memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use redial::{
    core::{FencingToken, Fingerprint},
    idempotency::{Claim, IdempotencyStore, MemoryStore, RecordKey, StoredAnswer},
};

use crate::store_contract::store_contract;

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_keeps_the_contract() {
    store_contract(MemoryStore::default(), tokio::time::advance).await;
}

#[tokio::test]
async fn a_clock_of_ones_own_keeps_the_contract() {
    let millis = Arc::new(AtomicU64::new(1_790_000_000_000));
    let clock = Arc::clone(&millis);
    let now = move || Duration::from_millis(clock.load(Ordering::SeqCst));
    let store = MemoryStore::with_clock(1_000, 1 << 24, now);
    let wait = async |span: Duration| {
        millis.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    };
    store_contract(store, wait).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_store_forgets_the_oldest_answer_first_and_never_what_is_in_progress() {
    let store = MemoryStore::new(3, 1 << 20);
    let open = begin(&store, "open").await.unwrap();
    complete(&store, "old", 10).await;
    complete(&store, "young", 10).await;
    complete(&store, "new", 10).await;
    assert_eq!(store.len(), 3);
    assert!(matches!(claim(&store, "young").await, Ok(Claim::Completed(_))));
    assert!(store.renew(&key("open"), open, MINUTE).await.unwrap());
    assert!(begin(&store, "old").await.is_some(), "forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_store_full_of_what_is_in_progress_refuses_until_a_lease_is_over() {
    let store = MemoryStore::new(2, 1 << 20);
    begin(&store, "a").await.unwrap();
    begin(&store, "b").await.unwrap();
    let error = claim(&store, "c").await.unwrap_err();
    assert_eq!(error.to_string(), "the idempotency store (memory) failed");
    assert!(matches!(claim(&store, "a").await, Ok(Claim::InProgress { .. })));
    tokio::time::advance(MINUTE * 2).await;
    assert!(begin(&store, "c").await.is_some());
    assert_eq!(store.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_and_a_body_that_does_not_fit_is_left_out() {
    let store = MemoryStore::new(1_000, 64 * 1024);
    for number in 0..100 {
        complete(&store, &format!("key-{number}"), 4 * 1024).await;
    }
    assert!((10..16).contains(&store.len()), "{}", store.len());
    let before = store.len();
    let token = begin(&store, "huge").await.unwrap();
    assert!(store.complete(&key("huge"), token, &answer(64 * 1024), MINUTE).await.unwrap());
    match claim(&store, "huge").await.unwrap() {
        Claim::Completed(answer) => assert_eq!(answer.body, None),
        claim => panic!("{claim:?}"),
    }
    assert!(before <= store.len(), "nobody had to go for what would not fit in any case");
}

#[tokio::test(start_paused = true)]
async fn answers_whose_time_is_over_are_swept_as_others_come() {
    let store = MemoryStore::default();
    for number in 0..40 {
        complete(&store, &format!("key-{number}"), 10).await;
    }
    tokio::time::advance(MINUTE * 2).await;
    for number in 0..5 {
        begin(&store, &format!("later-{number}")).await.unwrap();
    }
    assert_eq!(store.len(), 5);
    assert!(!store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn tokens_grow_while_time_stands_still() {
    let store = MemoryStore::default();
    let mut last = None;
    for _ in 0..100 {
        let token = begin(&store, "k").await;
        assert!(last < token, "{last:?} and {token:?}");
        last = token;
        assert!(store.release(&key("k"), token.unwrap()).await.unwrap());
    }
}

async fn claim(store: &MemoryStore, name: &str) -> Result<Claim, redial::idempotency::StoreError> {
    store.begin(&key(name), Fingerprint::new([1; 32]), MINUTE).await
}

async fn begin(store: &MemoryStore, name: &str) -> Option<FencingToken> {
    match claim(store, name).await.unwrap() {
        Claim::Started(token) => Some(token),
        _ => None,
    }
}

async fn complete(store: &MemoryStore, name: &str, length: usize) {
    let token = begin(store, name).await.unwrap();
    assert!(store.complete(&key(name), token, &answer(length), MINUTE).await.unwrap());
}

fn answer(length: usize) -> StoredAnswer {
    let body = Some(Bytes::from(vec![b'x'; length]));
    StoredAnswer { status: StatusCode::OK, headers: HeaderMap::new(), body }
}

fn key(name: &str) -> RecordKey {
    RecordKey::new(name).unwrap()
}

const MINUTE: Duration = Duration::from_secs(60);
