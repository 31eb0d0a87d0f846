//! What every contestant is given: the same requests, the same servers, and one poll to the end.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::Empty;
use redial::Rejection;
use tower::Service;

/// A request without a body.
pub(crate) type Asked = Request<Empty<Bytes>>;
/// An answer without a body.
pub(crate) type Answered = Response<Empty<Bytes>>;

/// What a call meets, and what it carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Shape {
    /// Header fields of the request.
    pub(crate) fields: usize,
    /// Whether the first attempt of each call meets a 503.
    pub(crate) fails_once: bool,
}

/// Answers at once: always well, or every other time with 503. Clones share the turn.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    fails: Option<Arc<AtomicBool>>,
}

/// An error that no server here makes, but that layers may.
#[derive(Clone, Debug, thiserror::Error)]
#[error("refused: {0}")]
pub(crate) struct Refused(#[from] pub(crate) Rejection);

impl From<Infallible> for Refused {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl redial::Diagnose for Refused {
    fn diagnose(&self) -> redial::Diagnosis {
        self.0.diagnose()
    }
}

impl Server {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { fails: shape.fails_once.then(|| Arc::new(AtomicBool::new(false))) }
    }

    /// Answers a request.
    pub(crate) fn answer_to<B>(&self, _: Request<B>) -> Answered {
        let mut response = Response::new(Empty::new());
        // Fails on even turns, answers on odd ones.
        if let Some(turn) = &self.fails
            && !turn.fetch_xor(true, Ordering::Relaxed)
        {
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }
}

impl<B> Service<Request<B>> for Server {
    type Response = Answered;
    type Error = Refused;
    type Future = Ready<Result<Answered, Refused>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer_to(request)))
    }
}

/// Makes requests like one that is kept: its target is shared, its fields are new.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    uri: Uri,
    fields: usize,
}

impl Requests {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { uri: Uri::from_static("http://shop.example/"), fields: shape.fields }
    }

    pub(crate) fn make(&self) -> Asked {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        for name in NAMES.iter().take(self.fields) {
            let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static("value"));
            request.headers_mut().insert(name, value);
        }
        request
    }
}

/// Polls `client` to ready and one call to its end, which comes at the first poll; returns whether
/// it ended well.
pub(crate) fn call<S>(client: &mut S, request: Asked) -> bool
where
    S: Service<Asked, Response: Well>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = client.poll_ready(&mut cx) else { return false };
    let call = pin!(client.call(request));
    matches!(call.poll(&mut cx), Poll::Ready(Ok(answer)) if answer.is_well())
}

/// Polls a future that is ready at the first poll.
pub(crate) fn poll<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Answers that tell whether they are well.
pub(crate) trait Well {
    fn is_well(&self) -> bool;
}

impl<B> Well for Response<B> {
    fn is_well(&self) -> bool {
        self.status().is_success()
    }
}

const NAMES: [&str; 6] = ["accept", "user-agent", "x-a", "x-b", "x-c", "x-d"];
