//! Open connections, kept by origin.
//!
//! Each origin has a stack of idle HTTP/1.1 connections, the last one used on top, or one shared
//! HTTP/2 connection. Everything here is bounded: idle connections a origin in number, all of them in
//! time, and an origin without a connection is forgotten.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::AbortHandle, time::Instant};

use crate::{
    lease::{Connection, Lease},
    origin::Origin,
};

/// Open connections by origin.
#[derive(Debug)]
pub(crate) struct Pool {
    state: Mutex<State>,
    newest: AtomicU64,
    idle_timeout: Duration,
    idle_max: usize,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<Origin, Slot>,
    /// Closes what has been idle for too long; runs while there is anything to close.
    reaper: Option<AbortHandle>,
}

#[derive(Debug, Default)]
struct Slot {
    idle: Vec<Kept>,
    shared: Option<Kept>,
    is_h2: bool,
    /// Open while somebody makes the connection that all will share.
    dialing: Option<watch::Receiver<()>>,
}

#[derive(Debug)]
struct Kept {
    connection: Connection,
    since: Instant,
}

/// What to do for a connection.
#[derive(Debug)]
pub(crate) enum Checkout {
    /// Here is one.
    Ready(Lease),
    /// Somebody makes one to share; look again when the channel closes.
    Wait(watch::Receiver<()>),
    /// Make one. The ticket, if any, holds others back until it is dropped.
    Dial(Option<watch::Sender<()>>),
}

impl Pool {
    pub(crate) fn new(idle_timeout: Duration, idle_max: usize) -> Self {
        let (state, newest) = (Mutex::default(), AtomicU64::new(0));
        Self { state, newest, idle_timeout, idle_max }
    }

    /// Returns an id for a connection that is about to be started.
    pub(crate) fn next_id(&self) -> u64 {
        self.newest.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns the id of the newest connection: whatever is above it was made later.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// Returns an open connection to `origin` made after `newer_than`, or what to do for one.
    /// `expects_h2` says that all calls will share it, so that one of them has to make it.
    pub(crate) fn checkout(
        self: &Arc<Self>,
        origin: &Origin,
        newer_than: u64,
        expects_h2: bool,
    ) -> Checkout {
        let mut state = self.lock();
        if let Some(slot) = state.slots.get_mut(origin) {
            let found = slot.take(|kept| kept.connection.id > newer_than && self.is_fresh(kept));
            if let Some(connection) = found {
                return Checkout::Ready(Lease::reused(connection, self.home(origin)));
            }
        }
        if !expects_h2 && !state.slots.get(origin).is_some_and(|slot| slot.is_h2) {
            return Checkout::Dial(None);
        }
        let slot = state.slots.entry(origin.clone()).or_default();
        if let Some(dialing) = slot.dialing.as_ref().filter(|dialing| dialing.has_changed().is_ok())
        {
            return Checkout::Wait(dialing.clone());
        }
        let (ticket, dialing) = watch::channel(());
        slot.dialing = Some(dialing);
        self.keep_watch(&mut state);
        Checkout::Dial(Some(ticket))
    }

    /// Lends a connection that was just made, and lets others share it if it can be shared.
    pub(crate) fn adopt(self: &Arc<Self>, origin: &Origin, connection: Connection) -> Lease {
        if let Some(shared) = connection.share().filter(|_| self.keeps_any()) {
            let mut state = self.lock();
            let slot = state.slots.entry(origin.clone()).or_default();
            slot.is_h2 = true;
            slot.shared = Some(Kept { connection: shared, since: Instant::now() });
            self.keep_watch(&mut state);
        }
        Lease::new(connection, Some(self.home(origin)))
    }

    /// Takes back an HTTP/1.1 connection that is free again, unless there are enough.
    pub(crate) fn put(self: Arc<Self>, origin: Origin, connection: Connection) {
        if !self.keeps_any() {
            return;
        }
        let mut state = self.lock();
        let slot = state.slots.entry(origin).or_default();
        if slot.idle.len() < self.idle_max {
            slot.idle.push(Kept { connection, since: Instant::now() });
        }
        self.keep_watch(&mut state);
    }

    fn keeps_any(&self) -> bool {
        self.idle_max > 0 && !self.idle_timeout.is_zero()
    }

    fn home(self: &Arc<Self>, origin: &Origin) -> (Arc<Self>, Origin) {
        (Arc::clone(self), origin.clone())
    }

    fn is_fresh(&self, kept: &Kept) -> bool {
        kept.since.elapsed() < self.idle_timeout && kept.connection.is_usable()
    }

    /// Starts the reaper unless it runs. It may have died with the runtime that it was started in.
    fn keep_watch(self: &Arc<Self>, state: &mut State) {
        if state.reaper.as_ref().is_some_and(|reaper| !reaper.is_finished()) {
            return;
        }
        let pool = Arc::downgrade(self);
        state.reaper = Some(tokio::spawn(reap(pool, self.reap_every())).abort_handle());
    }

    fn reap_every(&self) -> Duration {
        (self.idle_timeout / 2).clamp(REAP_EVERY_MIN, REAP_EVERY_MAX)
    }

    /// Closes what is dead or idle for too long. Returns whether anything is left.
    fn prune(&self) -> bool {
        let mut state = self.lock();
        state.slots.retain(|_, slot| {
            slot.idle.retain(|kept| self.is_fresh(kept));
            slot.shared = slot.shared.take().filter(|kept| self.is_fresh(kept));
            slot.is_in_use()
        });
        let is_left = !state.slots.is_empty();
        if !is_left {
            state.reaper = None;
        }
        is_left
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Takes a connection that `is_good`, and lets go of those met that are not.
    fn take(&mut self, is_good: impl Fn(&Kept) -> bool) -> Option<Connection> {
        if let Some(shared) = self.shared.as_mut() {
            if is_good(shared) {
                shared.since = Instant::now();
                return shared.connection.share();
            }
            self.shared = None;
        }
        while let Some(kept) = self.idle.pop() {
            if is_good(&kept) {
                return Some(kept.connection);
            }
        }
        None
    }

    fn is_in_use(&self) -> bool {
        let is_dialing = self.dialing.as_ref().is_some_and(|dialing| dialing.has_changed().is_ok());
        !self.idle.is_empty() || self.shared.is_some() || is_dialing
    }
}

async fn reap(pool: Weak<Pool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.prune() {
            return;
        }
    }
}

/// Often enough for any timeout, seldom enough to cost nothing.
const REAP_EVERY_MIN: Duration = Duration::from_millis(10);
/// A connection that the server has closed does not hold its socket for longer than this.
const REAP_EVERY_MAX: Duration = Duration::from_secs(15);
