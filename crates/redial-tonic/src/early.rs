//! A status that comes before any message, lifted to where everybody looks for it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use redial::BoxError;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

use crate::{error::GrpcError, head::Head, policy::GrpcPolicyCell};

/// Wraps services in [`EarlyStatus`].
#[derive(Clone, Debug)]
pub struct EarlyStatusLayer {
    cell: GrpcPolicyCell,
}

/// A service that looks at the first frame of an answer's body before it hands the answer on.
///
/// Some servers, and proxies before them, send headers first and then fail without a message. By
/// gRFC A6 the headers have committed such a call. With [`GrpcPolicy::with_peek`], a status in
/// trailers that come first moves to the head, as if the server had sent nothing else, and a body
/// that breaks off before any message makes the attempt fail. Everything above then sees what
/// happened. Without it, this layer does nothing.
///
/// A peek waits for the first message, so the caller gets the headers no earlier than that. It is left
/// out while the request is still being sent: a server that waits for the next message of a stream
/// would wait for a caller that waits for the server.
///
/// [`GrpcPolicy::with_peek`]: crate::GrpcPolicy::with_peek
///
/// # Cancellation
///
/// Dropping the future drops the attempt.
#[derive(Clone, Debug)]
pub struct EarlyStatus<S> {
    inner: S,
    cell: GrpcPolicyCell,
}

pin_project! {
    /// An attempt in flight, to the first frame of its answer's body where that is looked at.
    #[derive(Debug)]
    pub struct EarlyStatusFuture<F, T> {
        #[pin]
        attempt: F,
        has_ended: Option<Arc<AtomicBool>>,
        peeked: Option<Response<T>>,
    }
}

pin_project! {
    /// A request's body that tells when all of it was sent.
    #[derive(Debug)]
    pub struct SentBody<B> {
        #[pin]
        body: B,
        has_ended: Option<Arc<AtomicBool>>,
    }
}

pin_project! {
    /// The body of an answer, with the frame that was looked at still in front.
    #[derive(Debug)]
    pub struct EarlyBody<T: Body> {
        first: Option<Frame<T::Data>>,
        is_done: bool,
        #[pin]
        rest: T,
    }
}

impl EarlyStatusLayer {
    /// Creates a layer that peeks while `cell` says so.
    pub fn new(cell: impl Into<GrpcPolicyCell>) -> Self {
        Self { cell: cell.into() }
    }
}

impl<S> Layer<S> for EarlyStatusLayer {
    type Service = EarlyStatus<S>;

    fn layer(&self, inner: S) -> Self::Service {
        EarlyStatus { inner, cell: self.cell.clone() }
    }
}

impl<S, B, T> Service<Request<B>> for EarlyStatus<S>
where
    S: Service<Request<SentBody<B>>, Response = Response<T>, Error = GrpcError>,
    B: Body,
    T: Body<Error: Into<BoxError>> + Unpin,
{
    type Response = Response<EarlyBody<T>>;
    type Error = GrpcError;
    type Future = EarlyStatusFuture<S::Future, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GrpcError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let flag = |body: &B| Arc::new(AtomicBool::new(body.is_end_stream()));
        let has_ended = self.cell.terms().peeks.then(|| flag(request.body()));
        let sent = has_ended.clone();
        let request = request.map(|body| SentBody { body, has_ended: sent });
        EarlyStatusFuture { attempt: self.inner.call(request), has_ended, peeked: None }
    }
}

impl<F, T> Future for EarlyStatusFuture<F, T>
where
    F: Future<Output = Result<Response<T>, GrpcError>>,
    T: Body<Error: Into<BoxError>> + Unpin,
{
    type Output = Result<Response<EarlyBody<T>>, GrpcError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.peeked.is_none() {
            let response = ready!(this.attempt.poll(cx))?;
            let is_sent = this.has_ended.take().is_some_and(|ended| ended.load(Ordering::Acquire));
            let is_looked_at =
                is_sent && Head::of(&response) == Head::Open && !response.body().is_end_stream();
            if !is_looked_at {
                return Poll::Ready(Ok(response.map(EarlyBody::whole)));
            }
            *this.peeked = Some(response);
        }
        let Some(response) = this.peeked.as_mut() else { return Poll::Pending };
        let first = ready!(Pin::new(response.body_mut()).poll_frame(cx));
        let Some(response) = this.peeked.take() else { return Poll::Pending };
        Poll::Ready(match first {
            Some(Ok(frame)) => Ok(lift(response, frame)),
            Some(Err(error)) => Err(GrpcError::from_body(error.into())),
            None => Ok(response.map(EarlyBody::done)),
        })
    }
}

/// Moves a failure's status to the head; anything else stays in the body.
fn lift<T: Body>(mut response: Response<T>, frame: Frame<T::Data>) -> Response<EarlyBody<T>> {
    let is_failure = |trailers: &HeaderMap| {
        let status = trailers.get(Status::GRPC_STATUS);
        status.is_some_and(|status| Code::from_bytes(status.as_bytes()) != Code::Ok)
    };
    if !frame.trailers_ref().is_some_and(is_failure) {
        return response.map(|rest| EarlyBody { first: Some(frame), is_done: false, rest });
    }
    if let Ok(trailers) = frame.into_trailers() {
        response.headers_mut().extend(trailers);
    }
    response.map(EarlyBody::done)
}

impl<T: Body> EarlyBody<T> {
    const fn whole(rest: T) -> Self {
        Self { first: None, is_done: false, rest }
    }

    const fn done(rest: T) -> Self {
        Self { first: None, is_done: true, rest }
    }
}

impl<T: Body> Body for EarlyBody<T> {
    type Data = T::Data;
    type Error = T::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<T::Data>, T::Error>>> {
        let this = self.project();
        if *this.is_done {
            return Poll::Ready(None);
        }
        match this.first.take() {
            Some(frame) => {
                *this.is_done = frame.is_trailers();
                Poll::Ready(Some(Ok(frame)))
            }
            None => this.rest.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_done || (self.first.is_none() && self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_done {
            return SizeHint::with_exact(0);
        }
        if self.first.is_some() { SizeHint::new() } else { self.rest.size_hint() }
    }
}

impl<B: Body> Body for SentBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if let Some(has_ended) = this.has_ended {
            let is_last = match &frame {
                Some(Ok(frame)) => frame.is_trailers() || this.body.is_end_stream(),
                Some(Err(_)) => false,
                None => true,
            };
            if is_last {
                has_ended.store(true, Ordering::Release);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
