//! Open connections, kept by origin, and shared out fairly.
//!
//! A call takes an idle connection, or waits in line for whatever comes first: one that another call
//! brings back, or a new one. So connections are made in tasks of their own, and belong to nobody
//! until they are there. Everything is bounded, and kept under one lock that is held for a few
//! dozen instructions: the order of arrival, the limits and the counts all change together, and a
//! lock-free pool would have to guess at one of them. Nothing waits, dials, logs or closes a socket
//! under it.

mod permit;
mod slot;
mod watch;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::AbortHandle,
    time::{Instant, timeout},
};

use self::{
    permit::Dialing,
    slot::{Granted, Kept, PATIENCE, Slot, Waiter, is_old},
};
pub(crate) use self::{
    permit::Permit,
    slot::{Grant, Want},
};
use crate::{
    connect::{ConnectError, Connector},
    error::PoolExhausted,
    leak::{Caller, OnLeak},
    lease::{Connection, Lease},
    limits::Limits,
    origin::Origin,
    snapshot::{PoolCounts, Reason},
};

/// Open connections by origin.
#[derive(Debug)]
pub(crate) struct Pool {
    state: Mutex<State>,
    newest: AtomicU64,
    connector: Connector,
    limits: Limits,
    on_leak: Option<OnLeak>,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<Origin, Slot>,
    totals: Totals,
    sweep: Option<AbortHandle>,
}

/// What concerns all origins together.
#[derive(Debug, Default)]
struct Totals {
    open: usize,
    /// HTTP/1.1 only: the others are few.
    idle: usize,
    waiters: u64,
    /// Origins whose calls wait only for a place among all connections; those that have none at all
    /// come first.
    starved: VecDeque<Origin>,
    bare: VecDeque<Origin>,
    /// The counts of origins that are forgotten.
    past: PoolCounts,
}

