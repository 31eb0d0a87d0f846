//! What every store keeps, said once and run on each.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use redial::idempotency::{Claim, IdempotencyStore, RecordKey, StoredAnswer};
use redial_core::{FencingToken, Fingerprint};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    servers::{KEEP, LEASE, answer, key, mysql, pass, payload, postgres, redis, sqlite},
    store_contract::store_contract,
};

/// Runs each of these on each store.
macro_rules! on_every_store {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_redis() {
                super::$name(redis()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_mariadb() {
                super::$name(mysql().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_postgresql() {
                super::$name(postgres().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_sqlite() {
                let (store, _folder) = sqlite().await;
                super::$name(store).await;
            }
        }
    )*};
}

on_every_store! {
    what_the_layer_relies_on
    duplicates_wait_and_then_get_the_answer
    a_key_used_for_another_payload_is_a_mismatch_before_and_after
    a_lease_that_is_over_is_taken_over_and_the_first_holder_is_too_late
    a_renewed_lease_is_not_taken_over
    a_late_holder_may_still_complete_if_nobody_took_over
    a_released_key_is_free_at_once_and_the_next_token_is_higher
    what_is_completed_is_held_by_nobody
    an_answer_is_forgotten_after_its_time
    an_answer_comes_back_byte_for_byte
    a_megabyte_of_body_comes_back_whole
    an_answer_without_a_body_stays_without_one
    keys_that_differ_only_in_case_are_different
    the_longest_key_is_kept
    strangers_can_do_nothing
    of_a_hundred_that_begin_at_once_one_starts
    of_a_hundred_duplicates_one_is_carried_out_and_all_get_its_answer
    of_a_hundred_that_take_over_at_once_one_starts
}

/// What the store in memory keeps as well.
async fn what_the_layer_relies_on(store: impl IdempotencyStore) {
    store_contract(store, tokio::time::sleep).await;
}

async fn start(store: &impl IdempotencyStore, key: &RecordKey, lease: Duration) -> FencingToken {
    match store.begin(key, payload(1), lease).await.unwrap() {
        Claim::Started(token) => token,
        other => panic!("{other:?}"),
    }
}

async fn duplicates_wait_and_then_get_the_answer(store: impl IdempotencyStore) {
    let key = key("duplicates");
    let token = start(&store, &key, LEASE).await;
    match store.begin(&key, payload(1), LEASE).await.unwrap() {
        Claim::InProgress { left } => assert!(Duration::from_secs(20) < left && left <= LEASE),
        other => panic!("{other:?}"),
    }
    let created = answer(201, b"order 17");
    assert!(store.complete(&key, token, &created, KEEP).await.unwrap());
    for _ in 0..2 {
        let claim = store.begin(&key, payload(1), LEASE).await.unwrap();
        assert_eq!(claim, Claim::Completed(created.clone()));
    }
}

async fn a_key_used_for_another_payload_is_a_mismatch_before_and_after(
    store: impl IdempotencyStore,
) {
    let key = key("mismatch");
    let token = start(&store, &key, LEASE).await;
    assert_eq!(store.begin(&key, payload(2), LEASE).await.unwrap(), Claim::Mismatch);
    assert!(store.complete(&key, token, &answer(200, b""), KEEP).await.unwrap());
    assert_eq!(store.begin(&key, payload(2), LEASE).await.unwrap(), Claim::Mismatch);
}

async fn a_lease_that_is_over_is_taken_over_and_the_first_holder_is_too_late(
    store: impl IdempotencyStore,
) {
    let key = key("taken-over");
    let first = start(&store, &key, SHORT).await;
    pass(SHORT * 2).await;
    // Even with another payload: the first one came to nothing.
    let Claim::Started(second) = store.begin(&key, payload(2), LEASE).await.unwrap() else {
        panic!("the lease is over");
    };
    assert!(first < second);
    assert!(!store.renew(&key, first, LEASE).await.unwrap());
    assert!(!store.release(&key, first).await.unwrap());
    assert!(!store.complete(&key, first, &answer(200, b"first"), KEEP).await.unwrap());
    assert!(store.complete(&key, second, &answer(200, b"second"), KEEP).await.unwrap());
    assert!(!store.complete(&key, first, &answer(200, b"first"), KEEP).await.unwrap());
    let claim = store.begin(&key, payload(2), LEASE).await.unwrap();
    assert_eq!(claim, Claim::Completed(answer(200, b"second")));
}

async fn a_renewed_lease_is_not_taken_over(store: impl IdempotencyStore) {
    let key = key("renewed");
    let token = start(&store, &key, SHORT).await;
    assert!(store.renew(&key, token, LEASE).await.unwrap());
    pass(SHORT * 2).await;
    let claim = store.begin(&key, payload(1), LEASE).await.unwrap();
    assert!(matches!(claim, Claim::InProgress { left } if SHORT < left), "{claim:?}");
}

async fn a_late_holder_may_still_complete_if_nobody_took_over(store: impl IdempotencyStore) {
    let key = key("late");
    let token = start(&store, &key, SHORT).await;
    pass(SHORT * 2).await;
    assert!(store.complete(&key, token, &answer(200, b"late"), KEEP).await.unwrap());
    let claim = store.begin(&key, payload(1), LEASE).await.unwrap();
    assert_eq!(claim, Claim::Completed(answer(200, b"late")));
}

async fn a_released_key_is_free_at_once_and_the_next_token_is_higher(store: impl IdempotencyStore) {
    let key = key("released");
    let mut last = start(&store, &key, LEASE).await;
    for _ in 0..5 {
        assert!(store.release(&key, last).await.unwrap());
        assert!(!store.release(&key, last).await.unwrap());
        assert!(!store.complete(&key, last, &answer(200, b""), KEEP).await.unwrap());
        let next = start(&store, &key, LEASE).await;
        assert!(last < next);
        last = next;
    }
}

async fn what_is_completed_is_held_by_nobody(store: impl IdempotencyStore) {
    let key = key("completed");
    let token = start(&store, &key, LEASE).await;
    assert!(store.complete(&key, token, &answer(200, b"once"), KEEP).await.unwrap());
    assert!(!store.complete(&key, token, &answer(200, b"twice"), KEEP).await.unwrap());
    assert!(!store.renew(&key, token, LEASE).await.unwrap());
    assert!(!store.release(&key, token).await.unwrap());
    let claim = store.begin(&key, payload(1), LEASE).await.unwrap();
    assert_eq!(claim, Claim::Completed(answer(200, b"once")));
}

async fn an_answer_is_forgotten_after_its_time(store: impl IdempotencyStore) {
    let key = key("forgotten");
    let first = start(&store, &key, LEASE).await;
    assert!(store.complete(&key, first, &answer(200, b"old"), SHORT).await.unwrap());
    pass(SHORT * 2).await;
    let second = start(&store, &key, LEASE).await;
    assert!(first < second);
    // Nothing of the old answer is left in the new one.
    let empty = StoredAnswer { body: None, ..answer(204, b"") };
    assert!(store.complete(&key, second, &empty, KEEP).await.unwrap());
    assert_eq!(store.begin(&key, payload(1), LEASE).await.unwrap(), Claim::Completed(empty));
}

async fn an_answer_comes_back_byte_for_byte(store: impl IdempotencyStore) {
    let key = key("bytes");
    let token = start(&store, &key, LEASE).await;
    let mut full = answer(418, &(0..=255).collect::<Vec<u8>>());
    let fields = [("set-cookie", &b"a=1; path=/"[..]), ("set-cookie", b"b=2"), ("x-empty", b"")];
    for (name, value) in fields {
        full.headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    full.headers.append("x-latin", HeaderValue::from_bytes(b" caf\xe9: \t|\xff").unwrap());
    assert!(store.complete(&key, token, &full, KEEP).await.unwrap());
    assert_eq!(store.begin(&key, payload(1), LEASE).await.unwrap(), Claim::Completed(full));
}

async fn a_megabyte_of_body_comes_back_whole(store: impl IdempotencyStore) {
    let key = key("large");
    let token = start(&store, &key, LEASE).await;
    let body: Vec<u8> = (0..1_048_576_u32).map(|n| n.to_le_bytes()[1] ^ 0x5a).collect();
    let large = answer(200, &body);
    assert!(store.complete(&key, token, &large, KEEP).await.unwrap());
    assert_eq!(store.begin(&key, payload(1), LEASE).await.unwrap(), Claim::Completed(large));
}

async fn an_answer_without_a_body_stays_without_one(store: impl IdempotencyStore) {
    for body in [None, Some(Bytes::new())] {
        let key = key("no-body");
        let token = start(&store, &key, LEASE).await;
        let status = StatusCode::OK;
        let kept = StoredAnswer { status, headers: http::HeaderMap::new(), body };
        assert!(store.complete(&key, token, &kept, KEEP).await.unwrap());
        assert_eq!(store.begin(&key, payload(1), LEASE).await.unwrap(), Claim::Completed(kept));
    }
}

async fn keys_that_differ_only_in_case_are_different(store: impl IdempotencyStore) {
    let base = key("case");
    let upper = RecordKey::new(&base.as_str().replace("case", "CASE")).unwrap();
    start(&store, &base, LEASE).await;
    start(&store, &upper, LEASE).await;
}

async fn the_longest_key_is_kept(store: impl IdempotencyStore) {
    let base = key("longest");
    let key = RecordKey::new(&format!("{:~<255}", base.as_str())).unwrap();
    let token = start(&store, &key, Duration::MAX).await;
    assert!(store.complete(&key, token, &answer(200, b"long"), Duration::MAX).await.unwrap());
    let claim = store.begin(&key, payload(1), LEASE).await.unwrap();
    assert_eq!(claim, Claim::Completed(answer(200, b"long")));
}

async fn strangers_can_do_nothing(store: impl IdempotencyStore) {
    let unknown = key("unknown");
    let held = key("held");
    let token = start(&store, &held, LEASE).await;
    let stranger = [FencingToken::new(0), FencingToken::new(u64::MAX)];
    let guesses = stranger.map(|guess| (held.clone(), guess)).into_iter();
    for (key, guess) in guesses.chain([(unknown.clone(), token)]) {
        assert!(!store.renew(&key, guess, LEASE).await.unwrap());
        assert!(!store.complete(&key, guess, &answer(200, b""), KEEP).await.unwrap());
        assert!(!store.release(&key, guess).await.unwrap());
    }
    start(&store, &unknown, LEASE).await;
    assert!(store.complete(&held, token, &answer(200, b""), KEEP).await.unwrap());
}

async fn of_a_hundred_that_begin_at_once_one_starts(store: impl IdempotencyStore) {
    let key = key("hundred");
    let claims = begin_at_once(&store, &key, payload(1)).await;
    let started = claims.iter().filter(|claim| matches!(claim, Claim::Started(_))).count();
    let waiting = claims.iter().filter(|claim| matches!(claim, Claim::InProgress { .. })).count();
    assert_eq!((started, waiting), (1, 99));
}

async fn of_a_hundred_duplicates_one_is_carried_out_and_all_get_its_answer(
    store: impl IdempotencyStore,
) {
    let key = key("duplicates");
    let begin = Instant::now();
    let mut calls = JoinSet::new();
    for number in 0..100_u8 {
        let (store, key) = (store.clone(), key.clone());
        calls.spawn(async move {
            loop {
                match store.begin(&key, payload(1), LEASE).await.unwrap() {
                    Claim::Started(token) => {
                        pass(Duration::from_millis(50)).await;
                        let done = answer(201, &[number]);
                        assert!(store.complete(&key, token, &done, KEEP).await.unwrap());
                        return (true, done);
                    }
                    Claim::Completed(done) => return (false, done),
                    Claim::InProgress { .. } => pass(Duration::from_millis(20)).await,
                    Claim::Mismatch => panic!("it is the same payload"),
                }
            }
        });
    }
    let ended = calls.join_all().await;
    let executions = ended.iter().filter(|(executed, _)| *executed).count();
    let equal = ended.iter().filter(|(_, done)| *done == ended[0].1).count();
    println!("{executions} execution, {equal} equal answers, after {:?}", begin.elapsed());
    assert_eq!((executions, equal), (1, 100));
}

async fn of_a_hundred_that_take_over_at_once_one_starts(store: impl IdempotencyStore) {
    let key = key("race");
    let first = start(&store, &key, SHORT).await;
    pass(SHORT * 2).await;
    let claims = begin_at_once(&store, &key, payload(2)).await;
    let started: Vec<_> = claims
        .iter()
        .filter_map(|claim| match claim {
            Claim::Started(token) => Some(*token),
            _ => None,
        })
        .collect();
    assert!(matches!(started[..], [only] if first < only), "{started:?}");
}

async fn begin_at_once(
    store: &impl IdempotencyStore,
    key: &RecordKey,
    payload: Fingerprint,
) -> Vec<Claim> {
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (store, key) = (store.clone(), key.clone());
        calls.spawn(async move { store.begin(&key, payload, LEASE).await.unwrap() });
    }
    calls.join_all().await
}

const SHORT: Duration = Duration::from_millis(150);
