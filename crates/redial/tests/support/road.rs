//! A client whose every call succeeds at once: what is left are the layers themselves.

use std::{
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Empty;
use redial::Rejection;
use tower::Service;

/// Answers at once, without a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ideal;

/// An error that this server never makes, but that layers may.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Never {
    /// A layer refused.
    Rejected(Rejection),
}

impl From<Rejection> for Never {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<std::convert::Infallible> for Never {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl redial::Diagnose for Never {
    fn diagnose(&self) -> redial::Diagnosis {
        let Self::Rejected(rejection) = self;
        rejection.diagnose()
    }
}

impl std::error::Error for Never {}

impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Rejected(rejection) = self;
        write!(f, "{rejection}")
    }
}

impl<B> Service<Request<B>> for Ideal {
    type Response = Response<Empty<Bytes>>;
    type Error = Never;
    type Future = Ready<Result<Response<Empty<Bytes>>, Never>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Never>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Empty::new())))
    }
}

/// A request without a body, with `fields` header fields.
pub(crate) fn request(fields: usize) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = "http://shop.example/".parse().unwrap_or_default();
    let names = ["accept", "user-agent", "x-a", "x-b", "x-c", "x-d"];
    for name in names.iter().take(fields) {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static("value"));
        request.headers_mut().insert(name, value);
    }
    request
}

/// Makes one call and polls it to its end; returns whether it ended well.
pub(crate) fn call<S>(client: &mut S, request: Request<Empty<Bytes>>) -> bool
where
    S: Service<Request<Empty<Bytes>>>,
{
    let mut cx = Context::from_waker(Waker::noop());
    if !client.poll_ready(&mut cx).is_ready() {
        return false;
    }
    let call = pin!(client.call(request));
    matches!(call.poll(&mut cx), Poll::Ready(Ok(_)))
}
