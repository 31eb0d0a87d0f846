//! An attempt that was let through, and what has to be known when it ends.

use std::{fmt, sync::Arc, time::Instant};

use http::{Method, Response, Uri};
use redial_core::{
    Admission, Assessment, Breaker, BreakerChange, BreakerPolicy, Event, Health, Policy,
};

use super::{Shared, draw, lanes::Lane};
use crate::{assess::Assess, clock, observe::Call};

/// What it takes to report an attempt's end to its breaker: once, as it was or as abandoned.
///
/// An attempt ends under the policy that rules when it ends, or that its request brought.
pub(super) struct Held<A> {
    pub(super) admission: Admission,
    pub(super) breaker: Arc<Lane<Breaker>>,
    pub(super) shared: Arc<Lane<Shared<A>>>,
    pub(super) own: Option<Arc<Policy>>,
}

impl<A> Held<A> {
    #[inline]
    pub(super) fn end<T, E>(
        this: &mut Option<Self>,
        outcome: &Result<Response<T>, E>,
        call: Option<&(Method, Uri)>,
    ) where
        A: Assess<T, E>,
    {
        let Some(held) = this else { return };
        let assessment = held.shared.get().assess.assess(outcome);
        let now = clock::now();
        if assessment.health == Health::Well && held.breaker.get().record_well(&held.admission, now)
        {
            *this = None;
        } else if let Some(held) = this.take() {
            held.record(assessment, now, call);
        }
    }

    #[inline(never)]
    fn record(self, assessment: Assessment, now: Instant, call: Option<&(Method, Uri)>) {
        let Self { admission, breaker, shared, own } = self;
        let (shared, breaker) = (shared.get(), breaker.get());
        let generation = admission.generation();
        let draw = || draw(shared.seed, generation);
        let change = shared.ruling(own.as_ref(), |policy| match policy {
            Some(policy) => breaker.record(policy, admission, assessment, now, draw),
            // There is no breaker any more; a probe gives its place back, for when there is again.
            None => breaker.record(&BreakerPolicy::default(), admission, UNKNOWN, now, draw),
        });
        tell(shared, change, call);
    }

    #[cold]
    pub(super) fn abandon(self, call: Option<&(Method, Uri)>) {
        let Self { admission, breaker, shared, own } = self;
        let (shared, breaker) = (shared.get(), breaker.get());
        let (now, generation) = (clock::now(), admission.generation());
        let draw = || draw(shared.seed, generation);
        let change = shared.ruling(own.as_ref(), |policy| {
            let policy = policy.copied().unwrap_or_default();
            breaker.abandon(&policy, admission, now, draw)
        });
        tell(shared, change, call);
    }
}

fn tell<A>(shared: &Shared<A>, change: Option<BreakerChange>, call: Option<&(Method, Uri)>) {
    if let (Some(change), Some((method, uri))) = (change, call) {
        shared.observer.tell(&Call { method, uri }, changed(change));
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
