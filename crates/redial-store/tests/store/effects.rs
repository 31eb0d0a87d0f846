//! The answer in the transaction of the business write: whatever dies, and whenever, there is one of each, or
//! none of either.

use std::{future::Future, time::Duration};

use redial::idempotency::{Claim, IdempotencyStore as _, RecordKey};
use redial_core::FencingToken;
use redial_store::{Dialect, SqlStore};
use sqlx::{AssertSqlSafe, MySql, Pool, Postgres, Sqlite};

use crate::{
    child::{Other, say},
    servers::{
        KEEP, LEASE, Scratch, answer, key, mysql_pool, pass, payload, postgres_pool, sqlite_pool,
    },
};

/// Runs each of these on each database. The other process gets the folder of SQLite's file and a text.
macro_rules! on_every_database {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_mariadb() {
                let here = Here::new(concat!(stringify!($name), "::in_mariadb"));
                super::$name(ledger(mysql_pool().await).await, &here).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_postgresql() {
                let here = Here::new(concat!(stringify!($name), "::in_postgresql"));
                super::$name(ledger(postgres_pool().await).await, &here).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_sqlite() {
                let here = Here::new(concat!(stringify!($name), "::in_sqlite"));
                let pool = sqlite_pool(&here.folder.path().join("records.db")).await;
                super::$name(ledger(pool).await, &here).await;
            }
        }
    )*};
}

on_every_database! {
    a_crash_before_the_commit_leaves_neither_effect_nor_record
    killed_at_any_moment_every_request_has_one_effect_and_its_record
    a_holder_that_was_taken_over_from_rolls_back
    whoever_begins_while_the_answer_is_not_committed_waits_and_gets_it
    a_transaction_that_is_rolled_back_leaves_the_key_to_its_holder
}

/// Which test this is, and what the other process was told.
struct Here {
    test: String,
    /// For SQLite's file: both processes have the same.
    folder: Scratch,
    told: Option<String>,
}

impl Here {
    fn new(test: &str) -> Self {
        let (folder, told) = Scratch::shared();
        Self { test: format!("effects::{test}"), folder, told }
    }

    fn start(&self, text: &str) -> Other {
        Other::start(&self.test, &format!("{} {text}", self.folder.path().display()))
    }
}

/// A store, and beside it a table where every request leaves a row.
#[derive(Clone)]
struct Ledger<D: Business> {
    store: SqlStore<D>,
    pool: Pool<D>,
}

/// What the application does, in each database's words.
trait Business: Dialect {
    fn write(
        connection: &mut Self::Connection,
        key: &str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
    fn count(pool: &Pool<Self>, key: &str) -> impl Future<Output = i64> + Send;
    fn create(pool: &Pool<Self>) -> impl Future<Output = ()> + Send;
}

macro_rules! business {
    ($database:ty, $placeholder:literal) => {
        impl Business for $database {
            async fn write(
                connection: &mut Self::Connection,
                key: &str,
            ) -> Result<(), sqlx::Error> {
                let sql = concat!("INSERT INTO effects VALUES (", $placeholder, ")");
                sqlx::query(sql).bind(key).execute(connection).await.map(|_| ())
            }

            async fn count(pool: &Pool<Self>, key: &str) -> i64 {
                let sql = concat!("SELECT COUNT(*) FROM effects WHERE id = ", $placeholder);
                sqlx::query_scalar(sql).bind(key).fetch_one(pool).await.unwrap()
            }

            async fn create(pool: &Pool<Self>) {
                // Two processes may make it at once, which PostgreSQL refuses the second. No key is
                // unique here: an effect that happens twice must show.
                for _ in 0..5 {
                    let sql = "CREATE TABLE IF NOT EXISTS effects (id VARCHAR(255))";
                    if sqlx::query(AssertSqlSafe(sql)).execute(pool).await.is_ok() {
                        return;
                    }
                    pass(Duration::from_millis(50)).await;
                }
                panic!("no table of effects");
            }
        }
    };
}

business!(MySql, "?");
business!(Postgres, "$1");
business!(Sqlite, "$1");

async fn ledger<D: Business>(pool: Pool<D>) -> Ledger<D> {
    D::create(&pool).await;
    let store = SqlStore::new(pool.clone());
    store.migrate().await.unwrap();
    Ledger { store, pool }
}

impl<D: Business> Ledger<D> {
    async fn begin(&self, key: &RecordKey, lease: Duration) -> FencingToken {
        match self.store.begin(key, payload(1), lease).await.unwrap() {
            Claim::Started(token) => token,
            other => panic!("{other:?}"),
        }
    }

    /// Returns how many effects there are, and whether the answer stands; both as of one moment.
    async fn seen(&self, key: &RecordKey) -> (i64, bool) {
        let claim = self.store.begin(key, payload(1), Duration::ZERO).await.unwrap();
        (D::count(&self.pool, key.as_str()).await, matches!(claim, Claim::Completed(_)))
    }

