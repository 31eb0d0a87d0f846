//! The server's end of a deadline: how long the caller waits, and what it is a part of.
//!
//! A request says how much time is left. The handler works within that time, every call that it makes
//! inherits what is left of it, and when it is up all of that is dropped: nobody works for a caller who has
//! gone.

mod answer;
mod body;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use redial_core::Deadline;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

pub use self::{answer::InvalidName, body::InboundBody};
use self::{
    answer::{Answers, Refusal},
    body::Ending,
};
use crate::{
    clock,
    context::CallContext,
    deadline::{Limit, current_deadline},
    http::{is_grpc, read_time_left},
    propagate::LEFT_MIN,
    trace::{Baggage, Trace},
};

/// Wraps a server's services in [`Inbound`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::Full;
/// use redial::{InboundLayer, current_deadline};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handler = service_fn(async |_: Request<()>| {
///     assert!(current_deadline().is_some());
///     tokio::time::sleep(Duration::from_secs(1)).await;
///     Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from("done")))
/// });
/// let service = InboundLayer::new().layer(handler);
///
/// let request = Request::get("/orders").header("redial-timeout-ms", "300").body(())?;
/// let answer = service.oneshot(request).await?;
/// assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct InboundLayer {
    settings: Arc<Settings>,
}

/// A service that works no longer than its caller waits.
///
/// The time left is the shortest of what [`TIMEOUT_MS`](crate::http::TIMEOUT_MS), `grpc-timeout` and
/// [`ENVOY_TIMEOUT_MS`](crate::http::ENVOY_TIMEOUT_MS) say, counted from the moment that the request is
/// handed over here. A field that is malformed says nothing, and is logged. Within the handler,
/// [`current_deadline`] and [`current_trace`](crate::current_trace) return what the request
/// brought; whatever it calls through Redial inherits both.
///
/// When the time is up the handler is dropped, and with it all calls that it waits for. The answer is then a
/// 504 with `Proxy-Status` and a problem as JSON, or the status `DEADLINE_EXCEEDED` where the call is gRPC's.
/// It replaces whatever the handler says later than that, such as that its own calls ran out of time. A request
/// that arrives with too little time left is answered so before the handler is called.
///
/// An answer that has begun breaks off: its body ends in [`Rejection::DeadlineExceeded`](crate::Rejection), for
/// which a server resets the stream or closes the connection.
///
/// # Cancellation
///
/// Dropping the future drops the handler. hyper drops it when the client resets the stream, or closes an
/// HTTP/1.1 connection whose request was read to its end; until a request's body is read, a server does not
/// look at what comes after it.
#[derive(Clone, Debug)]
pub struct Inbound<S> {
    inner: S,
    settings: Arc<Settings>,
}

#[derive(Clone, Debug)]
struct Settings {
    max: Duration,
    min: Duration,
    default: Option<Duration>,
    is_starting_traces: bool,
    is_taking_traces: bool,
    is_taking_baggage: bool,
    answers: Answers,
}

pin_project! {
    /// A handler at work, and the timer that ends it.
    #[derive(Debug)]
    pub struct InboundFuture<F> {
        // None where the request came too late, and after the time was up.
        #[pin]
        work: Option<F>,
        limit: Option<Limit>,
        context: CallContext,
        is_grpc: bool,
        settings: Arc<Settings>,
        // Boxed when there is something to wait for: until then, who moves this moves a pointer.
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl InboundLayer {
    /// Creates a layer that believes up to an hour, refuses below a millisecond, gives requests that say
    /// nothing as long as they take, and begins a trace where a request brings none.
    #[must_use]
    pub fn new() -> Self {
        let settings = Settings {
            max: Duration::from_secs(60 * 60),
            min: Duration::from_millis(1),
            default: None,
            is_starting_traces: true,
            is_taking_traces: true,
            is_taking_baggage: true,
            answers: Answers::default(),
        };
        Self { settings: Arc::new(settings) }
    }

    /// Sets the longest time that a request is believed to have left; more is cut to it. One hour unless set.
    #[must_use]
    pub fn max(self, max: Duration) -> Self {
        self.with(|settings| settings.max = max)
    }

    /// Sets the shortest time in which it makes sense to begin. A request with less is refused unseen. One
    /// millisecond unless set; zero refuses only those with no time at all.
    #[must_use]
    pub fn min(self, min: Duration) -> Self {
        self.with(|settings| settings.min = min)
    }

    /// Sets the time that a request has which says nothing. Unless set, it takes as long as it takes.
    #[must_use]
    pub fn default_to(self, time: Duration) -> Self {
        self.with(|settings| settings.default = Some(time))
    }

    /// Does not begin a trace where a request brings none, or one that is malformed.
    #[must_use]
    pub fn without_new_traces(self) -> Self {
        self.with(|settings| settings.is_starting_traces = false)
    }

    /// Neither believes nor passes on what requests say of traces and baggage: for the edge, where requests
    /// come from strangers. Traces begin here then.
    #[must_use]
    pub fn untrusted(self) -> Self {
        self.with(|settings| {
            settings.is_taking_traces = false;
            settings.is_taking_baggage = false;
        })
    }

    /// Sets the name that `Proxy-Status` gives this server. `redial` unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidName`] for what is no token of RFC 9651: a letter or `*`, then letters, digits and
    /// `!#$%&'*+-.^_|~:/`.
    pub fn named(self, name: &str) -> Result<Self, InvalidName> {
        let answers = Answers::named(name)?;
        Ok(self.with(|settings| settings.answers = answers))
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }
}

impl Default for InboundLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for InboundLayer {
    type Service = Inbound<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Inbound { inner, settings: Arc::clone(&self.settings) }
    }
}

impl<S, R, B> Service<Request<R>> for Inbound<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Body<Data: From<Bytes>>,
{
    type Response = Response<InboundBody<B>>;
    type Error = S::Error;
    type Future = InboundFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let settings = Arc::clone(&self.settings);
        let is_grpc = is_grpc(request.headers());
        let limit = settings.limit(&request);
        let context = settings.context(request.headers(), limit);
        let is_late = limit.is_some_and(|limit| limit.span.is_zero() || limit.span < settings.min);
        let work = (!is_late).then(|| context.enter(|| self.inner.call(request)));
        InboundFuture { work, limit, context, is_grpc, settings, sleep: None }
    }
}

