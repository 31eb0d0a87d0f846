//! Records of idempotency keys that outlive a process, and updates that do not overwrite each other.
//!
//! [`RedisStore`] and [`SqlStore`] keep what [`redial::idempotency`] needs to know of each key, so that any
//! number of processes carry a request out once. Only SQL goes further: [`SqlStore::complete_in`] stores the
//! answer in the very transaction of the business write, and there is no moment at which one stands without
//! the other. [`optimistic`] repeats a `UPDATE … WHERE version = ?` that came too late.
//!
//! Every point in time is read from the store's clock, by the store. No code here reads the clock of the
//! process that it runs in.

mod optimistic;
mod record;
mod redis;
mod sql;

pub use self::{
    optimistic::{OptimisticError, Update, conflict_policy, optimistic},
    redis::{InvalidRedisUrl, RedisStore},
    sql::{Dialect, MySqlStore, PostgresStore, SqlStore, SqliteStore, Sweeper},
};

/// The code of the README compiles and does what it says.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
