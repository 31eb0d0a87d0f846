//! What differs between databases: one table of statements each, and how values get in and out.
//!
//! Statements take their values in the same order everywhere. Clocks count microseconds since 1970, whatever
//! time zone a session has.

use std::future::Future;

use redial_core::{Fingerprint, IdempotencyRecord, RecordState};
use sqlx::{Database, Error, MySql, Postgres, Row as _, Sqlite, error::DatabaseError};

use crate::record::{Unreadable, read_answer, read_token};

/// A database that [`SqlStore`](crate::SqlStore) speaks to: MySQL and MariaDB, PostgreSQL, or SQLite.
pub trait Dialect: Database + Speak {}

impl Dialect for MySql {}
impl Dialect for Postgres {}
impl Dialect for Sqlite {}

/// Keeps others from implementing [`Dialect`], and their hands off our statements.
#[expect(unnameable_types, reason = "nobody else is to implement it")]
pub trait Speak: Database {
    /// The table of statements.
    const SQL: Statements;

    /// Runs a statement and returns how many rows it found.
    fn execute(
        connection: &mut Self::Connection,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Reads the record of a key.
    fn record(
        connection: &mut Self::Connection,
        sql: &'static str,
        key: &str,
    ) -> impl Future<Output = Result<Option<Record>, Error>> + Send;

    /// Reads one number.
    fn number(
        connection: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<i64, Error>> + Send;
}

/// A value that goes into a statement.
#[derive(Clone, Copy, Debug)]
#[expect(unnameable_types, reason = "only statements of ours take it")]
pub enum Value<'a> {
    /// A whole number.
    Number(i64),
    /// A text.
    Text(&'a str),
    /// Bytes, or none.
    Bytes(Option<&'a [u8]>),
}

/// The statements that the store needs.
#[derive(Clone, Copy, Debug)]
#[expect(unnameable_types, reason = "only statements of ours are in it")]
pub struct Statements {
    /// What errors call the store.
    pub(super) name: &'static str,
    /// Makes the table; no values.
    pub(super) create: &'static [&'static str],
    /// Begins a transaction that sees what others committed while it waited for a lock.
    pub(super) begin: &'static str,
    /// Makes sure that there is a record, and locks it where that is possible; key.
    pub(super) insert: &'static str,
    /// Locks the record and reads it; key.
    pub(super) select: &'static str,
    /// Reads the clock, as it is now and not when the transaction began; no values.
    pub(super) now: &'static str,
    /// Gives the record a holder; fingerprint, token, until, key.
    pub(super) hold: &'static str,
    /// Begins the lease anew; µs, key, token.
    pub(super) renew: &'static str,
    /// Stores the answer; µs, status, fields, body, key, token.
    pub(super) complete: &'static str,
    /// Frees the record; key, token.
    pub(super) release: &'static str,
    /// Deletes records that were over so many µs ago; µs, rows at most.
    pub(super) sweep: &'static str,
}

/// A row of the table.
#[derive(Debug)]
#[expect(unnameable_types, reason = "only statements of ours return it")]
pub struct Record {
    fingerprint: Vec<u8>,
    token: i64,
    state: i64,
    until_micros: i64,
    status: Option<i64>,
    fields: Option<Vec<u8>>,
    body: Option<Vec<u8>>,
}

impl Record {
    /// Returns what the row means. A free one is one whose lease was over in 1970.
    pub(super) fn read(
        self,
    ) -> Result<IdempotencyRecord<redial::idempotency::StoredAnswer>, Unreadable> {
        // The row that was made for a lock has no fingerprint yet, and nobody compares it.
        let fingerprint = self.fingerprint.try_into().map_or([0; 32], |bytes| bytes);
        let until = super::since_1970(self.until_micros);
        let state = match self.state {
            FREE | HELD => RecordState::InProgress { until },
            COMPLETED => {
                let status = self.status.ok_or(Unreadable::Missing("status"))?;
                let fields = self.fields.ok_or(Unreadable::Missing("fields"))?;
                RecordState::Completed { answer: read_answer(status, &fields, self.body)?, until }
            }
            number => return Err(Unreadable::Number { what: "state", number }),
        };
        Ok(IdempotencyRecord::new(Fingerprint::new(fingerprint), read_token(self.token)?, state))
    }
}

/// Tells whether the database gave up a transaction only because of others, so that it may go again.
pub(super) fn is_transient(error: &dyn DatabaseError) -> bool {
    let is_listed = error.code().is_some_and(|code| REPEATED.contains(&code.as_ref()));
    // The row in PostgreSQL's catalog of a table that two make at once.
    is_listed || error.is_unique_violation()
}

macro_rules! mysql_now {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
    };
}

macro_rules! postgres_micros {
    ($clock:literal) => {
        concat!("CAST(EXTRACT(EPOCH FROM ", $clock, ") * 1000000 AS BIGINT)")
    };
}

/// SQLite's clock has milliseconds.
macro_rules! sqlite_now {
    () => {
        "(CAST(ROUND(unixepoch('subsec') * 1000) AS INTEGER) * 1000)"
    };
}

/// What PostgreSQL and SQLite say alike; `$now` is the clock of each.
macro_rules! renew {
    ($now:expr) => {
        concat!(
            "UPDATE redial_idempotency SET until_micros = ",
            $now,
            " + $1 WHERE record_key = $2 AND token = $3 AND state = 1"
        )
    };
}

macro_rules! complete {
    ($now:expr) => {
        concat!(
            "UPDATE redial_idempotency SET state = 2, until_micros = ",
            $now,
            " + $1, status = $2, fields = $3, body = $4 \
             WHERE record_key = $5 AND token = $6 AND state = 1"
        )
    };
}

const HOLD: &str = "UPDATE redial_idempotency SET fingerprint = $1, token = $2, state = 1, \
    until_micros = $3, status = NULL, fields = NULL, body = NULL WHERE record_key = $4";
const RELEASE: &str = "UPDATE redial_idempotency SET state = 0, until_micros = 0 \
    WHERE record_key = $1 AND token = $2 AND state = 1";

macro_rules! speak {
    ($database:ty, $statements:expr) => {
        impl Speak for $database {
            const SQL: Statements = $statements;

            async fn execute(
                connection: &mut Self::Connection,
                sql: &'static str,
                values: &[Value<'_>],
            ) -> Result<u64, Error> {
                let mut query = sqlx::query::<Self>(sql);
                for value in values {
                    query = match *value {
                        Value::Number(number) => query.bind(number),
                        Value::Text(text) => query.bind(text),
                        Value::Bytes(bytes) => query.bind(bytes),
                    };
                }
                Ok(query.execute(connection).await?.rows_affected())
            }

            async fn record(
                connection: &mut Self::Connection,
                sql: &'static str,
                key: &str,
            ) -> Result<Option<Record>, Error> {
                let row = sqlx::query::<Self>(sql).bind(key).fetch_optional(connection).await?;
                let Some(row) = row else { return Ok(None) };
                Ok(Some(Record {
                    fingerprint: row.try_get(0)?,
                    token: row.try_get(1)?,
                    state: row.try_get(2)?,
                    until_micros: row.try_get(3)?,
                    status: row.try_get(4)?,
                    fields: row.try_get(5)?,
                    body: row.try_get(6)?,
                }))
            }

            async fn number(
                connection: &mut Self::Connection,
                sql: &'static str,
            ) -> Result<i64, Error> {
                sqlx::query::<Self>(sql).fetch_one(connection).await?.try_get(0)
            }
        }
    };
}

speak!(
    MySql,
    Statements {
        name: "mysql",
        create: &["CREATE TABLE IF NOT EXISTS redial_idempotency (
            record_key VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
            fingerprint VARBINARY(32) NOT NULL, token BIGINT NOT NULL, state BIGINT NOT NULL,
            until_micros BIGINT NOT NULL, status BIGINT, fields LONGBLOB, body LONGBLOB,
            INDEX redial_idempotency_until (until_micros)) ENGINE = InnoDB"],
        begin: "START TRANSACTION",
        // `INSERT IGNORE` would take a shared lock on a record that is there, and two that then want it
        // for themselves would be in each other's way.
        insert: "INSERT INTO redial_idempotency \
            (record_key, fingerprint, token, state, until_micros) VALUES (?, '', 0, 0, 0) \
            ON DUPLICATE KEY UPDATE record_key = record_key",
        select: "SELECT fingerprint, token, state, until_micros, status, fields, body \
            FROM redial_idempotency WHERE record_key = ? FOR UPDATE",
        now: concat!("SELECT ", mysql_now!()),
        hold: "UPDATE redial_idempotency SET fingerprint = ?, token = ?, state = 1, \
            until_micros = ?, status = NULL, fields = NULL, body = NULL WHERE record_key = ?",
        renew: concat!(
            "UPDATE redial_idempotency SET until_micros = ",
            mysql_now!(),
            " + ? WHERE record_key = ? AND token = ? AND state = 1"
        ),
        complete: concat!(
            "UPDATE redial_idempotency SET state = 2, until_micros = ",
            mysql_now!(),
            " + ?, status = ?, fields = ?, body = ? WHERE record_key = ? AND token = ? AND state = 1"
        ),
        release: "UPDATE redial_idempotency SET state = 0, until_micros = 0 \
            WHERE record_key = ? AND token = ? AND state = 1",
        sweep: concat!(
            "DELETE FROM redial_idempotency WHERE until_micros <= ",
            mysql_now!(),
            " - ? ORDER BY until_micros LIMIT ?"
        ),
    }
);

speak!(
    Postgres,
    Statements {
        name: "postgres",
        create: &[
            "CREATE TABLE IF NOT EXISTS redial_idempotency (
            record_key VARCHAR(255) COLLATE \"C\" NOT NULL PRIMARY KEY,
            fingerprint BYTEA NOT NULL, token BIGINT NOT NULL, state BIGINT NOT NULL,
            until_micros BIGINT NOT NULL, status BIGINT, fields BYTEA, body BYTEA)",
            "CREATE INDEX IF NOT EXISTS redial_idempotency_until \
            ON redial_idempotency (until_micros)",
        ],
        begin: "BEGIN ISOLATION LEVEL READ COMMITTED",
        insert: "INSERT INTO redial_idempotency \
            (record_key, fingerprint, token, state, until_micros) VALUES ($1, '', 0, 0, 0) \
            ON CONFLICT DO NOTHING",
        select: "SELECT fingerprint, token, state, until_micros, status, fields, body \
            FROM redial_idempotency WHERE record_key = $1 FOR UPDATE",
        now: concat!("SELECT ", postgres_micros!("clock_timestamp()")),
        hold: HOLD,
        renew: renew!(postgres_micros!("clock_timestamp()")),
        complete: complete!(postgres_micros!("clock_timestamp()")),
        release: RELEASE,
        // A clock that moves during the statement would keep the index from being used.
        sweep: concat!(
            "DELETE FROM redial_idempotency WHERE record_key IN (SELECT record_key \
             FROM redial_idempotency WHERE until_micros <= ",
            postgres_micros!("now()"),
            " - $1 LIMIT $2 FOR UPDATE SKIP LOCKED)"
        ),
    }
);

speak!(
    Sqlite,
    Statements {
        name: "sqlite",
        create: &[
            "CREATE TABLE IF NOT EXISTS redial_idempotency (
            record_key TEXT NOT NULL PRIMARY KEY, fingerprint BLOB NOT NULL, token INTEGER NOT NULL,
            state INTEGER NOT NULL, until_micros INTEGER NOT NULL, status INTEGER, fields BLOB,
            body BLOB)",
            "CREATE INDEX IF NOT EXISTS redial_idempotency_until \
            ON redial_idempotency (until_micros)",
        ],
        // The lock is for the whole database, and taken at once: one that is taken later cannot wait.
        begin: "BEGIN IMMEDIATE",
        insert: "INSERT INTO redial_idempotency \
            (record_key, fingerprint, token, state, until_micros) VALUES ($1, x'', 0, 0, 0) \
            ON CONFLICT DO NOTHING",
        select: "SELECT fingerprint, token, state, until_micros, status, fields, body \
            FROM redial_idempotency WHERE record_key = $1",
        now: concat!("SELECT ", sqlite_now!()),
        hold: HOLD,
        renew: renew!(sqlite_now!()),
        complete: complete!(sqlite_now!()),
        release: RELEASE,
        sweep: concat!(
            "DELETE FROM redial_idempotency WHERE record_key IN (SELECT record_key \
             FROM redial_idempotency WHERE until_micros <= ",
            sqlite_now!(),
            " - $1 LIMIT $2)"
        ),
    }
);

/// The three states, as numbers in the statements above.
const FREE: i64 = 0;
const HELD: i64 = 1;
const COMPLETED: i64 = 2;

/// Serialization failures and deadlocks; what PostgreSQL says where two make one table or type at the same moment,
/// which `IF NOT EXISTS` does not prevent; SQLite's busy, locked and busy snapshot.
const REPEATED: [&str; 7] = ["40001", "40P01", "42P07", "42710", "5", "6", "517"];
