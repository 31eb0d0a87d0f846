//! What the service that carries a request out may know about it.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use redial_core::FencingToken;

use super::super::{key::IdempotencyKey, store::RecordKey};

/// The execution of a request with a key: in the request's extensions, for the service below the layer.
///
/// With its key and token a service can do what the layer cannot: write its effects and the answer in one
/// transaction of its own store, and then say so by [`mark_completed`](Self::mark_completed).
///
/// # Examples
///
/// ```
/// use http::{Request, StatusCode};
/// use redial::idempotency::Execution;
///
/// fn pay<B>(request: &Request<B>) -> StatusCode {
///     if let Some(execution) = request.extensions().get::<Execution>() {
///         // insert into payments (…, token) values (…, execution.token().number())
///         // update idempotency set status = 201, … where key = execution.key() and token = …
///         // commit
///         execution.mark_completed();
///     }
///     StatusCode::CREATED
/// }
/// # assert_eq!(pay(&Request::new(())), 201);
/// ```
#[derive(Clone, Debug)]
pub struct Execution {
    own: Arc<Own>,
}

#[derive(Debug)]
struct Own {
    client_key: IdempotencyKey,
    key: RecordKey,
    token: FencingToken,
    state: AtomicU8,
}

impl Execution {
    pub(super) fn new(client_key: IdempotencyKey, key: RecordKey, token: FencingToken) -> Self {
        let state = AtomicU8::new(HELD);
        Self { own: Arc::new(Own { client_key, key, token, state }) }
    }

    /// Returns the key of the record in the store.
    #[must_use]
    pub fn key(&self) -> &RecordKey {
        &self.own.key
    }

    /// Returns the key that the client sent.
    #[must_use]
    pub fn client_key(&self) -> &IdempotencyKey {
        &self.own.client_key
    }

    /// Returns the token of this execution: higher than those of all before it with the same key, so that
    /// what it writes to can refuse those that come late.
    #[must_use]
    pub fn token(&self) -> FencingToken {
        self.own.token
    }

    /// Returns whether nobody is known to have taken over. A service that is about to do what cannot be
    /// undone may ask; only a token that is checked where the effect happens is proof.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.own.state.load(Ordering::Acquire) != LOST
    }

    /// Says that the answer is stored already, under this key and token, by a transaction that is committed:
    /// the layer does not store it again.
    pub fn mark_completed(&self) {
        self.own.state.store(COMPLETED, Ordering::Release);
    }

    pub(super) fn is_completed(&self) -> bool {
        self.own.state.load(Ordering::Acquire) == COMPLETED
    }

    /// Notes that somebody else has the key; returns whether that is news. An answer that is stored takes
    /// the key from its holder as well.
    pub(super) fn lose(&self) -> bool {
        let state = &self.own.state;
        state.compare_exchange(HELD, LOST, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

const HELD: u8 = 0;
const LOST: u8 = 1;
const COMPLETED: u8 = 2;
