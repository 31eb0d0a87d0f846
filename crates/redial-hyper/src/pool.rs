//! Open connections, kept by origin, and shared out fairly.
//!
//! A call takes an idle connection, or waits in line for whatever comes first: one that another call
//! brings back, or a new one. So connections are made in tasks of their own, and belong to nobody
//! until they are there. Everything is bounded, and kept under one lock that is held for a few
//! dozen instructions: the order of arrival, the limits and the counts all change together, and a
//! lock-free pool would have to guess at one of them. Nothing waits, dials, logs or closes a socket
//! under it.

mod acquire;
mod dial;
mod permit;
mod slot;
mod watch;

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{task::AbortHandle, time::Instant};

use self::slot::{Kept, Slot, is_old};
pub(crate) use self::{
    acquire::AcquireError,
    permit::Permit,
    slot::{Grant, Need, Want},
};
use crate::{
    connect::Connector,
    leak::OnLeak,
    lease::Connection,
    limits::Limits,
    origin::{Hashed, Origin},
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
    slots: HashMap<Origin, Slot, BuildHasherDefault<Hashed>>,
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
        state.forget(origin);
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
            _ if !slot.suits_first(&connection) => Some(Reason::Server),
            _ => None,
        };
        if let Some(reason) = reason {
            connection.close_for(reason);
            todo.gone.push(connection);
        } else if let Some(connection) = slot.hand_over(connection, false, now)
            && self.keep(slot, totals, connection, now, &mut todo)
        {
            state.thin_out(&mut todo);
        }
        self.keep_watch(&mut state, &mut todo);
        drop(state);
        self.carry_out(todo);
    }

    /// Keeps a connection that nobody waits for, unless there are enough for its origin, or its
    /// place is needed. Returns whether there are too many in all now.
    fn keep(
        &self,
        slot: &mut Slot,
        totals: &mut Totals,
        connection: Connection,
        now: Instant,
        todo: &mut Todo,
    ) -> bool {
        // Those who wait still want a newer one, which may need its place.
        let is_in_the_way = !totals.starved.is_empty()
            || !totals.bare.is_empty()
            || !slot.waiters.is_empty() && self.limits.max_open_per_host <= slot.open;
        let is_room = slot.idle.len() < self.limits.max_idle_per_host && !is_in_the_way;
        if !connection.is_connected() {
            // Its place has been taken back already, or will be next.
            todo.gone.push(connection);
            return false;
        }
        if connection.is_h2() || !is_room || !self.limits.keeps_any() {
            connection.close_for(Reason::Limit);
            todo.gone.push(connection);
            return false;
        }
        slot.idle.push_back(Kept { connection, since: now });
        totals.idle += 1;
        self.limits.max_idle < totals.idle
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets an origin without any connection, before the next sweep if there are many.
    fn forget(&mut self, origin: &Origin) {
        if self.slots.len() <= ORIGINS_KEPT || !self.slots.get(origin).is_some_and(Slot::is_empty) {
            return;
        }
        if let Some(slot) = self.slots.remove(origin) {
            self.totals.past.add(&slot.counts);
        }
    }

    /// Closes the HTTP/1.1 connection that has been idle longest.
    fn thin_out(&mut self, todo: &mut Todo) {
        let idle = self.slots.values_mut().filter(|slot| !slot.idle.is_empty());
        let Some(slot) = idle.min_by_key(|slot| slot.idle.front().map(|kept| kept.since)) else {
            return;
        };
        todo.gone.extend(slot.evict());
        self.totals.idle -= 1;
    }
}

/// From how many on an origin is forgotten with its last connection: what a crawl leaves behind
/// until the next sweep is bounded.
const ORIGINS_KEPT: usize = 1024;
