//! What the pool counts, as plain numbers.

use std::{fmt, sync::Arc, time::Duration};

use crate::pool::Pool;

/// A view of a transport's connections; see [`Transport::pool`](crate::Transport::pool). Cheap to
/// clone.
#[derive(Clone)]
pub struct PoolHandle {
    pub(crate) pool: Arc<Pool>,
}

/// What a pool held and had done at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct PoolSnapshot {
    /// Of all origins together, those without a connection now included.
    pub total: PoolCounts,
    /// Of each origin that has a connection or a waiting call, or had one until the last sweep; by
    /// name.
    pub origins: Vec<(String, PoolCounts)>,
}

/// What is there now, and what has been counted since the origin was last without any connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct PoolCounts {
    /// Sockets, and connections that are being made; this is what the limits are about.
    pub open: usize,
    /// Connections that are being made.
    pub dialing: usize,
    /// Connections that no call has.
    pub idle: usize,
    /// Connections that calls have, or whose socket is about to be closed.
    pub in_use: usize,
    /// Calls that have a connection, or a stream of one, until their answer's body has ended.
    pub calls: usize,
    /// Calls that wait for a connection.
    pub waiting: usize,
    /// Connections made.
    pub created: u64,
    /// Connections that could not be made.
    pub failed: u64,
    /// Connections closed, by reason.
    pub closed: ClosedCounts,
    /// Calls that had to wait and do not wait any more, whatever they got.
    pub waits: u64,
    /// How long they waited, together.
    pub wait_sum: Duration,
    /// How long the longest of them waited.
    pub wait_max: Duration,
    /// Calls refused as the queue was full, or as no connection was free in time.
    pub rejected: u64,
    /// Calls reported to keep their connection for too long.
    pub leaks: u64,
}

/// Connections closed, by reason.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ClosedCounts {
    /// By the server, in good order or not, or with its machine.
    pub server: u64,
    /// Nobody wanted it for the idle timeout.
    pub idle: u64,
    /// It was as old as one may be.
    pub lifetime: u64,
    /// There were enough idle ones, or its place was needed for another.
    pub limit: u64,
    /// A call over it failed, or its answer was broken.
    pub error: u64,
    /// A call over it was given up, or its answer's body not read to the end.
    pub abandoned: u64,
    /// It was made for one call.
    pub fresh: u64,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    Server,
    Idle,
    Lifetime,
    Limit,
    Error,
    Abandoned,
    Fresh,
}

impl PoolHandle {
    /// Counts what is there now. This takes the pool's lock for as long as it takes to walk over the
    /// origins.
    #[must_use]
    pub fn snapshot(&self) -> PoolSnapshot {
        self.pool.snapshot()
    }
}

impl PoolCounts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.open += other.open;
        self.dialing += other.dialing;
        self.idle += other.idle;
        self.in_use += other.in_use;
        self.calls += other.calls;
        self.waiting += other.waiting;
        self.created += other.created;
        self.failed += other.failed;
        self.closed.add(&other.closed);
        self.waits += other.waits;
        self.wait_sum += other.wait_sum;
        self.wait_max = self.wait_max.max(other.wait_max);
        self.rejected += other.rejected;
        self.leaks += other.leaks;
    }

    pub(crate) fn waited(&mut self, wait: Duration) {
        self.waits += 1;
        self.wait_sum += wait;
        self.wait_max = self.wait_max.max(wait);
    }
}

impl ClosedCounts {
    /// Returns how many were closed in all.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let ours = self.idle + self.lifetime + self.limit + self.fresh;
        ours + self.server + self.error + self.abandoned
    }

    fn add(&mut self, other: &Self) {
        for reason in Reason::ALL {
            *self.of(reason) += *other.clone().of(reason);
        }
    }

    pub(crate) fn of(&mut self, reason: Reason) -> &mut u64 {
        match reason {
            Reason::Server => &mut self.server,
            Reason::Idle => &mut self.idle,
            Reason::Lifetime => &mut self.lifetime,
            Reason::Limit => &mut self.limit,
            Reason::Error => &mut self.error,
            Reason::Abandoned => &mut self.abandoned,
            Reason::Fresh => &mut self.fresh,
        }
    }
}

impl Reason {
    const ALL: [Self; 7] = [
        Self::Server,
        Self::Idle,
        Self::Lifetime,
        Self::Limit,
        Self::Error,
        Self::Abandoned,
        Self::Fresh,
    ];
}

impl fmt::Debug for PoolHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolHandle").finish_non_exhaustive()
    }
}
