//! Proofs of a place in the pool: for a socket, and for a connection that is being made.

use std::sync::{Arc, Weak};

use super::Pool;
use crate::{
    connect::ConnectError, counted::Ledger, lease::Connection, origin::Origin, snapshot::Reason,
};

/// A place among the connections that may be open, kept by the socket itself.
///
/// Dropping it returns the place, and says why the connection was closed.
#[derive(Debug)]
pub(crate) struct Permit {
    pool: Weak<Pool>,
    origin: Origin,
    opened: Option<(u64, Arc<Ledger>)>,
}

/// A connection that is being made: calls count on it.
///
/// Dropping it tells one of them that nothing came of it.
#[derive(Debug)]
pub(super) struct Dialing {
    pool: Arc<Pool>,
    origin: Origin,
    is_over: bool,
}

impl Permit {
    /// Takes over a place that the pool has counted already.
    pub(super) fn new(pool: &Arc<Pool>, origin: &Origin) -> Self {
        Self { pool: Arc::downgrade(pool), origin: origin.clone(), opened: None }
    }

    /// Says that there is a socket now. Returns the number of its connection, 0 if the pool is gone.
    pub(crate) fn open(&mut self, ledger: &Arc<Ledger>) -> u64 {
        let id = self.pool.upgrade().map_or(0, |pool| pool.opened(&self.origin));
        self.opened = Some((id, Arc::clone(ledger)));
        id
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let closed: Option<(u64, Reason)> =
            self.opened.as_ref().map(|(id, ledger)| (*id, ledger.reason()));
        pool.closed(&self.origin, closed);
    }
}

impl Dialing {
    /// Takes over a count that the pool has made already.
    pub(super) fn new(pool: Arc<Pool>, origin: Origin) -> Self {
        Self { pool, origin, is_over: false }
    }

    pub(super) fn made(mut self, connection: Connection) {
        self.is_over = true;
        self.pool.made(&self.origin, connection);
    }

    pub(super) fn failed(mut self, error: ConnectError) {
        self.is_over = true;
        self.pool.failed(&self.origin, error, true);
    }
}

impl Drop for Dialing {
    /// The runtime ends, most likely, so nothing new is begun.
    fn drop(&mut self) {
        if !self.is_over {
            self.pool.failed(&self.origin, ConnectError::Ended, false);
        }
    }
}
