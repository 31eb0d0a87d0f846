//! One breaker for each origin.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Uri, uri::Authority};
use redial_core::{Breaker, BreakerChange, BreakerPolicy, BreakerSnapshot};

use super::lanes::Lanes;
use crate::{
    clock,
    origins::{Origins, PerOrigin},
};

/// The breakers of all origins that calls go to. Clones share them.
///
/// Two clients that are given the same breakers learn from each other. At most 1,024 origins are
/// remembered; then one that was not used for long makes room.
///
/// # Examples
///
/// ```
/// use http::uri::Authority;
/// use redial::{BreakerLayer, Breakers, core::{BreakerPolicy, BreakerState}};
///
/// let breakers = Breakers::new();
/// let layer = BreakerLayer::new(BreakerPolicy::default()).breakers(breakers.clone());
///
/// // The shop is being moved: nobody calls it until somebody closes the breaker.
/// let shop = Authority::from_static("shop.example");
/// breakers.open(&shop, None);
/// assert_eq!(breakers.snapshot(&shop).map(|shop| shop.state), Some(BreakerState::Open));
/// breakers.close(&shop);
/// # drop(layer);
/// ```
#[derive(Clone)]
pub struct Breakers {
    origins: Origins<Origin>,
}

/// A breaker, and handles to it that are counted apart.
pub(super) struct Origin {
    breaker: Arc<Breaker>,
    lanes: Lanes<Breaker>,
}

impl Breakers {
    /// Creates breakers without any origin among them.
    #[must_use]
    pub fn new() -> Self {
        Self { origins: Origins::new() }
    }

    /// Returns how many origins are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Returns whether no origin is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the breaker of an origin, if there is one. A policy with another window puts another
    /// in its place, so do not keep it.
    #[must_use]
    pub fn find(&self, authority: &Authority) -> Option<Arc<Breaker>> {
        self.origins.find(authority).map(|origin| Arc::clone(&origin.breaker))
    }

    /// Returns every origin and its breaker, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<(Authority, Arc<Breaker>)> {
        let origins = self.origins.all().into_iter();
        origins.map(|(authority, origin)| (authority, Arc::clone(&origin.breaker))).collect()
    }

    /// Returns what the breaker of an origin is like now, if there is one.
    #[must_use]
    pub fn snapshot(&self, authority: &Authority) -> Option<BreakerSnapshot> {
        self.find(authority).map(|breaker| breaker.snapshot(clock::now()))
    }

    /// Returns every origin and what its breaker is like now, in no order.
    #[must_use]
    pub fn snapshots(&self) -> Vec<(Authority, BreakerSnapshot)> {
        let now = clock::now();
        let all = self.all().into_iter();
        all.map(|(authority, breaker)| (authority, breaker.snapshot(now))).collect()
    }

    /// Opens the breaker of an origin by hand: for a time, after which probes decide, or until it is
    /// closed by hand. Returns what changed, which is nothing if it was open already.
    ///
    /// Works for an origin that no call has gone to so far, too.
    pub fn open(&self, authority: &Authority, span: Option<Duration>) -> Option<BreakerChange> {
        let breaker = self.find(authority).unwrap_or_else(|| {
            let policy = BreakerPolicy::default();
            let breaker = |origin: &Arc<Origin>| Arc::clone(&origin.breaker);
            self.origins.with_authority(authority, &policy, breaker)
        });
        breaker.open(span, clock::now())
    }

    /// Closes the breaker of an origin by hand, with empty counts. Returns what changed.
    pub fn close(&self, authority: &Authority) -> Option<BreakerChange> {
        self.find(authority)?.close(clock::now())
    }

    /// Makes the breaker of an origin as good as new. Returns what changed.
    pub fn reset(&self, authority: &Authority) -> Option<BreakerChange> {
        self.find(authority)?.reset(clock::now())
    }

    /// Runs `work` with the breaker of `uri`'s origin, which begins at first sight.
    #[inline]
    pub(super) fn with<R>(
        &self,
        uri: &Uri,
        policy: &BreakerPolicy,
        work: impl FnOnce(&Origin) -> R,
    ) -> R {
        self.origins.with(uri, policy, |origin| work(origin))
    }
}

impl Origin {
    fn of(breaker: Breaker) -> Self {
        let breaker = Arc::new(breaker);
        let lanes = Lanes::of(&breaker);
        Self { breaker, lanes }
    }

    pub(super) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub(super) const fn lanes(&self) -> &Lanes<Breaker> {
        &self.lanes
    }
}

impl PerOrigin for Origin {
    type Policy = BreakerPolicy;

    fn open(policy: &BreakerPolicy, now: Instant) -> Self {
        Self::of(Breaker::new(policy, now))
    }

    #[inline]
    fn serves(&self, policy: &BreakerPolicy) -> bool {
        self.breaker.serves(policy)
    }

    fn succeeded_by(&self, policy: &BreakerPolicy, _: Instant) -> Self {
        Self::of(self.breaker.succeeded_by(policy))
    }
}

impl Default for Breakers {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").field("len", &self.len()).finish()
    }
}
