//! The other end of a deadline: a server that knows when its caller stops caring.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use redial::http::{GRPC_TIMEOUT, parse_grpc_timeout};
use redial_core::Deadline;
use tokio::time::Sleep;
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use crate::{call::within, clock};

/// Wraps a server's services in [`ServerDeadline`].
///
/// # Examples
///
/// ```
/// use redial_tonic::ServerDeadlineLayer;
/// use tonic::transport::Server;
///
/// let server = Server::builder().layer(ServerDeadlineLayer);
/// # let _ = server;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerDeadlineLayer;

/// A service that reads `grpc-timeout`, lets its handler see the deadline, and ends it there.
///
/// Within the handler, [`redial::current_deadline`] returns the deadline, so that calls made from
/// there through Redial inherit it; a task that the handler spawns sees it through
/// [`redial::carry`]. A call that runs out of time is answered `DEADLINE_EXCEEDED`, in its trailers
/// where its answer has begun, and what worked on it is dropped. A `grpc-timeout` that is malformed
/// is answered `INTERNAL` before the handler is called: gRPC leaves this to the server, and grpc-go
/// does the same. A request without the field takes as long as it takes.
///
/// [`redial::InboundLayer`] does the same for servers that speak more than gRPC, and carries traces.
///
/// # Cancellation
///
/// Dropping the future drops the handler.
#[derive(Clone, Debug)]
pub struct ServerDeadline<S> {
    inner: S,
}

pin_project! {
    /// A handler at work, and the timer that ends it.
    #[derive(Debug)]
    pub struct ServerDeadlineFuture<F> {
        #[pin]
        work: Option<F>,
        limit: Option<Deadline>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

pin_project! {
    /// The body of an answer, which ends in `DEADLINE_EXCEEDED` when it takes too long.
    #[derive(Debug)]
    pub struct ServerDeadlineBody<T> {
        #[pin]
        body: Option<T>,
        limit: Option<Deadline>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<S> Layer<S> for ServerDeadlineLayer {
    type Service = ServerDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ServerDeadline { inner }
    }
}

impl<S, B, T> Service<Request<B>> for ServerDeadline<S>
where
    S: Service<Request<B>, Response = Response<T>>,
{
    type Response = Response<ServerDeadlineBody<T>>;
    type Error = S::Error;
    type Future = ServerDeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = match request.headers().get(&GRPC_TIMEOUT).map(parse_grpc_timeout) {
            None => None,
            Some(Ok(timeout)) => Some(Deadline::after(clock::now(), timeout)),
            Some(Err(_)) => return ServerDeadlineFuture { work: None, limit: None, sleep: None },
        };
        let work = within(limit, || self.inner.call(request));
        ServerDeadlineFuture { work: Some(work), limit, sleep: limit.map(sleep_until) }
    }
}

impl<F, T, E> Future for ServerDeadlineFuture<F>
where
    F: Future<Output = Result<Response<T>, E>>,
{
    type Output = Result<Response<ServerDeadlineBody<T>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let limit = *this.limit;
        let Some(work) = this.work.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok(Status::internal(MALFORMED).into_http()));
        };
        if let Poll::Ready(outcome) = within(limit, || work.poll(cx)) {
            let guard = |body| ServerDeadlineBody { body: Some(body), limit, sleep: None };
            return Poll::Ready(outcome.map(|response| response.map(guard)));
        }
        let Some(sleep) = this.sleep.as_pin_mut() else { return Poll::Pending };
        ready!(sleep.poll(cx));
        this.work.set(None);
        Poll::Ready(Ok(exceeded().into_http()))
    }
}

impl<T: Body> Body for ServerDeadlineBody<T> {
    type Data = T::Data;
    type Error = T::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<T::Data>, T::Error>>> {
        let mut this = self.project();
        let limit = *this.limit;
        let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = within(limit, || body.poll_frame(cx)) {
            return Poll::Ready(frame);
        }
        let Some(limit) = limit else { return Poll::Pending };
        if this.sleep.is_none() {
            this.sleep.set(Some(sleep_until(limit)));
        }
        let Some(sleep) = this.sleep.as_pin_mut() else { return Poll::Pending };
        ready!(sleep.poll(cx));
        this.body.set(None);
        let mut trailers = HeaderMap::new();
        // A status without metadata can always be written.
        let _ = exceeded().add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<T> Default for ServerDeadlineBody<T> {
    /// A body without anything in it.
    fn default() -> Self {
        Self { body: None, limit: None, sleep: None }
    }
}

fn exceeded() -> Status {
    Status::deadline_exceeded("the caller's deadline has passed")
}

fn sleep_until(deadline: Deadline) -> Sleep {
    tokio::time::sleep_until(deadline.instant().into())
}

const MALFORMED: &str = "malformed grpc-timeout";
