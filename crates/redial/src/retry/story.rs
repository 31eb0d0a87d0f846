//! One call's story, told to the observer as it happens.

use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use http::{Method, Request, Response, Uri};
use redial_core::{Budget, Class, Deadline, Event, Policy, Reading, Severity, Stop};

use super::{Again, Shared};
use crate::{clock, deadline::current_deadline, diagnose::Diagnose, observe::Call};

/// Who calls whom, how far the call has come, and what the observer has heard of it. Dropped before its
/// end, it tells that the caller went away.
pub(super) struct Story<S, C> {
    again: Arc<Again<S, C>>,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) attempt: u32,
    is_running: bool,
    /// When the attempt began, where details are of interest.
    started: Option<Instant>,
    deadline: Option<Deadline>,
}

impl<S, C> Story<S, C> {
    #[inline]
    pub(super) fn new<B>(again: &Arc<Again<S, C>>, of: &Request<B>) -> Self {
        let observer = &again.shared.observer;
        let (method, uri, is_running) = (of.method(), of.uri(), observer.is_some());
        let wants_details = is_running && observer.wants(Severity::Debug);
        if wants_details {
            observer.tell(&Call { method, uri }, Event::AttemptStarted { attempt: 1 });
        }
        Self {
            again: Arc::clone(again),
            method: method.clone(),
            uri: uri.clone(),
            attempt: 1,
            is_running,
            started: wants_details.then(clock::now),
            deadline: if is_running { current_deadline() } else { None },
        }
    }

    pub(super) fn shared(&self) -> &Shared<C> {
        &self.again.shared
    }

    /// The next attempt begins.
    pub(super) fn begin(&mut self) {
        self.attempt += 1;
        if let Some(started) = &mut self.started {
            *started = clock::now();
        }
        if self.started.is_some() {
            self.tell(Event::AttemptStarted { attempt: self.attempt });
        }
    }

    /// An attempt has ended.
    #[inline]
    pub(super) fn end<T, E>(&self, outcome: &Result<Response<T>, E>, reading: &Reading)
    where
        E: Diagnose,
    {
        if let Some(started) = self.started {
            self.tell_end(started, outcome, reading);
        }
    }

    fn tell_end<T, E>(&self, started: Instant, outcome: &Result<Response<T>, E>, reading: &Reading)
    where
        E: Diagnose,
    {
        self.tell(Event::AttemptEnded {
            attempt: self.attempt,
            took: clock::now().saturating_duration_since(started),
            status: outcome.as_ref().ok().map(|response| response.status().as_u16()),
            fault: outcome.as_ref().err().map(|error| error.diagnose().fault),
            verdict: reading.verdict,
            proof: reading.proof,
            pushback: reading.pushback,
        });
    }

    /// The call has succeeded: the budget of its origin is told, and refunded where a retry helped that
    /// was `paid` for after a failure of that class.
    pub(super) fn succeed(&mut self, own: Option<&Arc<Policy>>, paid: Option<Class>) {
        let shared = &self.again.shared;
        let note = |budget: &Budget| {
            budget.deposit(&Reading::SUCCESS);
            if let Some(class) = paid {
                budget.refund_after(class, clock::now());
            }
        };
        match own {
            Some(policy) => shared.budgets.with(&self.uri, policy, note),
            None => shared.budgets.with_any(&self.uri, || shared.policy.load(), note),
        }
        self.finish(Event::Succeeded { attempts: self.attempt });
    }

    pub(super) fn finish(&mut self, event: Event) {
        self.tell(event);
        self.is_running = false;
    }

    pub(super) fn tell(&self, event: Event) {
        if self.is_running {
            self.again.shared.observer.tell(&Call { method: &self.method, uri: &self.uri }, event);
        }
    }
}

impl<S: Clone, C> Story<S, C> {
    /// Returns a service to send the next attempt with.
    pub(super) fn service(&self) -> S {
        // A service that panicked while it was cloned left nothing half done.
        self.again.service.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S, C> Drop for Story<S, C> {
    fn drop(&mut self) {
        if !self.is_running {
            return;
        }
        let is_late = self.deadline.is_some_and(|at| at.remaining(clock::now()).is_zero());
        let stop = if is_late { Stop::Deadline } else { Stop::Cancelled };
        self.tell(Event::GaveUp { attempts: self.attempt, stop });
    }
}
