//! What every store of idempotency records keeps to. A crate with a store takes this file in by `#[path]`, and
//! calls [`store_contract`] with a store of its own.

#![expect(clippy::unwrap_used, reason = "a store that fails should stop the test")]

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use redial::{
    core::{FencingToken, Fingerprint},
    idempotency::{Claim, IdempotencyKey, IdempotencyStore, RecordKey, StoredAnswer},
};
use tokio::task::JoinSet;

/// Checks `store`, whose clock goes on while `wait` waits: a paused one is advanced, a real one takes its
/// time. Keys are new ones, so a store that other tests use will do.
pub(crate) async fn store_contract<S: IdempotencyStore>(store: S, wait: impl AsyncFn(Duration)) {
    one_holder_at_a_time(&store).await;
    an_answer_comes_back_as_it_was(&store).await;
    what_is_completed_stays_so(&store).await;
    a_released_key_is_free(&store, &wait).await;
    a_lease_that_is_over_is_taken_over(&store, &wait).await;
    a_late_holder_keeps_what_nobody_took(&store, &wait).await;
    a_renewed_lease_holds(&store, &wait).await;
    an_answer_is_forgotten_when_its_time_is_over(&store, &wait).await;
    of_many_one_begins(&store, &wait).await;
}

async fn one_holder_at_a_time<S: IdempotencyStore>(store: &S) {
    let (key, other) = (new_key(), new_key());
    let token = started(store, &key, LONG).await;
    match store.begin(&key, PAYLOAD, LONG).await.unwrap() {
        Claim::InProgress { left } => assert!(LONG / 2 < left && left <= LONG, "{left:?}"),
        claim => panic!("{claim:?}, and not in progress"),
    }
    assert_eq!(store.begin(&key, OTHER_PAYLOAD, LONG).await.unwrap(), Claim::Mismatch);
    started(store, &other, LONG).await;
    let longest = format!("{}{}", new_key().as_str(), "~".repeat(255 - 36));
    started(store, &RecordKey::new(&longest).unwrap(), LONG).await;
    let wrong = FencingToken::new(token.number() + 1);
    assert!(!store.renew(&key, wrong, LONG).await.unwrap());
    assert!(!store.complete(&key, wrong, &answer(b"wrong"), LONG).await.unwrap());
    assert!(!store.release(&key, wrong).await.unwrap());
    assert!(!store.release(&new_key(), token).await.unwrap(), "nobody began with it");
    assert!(store.complete(&key, token, &answer(b"right"), LONG).await.unwrap());
}

async fn an_answer_comes_back_as_it_was<S: IdempotencyStore>(store: &S) {
    let mut headers = HeaderMap::new();
    headers.append("x-twice", HeaderValue::from_static("1"));
    headers.append("x-twice", HeaderValue::from_static("2"));
    headers.append("x-empty", HeaderValue::from_static(""));
    headers.append("x-quotes", HeaderValue::from_static("a \"b\" \\ {c: [1, 2]}, 'd'; --"));
    headers.append("x-bytes", HeaderValue::from_bytes(b"caf\xc3\xa9 \xff").unwrap());
    let every_byte: Vec<u8> = (0..=255).collect();
    let long = Bytes::from(every_byte.repeat(512));
    for (status, body) in [
        (201, Some(Bytes::from(every_byte))),
        (204, Some(Bytes::new())),
        (500, Some(long)),
        (999, None),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = StoredAnswer { status, headers: headers.clone(), body };
        let key = new_key();
        let token = started(store, &key, LONG).await;
        assert!(store.complete(&key, token, &answer, LONG).await.unwrap());
        assert_eq!(store.begin(&key, PAYLOAD, LONG).await.unwrap(), Claim::Completed(answer));
        assert_eq!(store.begin(&key, OTHER_PAYLOAD, LONG).await.unwrap(), Claim::Mismatch);
    }
}

async fn what_is_completed_stays_so<S: IdempotencyStore>(store: &S) {
    let key = new_key();
    let token = started(store, &key, LONG).await;
    assert!(store.complete(&key, token, &answer(b"first"), LONG).await.unwrap());
    assert!(!store.complete(&key, token, &answer(b"second"), LONG).await.unwrap());
    assert!(!store.renew(&key, token, LONG).await.unwrap());
    assert!(!store.release(&key, token).await.unwrap());
    let claim = store.begin(&key, PAYLOAD, LONG).await.unwrap();
    assert_eq!(claim, Claim::Completed(answer(b"first")));
}