/// What was decided under the lock, to be done without it.
#[derive(Debug, Default)]
struct Todo {
    /// Where to begin a connection; its place is counted already.
    dials: Vec<Origin>,
    gone: Vec<Connection>,
    /// Whose line to look at again.
    timers: Vec<Origin>,
    is_watch_over: bool,
}

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
    pub(crate) fn new(connector: Connector, limits: Limits, on_leak: Option<OnLeak>) -> Self {
        let (state, newest) = (Mutex::default(), AtomicU64::new(0));
        Self { state, newest, connector, limits, on_leak }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the number of the newest connection: whatever is above it was made later.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// Returns a connection to `origin`, or a stream of one, in the order of arrival.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the line. A connection that is being made is made nevertheless,
    /// for whoever comes next.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        origin: &Origin,
        want: Want,
        caller: Caller,
    ) -> Result<Lease, AcquireError> {
        let mut waiting = match self.enter(origin, want, caller) {
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
    fn enter(
        self: &Arc<Self>,
        origin: &Origin,
        want: Want,
        caller: Caller,
    ) -> Result<Entered, PoolExhausted> {
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
            let taken = slot.take(want, caller, (now, &self.limits), &mut todo.gone);
            totals.idle -= before - slot.idle.len();
            if let Some(grant) = taken {
                drop(state);
                if grant.connection.is_usable() {
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
            slot.waiters.insert(id, Waiter { want, caller, since: now, granted: sender });
            self.plan(&mut state, origin, now, &mut todo);
            self.make_room(&mut state, origin, &mut todo);
            self.keep_watch(&mut state, &mut todo);
            drop(state);
            self.carry_out(todo);
            let (pool, origin) = (Arc::clone(self), origin.clone());
            return Ok(Entered::Waiting(Waiting { pool, origin, id, granted: Some(granted) }));
        }
    }

    fn lease(self: &Arc<Self>, origin: &Origin, grant: Grant) -> Lease {
        Lease::new(grant, Arc::clone(self), origin.clone())
    }

    /// Decides which connections to begin for those who wait at `origin`.
    fn plan(&self, state: &mut State, origin: &Origin, now: Instant, todo: &mut Todo) {
        let State { slots, totals, .. } = state;
        let Some(slot) = slots.get_mut(origin) else { return };
        let (wanted, is_withheld) = slot.dials_wanted(now, &self.limits);
        if is_withheld && !slot.is_timed {
            slot.is_timed = true;
            todo.timers.push(origin.clone());
        }
        let begun = wanted.min(self.limits.max_open.saturating_sub(totals.open));
        slot.open += begun;
        slot.dialing += begun;
        totals.open += begun;
        todo.dials.extend(std::iter::repeat_n(origin, begun).cloned());
        if begun < wanted && !slot.is_starved {
            slot.is_starved = true;
            let line = if slot.open == 0 { &mut totals.bare } else { &mut totals.starved };
            line.push_back(origin.clone());
        }
    }

    /// Closes one idle connection if a call at `origin` can get a place in no other way.
    fn make_room(&self, state: &mut State, origin: &Origin, todo: &mut Todo) {
        let State { slots, totals, .. } = state;
        let Some(slot) = slots.get(origin) else { return };
        let from = if self.limits.max_open_per_host <= slot.open {
            slots.get_mut(origin)
        } else if slot.is_starved {
            let idle = slots.values_mut().filter(|slot| slot.idle_since().is_some());
            idle.min_by_key(|slot| slot.idle_since())
        } else {
            return;
        };
        if let Some(slot) = from {
            let before = slot.idle.len();
            todo.gone.extend(slot.evict());
            totals.idle -= before - slot.idle.len();
        }
    }

    /// Decides about those who wait for a place among all connections, where there is one now.
    fn feed(&self, state: &mut State, now: Instant, todo: &mut Todo) {
        while state.totals.open < self.limits.max_open {
            let totals = &mut state.totals;
            let next = totals.bare.pop_front().or_else(|| totals.starved.pop_front());
            let Some(origin) = next else { return };
            if let Some(slot) = state.slots.get_mut(&origin) {
                slot.is_starved = false;
            }
            self.plan(state, &origin, now, todo);
        }
    }

    /// Does what was decided. The lock must be free.
    fn carry_out(self: &Arc<Self>, todo: Todo) {
        drop(todo.gone);
        if todo.is_watch_over {
            self.start_watch();
        }
        for origin in todo.timers {
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(hurry(Arc::downgrade(self), origin));
            }
        }
        for origin in todo.dials {
            let permit = Permit::new(self, &origin);
            let dialing = Dialing::new(Arc::clone(self), origin.clone());
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(dial(Arc::clone(self), origin, permit, dialing));
            }
        }
    }

    /// Counts a socket. Returns a number for it.
    fn opened(&self, origin: &Origin) -> u64 {
        let mut state = self.lock();
        if let Some(slot) = state.slots.get_mut(origin) {
            slot.counts.created += 1;
        }
        self.newest.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes in a connection that was made.
    fn made(self: &Arc<Self>, origin: &Origin, connection: Connection) {
        let now = Instant::now();
        let mut todo = Todo::default();
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(origin) else { return };
        slot.dialing -= 1;
        slot.is_h2 = Some(connection.is_h2());
        let is_for_one = slot.waiters.values().next().is_some_and(|one| one.want == Want::Fresh);
        let is_shared = connection.is_h2() && self.limits.keeps_any() && !is_for_one;
        if is_shared {
            slot.add_shared(connection, now);
            slot.share_out(now, &self.limits, &mut todo.gone);
        } else if let Some(connection) = slot.hand_over(connection, true, now) {
            self.keep(&mut state, origin, connection, now, &mut todo);
        }
        self.plan(&mut state, origin, now, &mut todo);
        drop(state);
        self.carry_out(todo);
    }

    /// Notes that nothing came of a connection, and fails the call that has waited longest.
    fn failed(self: &Arc<Self>, origin: &Origin, error: ConnectError, goes_on: bool) {
        let now = Instant::now();
        let mut todo = Todo::default();
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(origin) else { return };
        slot.dialing -= 1;
        slot.counts.failed += 1;
        slot.fail(error, now);
        if goes_on {
            self.feed(&mut state, now, &mut todo);
            self.plan(&mut state, origin, now, &mut todo);
        }
        drop(state);
        self.carry_out(todo);
    }

    /// Takes back the place of a socket, or of a connection that was never made.
    fn closed(self: &Arc<Self>, origin: &Origin, closed: Option<(u64, Reason)>) {
        let now = Instant::now();
        let mut todo = Todo::default();
        let mut state = self.lock();
        let State { slots, totals, .. } = &mut *state;
        totals.open -= 1;
        let Some(slot) = slots.get_mut(origin) else { return };
        slot.open -= 1;
        // Of one that was never made its `Dialing` tells, which is what the calls count on.
        if let Some((id, reason)) = closed {
            *slot.counts.closed.of(reason) += 1;
            let before = slot.idle.len();
            slot.forget(id, &mut todo.gone);
            totals.idle -= before - slot.idle.len();
            self.feed(&mut state, now, &mut todo);
            self.plan(&mut state, origin, now, &mut todo);
        }
        drop(state);
        self.carry_out(todo);
    }

    /// Takes back an HTTP/1.1 connection that is free again: for the next in line, or to be kept.
    pub(crate) fn put(self: &Arc<Self>, origin: &Origin, grant: Grant) {
        let now = Instant::now();
        let mut todo = Todo::default();
        let mut state = self.lock();
        let State { slots, totals, .. } = &mut *state;
        let Some(slot) = slots.get_mut(origin) else { return };
        slot.lent.try_remove(grant.key);
        let connection = grant.connection;
        let reason = match is_old(&connection, now, now, &self.limits) {
            Some(Reason::Lifetime) => Some(Reason::Lifetime),
            _ if !totals.bare.is_empty() => Some(Reason::Limit),
            _ if !slot.waiters.is_empty() && !connection.is_usable() => Some(Reason::Server),
            _ => None,
        };
        if let Some(reason) = reason {
            connection.close_for(reason);
            todo.gone.push(connection);
        } else if let Some(connection) = slot.hand_over(connection, false, now) {
            self.keep(&mut state, origin, connection, now, &mut todo);
        }
        self.keep_watch(&mut state, &mut todo);
        drop(state);
        self.carry_out(todo);
    }

    /// Keeps a connection that nobody waits for, unless there are enough.
    fn keep(
        &self,
        state: &mut State,
        origin: &Origin,
        connection: Connection,
        now: Instant,
        todo: &mut Todo,
    ) {
        let State { slots, totals, .. } = state;
        let Some(slot) = slots.get_mut(origin) else { return };
        // Those who wait still want a newer one, which may need its place.
        let is_in_the_way = !totals.starved.is_empty()
            || !totals.bare.is_empty()
            || !slot.waiters.is_empty() && self.limits.max_open_per_host <= slot.open;
        let is_room = slot.idle.len() < self.limits.max_idle_per_host && !is_in_the_way;
        if connection.is_h2() || !is_room || !self.limits.keeps_any() {
            connection.close_for(Reason::Limit);
            todo.gone.push(connection);
            return;
        }
        slot.idle.push_back(Kept { connection, since: now });
        totals.idle += 1;
        if self.limits.max_idle < totals.idle {
            let slots = slots.values_mut().filter(|slot| !slot.idle.is_empty());
            if let Some(slot) = slots.min_by_key(|slot| slot.idle.front().map(|kept| kept.since)) {
                todo.gone.extend(slot.evict());
                totals.idle -= 1;
            }
        }
    }

    /// Takes back a stream of an HTTP/2 connection.
    pub(crate) fn release(self: &Arc<Self>, origin: &Origin, grant: &Grant) {
        let now = Instant::now();
        let mut todo = Todo::default();
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(origin) else { return };
        slot.lent.try_remove(grant.key);
        if !slot.end_stream(grant.connection.id, now) {
            grant.connection.close_for(Reason::Limit);
        }
        if !slot.waiters.is_empty() {
            slot.share_out(now, &self.limits, &mut todo.gone);
            self.plan(&mut state, origin, now, &mut todo);
            if state.slots.get(origin).is_some_and(|slot| !slot.waiters.is_empty()) {
                self.make_room(&mut state, origin, &mut todo);
            }
        }
        drop(state);
        self.carry_out(todo);
    }

    /// Gives streams to those who wait, now that the peer has said how many there are.
    pub(crate) fn settled(self: &Arc<Self>, origin: &Origin) {
        let now = Instant::now();
        let mut todo = Todo::default();
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(origin) else { return };
        slot.share_out(now, &self.limits, &mut todo.gone);
        self.plan(&mut state, origin, now, &mut todo);
        drop(state);
        self.carry_out(todo);
    }

    /// Lets go of a connection that cannot be used again. Its place is free when its socket is
    /// closed.
    pub(crate) fn discard(self: &Arc<Self>, origin: &Origin, grant: Grant, reason: Reason) {
        let mut todo = Todo::default();
        grant.connection.close_for(reason);
        let mut state = self.lock();
        if let Some(slot) = state.slots.get_mut(origin) {
            slot.lent.try_remove(grant.key);
            slot.forget(grant.connection.id, &mut todo.gone);
        }
        drop(state);
        todo.gone.push(grant.connection);
    }

    fn is_full(&self, origin: &Origin) -> bool {
        let mut state = self.lock();
        let is_full = self.limits.max_open <= state.totals.open;
        let Some(slot) = state.slots.get_mut(origin) else { return false };
        let is_full = is_full || self.limits.max_open_per_host <= slot.open;
        slot.counts.rejected += u64::from(is_full);
        is_full
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Looks at a line again when the calls in it have lost their patience.
async fn hurry(pool: Weak<Pool>, origin: Origin) {
    tokio::time::sleep(PATIENCE).await;
    let Some(pool) = pool.upgrade() else { return };
    let mut todo = Todo::default();
    let mut state = pool.lock();
    let Some(slot) = state.slots.get_mut(&origin) else { return };
    slot.is_timed = false;
    pool.plan(&mut state, &origin, Instant::now(), &mut todo);
    drop(state);
    pool.carry_out(todo);
}

/// Makes a connection for whoever is first in line when it is there.
async fn dial(pool: Arc<Pool>, origin: Origin, permit: Permit, dialing: Dialing) {
    let after = pool.limits.connect_timeout;
    let connecting = async {
        let mut dialed = pool.connector.connect(&origin).await?;
        let id = dialed.stream.hold(permit);
        Connection::start(id, dialed, &pool, &origin).await
    };
    match timeout(after, connecting).await {
        Ok(Ok(connection)) => dialing.made(connection),
        Ok(Err(error)) => dialing.failed(error),
        Err(_) => dialing.failed(ConnectError::Timeout { after }),
    }
}
