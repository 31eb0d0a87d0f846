//! Layers that live as long as they like, around a chain of middlewares that is borrowed.
//!
//! A layer needs a service that owns what it uses; the rest of a chain of middlewares is lent for
//! one call. So the service at the foot of the layers sends nothing itself. It lays each request on
//! the desk of its call and waits; whoever runs the call takes it from there, runs the chain, and
//! hands the outcome back. Both sides are polled by the same task unless a layer does otherwise,
//! and the layers see an ordinary service: they may send one attempt after another, or several at
//! once, or drop them.

use std::{
    any::Any,
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Extensions, Request, Response, Uri, request::Parts};
use http_body::{Body, Frame, SizeHint};
use redial::{AttemptNumber, Attempts, BoxError, Fresh, ReplayBody, Sent};
use reqwest_middleware::Next;
use tokio::sync::oneshot;
use tower_service::Service;

use crate::{
    body::{Course, Trace, outgoing, whole},
    error::Error,
    response::from_reqwest,
};

/// The service at the foot of the layers of a [`RedialMiddleware`](crate::RedialMiddleware): it
/// sends each request through the middlewares after that one.
///
/// A layer above has to pass on the extensions of the request that it got: they say which call an
/// attempt belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Relay {
    _private: (),
}

/// The body of a request as the layers of a [`RedialMiddleware`](crate::RedialMiddleware) see it:
/// the caller's.
#[derive(Debug)]
pub struct RequestBody {
    body: reqwest::Body,
}

/// An attempt on its way through the rest of the chain.
#[derive(Debug)]
pub struct RelayFuture {
    outcome: Option<oneshot::Receiver<Outcome>>,
}

/// Where the attempts of one call are handed over.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The caller's request, without what goes through the layers: with its timeout, and its URL as
    /// it was written.
    template: reqwest::Request,
    uri: Uri,
    /// The caller's body, where all of it is in memory already: it can be sent any number of times,
    /// however long it is.
    whole: Option<Bytes>,
    inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    jobs: Vec<Job>,
    waker: Option<Waker>,
    is_closed: bool,
}

#[derive(Debug)]
struct Job {
    head: Parts,
    body: reqwest::Body,
    trace: Trace,
    reply: oneshot::Sender<Outcome>,
}

/// An attempt that the chain is working on.
struct Running<'a> {
    attempt: Pin<Box<dyn Future<Output = (Answered, Extensions)> + Send + 'a>>,
    trace: Trace,
    reply: Option<oneshot::Sender<Outcome>>,
}

/// Closes the desk when its call is over, however that comes about.
struct Closing<'a>(&'a Desk);

type Outcome = Result<Response<reqwest::Body>, Error>;
type Answered = reqwest_middleware::Result<reqwest::Response>;

impl Relay {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }
}

impl<B> Service<Request<B>> for Relay
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + Sync + 'static,
{
    type Response = Response<reqwest::Body>;
    type Error = Error;
    type Future = RelayFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> RelayFuture {
        let (mut head, body) = request.into_parts();
        let Some(desk) = head.extensions.remove::<Arc<Desk>>() else {
            return RelayFuture { outcome: None };
        };
        let (body, trace) = match &desk.whole {
            Some(bytes) if is_callers(&body) => whole(&head.method, bytes.clone()),
            _ => outgoing(&head.method, body),
        };
        let (reply, outcome) = oneshot::channel();
        desk.post(Job { head, body, trace, reply });
        RelayFuture { outcome: Some(outcome) }
    }
}

/// Returns whether no layer has put another body in place of the caller's.
fn is_callers<B: 'static>(body: &B) -> bool {
    let body: &dyn Any = body;
    body.is::<RequestBody>()
        || body.is::<ReplayBody<RequestBody>>()
        || body.is::<ReplayBody<ReplayBody<RequestBody>>>()
        || body.is::<Sent<RequestBody>>()
}

impl Future for RelayFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(outcome) = &mut self.outcome else { return Poll::Ready(Err(Error::astray())) };
        // Nobody answers when the call that the attempt belongs to is over.
        let outcome = ready!(Pin::new(outcome).poll(cx));
        Poll::Ready(outcome.unwrap_or_else(|_| Err(Error::astray())))
    }
}

impl Desk {
    /// Opens a desk for `request`, and returns it with the request as the layers shall see it.
    pub(crate) fn open(
        mut request: reqwest::Request,
        uri: Uri,
        extensions: &Extensions,
    ) -> (Arc<Self>, Request<RequestBody>) {
        let body = request.body_mut().take().unwrap_or_default();
        let (whole, body) = share(body);
        let mut outer = Request::new(RequestBody { body });
        *outer.method_mut() = request.method().clone();
        *outer.uri_mut() = uri.clone();
        *outer.version_mut() = request.version();
        *outer.headers_mut() = mem::take(request.headers_mut());
        *outer.extensions_mut() = extensions.clone();
        let desk = Arc::new(Self { template: request, uri, whole, inbox: Mutex::default() });
        outer.extensions_mut().insert(Arc::clone(&desk));
        (desk, outer)
    }

