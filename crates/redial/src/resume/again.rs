//! Asking for the rest.

use std::{future::poll_fn, sync::Arc, time::Duration};

use http::{
    HeaderValue, Request, Response,
    header::{IF_RANGE, RANGE},
    request::Parts,
};
use redial_core::{Deadline, Event, ResumePolicy};
use tower_service::Service;

use super::{
    OnceBody, Shared,
    known::{Judgment, Known},
};
use crate::{
    clock,
    deadline::{current_deadline, under},
    diagnose::Fresh,
    observe::Call,
};

/// What it takes to go on.
#[derive(Debug)]
pub(super) struct Again<S> {
    service: S,
    head: Parts,
    policy: ResumePolicy,
    shared: Arc<Shared>,
    deadline: Option<Deadline>,
    /// What is known of the answer, once its head is there.
    pub(super) known: Known,
    resumes: u32,
    /// How many of them brought nothing since the last one that did.
    fruitless: u32,
    previous: Duration,
}

/// How asking for the rest ended.
pub(super) enum Resumption<S, B> {
    /// Here is more, up to this byte where that is known; and what it takes to go on after it.
    More { body: B, end: Option<u64>, again: Box<Again<S>> },
    /// Something else is there by now.
    Changed,
    /// There is nothing to be had.
    Nothing,
}

impl<S> Again<S> {
    pub(super) fn new(service: S, head: Parts, policy: ResumePolicy, shared: Arc<Shared>) -> Self {
        let (deadline, known) = (current_deadline(), Known::default());
        let previous = Duration::ZERO;
        Self { service, head, policy, shared, deadline, known, resumes: 0, fruitless: 0, previous }
    }

    /// Returns the length of the whole, where it was announced.
    pub(super) const fn length(&self) -> Option<u64> {
        self.known.length()
    }

    /// Returns whether it makes sense to ask for what comes after byte `at`.
    pub(super) fn is_possible(&self, at: u64) -> bool {
        self.resumes < self.policy.resumes()
            && self.length() != Some(at)
            && (at == 0 || self.known.if_range().is_some())
    }

    /// Notes that something came.
    pub(super) fn note_progress(&mut self) {
        (self.fruitless, self.previous) = (0, Duration::ZERO);
    }

    /// Asks for what comes after byte `at` until it is there, or will not be.
    pub(super) async fn run<Q, B>(mut self: Box<Self>, at: u64) -> Resumption<S, B>
    where
        S: Service<Request<OnceBody<Q>>, Response = Response<B>>,
    {
        while self.resumes < self.policy.resumes() {
            (self.resumes, self.fruitless) = (self.resumes + 1, self.fruitless + 1);
            let draw = self.shared.entropy.draw();
            let wait = self.policy.schedule().delay(self.fruitless, self.previous, draw);
            self.previous = wait;
            let left = self.deadline.map(|deadline| deadline.remaining(clock::now()));
            if left.is_some_and(|left| left <= wait) {
                break;
            }
            // The timer rounds up to its next tick: a wait of zero must not meet it.
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let Ok(answer) = under(self.deadline, self.ask(at)).await else { continue };
            match self.known.judge(at, answer.status(), answer.headers()) {
                Judgment::GoesOn { end } => {
                    let call = Call { method: &self.head.method, uri: &self.head.uri };
                    self.shared.observer.tell(&call, Event::Resumed { at });
                    return Resumption::More { body: answer.into_body(), end, again: self };
                }
                Judgment::Failed => {}
                Judgment::Changed => return Resumption::Changed,
                Judgment::Useless => break,
            }
        }
        Resumption::Nothing
    }

    async fn ask<Q, B>(&mut self, at: u64) -> Result<Response<B>, S::Error>
    where
        S: Service<Request<OnceBody<Q>>, Response = Response<B>>,
    {
        poll_fn(|cx| self.service.poll_ready(cx)).await?;
        let call = self.service.call(self.request(at));
        call.await
    }

    fn request<Q>(&self, at: u64) -> Request<OnceBody<Q>> {
        let mut request = Request::from_parts(self.head.clone(), OnceBody::none());
        // The connection is gone or suspect: not that one again.
        request.extensions_mut().insert(Fresh);
        if 0 < at
            && let Some(validator) = self.known.if_range()
            && let Ok(range) = HeaderValue::try_from(format!("bytes={at}-"))
        {
            request.headers_mut().insert(RANGE, range);
            request.headers_mut().insert(IF_RANGE, validator.clone());
        }
        request
    }
}
