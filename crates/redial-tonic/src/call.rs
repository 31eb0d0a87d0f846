//! The outermost layer of a gRPC call: the caller's timeout, and statuses for what breaks off.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use redial::{
    BoxError,
    http::{GRPC_TIMEOUT, parse_grpc_timeout},
    with_deadline,
};
use redial_core::Deadline;
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use crate::{clock, error::status_of_body};

/// Wraps services in [`GrpcCall`].
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcCallLayer;

/// A service that makes the `grpc-timeout` of a request the deadline of the whole call, and a
/// [`Status`] with the right code of whatever breaks off an answer's body.
///
/// The deadline is that of `tonic::Request::set_timeout`. It is only announced here, to be kept by a
/// [`DeadlineLayer`](redial::DeadlineLayer) below; a field that is malformed says nothing.
#[derive(Clone, Debug)]
pub struct GrpcCall<S> {
    inner: S,
}

pin_project! {
    /// A call in flight, which sees the deadline that its caller set.
    #[derive(Debug)]
    pub struct GrpcCallFuture<F> {
        #[pin]
        call: F,
        deadline: Option<Deadline>,
    }
}

pin_project! {
    /// The body of an answer, whose errors are statuses.
    #[derive(Debug)]
    pub struct GrpcBody<B> {
        #[pin]
        body: B,
    }
}

impl<S> Layer<S> for GrpcCallLayer {
    type Service = GrpcCall<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcCall { inner }
    }
}

impl<S> GrpcCall<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B, T> Service<Request<B>> for GrpcCall<S>
where
    S: Service<Request<B>, Response = Response<T>>,
{
    type Response = Response<GrpcBody<T>>;
    type Error = S::Error;
    type Future = GrpcCallFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let timeout = request.headers().get(&GRPC_TIMEOUT);
        let timeout = timeout.and_then(|value| parse_grpc_timeout(value).ok());
        let deadline = timeout.map(|timeout| Deadline::after(clock::now(), timeout));
        let call = within(deadline, || self.inner.call(request));
        GrpcCallFuture { call, deadline }
    }
}

impl<F, T, E> Future for GrpcCallFuture<F>
where
    F: Future<Output = Result<Response<T>, E>>,
{
    type Output = Result<Response<GrpcBody<T>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = within(*this.deadline, || this.call.poll(cx));
        outcome.map_ok(|response| response.map(|body| GrpcBody { body }))
    }
}

/// Runs `work` so that all that it calls sees the deadline, where there is one.
pub(crate) fn within<T>(deadline: Option<Deadline>, work: impl FnOnce() -> T) -> T {
    match deadline {
        Some(deadline) => with_deadline(deadline, work),
        None => work(),
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for GrpcBody<B> {
    type Data = B::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Status>>> {
        let frame = self.project().body.poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(|error| status_of_body(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
