//! What is the SQL stores' own: the table, sweeping, and databases that do not answer.

use std::time::Duration;

use redial::idempotency::{Claim, IdempotencyStore as _, RecordKey};
use redial_store::{Dialect, MySqlStore, PostgresStore, SqlStore, SqliteStore};
use sqlx::{MySqlPool, Row as _, mysql::MySqlPoolOptions, postgres::PgPoolOptions};

use crate::servers::{
    KEEP, LEASE, Scratch, answer, key, mysql_pool, pass, payload, postgres_pool, sqlite_pool, url,
};

/// Runs a test with a pool of each database and its placeholder.
macro_rules! on_every_pool {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn in_mariadb() {
                let pool = scratch_mysql().await;
                $name!(MySqlStore, pool);
            }

            #[tokio::test]
            async fn in_postgresql() {
                let pool = scratch_postgres().await;
                $name!(PostgresStore, pool);
            }

            #[tokio::test]
            async fn in_sqlite() {
                let folder = Scratch::new("sql");
                let pool = sqlite_pool(&folder.path().join("records.db")).await;
                $name!(SqliteStore, pool);
            }
        }
    )*};
}

macro_rules! sweeping_deletes_what_was_over_an_hour_ago_a_few_at_a_time {
    ($store:ty, $pool:ident) => {
        let store = <$store>::new($pool.clone());
        store.migrate().await.unwrap();
        let (kept, late) = (key("kept"), key("late"));
        complete(&store, &kept).await;
        begin(&store, &late, Duration::ZERO).await;
        for _ in 0..25 {
            complete(&store, &key("old")).await;
        }
        let age = "UPDATE redial_idempotency SET until_micros = 1 WHERE record_key LIKE 'old%'";
        sqlx::query(age).execute(&$pool).await.unwrap();
        assert_eq!(store.sweep(10).await.unwrap(), 10);
        assert_eq!(store.sweep(10).await.unwrap(), 10);
        assert_eq!(store.sweep(10).await.unwrap(), 5);
        assert_eq!(store.sweep(10).await.unwrap(), 0);
        let all = sqlx::query("SELECT COUNT(*) FROM redial_idempotency");
        // A lease that has only just ended stays: its holder may be late.
        assert_eq!(all.fetch_one(&$pool).await.unwrap().get::<i64, _>(0), 2);
    };
}

macro_rules! the_sweeper_sweeps_until_it_is_dropped {
    ($store:ty, $pool:ident) => {
        let store = <$store>::new($pool.clone());
        store.migrate().await.unwrap();
        let age = "UPDATE redial_idempotency SET until_micros = 1";
        let count = "SELECT COUNT(*) FROM redial_idempotency";
        complete(&store, &key("old")).await;
        sqlx::query(age).execute(&$pool).await.unwrap();
        let sweeper = store.sweeper(Duration::from_secs(1));
        for _ in 0..100 {
            pass(Duration::from_millis(50)).await;
            if sqlx::query(count).fetch_one(&$pool).await.unwrap().get::<i64, _>(0) == 0 {
                break;
            }
        }
        assert_eq!(sqlx::query(count).fetch_one(&$pool).await.unwrap().get::<i64, _>(0), 0);
        drop(sweeper);
        complete(&store, &key("old")).await;
        sqlx::query(age).execute(&$pool).await.unwrap();
        pass(Duration::from_millis(1_300)).await;
        assert_eq!(sqlx::query(count).fetch_one(&$pool).await.unwrap().get::<i64, _>(0), 1);
    };
}

macro_rules! many_may_make_the_table_at_once {
    ($store:ty, $pool:ident) => {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = <$store>::new($pool.clone());
            calls.spawn(async move { store.migrate().await });
        }
        for made in calls.join_all().await {
            made.unwrap();
        }
    };
}

macro_rules! without_its_table_a_store_says_so {
    ($store:ty, $pool:ident) => {
        let store = <$store>::new($pool.clone());
        let error = store.begin(&key("x"), payload(1), LEASE).await.unwrap_err();
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            text.push_str(&format!("{error}; "));
            cause = error.source();
        }
        assert!(text.contains("redial_idempotency"), "{text}");
    };
}

macro_rules! what_makes_no_sense_is_an_error_and_stays_as_it_is {
    ($store:ty, $pool:ident) => {
        let store = <$store>::new($pool.clone());
        store.migrate().await.unwrap();
        let odd = key("odd");
        complete(&store, &odd).await;
        for change in ["status = 7", "status = 200, fields = NULL", "state = 9"] {
            let sql = format!("UPDATE redial_idempotency SET {change}");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&$pool).await.unwrap();
            store.begin(&odd, payload(1), LEASE).await.unwrap_err();
        }
        let state = sqlx::query("SELECT state FROM redial_idempotency").fetch_one(&$pool);
        assert_eq!(state.await.unwrap().get::<i64, _>(0), 9);
    };
}

on_every_pool! {
    sweeping_deletes_what_was_over_an_hour_ago_a_few_at_a_time
    the_sweeper_sweeps_until_it_is_dropped
    many_may_make_the_table_at_once
    without_its_table_a_store_says_so
    what_makes_no_sense_is_an_error_and_stays_as_it_is
}

