//! The connections to one origin, and the calls that wait for one.
//!
//! Plain data and decisions, under the pool's lock: nothing here waits, dials or closes a socket.
//! Connections that are to be closed are handed out, and dropped when the lock is free again.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

use slab::Slab;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    connect::ConnectError,
    leak::Caller,
    lease::Connection,
    limits::Limits,
    snapshot::{PoolCounts, Reason},
};

/// The connections to one origin.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Sockets, and connections that are being made.
    pub(super) open: usize,
    pub(super) dialing: usize,
    /// HTTP/1.1 connections that nobody has, the one used last at the back.
    pub(super) idle: VecDeque<Kept>,
    /// HTTP/2 connections, the oldest first.
    pub(super) shared: Vec<Shared>,
    /// None until the first connection has told.
    pub(super) is_h2: Option<bool>,
    /// By the order of arrival.
    pub(super) waiters: BTreeMap<u64, Waiter>,
    pub(super) lent: Slab<Lent>,
    /// Whether it stands in line for a place among all connections.
    pub(super) is_starved: bool,
    /// When the line is looked at again, as its calls have lost their patience then.
    pub(super) timer: Option<Instant>,
    /// When connections were last added because the line was slow; at first, when there were any.
    pub(super) grown: Option<Instant>,
    pub(super) counts: PoolCounts,
}

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) connection: Connection,
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(super) struct Shared {
    connection: Connection,
    streams: usize,
    is_used: bool,
    /// When a stream was last begun or ended.
    since: Instant,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) need: Need,
    pub(super) since: Instant,
    pub(super) granted: oneshot::Sender<Granted>,
}

/// A connection, or a stream of one, that a call has.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) since: Instant,
    pub(super) caller: Caller,
    pub(super) is_reported: bool,
}

/// What a call needs a connection for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) want: Want,
    /// Whether its method is (RFC 9110 §9.2.1), so that it may be sent twice.
    pub(crate) is_safe: bool,
    pub(crate) caller: Caller,
}

/// Which connections will do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Want {
    /// One made after the one with this number.
    NewerThan(u64),
    /// One that nobody had and nobody will have.
    Fresh,
}

/// A connection, or a stream of one, for one call. Whoever has it has to bring it back.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) connection: Connection,
    pub(crate) is_reused: bool,
    /// Whether it serves this call only.
    pub(crate) is_fresh: bool,
    pub(super) key: usize,
}

pub(super) type Granted = Result<Grant, ConnectError>;

impl Want {
    fn suits(self, id: u64, is_new: bool) -> bool {
        match self {
            Self::NewerThan(other) => other < id,
            Self::Fresh => is_new,
        }
    }
}

#[cfg(test)]
impl Grant {
    /// Returns one that no pool counts.
    pub(crate) fn of(connection: Connection, is_reused: bool) -> Self {
        Self { connection, is_reused, is_fresh: false, key: usize::MAX }
    }
}

impl Slot {
    /// Takes a connection for a call that comes now, the one used last first: the others may then
    /// become old enough to be closed. Returns for how long nobody had it as well.
    pub(super) fn take(
        &mut self,
        need: Need,
        (now, limits): (Instant, &Limits),
        gone: &mut Vec<Connection>,
    ) -> Option<(Grant, Duration)> {
        let Want::NewerThan(newer_than) = need.want else { return None };
        if let Some((shared, unused)) = self.share(newer_than, (now, limits), gone) {
            return Some((self.lend(shared, need, now), unused));
        }
        while let Some(Kept { connection, since }) = self.idle.pop_back() {
            let is_old = is_old(&connection, since, now, limits);
            if is_old.is_none() && newer_than < connection.id {
                let grant = self.lend((connection, true), need, now);
                return Some((grant, now.saturating_duration_since(since)));
            }
            // What is older than one that was found dead is most likely dead as well.
            connection.close_for(is_old.unwrap_or(Reason::Server));
            gone.push(connection);
        }
        None
    }

    /// Takes a stream of the oldest shared connection that has room, and lets go of those met that
    /// will have no new ones. Returns for how long nothing began or ended on it as well.
    fn share(
        &mut self,
        newer_than: u64,
        (now, limits): (Instant, &Limits),
        gone: &mut Vec<Connection>,
    ) -> Option<((Connection, bool), Duration)> {
        let mut at = 0;
        while let Some(shared) = self.shared.get_mut(at) {
            let is_done = match shared.reason_to_end(now, limits) {
                Some(reason) => {
                    shared.connection.close_for(reason);
                    true
                }
                None => shared.connection.is_closed(),
            };
            if is_done {
                gone.push(self.shared.remove(at).connection);
            } else if newer_than < shared.connection.id && shared.has_room() {
                shared.streams += 1;
                let since = mem::replace(&mut shared.since, now);
                let is_reused = mem::replace(&mut shared.is_used, true);
                let unused = now.saturating_duration_since(since);
                return Some(((shared.connection.share()?, is_reused), unused));
            } else {
                at += 1;
            }
        }
        None
    }

