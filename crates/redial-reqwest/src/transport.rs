//! A reqwest client as the transport at the foot of a stack.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use redial::BoxError;
use reqwest::Client;
use tower_service::Service;

use crate::{
    body::{Course, Trace, outgoing},
    error::Error,
    response::from_reqwest,
};

/// A service that sends `http` requests through a [`reqwest::Client`], for the foot of a stack of
/// layers.
///
/// Everything that the client was built with stays in force, within each attempt: its own timeouts,
/// redirects, cookies, proxies and decoding. [`into_response`](crate::into_response) makes the
/// answer reqwest's again.
///
/// The mark [`Fresh`](redial::Fresh) has no effect: reqwest does not let anybody choose the
/// connection.
///
/// # Cancellation
///
/// Dropping the future cancels the request.
///
/// # Examples
///
/// ```
/// use redial::core::Policy;
/// use redial_reqwest::ReqwestTransport;
/// use redial_testkit::{Reply, Upstream};
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), redial::BoxError> {
/// let upstream = Upstream::script([Reply::status(503), Reply::ok("paid")]).await;
/// let transport = ReqwestTransport::new(reqwest::Client::new());
/// let service = redial::stack(Policy::default()).layer(transport);
///
/// let request = http::Request::get(upstream.url("/orders")).body(reqwest::Body::default())?;
/// let answer = redial_reqwest::into_response(service.oneshot(request).await?);
/// assert_eq!(redial_reqwest::attempts(&answer), 2);
/// assert_eq!(answer.text().await?, "paid");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ReqwestTransport {
    client: Client,
}

pin_project! {
    /// An attempt in flight.
    pub struct TransportFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State {
        Sent { #[pin] pending: Pending, trace: Trace },
        Unsent { error: Option<Error> },
    }
}

/// reqwest has no public name for its futures.
type Pending = <Client as Service<reqwest::Request>>::Future;

impl ReqwestTransport {
    /// Creates a transport that sends through `client`, whose pool is shared with everybody else
    /// who uses it.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }
}

impl From<Client> for ReqwestTransport {
    fn from(client: Client) -> Self {
        Self::new(client)
    }
}

impl<B> Service<Request<B>> for ReqwestTransport
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + Sync + 'static,
{
    type Response = Response<reqwest::Body>;
    type Error = Error;
    type Future = TransportFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.client.poll_ready(cx).map_err(Error::from)
    }

    fn call(&mut self, request: Request<B>) -> TransportFuture {
        let (head, body) = request.into_parts();
        let (body, trace) = outgoing(&head.method, body);
        let state = match reqwest::Request::try_from(Request::from_parts(head, body)) {
            Ok(request) => State::Sent { pending: self.client.call(request), trace },
            Err(error) => {
                State::Unsent { error: Some(Error::sending(error, &trace, Course::FIRST)) }
            }
        };
        TransportFuture { state }
    }
}

impl Future for TransportFuture {
    type Output = Result<Response<reqwest::Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Sent { pending, trace } => {
                let (outcome, course) = ready!(trace.watch(cx, |cx| pending.poll(cx)));
                let failed = |error| Error::sending(error, trace, course);
                Poll::Ready(outcome.map(from_reqwest).map_err(failed))
            }
            StateProjection::Unsent { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                // A future that has finished is not polled again.
                None => Poll::Pending,
            },
        }
    }
}

impl fmt::Debug for TransportFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportFuture").finish_non_exhaustive()
    }
}
