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

use super::entry::Entry;

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
    flights: Mutex<HashMap<Uri, Vec<Flight>>>,
}

#[derive(Debug)]
struct Flight {
    number: u64,
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
    uri: Uri,
    shard: usize,
    number: u64,
    landing: watch::Sender<Landing>,
}

impl Flights {
    /// Joins the flight for `uri`, or starts it. `hash` is the URI's.
    pub(super) fn join(self: &Arc<Self>, uri: &Uri, hash: u64, variant: u64) -> Join {
        let shard = shard_of(hash);
        let mut flights = self.lock(shard);
        let out = flights.get(uri).and_then(|out| out.iter().find(|out| out.variant == variant));
        if let Some(flight) = out {
            return Join::Wait(flight.landing.clone());
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, landing) = watch::channel(Landing::Aloft);
        flights.entry(uri.clone()).or_default().push(Flight { number, variant, landing });
        drop(flights);
        let (flights, uri) = (Arc::clone(self), uri.clone());
        Join::Lead(Lead { flights, uri, shard, number, landing: sender })
    }

    /// Lets nobody join the flights for `uri` that are out: what they bring is past.
    pub(super) fn close(&self, uri: &Uri, hash: u64) {
        self.lock(shard_of(hash)).remove(uri);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        (0..SHARDS).map(|shard| self.lock(shard).values().map(Vec::len).sum::<usize>()).sum()
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, HashMap<Uri, Vec<Flight>>> {
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
        let mut flights = self.flights.lock(self.shard);
        if let Some(out) = flights.get_mut(&self.uri) {
            out.retain(|flight| flight.number != self.number);
            if out.is_empty() {
                flights.remove(&self.uri);
            }
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.leave();
    }
}

fn shard_of(hash: u64) -> usize {
    usize::try_from(hash % SHARDS as u64).unwrap_or(0)
}

/// Enough that cores seldom meet at one lock, which is held for a look into a small table.
const SHARDS: usize = 16;