    /// Writes the effect and the answer in one transaction; returns whether it was committed.
    async fn carry_out(&self, key: &RecordKey, token: FencingToken) -> bool {
        let mut transaction = self.pool.begin().await.unwrap();
        D::write(&mut transaction, key.as_str()).await.unwrap();
        let done = answer(201, key.as_str().as_bytes());
        let held = self.store.complete_in(&mut transaction, key, token, &done, KEEP).await.unwrap();
        if held {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        held
    }
}

async fn a_crash_before_the_commit_leaves_neither_effect_nor_record<D: Business>(
    ledger: Ledger<D>,
    here: &Here,
) {
    if let Some(key) = &here.told {
        let key = RecordKey::new(key).unwrap();
        let token = ledger.begin(&key, Duration::from_millis(500)).await;
        let mut transaction = ledger.pool.begin().await.unwrap();
        D::write(&mut transaction, key.as_str()).await.unwrap();
        let done = answer(201, b"dead");
        let held = ledger.store.complete_in(&mut transaction, &key, token, &done, KEEP).await;
        assert!(held.unwrap());
        say("WRITTEN");
        return std::future::pending().await;
    }
    let key = key("uncommitted");
    let mut other = here.start(key.as_str());
    other.says("WRITTEN");
    other.kill();
    pass(Duration::from_millis(600)).await;
    let token = ledger.begin(&key, LEASE).await;
    assert_eq!(D::count(&ledger.pool, key.as_str()).await, 0);
    assert!(ledger.carry_out(&key, token).await);
    assert_eq!(ledger.seen(&key).await, (1, true));
}

/// The other process carries out one request after another, and is killed after 1 ms, 4 ms, 7 ms …
async fn killed_at_any_moment_every_request_has_one_effect_and_its_record<D: Business>(
    ledger: Ledger<D>,
    here: &Here,
) {
    let keys = |base: &str| -> Vec<RecordKey> {
        (0..REQUESTS).map(|n| RecordKey::new(&format!("{base}:{n}")).unwrap()).collect()
    };
    if let Some(base) = &here.told {
        say("READY");
        for key in keys(base) {
            let claim = ledger.store.begin(&key, payload(1), Duration::from_millis(50)).await;
            if let Claim::Started(token) = claim.unwrap() {
                ledger.carry_out(&key, token).await;
            }
        }
        return;
    }
    let base = key("killed");
    for round in 0..ROUNDS {
        let mut other = here.start(base.as_str());
        other.says("READY");
        pass(Duration::from_millis(1 + 3 * round)).await;
        other.kill();
        let mut done = 0;
        for key in keys(base.as_str()) {
            let effects = D::count(&ledger.pool, key.as_str()).await;
            assert!(effects <= 1, "{effects} effects of one request after {round} crashes");
            done += effects;
        }
        println!("killed {} times: {done} of {REQUESTS} requests carried out", round + 1);
    }
    // What was left is taken over, and now everything is there once.
    pass(Duration::from_millis(100)).await;
    for key in keys(base.as_str()) {
        let claim = ledger.store.begin(&key, payload(1), LEASE).await.unwrap();
        let effects = D::count(&ledger.pool, key.as_str()).await;
        match claim {
            Claim::Completed(done) => {
                assert_eq!(effects, 1, "a record without its effect");
                assert_eq!(done, answer(201, key.as_str().as_bytes()));
            }
            Claim::Started(token) => {
                assert_eq!(effects, 0, "an effect without its record");
                assert!(ledger.carry_out(&key, token).await);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(ledger.seen(&key).await, (1, true));
    }
}

async fn a_holder_that_was_taken_over_from_rolls_back<D: Business>(
    ledger: Ledger<D>,
    _here: &Here,
) {
    let key = key("overtaken");
    let first = ledger.begin(&key, Duration::from_millis(50)).await;
    pass(Duration::from_millis(100)).await;
    let second = ledger.begin(&key, LEASE).await;
    assert!(!ledger.carry_out(&key, first).await);
    assert_eq!(D::count(&ledger.pool, key.as_str()).await, 0);
    assert!(ledger.carry_out(&key, second).await);
    assert!(!ledger.carry_out(&key, first).await);
    assert_eq!(ledger.seen(&key).await, (1, true));
}

async fn whoever_begins_while_the_answer_is_not_committed_waits_and_gets_it<D: Business>(
    ledger: Ledger<D>,
    _here: &Here,
) {
    let key = key("committing");
    let token = ledger.begin(&key, Duration::from_millis(50)).await;
    pass(Duration::from_millis(100)).await;
    let mut transaction = ledger.pool.begin().await.unwrap();
    D::write(&mut transaction, key.as_str()).await.unwrap();
    let done = answer(201, b"done");
    assert!(
        ledger.store.complete_in(&mut transaction, &key, token, &done, KEEP).await.unwrap(),
        "the lease is over, and nobody took over"
    );
    let (other, other_key) = (ledger.store.clone(), key.clone());
    let mut begun =
        tokio::spawn(async move { other.begin(&other_key, payload(1), LEASE).await.unwrap() });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut begun).await;
    assert!(early.is_err(), "it must not begin while this may still be committed: {early:?}");
    transaction.commit().await.unwrap();
    assert_eq!(begun.await.unwrap(), Claim::Completed(done));
}

async fn a_transaction_that_is_rolled_back_leaves_the_key_to_its_holder<D: Business>(
    ledger: Ledger<D>,
    _here: &Here,
) {
    let key = key("rolled-back");
    let token = ledger.begin(&key, LEASE).await;
    let mut transaction = ledger.pool.begin().await.unwrap();
    D::write(&mut transaction, key.as_str()).await.unwrap();
    let done = answer(201, b"never");
    assert!(ledger.store.complete_in(&mut transaction, &key, token, &done, KEEP).await.unwrap());
    transaction.rollback().await.unwrap();
    assert_eq!(D::count(&ledger.pool, key.as_str()).await, 0);
    assert!(ledger.carry_out(&key, token).await);
    assert_eq!(ledger.seen(&key).await, (1, true));
}

const REQUESTS: usize = 20;
const ROUNDS: u64 = 12;
