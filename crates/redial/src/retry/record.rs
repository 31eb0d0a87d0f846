//! One call's story, told to the observer as it happens.

use std::time::Instant;

use http::{Method, Response, Uri, request::Parts};
use redial_core::{Deadline, Event, Reading, Stop};

use crate::{
    clock,
    deadline::current_deadline,
    diagnose::Diagnose,
    observe::{Call, Observer},
};

/// Tells the observer of each step, and that the call was given up if it is dropped before its end.
pub(super) struct Record {
    told: Option<Told>,
}

struct Told {
    observer: Observer,
    method: Method,
    uri: Uri,
    deadline: Option<Deadline>,
    attempt: u32,
    started: Instant,
}

impl Record {
    pub(super) fn new(observer: &Observer, head: &Parts) -> Self {
        if !observer.is_some() {
            return Self { told: None };
        }
        let mut record = Self {
            told: Some(Told {
                observer: observer.clone(),
                method: head.method.clone(),
                uri: head.uri.clone(),
                deadline: current_deadline(),
                attempt: 1,
                started: clock::now(),
            }),
        };
        record.begin(1);
        record
    }

    pub(super) fn begin(&mut self, attempt: u32) {
        if let Some(told) = &mut self.told {
            (told.attempt, told.started) = (attempt, clock::now());
        }
        self.tell(Event::AttemptStarted { attempt });
    }

    pub(super) fn end<T, E: Diagnose>(&self, outcome: &Result<Response<T>, E>, reading: &Reading) {
        let Some(told) = &self.told else { return };
        self.tell(Event::AttemptEnded {
            attempt: told.attempt,
            took: clock::now().saturating_duration_since(told.started),
            status: outcome.as_ref().ok().map(|response| response.status().as_u16()),
            fault: outcome.as_ref().err().map(|error| error.diagnose().fault),
            verdict: reading.verdict,
            proof: reading.proof,
            pushback: reading.pushback,
        });
    }

    pub(super) fn finish(&mut self, event: Event) {
        self.tell(event);
        self.told = None;
    }

    pub(super) fn tell(&self, event: Event) {
        if let Some(told) = &self.told {
            told.observer.tell(&Call { method: &told.method, uri: &told.uri }, event);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(told) = &self.told else { return };
        let is_late = told.deadline.is_some_and(|at| at.remaining(clock::now()).is_zero());
        let stop = if is_late { Stop::Deadline } else { Stop::Cancelled };
        self.tell(Event::GaveUp { attempts: told.attempt, stop });
    }
}