    /// Runs `call`, and everything that it lays on the desk, to its end; leaves what the last
    /// attempt put into its extensions in `extensions`.
    pub(crate) async fn run<F: Future>(
        &self,
        call: F,
        next: &Next<'_>,
        extensions: &mut Extensions,
    ) -> F::Output {
        let _closing = Closing(self);
        let mut call = pin!(call);
        let mut running: Vec<Running<'_>> = Vec::new();
        let mut attempts = 0;
        let mut last = None;
        let outcome = poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = call.as_mut().poll(cx) {
                    return Poll::Ready(outcome);
                }
                for job in self.take(cx.waker()) {
                    attempts += 1;
                    running.extend(self.start(job, next));
                }
                let mut has_ended = false;
                running.retain_mut(|attempt| match attempt.poll(cx) {
                    Poll::Pending => true,
                    Poll::Ready(extensions) => {
                        has_ended = true;
                        last = extensions.or_else(|| last.take());
                        false
                    }
                });
                if !has_ended {
                    return Poll::Pending;
                }
            }
        })
        .await;
        if let Some(mut last) = last {
            last.remove::<AttemptNumber>();
            last.remove::<Fresh>();
            *extensions = last;
        }
        if 1 < attempts {
            extensions.insert(Attempts(attempts));
        }
        outcome
    }

    fn post(&self, job: Job) {
        let mut inbox = self.lock();
        // A job that is refused is dropped, and with it its reply.
        if !inbox.is_closed {
            inbox.jobs.push(job);
            if let Some(waker) = inbox.waker.take() {
                drop(inbox);
                waker.wake();
            }
        }
    }

    /// Takes what is on the desk, and has `waker` woken when more comes.
    fn take(&self, waker: &Waker) -> Vec<Job> {
        let mut inbox = self.lock();
        if !inbox.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inbox.waker = Some(waker.clone());
        }
        mem::take(&mut inbox.jobs)
    }

    /// Starts an attempt; one that cannot be sent is answered at once.
    fn start<'a>(&self, job: Job, next: &Next<'a>) -> Option<Running<'a>> {
        let Job { mut head, body, trace, reply } = job;
        let mut extensions = mem::take(&mut head.extensions);
        let request = match self.request(head, body) {
            Ok(request) => request,
            Err(error) => {
                // Who went away in the meantime does not need to know.
                let _ = reply.send(Err(Error::sending(error, &trace, Course::FIRST)));
                return None;
            }
        };
        let next = next.clone();
        let attempt = Box::pin(async move {
            let answered = next.run(request, &mut extensions).await;
            (answered, extensions)
        });
        Some(Running { attempt, trace, reply: Some(reply) })
    }

    /// Returns the caller's request again, with what the layers made of it.
    fn request(&self, head: Parts, body: reqwest::Body) -> reqwest::Result<reqwest::Request> {
        let copy = (head.uri == self.uri).then(|| self.template.try_clone()).flatten();
        let mut request = match copy {
            Some(copy) => copy,
            None => {
                let mut other = Request::new(reqwest::Body::default());
                *other.uri_mut() = head.uri;
                let mut request = reqwest::Request::try_from(other)?;
                *request.timeout_mut() = self.template.timeout().copied();
                request
            }
        };
        *request.method_mut() = head.method;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.headers;
        *request.body_mut() = Some(body);
        Ok(request)
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // Nothing is done under the lock that could be left half done.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running<'_> {
    /// Returns the attempt's extensions when it has ended; none if nobody waits for it any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Extensions>> {
        let Some(reply) = &mut self.reply else { return Poll::Ready(None) };
        if reply.poll_closed(cx).is_ready() {
            return Poll::Ready(None);
        }
        let attempt = |cx: &mut Context<'_>| self.attempt.as_mut().poll(cx);
        let ((answered, extensions), course) = ready!(self.trace.watch(cx, attempt));
        let failed = |error| Error::inner(error, &self.trace, course);
        if let Some(reply) = self.reply.take() {
            // Who went away in this very moment does not need to know.
            let _ = reply.send(answered.map(from_reqwest).map_err(failed));
        }
        Poll::Ready(Some(extensions))
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut inbox = self.0.lock();
        inbox.is_closed = true;
        let (jobs, waker) = (mem::take(&mut inbox.jobs), inbox.waker.take());
        drop(inbox);
        drop((jobs, waker));
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Takes a copy of a body that is in memory already, which costs nothing; leaves others alone.
fn share(mut body: reqwest::Body) -> (Option<Bytes>, reqwest::Body) {
    if body.as_bytes().is_none() {
        return (None, body);
    }
    let mut cx = Context::from_waker(Waker::noop());
    let bytes = match Pin::new(&mut body).poll_frame(&mut cx) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    };
    (Some(bytes.clone()), bytes.into())
}
