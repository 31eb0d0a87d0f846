//! How connections are made: for the line, and not for the call that stands in it.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{
    Pool, State, Todo,
    permit::{Dialing, Permit},
    slot::{AT_ONCE, Want},
};
use crate::{connect::ConnectError, lease::Connection, origin::Origin};

impl Pool {
    /// Decides which connections to begin for those who wait at `origin`.
    pub(super) fn plan(&self, state: &mut State, origin: &Origin, now: Instant, todo: &mut Todo) {
        let State { slots, totals, .. } = state;
        let Some(slot) = slots.get_mut(origin) else { return };
        let (wanted, is_withheld) = slot.dials_wanted(now, &self.limits);
        // One that is overdue has died with its runtime.
        if is_withheld && slot.timer.is_none_or(|due| due + self.limits.patience < now) {
            slot.timer = Some(now + self.limits.patience);
            todo.timers.push(origin.clone());
        }
        let begun = wanted.min(self.limits.max_open.saturating_sub(totals.open));
        // Replacing one of the first few is no growth.
        if 0 < begun && AT_ONCE <= slot.open {
            slot.grown = Some(now);
        }
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
    pub(super) fn make_room(&self, state: &mut State, origin: &Origin, todo: &mut Todo) {
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
    pub(super) fn feed(&self, state: &mut State, now: Instant, todo: &mut Todo) {
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
    pub(super) fn carry_out(self: &Arc<Self>, todo: Todo) {
        drop(todo.gone);
        if todo.is_watch_over {
            self.start_watch();
        }
        for origin in todo.timers {
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(hurry(Arc::downgrade(self), origin, self.limits.patience));
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
    pub(super) fn opened(&self, origin: &Origin) -> u64 {
        let mut state = self.lock();
        if let Some(slot) = state.slots.get_mut(origin) {
            slot.counts.created += 1;
        }
        self.newest.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes in a connection that was made.
    pub(super) fn made(self: &Arc<Self>, origin: &Origin, connection: Connection) {
        let now = Instant::now();
        let mut todo = Todo::default();
        let mut state = self.lock();
        let State { slots, totals, .. } = &mut *state;
        let Some(slot) = slots.get_mut(origin) else { return };
        slot.dialing -= 1;
        slot.grown.get_or_insert(now);
        slot.is_h2 = Some(connection.is_h2());
        let is_for_one = slot.first_need().is_some_and(|need| need.want == Want::Fresh);
        let is_shared = connection.is_h2() && self.limits.keeps_any() && !is_for_one;
        if is_shared {
            slot.add_shared(connection, now);
            slot.share_out(now, &self.limits, &mut todo.gone);
        } else if let Some(connection) = slot.hand_over(connection, true, now)
            && self.keep(slot, totals, connection, now, &mut todo)
        {
            state.thin_out(&mut todo);
        }
        self.plan(&mut state, origin, now, &mut todo);
        drop(state);
        self.carry_out(todo);
    }

    /// Notes that nothing came of a connection, and fails the call that has waited longest.
    pub(super) fn failed(self: &Arc<Self>, origin: &Origin, error: ConnectError, goes_on: bool) {
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
        state.forget(origin);
        drop(state);
        self.carry_out(todo);
    }
}

/// Looks at a line again when the calls in it have lost their patience.
async fn hurry(pool: Weak<Pool>, origin: Origin, after: Duration) {
    tokio::time::sleep(after).await;
    let Some(pool) = pool.upgrade() else { return };
    let mut todo = Todo::default();
    let mut state = pool.lock();
    let Some(slot) = state.slots.get_mut(&origin) else { return };
    slot.timer = None;
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
