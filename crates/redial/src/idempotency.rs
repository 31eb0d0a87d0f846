//! One key, one execution.
//!
//! On the caller's side, [`IdempotencyKeyLayer`] gives each call one key, the same in every attempt. On the
//! server's side, [`IdempotencyLayer`] keeps a record of each key in an [`IdempotencyStore`], carries a
//! request out once, and answers its duplicates with what came of it. By what is remembered of a key, a
//! request with it meets one of these (draft-ietf-httpapi-idempotency-key-header-07):
//!
//! | the key is | then |
//! |---|---|
//! | new | the request is carried out, under a lease that is renewed while it lasts |
//! | completed | the stored answer, with `Idempotent-Replayed: true` |
//! | in progress | a wait, up to a bound, for the answer; then 409 with `Retry-After` |
//! | of another payload | 422 |
//! | missing though required, or malformed | 400 |
//! | unknown, because the store cannot be asked | 503 with `Retry-After`, or carried out unprotected |
//!
//! What is no answer of the service is a problem document (RFC 9457). Its `type` is one of these:
//!
//! # Key-missing
//! Status 400. Send a key, the same for every attempt at one operation.
//! # Key-malformed
//! Status 400. A key is one string of 1 to 255 characters of visible ASCII, in quotes or without.
//! # Key-reused
//! Status 422. The key was used with another payload. Another operation needs another key.
//! # In-progress
//! Status 409. Repeat with the same key, after the time that `Retry-After` names: what is left of the
//! lease.
//! # Lease-lost
//! Status 409. This execution gave no sign of life for so long that another one took over, whose answer
//! counts. Repeat with the same key to get it.
//! # Not-replayable
//! Status 409, with `Idempotent-Replayed: true`. The request was carried out, and its answer was too long to
//! be kept; `Location`, `Content-Location` and `ETag` of it are there. Do not repeat.
//! # Body-too-large
//! Status 413. The body cannot be compared.
//! # Body-unreadable
//! Status 400. The body broke off. Nothing was done.
//! # Store-unavailable
//! Status 503. Nothing was done. Repeat later with the same key.
//! # Answer-broken
//! Status 500. The answer of the service broke off, and whether anything was done is not known.

mod client;
mod key;
mod memory;
mod policy;
mod provider;
mod server;
mod store;

pub(crate) use self::client::KeySent;
pub use self::{
    client::{IdempotencyKeyLayer, IdempotencyKeys},
    key::{IdempotencyKey, InvalidKey, KeyDialect},
    memory::MemoryStore,
    policy::{Abandoned, IdempotencyPolicy, InvalidIdempotency, Outage, Remember},
    provider::{Provider, Repeat},
    server::{Execution, Idempotency, IdempotencyFuture, IdempotencyLayer},
    store::{Claim, IdempotencyStore, RecordKey, StoreError, StoredAnswer},
};
