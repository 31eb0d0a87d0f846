//! Deletes the records that nobody needs any more, a few at a time.

use std::time::Duration;

use redial::idempotency::StoreError;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{AFTERMATH, Dialect, SqlStore, Value, micros};

/// Sweeps now and then, until it is dropped.
#[derive(Debug)]
#[must_use = "it stops when it is dropped"]
pub struct Sweeper {
    task: JoinHandle<()>,
}

impl<D: Dialect> SqlStore<D> {
    /// Deletes at most `rows_max` records that were over an hour ago: answers that are not kept any more,
    /// leases that nobody completed, and keys that were released. Returns how many there were.
    ///
    /// A short transaction: locks are held for that many rows and no longer. Any number of processes may
    /// sweep at once.
    ///
    /// # Errors
    ///
    /// If the database cannot be asked.
    pub async fn sweep(&self, rows_max: u32) -> Result<u64, StoreError> {
        let values = [Value::Number(micros(AFTERMATH)), Value::Number(rows_max.into())];
        let run = || async {
            let mut connection = self.pool.acquire().await?;
            Ok(D::execute(&mut connection, D::SQL.sweep, &values).await?)
        };
        self.bounded(run).await
    }

    /// Begins to sweep every `period`, 500 records at a time until none is left; logs what fails, and goes on.
    ///
    /// A period below a second counts as one. Needs a Tokio runtime.
    pub fn sweeper(&self, period: Duration) -> Sweeper {
        let store = self.clone();
        let mut ticks = interval(period.max(Duration::from_secs(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let task = tokio::spawn(async move {
            loop {
                ticks.tick().await;
                store.sweep_all().await;
            }
        });
        Sweeper { task }
    }

    async fn sweep_all(&self) {
        loop {
            match self.sweep(BATCH_ROWS).await {
                Ok(deleted) if deleted < u64::from(BATCH_ROWS) => return,
                // Others get at the table between two batches.
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "expired idempotency records stay for now");
                    return;
                }
            }
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const BATCH_ROWS: u32 = 500;