    fn lend(
        &mut self,
        (connection, is_reused): (Connection, bool),
        need: Need,
        now: Instant,
    ) -> Grant {
        let Need { want, caller, .. } = need;
        let key = self.lent.insert(Lent { since: now, caller, is_reported: false });
        Grant { connection, is_reused, is_fresh: want == Want::Fresh, key }
    }

    /// Returns whether the first waiting call, if there is one, can use a connection that was in use
    /// until now.
    pub(super) fn suits_first(&self, connection: &Connection) -> bool {
        self.first_need().is_none_or(|need| connection.is_usable(need, Duration::ZERO))
    }

    /// Returns what the call that has waited longest needs.
    pub(super) fn first_need(&self) -> Option<Need> {
        self.waiters.values().next().map(|waiter| waiter.need)
    }

    /// Gives `connection` to the first waiting call that it suits. Returns it if there is none.
    pub(super) fn hand_over(
        &mut self,
        mut connection: Connection,
        is_new: bool,
        now: Instant,
    ) -> Option<Connection> {
        loop {
            let mut waiters = self.waiters.iter();
            let first = waiters.find(|(_, waiter)| waiter.need.want.suits(connection.id, is_new));
            let Some((&id, _)) = first else { return Some(connection) };
            connection = self.grant(id, (connection, !is_new), now)?;
        }
    }

    /// Grants `connection` to the waiting call `id`. Returns it if that call is gone.
    fn grant(&mut self, id: u64, granted: (Connection, bool), now: Instant) -> Option<Connection> {
        let Waiter { need, since, granted: sender } = self.waiters.remove(&id)?;
        self.counts.waited(now - since);
        let grant = self.lend(granted, need, now);
        let grant = sender.send(Ok(grant)).err()?.ok()?;
        self.lent.try_remove(grant.key);
        Some(grant.connection)
    }

    /// Lets others share `connection`.
    pub(super) fn add_shared(&mut self, connection: Connection, now: Instant) {
        self.shared.push(Shared { connection, streams: 0, is_used: false, since: now });
    }

    /// Gives streams to waiting calls for as long as there are both.
    pub(super) fn share_out(&mut self, now: Instant, limits: &Limits, gone: &mut Vec<Connection>) {
        while !self.waiters.is_empty() {
            let with_room = self.shared.iter().filter(|shared| shared.has_room());
            let Some(newest) = with_room.map(|shared| shared.connection.id).max() else { return };
            let mut waiters = self.waiters.iter();
            let first = waiters.find(|(_, waiter)| waiter.need.want.suits(newest, false));
            let Some((&id, waiter)) = first else { return };
            let Want::NewerThan(newer_than) = waiter.need.want else { return };
            let shared = self.share(newer_than, (now, limits), gone);
            let Some((shared, _)) = shared else { return };
            if let Some(connection) = self.grant(id, shared, now) {
                self.end_stream(connection.id, now);
            }
        }
    }

    /// Counts the end of a stream. Returns whether its connection is still shared.
    pub(super) fn end_stream(&mut self, id: u64, now: Instant) -> bool {
        let shared = self.shared.iter_mut().find(|shared| shared.connection.id == id);
        let Some(shared) = shared else { return false };
        shared.streams = shared.streams.saturating_sub(1);
        shared.since = now;
        true
    }

    /// Lets go of the connection `id`, which takes no more requests.
    pub(super) fn forget(&mut self, id: u64, gone: &mut Vec<Connection>) {
        if let Some(at) = self.shared.iter().position(|shared| shared.connection.id == id) {
            gone.push(self.shared.remove(at).connection);
        }
        if let Some(at) = self.idle.iter().position(|kept| kept.connection.id == id) {
            gone.extend(self.idle.remove(at).map(|kept| kept.connection));
        }
    }

    /// Fails the call that has waited longest.
    pub(super) fn fail(&mut self, error: ConnectError, now: Instant) {
        let mut error = Err(error);
        while let Some((_, waiter)) = self.waiters.pop_first() {
            self.counts.waited(now - waiter.since);
            match waiter.granted.send(error) {
                Ok(()) => return,
                Err(unsent) => error = unsent,
            }
        }
    }

