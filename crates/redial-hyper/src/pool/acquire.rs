//! How a call gets a connection: it takes one that is there, or stands in line.

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    Pool, State, Todo,
    slot::{Grant, Granted, Need, Slot, Waiter},
};
use crate::{
    connect::ConnectError, error::PoolExhausted, lease::Lease, origin::Origin, snapshot::Reason,
};

/// Why a call got no connection.
#[derive(Debug)]
pub(crate) enum AcquireError {
    Connect(ConnectError),
    Exhausted(PoolExhausted),
}

enum Entered {
    Ready(Lease),
    Waiting(Waiting),
}

/// A call that stands in line. Dropping it leaves the line, and brings back what came meanwhile.
struct Waiting {
    pool: Arc<Pool>,
    origin: Origin,
    id: u64,
    granted: Option<oneshot::Receiver<Granted>>,
}

impl Pool {
    /// Returns a connection to `origin`, or a stream of one, in the order of arrival.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the line. A connection that is being made is made nevertheless,
    /// for whoever comes next.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        origin: &Origin,
        need: Need,
    ) -> Result<Lease, AcquireError> {
        let mut waiting = match self.enter(origin, need) {
            Ok(Entered::Ready(lease)) => return Ok(lease),
            Ok(Entered::Waiting(waiting)) => waiting,
            Err(full) => return Err(AcquireError::Exhausted(full)),
        };
        let after = self.limits.acquire_timeout();
        match timeout(after, waiting.granted()).await {
            Ok(Ok(grant)) => Ok(self.lease(origin, grant)),
            Ok(Err(error)) => Err(AcquireError::Connect(error)),
            Err(_) if self.is_full(origin) => {
                Err(AcquireError::Exhausted(PoolExhausted::Timeout { after }))
            }
            Err(_) => Err(AcquireError::Connect(ConnectError::Timeout { after })),
        }
    }

    /// Takes a connection that is there, or a place in the line.
    fn enter(self: &Arc<Self>, origin: &Origin, need: Need) -> Result<Entered, PoolExhausted> {
        loop {
            let now = Instant::now();
            // Dropped after the lock.
            let mut todo = Todo::default();
            let mut state = self.lock();
            let State { slots, totals, .. } = &mut *state;
            let slot = slots
                .entry(origin.clone())
                .or_insert_with(|| Slot { is_h2: self.connector.is_h2(origin), ..Slot::default() });
            let before = slot.idle.len();
            let taken = slot.take(need, (now, &self.limits), &mut todo.gone);
            totals.idle -= before - slot.idle.len();
            if let Some((grant, unused)) = taken {
                drop(state);
                if grant.connection.is_usable(need, unused) {
                    return Ok(Entered::Ready(self.lease(origin, grant)));
                }
                self.discard(origin, grant, Reason::Server);
                continue;
            }
            if !slot.has_place_in_line(&self.limits) {
                slot.counts.rejected += 1;
                let max_waiting_per_host = self.limits.max_waiting_per_host;
                return Err(PoolExhausted::QueueFull { max_waiting_per_host });
            }
            totals.waiters += 1;
            let id = totals.waiters;
            let (sender, granted) = oneshot::channel();
            slot.waiters.insert(id, Waiter { need, since: now, granted: sender });
            self.plan(&mut state, origin, now, &mut todo);
            self.make_room(&mut state, origin, &mut todo);
            self.keep_watch(&mut state, &mut todo);
            drop(state);
            self.carry_out(todo);
            let (pool, origin) = (Arc::clone(self), origin.clone());
            return Ok(Entered::Waiting(Waiting { pool, origin, id, granted: Some(granted) }));
        }
    }

    pub(super) fn lease(self: &Arc<Self>, origin: &Origin, grant: Grant) -> Lease {
        Lease::new(grant, Arc::clone(self), origin.clone())
    }

    fn is_full(&self, origin: &Origin) -> bool {
        let mut state = self.lock();
        let is_full = self.limits.max_open <= state.totals.open;
        let Some(slot) = state.slots.get_mut(origin) else { return false };
        let is_full = is_full || self.limits.max_open_per_host <= slot.open;
        slot.counts.rejected += u64::from(is_full);
        is_full
    }
}

impl Waiting {
    async fn granted(&mut self) -> Granted {
        let Some(granted) = &mut self.granted else { return Err(ConnectError::Ended) };
        let outcome = granted.await.unwrap_or(Err(ConnectError::Ended));
        self.granted = None;
        outcome
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(mut granted) = self.granted.take() else { return };
        granted.close();
        if let Ok(Ok(grant)) = granted.try_recv() {
            drop(self.pool.lease(&self.origin, grant));
            return;
        }
        let mut state = self.pool.lock();
        let Some(slot) = state.slots.get_mut(&self.origin) else { return };
        if let Some(waiter) = slot.waiters.remove(&self.id) {
            slot.counts.waited(waiter.since.elapsed());
        }
    }
}
