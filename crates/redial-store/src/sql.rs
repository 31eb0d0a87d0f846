//! Records in a SQL database, beside the data that they are about.
//!
//! The table's primary key is what makes two holders impossible. Whoever begins locks the record of its key
//! for the length of one short transaction; everything else is a single statement.

mod dialect;
mod sweep;

use std::{fmt, time::Duration};

use redial::{
    Failure,
    idempotency::{Claim, IdempotencyStore, RecordKey, StoreError, StoredAnswer},
    retry,
};
use redial_core::{Begun, FencingToken, Fingerprint, IdempotencyRecord};
use sqlx::{MySql, Pool, Postgres, Sqlite, Transaction};
use thiserror::Error;
use tokio::time::{error::Elapsed, timeout};

use self::dialect::{Value, is_transient};
pub use self::{dialect::Dialect, sweep::Sweeper};
use crate::conflict_policy;
use crate::record::{AFTERMATH, Unreadable, micros, write_fields, write_token};

/// Keeps records of idempotency keys in a SQL database, in the table `redial_idempotency`.
///
/// Clones share the pool. Transactions that the database gives up because of others go again a few times. An
/// operation ends within [`with_timeout`](Self::with_timeout), waiting for a connection of the pool included.
///
/// # Examples
///
/// The answer and what was done for it become true together:
///
/// ```
/// use std::time::Duration;
///
/// use http::{HeaderMap, StatusCode};
/// use redial::idempotency::{Claim, IdempotencyStore, RecordKey, StoredAnswer};
/// use redial_core::Fingerprint;
/// use redial_store::SqliteStore;
/// use sqlx::sqlite::SqlitePoolOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// sqlx::query("CREATE TABLE orders (id INTEGER)").execute(&pool).await?;
/// let store = SqliteStore::new(pool.clone());
/// store.migrate().await?;
///
/// let key = RecordKey::new("order-17").ok_or("no key")?;
/// let payload = Fingerprint::new([7; 32]);
/// let claim = store.begin(&key, payload, Duration::from_secs(30)).await?;
/// let Claim::Started(token) = claim else { return Err("somebody else does it".into()) };
///
/// let mut transaction = pool.begin().await?;
/// sqlx::query("INSERT INTO orders VALUES (17)").execute(&mut *transaction).await?;
/// let created =
///     StoredAnswer { status: StatusCode::CREATED, headers: HeaderMap::new(), body: None };
/// let day = Duration::from_secs(86_400);
/// if store.complete_in(&mut transaction, &key, token, &created, day).await? {
///     transaction.commit().await?;
/// } else {
///     transaction.rollback().await?; // somebody took over
/// }
///
/// let again = store.begin(&key, payload, Duration::from_secs(30)).await?;
/// assert_eq!(again, Claim::Completed(created));
/// # Ok(())
/// # }
/// ```
pub struct SqlStore<D: Dialect> {
    pool: Pool<D>,
    timeout: Duration,
}

/// Records in MySQL 5.7 or later, or in MariaDB, in tables of InnoDB. Tested on MariaDB 10.11.
pub type MySqlStore = SqlStore<MySql>;

/// Records in PostgreSQL 9.5 or later. Tested on PostgreSQL 15.
pub type PostgresStore = SqlStore<Postgres>;

/// Records in a file of SQLite 3.42 or later, such as the one that `sqlx` brings along.
///
/// Open it with `journal_mode=WAL`, or whoever reads is in the way of whoever writes.
pub type SqliteStore = SqlStore<Sqlite>;

#[derive(Debug, Error)]
enum Failed {
    #[error("the database cannot be asked")]
    Sql(#[from] sqlx::Error),
    #[error("the database did not answer within {0:?}")]
    Late(Duration, #[source] Elapsed),
    #[error("the record went away while it was read")]
    Vanished,
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl<D: Dialect> SqlStore<D> {
    /// Creates a store of the database that `pool` is connected to; [`migrate`](Self::migrate) makes its
    /// table.
    ///
    /// An operation takes five seconds at most.
    #[must_use]
    pub fn new(pool: Pool<D>) -> Self {
        Self { pool, timeout: Duration::from_secs(5) }
    }

    /// Gives up an operation after `timeout`, 5 s unless set.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes the table `redial_idempotency` unless it is there; many may do so at once.
    ///
    /// # Errors
    ///
    /// If the database cannot be asked, or does not allow it.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.bounded(|| async {
            let mut connection = self.pool.acquire().await?;
            for sql in D::SQL.create {
                D::execute(&mut connection, sql, &[]).await?;
            }
            Ok(())
        })
        .await
    }

    /// Stores the answer for `keep` within the caller's transaction; returns whether `token` still held the
    /// key.
    ///
    /// If so, the answer stands when, and only when, the transaction is committed: together with everything
    /// else that was written in it. If not, somebody took over: **roll back**.
    ///
    /// The transaction locks the record from here on until it ends, so call this last, and
    /// commit soon.
    ///
    /// # Errors
    ///
    /// If the database cannot be asked, or gives the transaction up, as PostgreSQL does in a
    /// transaction of a level above `READ COMMITTED` that somebody took over from. Roll back.
    pub async fn complete_in(
        &self,
        transaction: &mut Transaction<'_, D>,
        key: &RecordKey,
        token: FencingToken,
        answer: &StoredAnswer,
        keep: Duration,
    ) -> Result<bool, StoreError> {
        let run = complete::<D>(transaction, key, token, answer, keep);
        let late = |elapsed| failed::<D>(Failed::Late(self.timeout, elapsed));
        timeout(self.timeout, run).await.map_err(late)?.map_err(failed::<D>)
    }

