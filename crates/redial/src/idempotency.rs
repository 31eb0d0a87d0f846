//! One key, one execution.
//!
//! On the caller's side, a layer gives each call one key, the same in every attempt. On the server's side,
//! another keeps a record of each key in an [`IdempotencyStore`], carries a request out once, and answers
//! its duplicates with what came of it.

mod store;

pub use self::store::{Claim, IdempotencyStore, RecordKey, StoreError, StoredAnswer};