impl Settings {
    /// Returns how long a request may take; `None` for as long as it takes.
    fn limit<R>(&self, request: &Request<R>) -> Option<Limit> {
        let said = read_time_left(request.headers(), |name| {
            tracing::warn!(
                event.action = "time_left_malformed",
                http.request.method = %request.method(),
                url.path = request.uri().path(),
                field = name.as_str(),
                "a request's time left is malformed, and ignored"
            );
        });
        let span = said.map(|said| said.min(self.max)).or(self.default);
        let now = clock::now();
        let own = span.map(|span| Deadline::after(now, span));
        let deadline = match (own, current_deadline()) {
            (Some(own), outer) => own.earlier(outer),
            (None, outer) => outer?,
        };
        Some(Limit { deadline, span: deadline.remaining(now) })
    }

    fn context(&self, headers: &HeaderMap, limit: Option<Limit>) -> CallContext {
        let mut context = CallContext::default();
        if let Some(limit) = limit {
            context = context.with_deadline(limit.deadline);
        }
        let brought = if self.is_taking_traces { Trace::read(headers) } else { None };
        if let Some(trace) = brought.or_else(|| self.is_starting_traces.then(Trace::start)) {
            context = context.with_trace(trace);
        }
        let brought = if self.is_taking_baggage { Baggage::read(headers) } else { None };
        if let Some(baggage) = brought {
            context = context.with_baggage(baggage);
        }
        context
    }
}

impl<F, B, E> Future for InboundFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data: From<Bytes>>,
{
    type Output = Result<Response<InboundBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let answers = &this.settings.answers;
        let Some(work) = this.work.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok(answers.refuse(Refusal::Late, *this.is_grpc)));
        };
        if let Poll::Ready(outcome) = this.context.enter(|| work.poll(cx)) {
            if this.limit.is_some_and(|limit| is_up(limit, outcome.is_err())) {
                this.work.set(None);
                return Poll::Ready(Ok(answers.refuse(Refusal::Expired, *this.is_grpc)));
            }
            let ending = Ending { limit: *this.limit, is_grpc: *this.is_grpc };
            let context = std::mem::take(this.context);
            let guard = |body| InboundBody::guarded(body, context, ending);
            return Poll::Ready(outcome.map(|response| response.map(guard)));
        }
        let Some(limit) = *this.limit else { return Poll::Pending };
        ready!(limit.poll(this.sleep, cx));
        // Dropped here, not when the answer has been written: nobody waits for it any more.
        this.work.set(None);
        Poll::Ready(Ok(answers.refuse(Refusal::Expired, *this.is_grpc)))
    }
}

/// Returns whether work that has ended has done so too late. Calls that it made end at the very same moment,
/// or a unit of time before it because less cannot be told, and what it makes of that is not the reason.
fn is_up(limit: Limit, has_failed: bool) -> bool {
    let margin = if has_failed { LEFT_MIN } else { Duration::ZERO };
    limit.deadline.remaining(clock::now()) <= margin
}

#[cfg(test)]
mod tests;
