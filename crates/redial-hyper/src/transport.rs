//! The service: a request in, an answer or an exact error out.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, RANGE},
};
use hyper::body::Incoming;
use redial::{BoxError, Fresh};
use tower_service::Service;

use crate::{
    body::{ACCEPTED, Body},
    builder::Builder,
    connect::Connector,
    error::Error,
    leak::{CallSite, Caller, OnLeak},
    lease::Lease,
    limits::Limits,
    pool::{Need, Pool, Want},
    request::{Failure, Outgoing, Target},
    snapshot::PoolHandle,
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
    pub(crate) limits: Limits,
    pub(crate) is_decompressing: bool,
}

#[derive(Debug)]
struct Shared {
    pool: Arc<Pool>,
    settings: Settings,
}

/// One request on its way. It stays in one place while it is worked on, as moving it costs more
/// than most of that work.
struct Call {
    shared: Arc<Shared>,
    /// None while a connection has it.
    request: Option<Request<Outgoing>>,
    failure: Failure,
    need: Need,
}

/// The answer to come.
///
/// # Cancellation
///
/// Dropping it cancels the request: the HTTP/2 stream is reset, the HTTP/1.1 connection is closed, a
/// place in the line for a connection is given up. A connection that is being made is made
/// nevertheless, within its timeout, and kept for the next call.
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

    pub(crate) fn new(connector: Connector, settings: Settings, on_leak: Option<OnLeak>) -> Self {
        let pool = Arc::new(Pool::new(connector, settings.limits, on_leak));
        Self { shared: Arc::new(Shared { pool, settings }) }
    }

    /// Returns a view of the connections that this transport and its clones share.
    ///
    /// # Examples
    ///
    /// ```
    /// use redial_hyper::Transport;
    ///
    /// let transport = Transport::builder().build()?;
    /// let total = transport.pool().snapshot().total;
    /// assert_eq!((total.open, total.waiting, total.closed.sum()), (0, 0, 0));
    /// # Ok::<(), redial_hyper::BuildError>(())
    /// ```
    #[must_use]
    pub fn pool(&self) -> PoolHandle {
        PoolHandle { pool: Arc::clone(&self.shared.pool) }
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

    /// Always ready: a call waits for its connection after it was made, in the order of arrival.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    /// Sends `request`.
    ///
    /// # Errors
    ///
    /// If no answer came; [`Error::fault`] says why.
    #[track_caller]
    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let shared = Arc::clone(&self.shared);
        let told = request.extensions().get::<CallSite>();
        let site = told.map_or(Location::caller(), |site| site.location);
        let is_watched = !shared.settings.limits.leak_after.is_zero();
        let caller = Caller::new(site, is_watched);
        let (parts, body) = request.into_parts();
        let is_fresh = parts.extensions.get::<Fresh>().is_some();
        let want = if is_fresh { Want::Fresh } else { Want::NewerThan(0) };
        let need = Need { want, is_safe: parts.method.is_safe(), caller };
        let (body, failure) = Outgoing::new(body);
        let request = Some(Request::from_parts(parts, body));
        let mut call = Call { shared, request, failure, need };
        ResponseFuture { answer: Box::pin(async move { call.answer().await }) }
    }
}

impl Call {
    async fn answer(&mut self) -> Result<Response<Body>, Error> {
        let Some(request) = &mut self.request else { unreachable!("a call is made once") };
        let target = Target::take(request).map_err(Error::target)?;
        let is_decoding = self.shared.settings.is_decompressing && ask_for_coding(request);
        let (answer, lease) = self.exchange(&target).await?;
        if is_decoding && answer.headers().contains_key(CONTENT_ENCODING) {
            Ok(Box::pin(Body::decoded(answer, lease, target.origin)).await)
        } else {
            Ok(Body::plain(answer, lease, target.origin))
        }
    }

    /// Sends the request, again if it never left: a pooled connection may have died unnoticed. The
    /// second connection is one made after that was found out, so that a server that restarted
    /// costs one lap and not one for each connection that it had.
    async fn exchange(&mut self, target: &Target) -> Result<(Response<Incoming>, Lease), Error> {
        let Self { shared, request, failure, need } = self;
        let (pool, origin) = (&shared.pool, &target.origin);
        let mut laps = 0;
        loop {
            laps += 1;
            let acquired = pool.acquire(origin, *need).await;
            let mut lease = acquired.map_err(|error| Error::acquiring(origin, error))?;
            if let Some(request) = request {
                target.write(request, lease.is_h2());
            }
            let mut ended = match lease.send(request).await {
                Ok(answer) => return Ok((answer, lease)),
                Err(ended) => ended,
            };
            match ended.request.take_if(|_| ended.is_reused && laps < LAPS_MAX) {
                Some(unsent) => *request = Some(unsent),
                None => return Err(Error::unanswered(origin, *ended, failure)),
            }
            need.want = Want::NewerThan(pool.newest());
        }
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
