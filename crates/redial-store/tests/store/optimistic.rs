//! Updates by version, with many writers of one row.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use redial::RepeatPolicy;
use redial_store::{OptimisticError, Update, conflict_policy, optimistic};
use sqlx::{AssertSqlSafe, MySqlPool};

use crate::servers::{key, mysql_pool};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_of_one_row_none_is_overwritten() {
    let pool = mysql_pool().await;
    let table = counter(&pool).await;
    let conflicts = std::sync::Arc::new(AtomicU32::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (pool, table, conflicts) = (pool.clone(), table.clone(), conflicts.clone());
        writers.spawn(async move {
            for _ in 0..10 {
                let policy = RepeatPolicy { max_retries: 1_000, ..conflict_policy() };
                let added = optimistic(policy, || async {
                    let update = add_one(&pool, &table).await?;
                    conflicts.fetch_add(u32::from(update == Update::Conflict), Ordering::Relaxed);
                    Ok::<_, sqlx::Error>(update)
                });
                added.await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let read = format!("SELECT pieces, version FROM {table}");
    let end: (i64, i64) = sqlx::query_as(AssertSqlSafe(read)).fetch_one(&pool).await.unwrap();
    assert_eq!(end, (80, 80));
    let conflicts = conflicts.load(Ordering::Relaxed);
    println!("8 writers, 80 updates, {conflicts} conflicts, none lost");
    assert!(0 < conflicts, "eight writers never met");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_always_too_late_is_told_how_often() {
    let policy = RepeatPolicy { max_retries: 4, ..conflict_policy() };
    let mut reads = 0;
    let outcome = optimistic(policy, || {
        reads += 1;
        async { Ok::<_, std::io::Error>(Update::<()>::Conflict) }
    });
    let error = outcome.await.unwrap_err();
    assert!(matches!(error, OptimisticError::Conflicts { conflicts: 5 }), "{error:?}");
    assert_eq!(error.to_string(), "somebody else wrote first, 5 times; nothing was written");
    assert_eq!(reads, 5, "it is read anew each time");
}

#[tokio::test(start_paused = true)]
async fn what_fails_otherwise_is_not_repeated() {
    let mut outcomes = vec![Err("the disk is full"), Ok(Update::<()>::Conflict)];
    let outcome = optimistic(conflict_policy(), || {
        let outcome = outcomes.pop();
        async move { outcome.expect("nothing after the failure") }
    });
    let error = outcome.await.unwrap_err();
    assert_eq!(error, OptimisticError::Failed { conflicts: 1, error: "the disk is full" });
    assert_eq!(error.to_string(), "the update failed, after somebody else wrote first 1 times");
}

#[tokio::test(start_paused = true)]
async fn the_policys_deadline_holds_for_conflicts_too() {
    let policy = RepeatPolicy {
        max_retries: 1_000_000,
        deadline: Some(Duration::from_secs(2)),
        ..conflict_policy()
    };
    let begin = tokio::time::Instant::now();
    let outcome = optimistic(policy, || async { Ok::<_, ()>(Update::<()>::Conflict) });
    assert!(matches!(outcome.await, Err(OptimisticError::Conflicts { .. })));
    assert!(begin.elapsed() <= Duration::from_secs(2));
}

async fn counter(pool: &MySqlPool) -> String {
    let table = key("stock").as_str().replace(':', "_");
    let create = format!("CREATE TABLE {table} (pieces BIGINT, version BIGINT)");
    sqlx::query(AssertSqlSafe(create)).execute(pool).await.unwrap();
    let first = format!("INSERT INTO {table} VALUES (0, 0)");
    sqlx::query(AssertSqlSafe(first)).execute(pool).await.unwrap();
    table
}

async fn add_one(pool: &MySqlPool, table: &str) -> Result<Update<i64>, sqlx::Error> {
    let read = format!("SELECT pieces, version FROM {table}");
    let (pieces, version): (i64, i64) = sqlx::query_as(AssertSqlSafe(read)).fetch_one(pool).await?;
    let write = format!("UPDATE {table} SET pieces = ?, version = version + 1 WHERE version = ?");
    let query = sqlx::query(AssertSqlSafe(write)).bind(pieces + 1).bind(version);
    Ok(Update::of_rows(query.execute(pool).await?.rows_affected(), pieces + 1))
}
