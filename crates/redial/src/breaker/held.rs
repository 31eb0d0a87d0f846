//! An attempt that was let through, and what has to be known when it ends.

use std::{fmt, sync::Arc, time::Instant};

use http::{Method, Request, Response, Uri};
use redial_core::{
    Admission, Assessment, Breaker, BreakerChange, BreakerPolicy, Event, Health, Policy,
};

use super::{Shared, draw, lanes::Lane};
use crate::{
    assess::Assess,
    clock,
    diagnose::Rejection,
    observe::{Call, Observer},
};

/// What a breaker let through.
pub(super) struct Admitted {
    pub(super) admission: Admission,
    pub(super) breaker: Arc<Lane<Breaker>>,
    /// The policy that the request brought.
    pub(super) own: Option<Arc<Policy>>,
}

/// Reports an attempt's end to its breaker, once: as it was, or as abandoned when dropped before.
///
/// An attempt ends under the policy that rules when it ends, or that its request brought.
pub(super) struct Held<A> {
    admission: Option<Admission>,
    breaker: Arc<Lane<Breaker>>,
    shared: Arc<Lane<Shared<A>>>,
    own: Option<Arc<Policy>>,
    told: Option<Told>,
}

/// Whom to tell of a call, and what they want to know of it.
pub(super) struct Told {
    observer: Observer,
    method: Method,
    uri: Uri,
}

impl<A> Held<A> {
    #[inline]
    pub(super) fn new(
        admitted: Admitted,
        shared: Arc<Lane<Shared<A>>>,
        told: Option<Told>,
    ) -> Self {
        let Admitted { admission, breaker, own } = admitted;
        Self { admission: Some(admission), breaker, shared, own, told }
    }

    #[inline]
    pub(super) fn end<T, E>(&mut self, outcome: &Result<Response<T>, E>)
    where
        A: Assess<T, E>,
    {
        let Some(admission) = self.admission.take() else { return };
        let assessment = self.shared.get().assess.assess(outcome);
        let now = clock::now();
        let is_well = assessment.health == Health::Well;
        if !is_well || !self.breaker.get().record_well(&admission, now) {
            self.record(admission, assessment, now);
        }
    }

    #[inline(never)]
    fn record(&self, admission: Admission, assessment: Assessment, now: Instant) {
        let (shared, breaker) = (self.shared.get(), self.breaker.get());
        let generation = admission.generation();
        let draw = || draw(shared.seed, generation);
        let change = shared.ruling(self.own.as_ref(), |policy| match policy {
            Some(policy) => breaker.record(policy, admission, assessment, now, draw),
            // There is no breaker any more; a probe gives its place back, for when there is again.
            None => breaker.record(&BreakerPolicy::default(), admission, UNKNOWN, now, draw),
        });
        self.tell(change);
    }

    #[cold]
    fn abandon(&self, admission: Admission) {
        let (shared, breaker) = (self.shared.get(), self.breaker.get());
        let (now, generation) = (clock::now(), admission.generation());
        let draw = || draw(shared.seed, generation);
        let change = shared.ruling(self.own.as_ref(), |policy| {
            let policy = policy.copied().unwrap_or_default();
            breaker.abandon(&policy, admission, now, draw)
        });
        self.tell(change);
    }

    fn tell(&self, change: Option<BreakerChange>) {
        if let (Some(change), Some(told)) = (change, &self.told) {
            told.tell(changed(change));
        }
    }
}

impl<A> Drop for Held<A> {
    #[inline]
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.abandon(admission);
        }
    }
}

impl Told {
    /// Tells what letting the call through changed, and whether it was let through at all only because
    /// nothing is refused.
    pub(super) fn new<B>(observer: &Observer, request: &Request<B>, admitted: &Admitted) -> Self {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let told = Self { observer: observer.clone(), method, uri };
        if let Some(change) = admitted.admission.change() {
            told.tell(changed(change));
        }
        if admitted.admission.would_be_refused() {
            let rejection = Rejection::BreakerOpen { retry_after: None };
            told.tell(Event::WouldRefuse { by: rejection.name() });
        }
        told
    }

    fn tell(&self, event: Event) {
        self.observer.tell(&Call { method: &self.method, uri: &self.uri }, event);
    }
}

impl<A> fmt::Debug for Held<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("admission", &self.admission).finish_non_exhaustive()
    }
}

pub(super) const fn changed(change: BreakerChange) -> Event {
    let BreakerChange { from, to, reason } = change;
    Event::BreakerChanged { from, to, reason }
}

const UNKNOWN: Assessment = Assessment { health: Health::Unknown, pushback: None };
