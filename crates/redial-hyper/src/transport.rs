//! The service: a request in, an answer or an exact error out.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response,
    header::{ACCEPT_ENCODING, RANGE},
};
use hyper::body::Incoming;
use redial::{BoxError, Fresh};
use tower_service::Service;

use crate::{
    body::{ACCEPTED, Body},
    builder::Builder,
    connect::{ConnectError, Connector},
    error::Error,
    lease::{Connection, Lease},
    origin::Origin,
    pool::{Checkout, Pool},
    request::{Failure, Outgoing, Target},
};

/// Sends requests over HTTP/1.1 and HTTP/2, and says exactly what happened when it cannot.
///
/// Cheap to clone; clones share their connections. It must be called within a tokio runtime.
///
/// A request needs an absolute URI (`http://host/path`). Its version is chosen by the transport, its
/// `Host` kept if it has one. One that carries [`redial::Fresh`] among its extensions gets a
/// connection of its own.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

/// What the builder settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle_per_host: usize,
    pub(crate) is_decompressing: bool,
    pub(crate) is_h2_only: bool,
}

#[derive(Debug)]
struct Shared {
    connector: Connector,
    pool: Arc<Pool>,
    settings: Settings,
}

/// The answer to come.
///
/// # Cancellation
///
/// Dropping it cancels the request: the HTTP/2 stream is reset, the HTTP/1.1 connection is closed, a
/// connection that is being made is given up. Nothing stays behind.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    answer: Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>,
}

impl Transport {
    /// Returns a builder with every default set.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use redial_hyper::Transport;
    ///
    /// let transport = Transport::builder().connect_timeout(Duration::from_secs(2)).build()?;
    /// # Ok::<(), redial_hyper::BuildError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(connector: Connector, settings: Settings) -> Self {
        let pool = Arc::new(Pool::new(settings.idle_timeout, settings.max_idle_per_host));
        Self { shared: Arc::new(Shared { connector, pool, settings }) }
    }
}

impl<B> Service<Request<B>> for Transport
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    /// Always ready: there is no limit on connections here.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    /// Sends `request`.
    ///
    /// # Errors
    ///
    /// If no answer came; [`Error::fault`] says why.
    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let shared = Arc::clone(&self.shared);
        let (parts, body) = request.into_parts();
        let (body, failure) = Outgoing::new(body);
        let request = Request::from_parts(parts, body);
        ResponseFuture { answer: Box::pin(async move { shared.answer(request, failure).await }) }
    }
}

impl Shared {
    async fn answer(
        &self,
        mut request: Request<Outgoing>,
        failure: Failure,
    ) -> Result<Response<Body>, Error> {
        let target = Target::take(&mut request).map_err(Error::target)?;
        let is_decoding = self.settings.is_decompressing && ask_for_coding(&mut request);
        let answer = self.exchange(request, &target, &failure).await?;
        if is_decoding {
            Ok(Body::decoded(answer, target.origin).await)
        } else {
            Ok(Body::plain(answer, target.origin))
        }
    }

    /// Sends `request`, again if it never left: a pooled connection may have died unnoticed. The
    /// second connection is one made after that was found out, so that a server that restarted
    /// costs one lap and not one for each connection that it had.
    async fn exchange(
        &self,
        mut request: Request<Outgoing>,
        target: &Target,
        failure: &Failure,
    ) -> Result<Response<Incoming>, Error> {
        let origin = &target.origin;
        let is_fresh = request.extensions().get::<Fresh>().is_some();
        let mut lease = self.lease(origin, 0, is_fresh).await?;
        let mut laps = 1;
        loop {
            target.write(&mut request, lease.is_h2());
            let mut ended = match lease.send(request).await {
                Ok(answer) => return Ok(answer),
                Err(ended) => ended,
            };
            match ended.request.take_if(|_| ended.is_reused && laps < LAPS_MAX) {
                Some(unsent) => request = unsent,
                None => return Err(Error::unanswered(origin, ended, failure)),
            }
            laps += 1;
            lease = self.lease(origin, self.pool.newest(), false).await?;
        }
    }

    /// Returns a connection to `origin`, within the time that there is for making one.
    async fn lease(
        &self,
        origin: &Origin,
        newer_than: u64,
        is_fresh: bool,
    ) -> Result<Lease, Error> {
        let after = self.settings.connect_timeout;
        let lease = async {
            if is_fresh {
                Ok(Lease::new(self.dial(origin).await?, None))
            } else {
                self.pooled(origin, newer_than).await
            }
        };
        match tokio::time::timeout(after, lease).await {
            Ok(lease) => lease.map_err(|error| Error::connecting(origin, error)),
            Err(_) => Err(Error::connect_timeout(origin, after)),
        }
    }

    async fn pooled(&self, origin: &Origin, newer_than: u64) -> Result<Lease, ConnectError> {
        loop {
            match self.pool.checkout(origin, newer_than, self.settings.is_h2_only) {
                Checkout::Ready(lease) => return Ok(lease),
                // Closing is the news: it ends with an error, always.
                Checkout::Wait(mut dialing) => drop(dialing.changed().await),
                Checkout::Dial(ticket) => {
                    let lease = self.pool.adopt(origin, self.dial(origin).await?);
                    drop(ticket);
                    return Ok(lease);
                }
            }
        }
    }

    async fn dial(&self, origin: &Origin) -> Result<Connection, ConnectError> {
        let dialed = self.connector.connect(origin).await?;
        Connection::start(self.pool.next_id(), dialed).await
    }
}

/// Asks for an answer that can be decoded, unless the caller asked for something else. Returns
/// whether it was asked for. Ranges are of the encoded bytes, and `HEAD` has no body to decode.
fn ask_for_coding(request: &mut Request<Outgoing>) -> bool {
    let headers = request.headers();
    let is_callers = headers.contains_key(ACCEPT_ENCODING) || headers.contains_key(RANGE);
    let is_ours = !is_callers && request.method() != Method::HEAD;
    if is_ours {
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
    }
    is_ours
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.answer.as_mut().poll(cx)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// How many connections one request is offered to. More than one only if it never left: the first
/// was pooled and dead, the second shared, made since, and dead as well.
const LAPS_MAX: usize = 3;