    /// Returns how many connections should be begun for the calls that wait, and whether more would
    /// be if these calls had waited longer.
    ///
    /// Never more than wait. The first few at once; then one for each call that has lost its
    /// patience, as one that comes back serves the line sooner and costs nothing: at most as many as
    /// there are, and then a look at what came of it. One at a time where a connection serves many
    /// calls, or may turn out to.
    pub(super) fn dials_wanted(&self, now: Instant, limits: &Limits) -> (usize, bool) {
        let room = limits.max_open_per_host.saturating_sub(self.open);
        if self.waiters.len() <= self.dialing || room == 0 {
            return (0, false);
        }
        let is_alone = self.is_h2 == Some(false) || !limits.keeps_any();
        if !is_alone {
            let is_wanted = self.dialing == 0 && !self.shared.iter().any(Shared::is_unsettled);
            return (usize::from(is_wanted), false);
        }
        let connected = self.open - self.dialing;
        let impatient = self.impatient(now, limits);
        let at_a_time = AT_ONCE.saturating_sub(connected).max(impatient);
        let wanted = self.waiters.len().min(at_a_time).saturating_sub(self.dialing);
        (wanted.min(room), at_a_time < self.waiters.len())
    }

    /// Returns how many calls have waited too long for one of the connections that there are.
    fn impatient(&self, now: Instant, limits: &Limits) -> usize {
        if limits.patience.is_zero() {
            return self.waiters.len();
        }
        // A handshake that takes its time says nothing about the line.
        let Some(grown) = self.grown else { return 0 };
        // Where many do not help, more will not.
        let connected = (self.open - self.dialing).max(AT_ONCE);
        let times = u32::try_from(connected / AT_ONCE).unwrap_or(u32::MAX);
        let patience = limits.patience.saturating_mul(times);
        let waited = |waiter: &&Waiter| patience <= now - waiter.since.max(grown);
        self.waiters.values().take_while(waited).count().min(connected)
    }

    /// Returns whether one more call may wait: for a connection that can still be made, or in the
    /// line behind.
    pub(super) fn has_place_in_line(&self, limits: &Limits) -> bool {
        let connected = self.open - self.dialing;
        let to_come = limits.max_open_per_host.saturating_sub(connected);
        self.waiters.len() < to_come.saturating_add(limits.max_waiting_per_host)
    }

    /// Returns since when its oldest idle connection has been that.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let shared = self.shared.iter().filter(|shared| shared.streams == 0);
        shared.map(|shared| shared.since).chain(self.idle.front().map(|kept| kept.since)).min()
    }

    /// Takes out the connection that has been idle longest, to make room.
    pub(super) fn evict(&mut self) -> Option<Connection> {
        let connection = match self.idle.pop_front() {
            Some(kept) => kept.connection,
            None => {
                let at = self.shared.iter().position(|shared| shared.streams == 0)?;
                self.shared.remove(at).connection
            }
        };
        connection.close_for(Reason::Limit);
        Some(connection)
    }

    /// Takes out what is too old.
    pub(super) fn prune(&mut self, now: Instant, limits: &Limits, gone: &mut Vec<Connection>) {
        for Kept { connection, since } in mem::take(&mut self.idle) {
            match is_old(&connection, since, now, limits) {
                Some(reason) => {
                    connection.close_for(reason);
                    gone.push(connection);
                }
                None => self.idle.push_back(Kept { connection, since }),
            }
        }
        let old = self.shared.extract_if(.., |shared| {
            let dead = shared.connection.is_closed().then_some(Reason::Server);
            let reason = shared.reason_to_end(now, limits).or(dead);
            reason.inspect(|reason| shared.connection.close_for(*reason)).is_some()
        });
        gone.extend(old.map(|shared| shared.connection));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open == 0 && self.waiters.is_empty() && self.lent.is_empty()
    }

    pub(super) fn counts(&self) -> PoolCounts {
        let unshared = self.shared.iter().filter(|shared| shared.streams == 0).count();
        let idle = self.idle.len() + unshared;
        PoolCounts {
            open: self.open,
            dialing: self.dialing,
            idle,
            in_use: self.open.saturating_sub(self.dialing + idle),
            calls: self.lent.len(),
            waiting: self.waiters.len(),
            ..self.counts
        }
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        self.streams < self.connection.streams_max()
    }

    fn is_unsettled(&self) -> bool {
        !self.connection.is_settled() && !self.connection.is_closed()
    }

    /// Returns why it should get no more streams, if it should not.
    fn reason_to_end(&self, now: Instant, limits: &Limits) -> Option<Reason> {
        let since = if self.streams == 0 { self.since } else { now };
        is_old(&self.connection, since, now, limits)
    }
}

/// Returns why a connection that nobody has had since then should be closed, if it should.
pub(super) fn is_old(
    connection: &Connection,
    since: Instant,
    now: Instant,
    limits: &Limits,
) -> Option<Reason> {
    if connection.expires.is_some_and(|expires| expires <= now) {
        return Some(Reason::Lifetime);
    }
    (limits.idle_timeout <= now.saturating_duration_since(since)).then_some(Reason::Idle)
}

/// How many connections are made without waiting for one to come back. Measured over loopback with
/// 512 calls at a time, these serve more calls a second, for a third less CPU, than 512 do: more is
/// done each time the runtime wakes.
pub(super) const AT_ONCE: usize = 64;