    /// Runs `op` within the timeout, and again if the database gave it up because of others.
    async fn bounded<T, Fut>(&self, mut op: impl FnMut() -> Fut + Send) -> Result<T, StoreError>
    where
        Fut: Future<Output = Result<T, Failed>> + Send,
        T: Send,
    {
        // Each deadlock lets one of those involved go on.
        let attempts = retry(conflict_policy(), || {
            let attempt = op();
            async move {
                attempt.await.map_err(|error| match error.is_transient() {
                    true => Failure::Transient(error),
                    false => Failure::Permanent(error),
                })
            }
        });
        let late = |elapsed| failed::<D>(Failed::Late(self.timeout, elapsed));
        timeout(self.timeout, attempts).await.map_err(late)?.map_err(failed::<D>)
    }

    async fn try_begin(
        &self,
        key: &RecordKey,
        fingerprint: Fingerprint,
        lease: Duration,
    ) -> Result<Claim, Failed> {
        let mut transaction = self.pool.begin_with(D::SQL.begin).await?;
        D::execute(&mut transaction, D::SQL.insert, &[Value::Text(key.as_str())]).await?;
        let row = D::record(&mut transaction, D::SQL.select, key.as_str()).await?;
        let record = row.ok_or(Failed::Vanished)?.read()?;
        let now = since_1970(D::number(&mut transaction, D::SQL.now).await?);
        let claim = match record.begin(fingerprint, now) {
            Begun::Free => {
                let lease = Duration::from_micros(micros(lease).unsigned_abs());
                let (next, token) =
                    IdempotencyRecord::start(Some(&record), fingerprint, now, lease);
                let until = now.saturating_add(lease);
                let fingerprint = next.fingerprint();
                let values = [
                    Value::Bytes(Some(fingerprint.as_bytes())),
                    Value::Number(write_token(token)),
                    Value::Number(micros(until)),
                    Value::Text(key.as_str()),
                ];
                D::execute(&mut transaction, D::SQL.hold, &values).await?;
                Claim::Started(token)
            }
            Begun::InProgress { left } => Claim::InProgress { left },
            Begun::Completed(answer) => Claim::Completed(answer.clone()),
            Begun::Mismatch => Claim::Mismatch,
        };
        transaction.commit().await?;
        Ok(claim)
    }

    /// Runs one statement on a connection of the pool; returns whether it found the record.
    async fn found(&self, sql: &'static str, values: &[Value<'_>]) -> Result<bool, StoreError> {
        let run = || async {
            let mut connection = self.pool.acquire().await?;
            Ok(D::execute(&mut connection, sql, values).await? == 1)
        };
        self.bounded(run).await
    }
}

impl<D: Dialect> IdempotencyStore for SqlStore<D> {
    async fn begin(
        &self,
        key: &RecordKey,
        fingerprint: Fingerprint,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        self.bounded(|| self.try_begin(key, fingerprint, lease)).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        token: FencingToken,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let values = [
            Value::Number(micros(lease)),
            Value::Text(key.as_str()),
            Value::Number(write_token(token)),
        ];
        self.found(D::SQL.renew, &values).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: FencingToken,
        answer: &StoredAnswer,
        keep: Duration,
    ) -> Result<bool, StoreError> {
        let run = || async {
            let mut connection = self.pool.acquire().await?;
            complete::<D>(&mut connection, key, token, answer, keep).await
        };
        self.bounded(run).await
    }

    async fn release(&self, key: &RecordKey, token: FencingToken) -> Result<bool, StoreError> {
        let values = [Value::Text(key.as_str()), Value::Number(write_token(token))];
        self.found(D::SQL.release, &values).await
    }
}

impl Failed {
    fn is_transient(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => is_transient(error.as_ref()),
            Self::Vanished => true,
            _ => false,
        }
    }
}

impl<D: Dialect> Clone for SqlStore<D> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), timeout: self.timeout }
    }
}

impl<D: Dialect> fmt::Debug for SqlStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the pool: its options may hold a password.
        let mut shown = f.debug_struct("SqlStore");
        shown.field("database", &D::SQL.name).field("timeout", &self.timeout);
        shown.finish_non_exhaustive()
    }
}

async fn complete<D: Dialect>(
    connection: &mut D::Connection,
    key: &RecordKey,
    token: FencingToken,
    answer: &StoredAnswer,
    keep: Duration,
) -> Result<bool, Failed> {
    let fields = write_fields(&answer.headers);
    let values = [
        Value::Number(micros(keep)),
        Value::Number(answer.status.as_u16().into()),
        Value::Bytes(Some(&fields)),
        Value::Bytes(answer.body.as_deref()),
        Value::Text(key.as_str()),
        Value::Number(write_token(token)),
    ];
    Ok(D::execute(connection, D::SQL.complete, &values).await? == 1)
}

fn since_1970(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn failed<D: Dialect>(error: Failed) -> StoreError {
    StoreError::new(D::SQL.name, error)
}
