//! From tonic's channels, or whatever else its clients take, to a service with evidence.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use redial::BoxError;
use tonic::{body::Body, client::GrpcService};
use tower_layer::Layer;
use tower_service::Service;

use crate::error::GrpcError;

/// Wraps services in [`GrpcTransport`].
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcTransportLayer;

/// A service of tonic's that takes any body, and whose errors tell what is known about the request:
/// a `tonic::transport::Channel`, or anything else that a tonic client takes.
#[derive(Clone, Debug)]
pub struct GrpcTransport<S> {
    inner: S,
}

pin_project! {
    /// An attempt in flight, whose error is read when it comes.
    #[derive(Debug)]
    pub struct GrpcTransportFuture<F> {
        #[pin]
        attempt: F,
    }
}

impl<S> Layer<S> for GrpcTransportLayer {
    type Service = GrpcTransport<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcTransport { inner }
    }
}

impl<S, B> Service<Request<B>> for GrpcTransport<S>
where
    S: GrpcService<Body>,
    S::ResponseBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = GrpcError;
    type Future = GrpcTransportFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GrpcError>> {
        self.inner.poll_ready(cx).map_err(|error| GrpcError::from_transport(error.into()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        GrpcTransportFuture { attempt: self.inner.call(request.map(Body::new)) }
    }
}

impl<F, T, E> Future for GrpcTransportFuture<F>
where
    F: Future<Output = Result<Response<T>, E>>,
    T: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    E: Into<BoxError>,
{
    type Output = Result<Response<Body>, GrpcError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A body that is tonic's own already, as a channel's is, stays what it is.
        let outcome = self.project().attempt.poll(cx).map_ok(|response| response.map(Body::new));
        outcome.map_err(|error| GrpcError::from_transport(error.into()))
    }
}
