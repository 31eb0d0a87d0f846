//! Executions in this process, so that their duplicates in the same process need not poll the store.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use super::super::store::RecordKey;

/// The executions that are under way here: as many as there are requests in flight.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights {
    map: Arc<Mutex<HashMap<RecordKey, Arc<Notify>>>>,
}

/// One execution. Dropping it wakes all that wait for it.
#[derive(Debug)]
#[must_use]
pub(super) struct Flight {
    flights: Flights,
    key: RecordKey,
    landed: Arc<Notify>,
}

impl Flights {
    /// Notes that an execution begins.
    pub(super) fn begin(&self, key: &RecordKey) -> Flight {
        let landed = Arc::new(Notify::new());
        self.with(|map| map.insert(key.clone(), Arc::clone(&landed)));
        Flight { flights: self.clone(), key: key.clone(), landed }
    }

    /// Returns what tells of the end of the execution of `key`, if there is one here.
    pub(super) fn find(&self, key: &RecordKey) -> Option<Arc<Notify>> {
        self.with(|map| map.get(key).map(Arc::clone))
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<RecordKey, Arc<Notify>>) -> T) -> T {
        work(&mut self.map.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // One that lost its lease may have a successor by now.
        self.flights.with(|map| {
            if map.get(&self.key).is_some_and(|landed| Arc::ptr_eq(landed, &self.landed)) {
                map.remove(&self.key);
            }
        });
        self.landed.notify_waiters();
    }
}
