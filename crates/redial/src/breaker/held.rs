//! An attempt that was let through, and what has to be known when it ends.

use std::{fmt, sync::Arc, time::Instant};

use http::{Method, Request, Response, Uri};
use redial_core::{Admission, Assessment, BreakerChange, BreakerPolicy, Event, Health};

use super::{breakers::Lane, draw};
use crate::{
    assess::Assess,
    clock,
    diagnose::Rejection,
    observe::{Call, Observer},
};

/// Reports an attempt's end to its breaker, once: as it was, or as abandoned when dropped before.
///
/// An attempt ends under the policy that it began under.
pub(super) struct Held<A> {
    admission: Option<Admission>,
    lane: Arc<Lane>,
    policy: BreakerPolicy,
    assess: A,
    seed: u64,
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
        admission: Admission,
        lane: Arc<Lane>,
        policy: BreakerPolicy,
        assess: A,
        seed: u64,
        told: Option<Told>,
    ) -> Self {
        Self { admission: Some(admission), lane, policy, assess, seed, told }
    }

    #[inline]
    pub(super) fn end<T, E>(&mut self, outcome: &Result<Response<T>, E>)
    where
        A: Assess<T, E>,
    {
        if let Some(admission) = self.admission.take() {
            let assessment = self.assess.assess(outcome);
            self.record(admission, assessment);
        }
    }

    #[inline]
    fn record(&self, admission: Admission, assessment: Assessment) {
        let now = clock::now();
        let is_well = assessment.health == Health::Well;
        if is_well && self.lane.breaker().record_well(&admission, now) {
            return;
        }
        self.record_trouble(admission, assessment, now);
    }

    #[inline(never)]
    fn record_trouble(&self, admission: Admission, assessment: Assessment, now: Instant) {
        let generation = admission.generation();
        let draw = || draw(self.seed, generation);
        let breaker = self.lane.breaker();
        if let Some(change) = breaker.record(&self.policy, admission, assessment, now, draw) {
            self.tell(change);
        }
    }

    #[cold]
    fn abandon(&self, admission: Admission) {
        let (now, generation) = (clock::now(), admission.generation());
        let draw = || draw(self.seed, generation);
        if let Some(change) = self.lane.breaker().abandon(&self.policy, admission, now, draw) {
            self.tell(change);
        }
    }

    #[cold]
    fn tell(&self, change: BreakerChange) {
        if let Some(told) = &self.told {
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
    pub(super) fn new<B>(observer: &Observer, request: &Request<B>) -> Self {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self { observer: observer.clone(), method, uri }
    }

    /// Tells what letting the call through changed, and whether it was let through at all only because
    /// nothing is refused.
    pub(super) fn admitted(&self, admission: &Admission) {
        if let Some(change) = admission.change() {
            self.tell(changed(change));
        }
        if admission.would_be_refused() {
            let rejection = Rejection::BreakerOpen { retry_after: None };
            self.tell(Event::WouldRefuse { by: rejection.name() });
        }
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
