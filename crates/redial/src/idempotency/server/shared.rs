//! What the clones of a layer share, and what they ask of the store.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, Method, Uri, request::Parts};
use redial_core::{Event, FencingToken, Fingerprint, KeyOutcome};
use tokio::time::Instant;

use super::{
    super::{
        key::IdempotencyKey,
        policy::IdempotencyPolicy,
        store::{Claim, IdempotencyStore, RecordKey, StoreError, StoredAnswer},
    },
    flights::Flights,
    identity,
};
use crate::observe::{Call, Observer};

#[derive(Clone)]
pub(super) struct Shared<St> {
    pub(super) store: St,
    pub(super) policy: IdempotencyPolicy,
    pub(super) field: HeaderName,
    pub(super) fingerprinted: Vec<HeaderName>,
    pub(super) principal: Principal,
    pub(super) problem_types: Arc<str>,
    pub(super) flights: Flights,
    pub(super) observer: Observer,
}

/// Tells who asks.
pub(super) type Principal = Arc<dyn Fn(&Parts) -> Vec<u8> + Send + Sync>;

/// Which request it is about.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) method: Method,
    pub(super) uri: Uri,
}

impl<St: IdempotencyStore> Shared<St> {
    /// Returns the record's key and the fingerprint of a request.
    pub(super) fn identify(
        &self,
        key: &IdempotencyKey,
        head: &Parts,
        body: &[u8],
    ) -> (RecordKey, Fingerprint) {
        let record = identity::record_key(&(self.principal)(head), key, head);
        (record, identity::fingerprint(head, &self.fingerprinted, body))
    }

    /// Begins, and waits for a first one that is still in progress as long as the policy says.
    pub(super) async fn claim(
        &self,
        key: &RecordKey,
        fingerprint: Fingerprint,
    ) -> Result<Claim, StoreError> {
        let (until, mut pause) = (Instant::now() + self.policy.wait, FIRST_PAUSE);
        loop {
            // Looked up before the store is asked, so that an end in between is not missed.
            let flight = self.flights.find(key);
            let landed = flight.as_ref().map(|landed| landed.notified());
            let claim = self.store.begin(key, fingerprint, self.policy.lease);
            let claim = self.ask(self.policy.store_timeout, claim).await?;
            let left = until.saturating_duration_since(Instant::now());
            if !matches!(claim, Claim::InProgress { .. }) || left.is_zero() {
                return Ok(claim);
            }
            match landed {
                Some(landed) => drop(tokio::time::timeout(left, landed).await),
                None => {
                    tokio::time::sleep(pause.min(left)).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    pub(super) async fn renew(
        &self,
        key: &RecordKey,
        token: FencingToken,
    ) -> Result<bool, StoreError> {
        let lease = self.policy.lease;
        // One that hangs must not keep the next from being sent in time.
        let within = self.policy.store_timeout.min(lease / 3);
        self.ask(within, self.store.renew(key, token, lease)).await
    }

    /// Stores an answer, in several attempts: what was carried out and is not stored may be carried out
    /// again.
    pub(super) async fn complete(
        &self,
        key: &RecordKey,
        token: FencingToken,
        answer: &StoredAnswer,
    ) -> Result<bool, StoreError> {
        let (mut pause, mut left) = (FIRST_PAUSE, COMPLETE_RETRIES);
        loop {
            let complete = self.store.complete(key, token, answer, self.policy.keep);
            match self.ask(self.policy.store_timeout, complete).await {
                Err(_) if 0 < left => tokio::time::sleep(pause).await,
                outcome => return outcome,
            }
            (left, pause) = (left - 1, pause * 4);
        }
    }

    /// Frees a key. If that fails, it is free when the lease is over.
    pub(super) async fn release(&self, key: &RecordKey, token: FencingToken) {
        let release = self.store.release(key, token);
        drop(self.ask(self.policy.store_timeout, release).await);
    }

    pub(super) fn tell(&self, about: &About, outcome: KeyOutcome) {
        let About { method, uri } = about;
        self.observer.tell(&Call { method, uri }, Event::Keyed { outcome });
    }

    async fn ask<T>(
        &self,
        within: Duration,
        operation: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let outcome = tokio::time::timeout(within, operation).await;
        let outcome = outcome.unwrap_or_else(|late| Err(StoreError::new("no answer", late)));
        if let Err(error) = &outcome {
            let source: &dyn std::error::Error = error;
            tracing::debug!(error = source, "the idempotency store failed");
        }
        outcome
    }
}

impl<St> fmt::Debug for Shared<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, field, .. } = self;
        f.debug_struct("Shared").field("policy", policy).field("field", field).finish()
    }
}

/// A round trip to a store in the same place, and a bit.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Often enough for somebody who waits, and seldom enough for the store.
const LAST_PAUSE: Duration = Duration::from_millis(200);
const COMPLETE_RETRIES: u32 = 2;
