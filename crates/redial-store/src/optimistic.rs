//! Updates that do not overwrite what somebody else wrote meanwhile.
//!
//! Nothing is locked: read the row and its version, then `UPDATE … SET version = version + 1 … WHERE id = ?
//! AND version = ?`. If that finds no row, somebody was quicker, and everything is done again from the
//! reading on.

use std::{
    error::Error,
    fmt,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use redial::{Failure, RepeatPolicy, retry};
use redial_core::{Backoff, Jitter};

/// What became of an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Update<T> {
    /// It was written, and this came of it.
    Written(T),
    /// The version was another by then, and nothing was written.
    Conflict,
}

/// Why an update was not written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OptimisticError<E> {
    /// Somebody else was quicker every time.
    Conflicts {
        /// How often: one more than the retries.
        conflicts: u32,
    },
    /// It failed otherwise.
    Failed {
        /// How often somebody else was quicker before that.
        conflicts: u32,
        /// What failed.
        error: E,
    },
}

/// Runs `op`, which reads, computes and writes, again whenever it came too late, as often as `policy` allows.
///
/// Errors are not repeated: whether they may be is another question. [`conflict_policy`] suits rows that a few
/// dozen writers want at once.
///
/// # Errors
///
/// If `op` fails, or came too late each time.
///
/// # Cancellation
///
/// Dropping the future drops the attempt or the wait that it is in.
///
/// # Examples
///
/// ```
/// use redial_store::{Update, conflict_policy, optimistic};
/// use sqlx::sqlite::SqlitePoolOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// sqlx::query("CREATE TABLE stock (id INTEGER, pieces INTEGER, version INTEGER)")
///     .execute(&pool)
///     .await?;
/// sqlx::query("INSERT INTO stock VALUES (1, 10, 1)").execute(&pool).await?;
///
/// let left = optimistic(conflict_policy(), || async {
///     let (pieces, version): (i64, i64) =
///         sqlx::query_as("SELECT pieces, version FROM stock WHERE id = 1").fetch_one(&pool).await?;
///     let write = "UPDATE stock SET pieces = $1, version = version + 1 WHERE id = 1 AND version = $2";
///     let found = sqlx::query(write).bind(pieces - 3).bind(version).execute(&pool).await?;
///     Ok::<_, sqlx::Error>(Update::of_rows(found.rows_affected(), pieces - 3))
/// });
/// assert_eq!(left.await?, 7);
/// # Ok(())
/// # }
/// ```
pub async fn optimistic<T, E, Op, Fut>(
    policy: RepeatPolicy,
    mut op: Op,
) -> Result<T, OptimisticError<E>>
where
    Op: FnMut() -> Fut,
    Fut: Future<Output = Result<Update<T>, E>>,
{
    let conflicts = AtomicU32::new(0);
    let outcome = retry(policy, || {
        let (attempt, conflicts) = (op(), &conflicts);
        async move {
            match attempt.await {
                Ok(Update::Written(value)) => Ok(value),
                Ok(Update::Conflict) => {
                    conflicts.fetch_add(1, Ordering::Relaxed);
                    Err(Failure::Transient(None))
                }
                Err(error) => Err(Failure::Permanent(Some(error))),
            }
        }
    });
    let outcome = outcome.await;
    let conflicts = conflicts.into_inner();
    outcome.map_err(|error| match error {
        None => OptimisticError::Conflicts { conflicts },
        Some(error) => OptimisticError::Failed { conflicts, error },
    })
}

/// Returns a policy for conflicts: ten retries, waits of up to 5 ms that double up to 250 ms, spread over all
/// of their length, so that those who met do not meet again.
#[must_use]
pub fn conflict_policy() -> RepeatPolicy {
    let first = Duration::from_millis(5);
    let growing = Backoff::exponential(first, 2.0, Duration::from_millis(250));
    let spread = growing.and_then(|backoff| backoff.jitter(Jitter::Full));
    let backoff = spread.unwrap_or_else(|_| Backoff::fixed(first));
    RepeatPolicy { max_retries: 10, backoff, deadline: None }
}

impl<T> Update<T> {
    /// Returns what an `UPDATE … WHERE version = ?` came to that found so many rows: none is a conflict.
    ///
    /// A row that was deleted is a conflict too; the next reading finds that out.
    pub fn of_rows(rows: u64, value: T) -> Self {
        if rows == 0 { Self::Conflict } else { Self::Written(value) }
    }
}

impl<E> fmt::Display for OptimisticError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflicts { conflicts } => {
                write!(f, "somebody else wrote first, {conflicts} times; nothing was written")
            }
            Self::Failed { conflicts: 0, .. } => f.write_str("the update failed"),
            Self::Failed { conflicts, .. } => {
                write!(f, "the update failed, after somebody else wrote first {conflicts} times")
            }
        }
    }
}

impl<E: Error + 'static> Error for OptimisticError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Conflicts { .. } => None,
            Self::Failed { error, .. } => Some(error),
        }
    }
}
