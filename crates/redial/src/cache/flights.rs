//! Calls for the same that are out now: one leads, the others wait for what it brings.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http::Uri;
use tokio::sync::watch;

use super::{
    entry::Entry,
    key::{Hashed, KeyRef},
};

/// How a flight ended.
#[derive(Clone, Debug)]
pub(super) enum Landing {
    /// Still out.
    Aloft,
    /// With an answer for everybody that it suits.
    Shared(Arc<Entry>),
    /// With an answer that was for one only.
    Alone,
    /// Without an answer, or with one that a stale one may cover up.
    Failed,
}

/// Every flight that is out. There are never more than calls that lead one.
#[derive(Debug, Default)]
pub(super) struct Flights {
    shards: [Shard; SHARDS],
    numbers: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    flights: Mutex<Table>,
}

/// By the hash of the URI.
type Table = HashMap<u64, Vec<Flight>, Hashed>;

#[derive(Debug)]
struct Flight {
    number: u64,
    uri: Uri,
    /// Tells answers apart that are selected by different requests for one URI.
    variant: u64,
    landing: watch::Receiver<Landing>,
}

/// What a call does about a flight.
pub(super) enum Join {
    Lead(Lead),
    Wait(watch::Receiver<Landing>),
}

/// The lead of a flight. Dropped before it has landed, it leaves the lead to one of those who wait.
#[derive(Debug)]
pub(super) struct Lead {
    flights: Arc<Flights>,
    hash: u64,
    number: u64,
    landing: watch::Sender<Landing>,
}

impl Flights {
    /// Joins the flight for the answer to `key` that `variant` tells apart, or starts it.
    pub(super) fn join(self: &Arc<Self>, key: KeyRef<'_>, variant: u64) -> Join {
        let mut flights = self.lock(key.hash);
        let out = flights.entry(key.hash).or_default();
        let is_it = |flight: &&Flight| flight.variant == variant && flight.uri == *key.uri;
        if let Some(flight) = out.iter().find(is_it) {
            return Join::Wait(flight.landing.clone());
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, landing) = watch::channel(Landing::Aloft);
        out.push(Flight { number, uri: key.uri.clone(), variant, landing });
        drop(flights);
        let flights = Arc::clone(self);
        Join::Lead(Lead { flights, hash: key.hash, number, landing: sender })
    }

    /// Lets nobody join the flights for `key` that are out: what they bring is past.
    pub(super) fn close(&self, key: KeyRef<'_>) {
        self.remove(key.hash, |flight| flight.uri == *key.uri);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        (0..SHARDS as u64).map(|shard| self.lock(shard).values().map(Vec::len).sum::<usize>()).sum()
    }

    fn remove(&self, hash: u64, is_it: impl Fn(&Flight) -> bool) {
        let mut flights = self.lock(hash);
        if let Some(out) = flights.get_mut(&hash) {
            out.retain(|flight| !is_it(flight));
            if out.is_empty() {
                flights.remove(&hash);
            }
        }
    }

    fn lock(&self, hash: u64) -> MutexGuard<'_, Table> {
        let shard = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        // Nothing is done under the lock that could leave it half done.
        self.shards[shard].flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead {
    /// Returns whether anybody waits.
    pub(super) fn has_company(&self) -> bool {
        // One receiver is the flight's own.
        1 < self.landing.receiver_count()
    }

    /// Ends the flight.
    pub(super) fn land(self, landing: Landing) {
        // Whoever comes from here on finds what was stored, or starts anew.
        self.leave();
        self.landing.send_replace(landing);
    }

    fn leave(&self) {
        self.flights.remove(self.hash, |flight| flight.number == self.number);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Enough that cores seldom meet at one lock, which is held for a look into a small table.
const SHARDS: usize = 16;