#[tokio::test]
async fn sessions_in_other_time_zones_agree_in_mariadb() {
    let zone = |zone: &'static str| async move {
        let options = MySqlPoolOptions::new().max_connections(1);
        let pool = options.connect(&url("REDIAL_MYSQL_URL")).await.unwrap();
        sqlx::query("SET time_zone = ?").bind(zone).execute(&pool).await.unwrap();
        MySqlStore::new(pool)
    };
    agree(&zone("-11:00").await, &zone("+13:00").await).await;
}

#[tokio::test]
async fn sessions_in_other_time_zones_agree_in_postgresql() {
    let zone = |sql: &'static str| async move {
        let options = PgPoolOptions::new().max_connections(1);
        let pool = options.connect(&url("REDIAL_POSTGRES_URL")).await.unwrap();
        sqlx::query(sql).execute(&pool).await.unwrap();
        PostgresStore::new(pool)
    };
    let (west, east) = ("SET TIME ZONE 'Pacific/Pago_Pago'", "SET TIME ZONE 'Pacific/Auckland'");
    agree(&zone(west).await, &zone(east).await).await;
}

#[tokio::test]
async fn sessions_that_default_to_serializable_are_in_nobodys_way() {
    let strict = format!(
        "{}?options[default_transaction_isolation]=serializable",
        url("REDIAL_POSTGRES_URL")
    );
    let pool = PgPoolOptions::new().max_connections(8).connect(&strict).await.unwrap();
    let level = sqlx::query("SHOW transaction_isolation").fetch_one(&pool).await.unwrap();
    assert_eq!(level.get::<String, _>(0), "serializable");
    let store = PostgresStore::new(pool);
    store.migrate().await.unwrap();
    let key = key("serializable");
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (store, key) = (store.clone(), key.clone());
        calls.spawn(async move { store.begin(&key, payload(1), LEASE).await.unwrap() });
    }
    let started = |claim: &&Claim| matches!(claim, Claim::Started(_));
    assert_eq!(calls.join_all().await.iter().filter(started).count(), 1);
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_given_up() {
    let pool = scratch_mysql().await;
    let store = MySqlStore::new(pool.clone()).with_timeout(Duration::from_millis(300));
    store.clone().with_timeout(Duration::from_secs(5)).migrate().await.unwrap();
    let key = key("locked");
    begin(&store, &key, LEASE).await;
    let mut transaction = pool.begin().await.unwrap();
    let lock = "SELECT * FROM redial_idempotency FOR UPDATE";
    sqlx::query(lock).fetch_all(&mut *transaction).await.unwrap();
    let begin = tokio::time::Instant::now();
    let error = store.begin(&key, payload(1), LEASE).await.unwrap_err();
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(800), "{error} after {took:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "the database did not answer within 300ms");
    transaction.rollback().await.unwrap();
    pass(Duration::from_millis(100)).await;
    let store = store.with_timeout(Duration::from_secs(5));
    let claim = store.begin(&key, payload(1), LEASE).await.unwrap();
    assert!(matches!(claim, Claim::InProgress { .. }), "{claim:?}");
}

async fn agree<D: Dialect>(west: &SqlStore<D>, east: &SqlStore<D>) {
    west.migrate().await.unwrap();
    let key = key("zones");
    let short = Duration::from_secs(1);
    let Claim::Started(first) = west.begin(&key, payload(1), short).await.unwrap() else {
        panic!("nobody else has it");
    };
    let claim = east.begin(&key, payload(1), short).await.unwrap();
    assert!(matches!(claim, Claim::InProgress { left } if left <= short), "{claim:?}");
    assert!(east.renew(&key, first, short).await.unwrap());
    let claim = west.begin(&key, payload(1), short).await.unwrap();
    assert!(matches!(claim, Claim::InProgress { left } if left <= short), "{claim:?}");
    pass(short + Duration::from_millis(200)).await;
    let Claim::Started(second) = east.begin(&key, payload(1), short).await.unwrap() else {
        panic!("the lease is over");
    };
    assert!(first < second && second.number() - first.number() < 60_000_000);
}

async fn begin<D: Dialect>(store: &SqlStore<D>, key: &RecordKey, lease: Duration) {
    let claim = store.begin(key, payload(1), lease).await.unwrap();
    assert!(matches!(claim, Claim::Started(_)), "{claim:?}");
}

async fn complete<D: Dialect>(store: &SqlStore<D>, key: &RecordKey) {
    let Claim::Started(token) = store.begin(key, payload(1), LEASE).await.unwrap() else {
        panic!("nobody else has it");
    };
    assert!(store.complete(key, token, &answer(200, b""), KEEP).await.unwrap());
}

/// A database of its own: what is swept or broken here is nobody else's.
async fn scratch_mysql() -> MySqlPool {
    let name = key("db").as_str().replace(':', "_");
    let create = format!("CREATE DATABASE {name}");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mysql_pool().await).await.unwrap();
    let url = url("REDIAL_MYSQL_URL").replace("/redial", &format!("/{name}"));
    MySqlPoolOptions::new().max_connections(8).connect(&url).await.unwrap()
}

/// A schema of its own.
async fn scratch_postgres() -> sqlx::PgPool {
    let name = key("schema").as_str().replace(':', "_");
    let create = format!("CREATE SCHEMA {name}");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&postgres_pool().await).await.unwrap();
    let url = format!("{}?options[search_path]={name}", url("REDIAL_POSTGRES_URL"));
    PgPoolOptions::new().max_connections(8).connect(&url).await.unwrap()
}
