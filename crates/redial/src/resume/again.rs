//! Asking for the rest.

use std::{
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Buf;
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{ACCEPT_ENCODING, IF_RANGE, RANGE},
    request::Parts,
};
use http_body::Frame;
use redial_core::{Deadline, Event, ResumePolicy};
use tower_service::Service;

use super::{
    OnceBody, Shared,
    body::Progress,
    digest::DigestCheck,
    representation::{Continuation, Representation},
};
use crate::{
    clock,
    deadline::{current_deadline, under},
    diagnose::{Fresh, Rejection},
    observe::Call,
};

/// What it takes to go on with answers of the service below, whatever that is.
pub(super) type Again<B, E> = AgainBy<dyn Ask<B, E>>;

/// What it takes to go on by way of `A`.
pub(super) struct AgainBy<A: ?Sized> {
    head: Parts,
    policy: ResumePolicy,
    shared: Arc<Shared>,
    deadline: Option<Deadline>,
    /// What is known of the answer, once its head is there.
    known: Representation,
    /// How far its body has come.
    pub(super) progress: Progress,
    /// What all its bytes must come to, until that is known. Boxed, as few servers say.
    digest: Option<Box<DigestCheck>>,
    resumes: u32,
    /// How many of them brought nothing since the last one that did.
    fruitless: u32,
    previous: Duration,
    /// Never locked: what is in a mutex can be shared between threads even where it could not be by
    /// itself.
    service: Mutex<A>,
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
    /// Here is more, and what it takes to go on after it.
    More { body: B, again: Box<Again<B, E>> },
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

impl<A> AgainBy<A> {
    pub(super) fn new(service: A, head: Parts, policy: ResumePolicy, shared: Arc<Shared>) -> Self {
        Self {
            head,
            policy,
            shared,
            deadline: current_deadline(),
            known: Representation::default(),
            progress: Progress::default(),
            digest: None,
            resumes: 0,
            fruitless: 0,
            previous: Duration::ZERO,
            service: Mutex::new(service),
        }
    }
}

impl<B, E> Again<B, E> {
    /// Notes what the head of an answer tells, whose body begins; returns the length of the whole, where
    /// it was announced.
    pub(super) fn note_head(&mut self, headers: &HeaderMap) -> Option<u64> {
        self.known = Representation::of(headers);
        self.progress = Progress::of(self.known.length());
        // A digest is of the bytes as the server sent them.
        let identity = self.head.headers.get(ACCEPT_ENCODING);
        let is_as_sent =
            self.known.length().is_some() || identity.is_some_and(|coding| coding == "identity");
        let digest = if is_as_sent { DigestCheck::of(headers) } else { None };
        self.digest = digest.map(Box::new);
        self.known.length()
    }

    /// Returns whether the body is still to be held against a digest.
    pub(super) const fn awaits_digest(&self) -> bool {
        self.digest.is_some()
    }

    /// Looks at what came, or at the end, before it is handed on; with the last byte all must be right.
    pub(super) fn check<D: Buf>(&mut self, frame: Option<&Frame<D>>) -> Result<(), Rejection> {
        let Some(digest) = &mut self.digest else { return Ok(()) };
        if let Some(data) = frame.and_then(Frame::data_ref)
            && !digest.update_from(data)
        {
            self.digest = None;
            return Ok(());
        }
        let is_whole = frame.is_none() || self.known.length() == Some(self.progress.at);
        match self.digest.take_if(|_| is_whole) {
            Some(digest) => digest.finish(),
            None => Ok(()),
        }
    }

    /// Returns whether it makes sense to ask for what comes next.
    pub(super) fn is_possible(&self) -> bool {
        let Progress { at, end, .. } = self.progress;
        self.resumes < self.policy.resumes()
            && end.is_none_or(|end| at <= end)
            && self.known.length() != Some(at)
            && (at == 0 || self.known.if_range().is_some())
    }

    /// Notes that something came.
    pub(super) fn note_progress(&mut self) {
        (self.fruitless, self.previous) = (0, Duration::ZERO);
    }

    /// Asks for what comes next until it is there, or will not be.
    pub(super) async fn run(mut self: Box<Self>) -> Resumption<B, E> {
        let at = self.progress.at;
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
                Continuation::GoesOn { end } => {
                    let call = Call { method: &self.head.method, uri: &self.head.uri };
                    self.shared.observer.tell(&call, Event::Resumed { at });
                    self.progress.end = end;
                    return Resumption::More { body: answer.into_body(), again: self };
                }
                Continuation::Failed => {}
                Continuation::Changed => return Resumption::Changed,
                Continuation::Useless => break,
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

impl<A: ?Sized> fmt::Debug for AgainBy<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Again").field("known", &self.known).finish_non_exhaustive()
    }
}
