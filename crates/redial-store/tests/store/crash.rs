//! A holder that is killed, and one whose clock is wrong.

use std::{process::Command, time::Duration};

use redial::idempotency::{Claim, IdempotencyStore, RecordKey};
use redial_core::FencingToken;
use redial_store::SqliteStore;

use crate::{
    child::{Other, part, say},
    servers::{
        KEEP, LEASE, Scratch, answer, key, mysql, pass, payload, postgres, redis, sqlite_pool,
    },
};

#[tokio::test]
async fn a_killed_holder_in_redis_is_taken_over_once() {
    taken_over("crash::a_killed_holder_in_redis_is_taken_over_once", redis()).await;
}

#[tokio::test]
async fn a_killed_holder_in_mariadb_is_taken_over_once() {
    taken_over("crash::a_killed_holder_in_mariadb_is_taken_over_once", mysql().await).await;
}

#[tokio::test]
async fn a_killed_holder_in_postgresql_is_taken_over_once() {
    taken_over("crash::a_killed_holder_in_postgresql_is_taken_over_once", postgres().await).await;
}

#[tokio::test]
async fn a_killed_holder_in_sqlite_is_taken_over_once() {
    // Both processes open the same file: the folder is the other's text, before the key.
    let test = "crash::a_killed_holder_in_sqlite_is_taken_over_once";
    let (folder, told) = Scratch::shared();
    let store = SqliteStore::new(sqlite_pool(&folder.path().join("records.db")).await);
    store.migrate().await.unwrap();
    if let Some(key) = told {
        return hold_forever(&store, &key).await;
    }
    let key = key("crash");
    let other = Other::start(test, &format!("{} {}", folder.path().display(), key.as_str()));
    take_over(other, store, key).await;
}

async fn taken_over(test: &str, store: impl IdempotencyStore) {
    if let Some(key) = part() {
        return hold_forever(&store, &key).await;
    }
    let key = key("crash");
    take_over(Other::start(test, key.as_str()), store, key).await;
}

/// The other process: begins, and never ends.
async fn hold_forever(store: &impl IdempotencyStore, key: &str) {
    let key = RecordKey::new(key).unwrap();
    let Claim::Started(token) = store.begin(&key, payload(1), CRASH_LEASE).await.unwrap() else {
        panic!("nobody else has it");
    };
    say(&format!("STARTED {token}"));
    std::future::pending::<()>().await;
}

async fn take_over(mut other: Other, store: impl IdempotencyStore, key: RecordKey) {
    let first = FencingToken::new(other.says("STARTED ").parse().unwrap());
    other.kill();
    let claim = store.begin(&key, payload(1), LEASE).await.unwrap();
    assert!(matches!(claim, Claim::InProgress { left } if left <= CRASH_LEASE), "{claim:?}");

    // Ten duplicates ask again and again; each carries the request out when it is told to.
    let mut duplicates = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (store, key) = (store.clone(), key.clone());
        duplicates.spawn(async move {
            loop {
                match store.begin(&key, payload(1), LEASE).await.unwrap() {
                    Claim::Started(token) => {
                        let done = answer(201, token.to_string().as_bytes());
                        assert!(store.complete(&key, token, &done, KEEP).await.unwrap());
                        return (Some(token), done);
                    }
                    Claim::Completed(done) => return (None, done),
                    Claim::InProgress { .. } => pass(Duration::from_millis(50)).await,
                    Claim::Mismatch => panic!("it is the same payload"),
                }
            }
        });
    }
    let ended = duplicates.join_all().await;
    let executions: Vec<_> = ended.iter().filter_map(|(token, _)| *token).collect();
    assert!(matches!(executions[..], [second] if first < second), "{first} then {executions:?}");
    assert!(ended.iter().all(|(_, done)| *done == ended[0].1), "all get one answer");
    // What the dead one would have said comes too late, should it rise again.
    assert!(!store.complete(&key, first, &answer(201, b"dead"), KEEP).await.unwrap());
}

#[tokio::test]
async fn clocks_of_holders_that_differ_by_ten_minutes_do_not_matter_in_redis() {
    let test = "crash::clocks_of_holders_that_differ_by_ten_minutes_do_not_matter_in_redis";
    skewed(test, redis()).await;
}

#[tokio::test]
async fn clocks_of_holders_that_differ_by_ten_minutes_do_not_matter_in_mariadb() {
    let test = "crash::clocks_of_holders_that_differ_by_ten_minutes_do_not_matter_in_mariadb";
    skewed(test, mysql().await).await;
}

#[tokio::test]
async fn clocks_of_holders_that_differ_by_ten_minutes_do_not_matter_in_postgresql() {
    let test = "crash::clocks_of_holders_that_differ_by_ten_minutes_do_not_matter_in_postgresql";
    skewed(test, postgres().await).await;
}

/// One holder's clock is five minutes slow, and then the other's is five minutes fast.
async fn skewed(test: &str, store: impl IdempotencyStore) {
    if let Some(text) = part() {
        let (told, key) = text.split_once(' ').unwrap();
        let off = clock().abs_diff(told.parse().unwrap());
        assert!((295..=305).contains(&off), "this process has a wrong clock, by {off} s");
        let key = RecordKey::new(key).unwrap();
        let claim = store.begin(&key, payload(1), SKEWED_LEASE).await.unwrap();
        match claim {
            Claim::Started(token) => say(&format!("CLAIM started {token}")),
            Claim::InProgress { left } => say(&format!("CLAIM held {}", left.as_millis())),
            other => panic!("{other:?}"),
        }
        return;
    }
    let key = key("skew");
    let slow = claim_at(test, -300, &key);
    let first: u64 = slow.strip_prefix("started ").unwrap().parse().unwrap();
    // By the fast one's own clock, the lease would have been over ten minutes ago.
    let fast = claim_at(test, 300, &key);
    let left: u128 = fast.strip_prefix("held ").unwrap().parse().unwrap();
    assert!(left <= SKEWED_LEASE.as_millis(), "{left}");
    pass(SKEWED_LEASE).await;
    let fast = claim_at(test, 300, &key);
    let second: u64 = fast.strip_prefix("started ").unwrap().parse().unwrap();
    pass(SKEWED_LEASE).await;
    // By the slow one's own clock, that lease has not even begun; and its token is higher all the same.
    let slow = claim_at(test, -300, &key);
    let third: u64 = slow.strip_prefix("started ").unwrap().parse().unwrap();
    assert!(first < second && second < third);
    assert!(third - first < 60_000_000, "tokens follow the store's clock");
}

fn claim_at(test: &str, seconds: i64, key: &RecordKey) -> String {
    let mut program = Command::new("faketime");
    program.args(["-f", &format!("{seconds:+}s")]).arg(std::env::current_exe().unwrap());
    let mut other = Other::start_by(program, test, &format!("{} {}", clock(), key.as_str()));
    let claim = other.says("CLAIM ");
    other.ends();
    claim
}

#[expect(clippy::disallowed_methods, reason = "the process clock is what this is about")]
fn clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Long enough to start a process in on a busy machine.
const SKEWED_LEASE: Duration = Duration::from_secs(4);
const CRASH_LEASE: Duration = Duration::from_secs(2);
