//! Asking for the rest.

use std::{
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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
pub(super) struct Again<B, E> {
    /// Never locked: what is in a mutex can be shared between threads even where it could not be by
    /// itself.
    service: Mutex<Box<dyn Ask<B, E>>>,
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

/// The service below, for whoever does not name its type: the types of a stack would otherwise grow with
/// themselves.
pub(super) trait Ask<B, E>: Send {
    /// Sends a request without a body.
    fn ask(&self, request: Request<()>) -> Asked<B, E>;
}

type Asked<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

/// A service of requests with bodies of type `Q`.
pub(super) struct Through<S, Q> {
    service: S,
    request: PhantomData<fn(Q)>,
}

/// How asking for the rest ended.
pub(super) enum Resumption<B, E> {
    /// Here is more, up to this byte where that is known; and what it takes to go on after it.
    More { body: B, end: Option<u64>, again: Box<Again<B, E>> },
    /// Something else is there by now.
    Changed,
    /// There is nothing to be had.
    Nothing,
}

impl<S, Q> Through<S, Q> {
    pub(super) const fn new(service: S) -> Self {
        Self { service, request: PhantomData }
    }
}

impl<S, Q, B> Ask<B, S::Error> for Through<S, Q>
where
    S: Service<Request<OnceBody<Q>>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    Q: 'static,
{
    fn ask(&self, request: Request<()>) -> Asked<B, S::Error> {
        let mut service = self.service.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            let call = service.call(request.map(|()| OnceBody::none()));
            call.await
        })
    }
}

impl<B, E> Again<B, E> {
    pub(super) fn new(
        service: impl Ask<B, E> + 'static,
        head: Parts,
        policy: ResumePolicy,
        shared: Arc<Shared>,
    ) -> Self {
        let (deadline, known) = (current_deadline(), Known::default());
        let (service, previous) = (Mutex::new(Box::new(service) as _), Duration::ZERO);
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
    pub(super) async fn run(mut self: Box<Self>, at: u64) -> Resumption<B, E> {
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

    fn ask(&mut self, at: u64) -> Asked<B, E> {
        let request = self.request(at);
        self.service.get_mut().unwrap_or_else(PoisonError::into_inner).ask(request)
    }

    fn request(&self, at: u64) -> Request<()> {
        let mut request = Request::from_parts(self.head.clone(), ());
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

impl<B, E> fmt::Debug for Again<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Again").field("known", &self.known).finish_non_exhaustive()
    }
}