async fn a_released_key_is_free<S: IdempotencyStore>(store: &S, wait: &impl AsyncFn(Duration)) {
    let key = new_key();
    let first = started(store, &key, LONG).await;
    assert!(store.release(&key, first).await.unwrap());
    assert!(!store.release(&key, first).await.unwrap());
    // A clock that counts in milliseconds has to go on before it can tell two holders apart.
    wait(TICK).await;
    let Claim::Started(second) = store.begin(&key, OTHER_PAYLOAD, LONG).await.unwrap() else {
        panic!("a released key is held, or remembers its payload");
    };
    assert!(first < second, "{first} and {second}");
    assert!(!store.complete(&key, first, &answer(b"late"), LONG).await.unwrap());
}

async fn a_lease_that_is_over_is_taken_over<S: IdempotencyStore>(
    store: &S,
    wait: &impl AsyncFn(Duration),
) {
    let key = new_key();
    let first = started(store, &key, SHORT).await;
    wait(SHORT + TICK).await;
    let second = started(store, &key, LONG).await;
    assert!(first < second, "{first} and {second}");
    assert!(!store.renew(&key, first, LONG).await.unwrap());
    assert!(!store.complete(&key, first, &answer(b"late"), LONG).await.unwrap());
    assert!(!store.release(&key, first).await.unwrap());
    assert!(store.complete(&key, second, &answer(b"in time"), LONG).await.unwrap());
    let claim = store.begin(&key, PAYLOAD, LONG).await.unwrap();
    assert_eq!(claim, Claim::Completed(answer(b"in time")));
}

async fn a_late_holder_keeps_what_nobody_took<S: IdempotencyStore>(
    store: &S,
    wait: &impl AsyncFn(Duration),
) {
    let (renewed, completed) = (new_key(), new_key());
    let first = started(store, &renewed, SHORT).await;
    let second = started(store, &completed, SHORT).await;
    wait(SHORT + TICK).await;
    assert!(store.renew(&renewed, first, LONG).await.unwrap());
    assert!(matches!(
        store.begin(&renewed, PAYLOAD, LONG).await.unwrap(),
        Claim::InProgress { .. }
    ));
    assert!(store.complete(&completed, second, &answer(b"late"), LONG).await.unwrap());
}

async fn a_renewed_lease_holds<S: IdempotencyStore>(store: &S, wait: &impl AsyncFn(Duration)) {
    let key = new_key();
    let token = started(store, &key, SHORT).await;
    assert!(store.renew(&key, token, LONG).await.unwrap());
    wait(SHORT + TICK).await;
    let claim = store.begin(&key, PAYLOAD, LONG).await.unwrap();
    assert!(matches!(claim, Claim::InProgress { left } if SHORT < left), "{claim:?}");
}

async fn an_answer_is_forgotten_when_its_time_is_over<S: IdempotencyStore>(
    store: &S,
    wait: &impl AsyncFn(Duration),
) {
    let key = new_key();
    let first = started(store, &key, LONG).await;
    assert!(store.complete(&key, first, &answer(b"old"), SHORT).await.unwrap());
    wait(SHORT + TICK).await;
    let Claim::Started(second) = store.begin(&key, OTHER_PAYLOAD, LONG).await.unwrap() else {
        panic!("it is kept for longer than it should be");
    };
    assert!(first < second, "{first} and {second}");
}

/// Fifty at once, for a key that is new, and again when the lease of the one that began is over.
async fn of_many_one_begins<S: IdempotencyStore>(store: &S, wait: &impl AsyncFn(Duration)) {
    let key = new_key();
    let mut tokens = HashSet::new();
    for _ in 0..2 {
        let mut claims = JoinSet::new();
        for _ in 0..50 {
            let (store, key) = (store.clone(), key.clone());
            claims.spawn(async move { store.begin(&key, PAYLOAD, SHORT * 5).await.unwrap() });
        }
        let mut began = 0;
        for claim in claims.join_all().await {
            match claim {
                Claim::Started(token) => {
                    began += 1;
                    assert!(tokens.insert(token), "{token} twice");
                }
                Claim::InProgress { .. } => {}
                claim => panic!("{claim:?}"),
            }
        }
        assert_eq!(began, 1);
        wait(SHORT * 5 + TICK).await;
    }
}

async fn started<S: IdempotencyStore>(store: &S, key: &RecordKey, lease: Duration) -> FencingToken {
    match store.begin(key, PAYLOAD, lease).await.unwrap() {
        Claim::Started(token) => token,
        claim => panic!("{claim:?}, and not started"),
    }
}

fn answer(body: &'static [u8]) -> StoredAnswer {
    let (status, headers) = (StatusCode::CREATED, HeaderMap::new());
    StoredAnswer { status, headers, body: Some(Bytes::from_static(body)) }
}

fn new_key() -> RecordKey {
    RecordKey::new(IdempotencyKey::generate().as_str()).unwrap()
}

const PAYLOAD: Fingerprint = Fingerprint::new([0xa5; 32]);
const OTHER_PAYLOAD: Fingerprint = Fingerprint::new([0; 32]);
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);
