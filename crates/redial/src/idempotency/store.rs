//! Where records are kept.

use std::{error::Error, fmt, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use redial_core::{FencingToken, Fingerprint};

/// Keeps the records of idempotency keys.
///
/// Each operation is atomic, whoever else uses the same store. Points in time are those of the store's
/// clock: no holder's clock is ever compared with another's. What follows from a record is what
/// [`IdempotencyRecord`](redial_core::IdempotencyRecord) says.
///
/// # Cancellation
///
/// A dropped future may have taken effect, or not. What it took is free again when its lease is over.
pub trait IdempotencyStore: Clone + Send + Sync + 'static {
    /// Begins to carry out the request of `key` under a lease, unless somebody else does or has.
    ///
    /// # Errors
    ///
    /// If the store cannot be asked.
    fn begin(
        &self,
        key: &RecordKey,
        fingerprint: Fingerprint,
        lease: Duration,
    ) -> impl Future<Output = Result<Claim, StoreError>> + Send;

    /// Begins the lease anew; returns whether `token` still held the key.
    ///
    /// # Errors
    ///
    /// If the store cannot be asked.
    fn renew(
        &self,
        key: &RecordKey,
        token: FencingToken,
        lease: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Stores the answer for `keep`; returns whether `token` still held the key. If not, nothing is stored.
    ///
    /// # Errors
    ///
    /// If the store cannot be asked.
    fn complete(
        &self,
        key: &RecordKey,
        token: FencingToken,
        answer: &StoredAnswer,
        keep: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Forgets the key, as if nothing had been begun; returns whether `token` still held it.
    ///
    /// # Errors
    ///
    /// If the store cannot be asked.
    fn release(
        &self,
        key: &RecordKey,
        token: FencingToken,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// What came of beginning.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// It is the caller's to carry out.
    Started(FencingToken),
    /// Somebody else carries it out.
    InProgress {
        /// How much of the lease is left.
        left: Duration,
    },
    /// It was carried out, and this is the answer.
    Completed(StoredAnswer),
    /// The key was used for another request.
    Mismatch,
}

/// An answer that duplicates get.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without those of one connection or one moment.
    pub headers: HeaderMap,
    /// Its body; `None` if it was too long to be kept: the request was carried out, and its answer cannot
    /// be given again.
    pub body: Option<Bytes>,
}

/// Whose key for what: the client's key together with who it is, and the request's method and path.
///
/// At most 255 bytes of visible ASCII, so that any store can index it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RecordKey {
    text: Arc<str>,
}

/// A store could not be asked, or what it holds makes no sense.
#[derive(Debug)]
pub struct StoreError {
    store: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl RecordKey {
    /// Creates a key from a text, which is at most 255 bytes of visible ASCII.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_fit =
            (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_fit.then(|| Self { text: text.into() })
    }

    /// Creates a key from a hash: 64 hexadecimal digits.
    #[must_use]
    pub fn of_hash(hash: [u8; 32]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
        let digits = hash.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
        Self { text: digits.collect::<String>().into() }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl StoreError {
    /// Creates an error of the store with that name.
    pub fn new(store: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { store, source: source.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the idempotency store ({}) failed", self.store)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
