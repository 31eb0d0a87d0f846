//! What each attempt tells the next hop: how much time is left, which trace it belongs to, and baggage.
//!
//! It is written as late as possible, right above the transport: a retry has less time than the attempt
//! before it, and is another span.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    admitted::Admitted,
    clock,
    context::CallContext,
    diagnose::Rejection,
    http::{ENVOY_TIMEOUT_MS, TIMEOUT_MS, is_grpc, tell_grpc_timeout, tell_time_left},
    trace::{BAGGAGE, Trace},
};

/// Wraps services in [`Propagate`]. Belongs below whatever repeats.
///
/// # Examples
///
/// Under the standard stack, nearest to the transport:
///
/// ```
/// use http::{Request, Response};
/// use redial::{BoxError, PropagateLayer, core::Policy};
/// use tower::{Layer, service_fn};
///
/// # let transport = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
/// let stack = redial::stack(Policy::default())
///     .map_attempts(|attempts| (attempts, PropagateLayer::new()));
/// let client = stack.layer(transport);
/// # drop(client);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PropagateLayer {
    is_telling_envoy: bool,
    is_telling_baggage: bool,
    is_telling_trace: bool,
}

/// A service that writes the context of the code that calls it into each request.
///
/// - The time left until the deadline, in whole milliseconds and rounded down, as
///   [`TIMEOUT_MS`], as `grpc-timeout` where the request is a gRPC call,
///   and on demand as [`ENVOY_TIMEOUT_MS`]. What a request asks for itself
///   stays where it is less. With less than a millisecond left the request is not sent, and fails with
///   [`Rejection::DeadlineExceeded`].
/// - `traceparent` with a new parent id, and `tracestate`, unless the request has a `traceparent` that is
///   well-formed.
/// - `baggage`, unless the request has one.
///
/// Where there is no context, and that is what it costs to find out, nothing is written: two thread-local
/// reads. A trace is not begun here, for each attempt would begin its own.
#[derive(Clone, Debug)]
pub struct Propagate<S> {
    inner: S,
    layer: PropagateLayer,
}

pin_project! {
    /// An attempt in flight, or one for which there was no time left.
    #[derive(Debug)]
    pub struct PropagateFuture<F> {
        #[pin]
        attempt: Admitted<F>,
    }
}

impl PropagateLayer {
    /// Creates a layer that tells the time left, the trace, and baggage.
    #[must_use]
    pub const fn new() -> Self {
        Self { is_telling_envoy: false, is_telling_baggage: true, is_telling_trace: true }
    }

    /// Tells the time left in Envoy's field as well: a sidecar that is set to respect it
    /// (`respect_expected_rq_timeout`) takes it for its own timeout.
    #[must_use]
    pub const fn with_envoy(self) -> Self {
        Self { is_telling_envoy: true, ..self }
    }

    /// Keeps baggage back: for upstreams that are not one's own.
    #[must_use]
    pub const fn without_baggage(self) -> Self {
        Self { is_telling_baggage: false, ..self }
    }

    /// Keeps the trace back: where something else, such as an OpenTelemetry layer, writes it.
    #[must_use]
    pub const fn without_trace(self) -> Self {
        Self { is_telling_trace: false, ..self }
    }
}

impl Default for PropagateLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for PropagateLayer {
    type Service = Propagate<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Propagate { inner, layer: *self }
    }
}

impl<S, B> Service<Request<B>> for Propagate<S>
where
    S: Service<Request<B>, Error: From<Rejection>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = PropagateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = CallContext::current();
        if context.is_empty() {
            return PropagateFuture { attempt: Admitted::call(self.inner.call(request)) };
        }
        self.call_and_tell(request, &context)
    }
}

impl<S> Propagate<S> {
    /// Apart from `call`, so that where nothing is told the request is not even moved.
    #[inline(never)]
    fn call_and_tell<B>(
        &mut self,
        mut request: Request<B>,
        context: &CallContext,
    ) -> PropagateFuture<S::Future>
    where
        S: Service<Request<B>>,
    {
        match self.layer.tell(request.headers_mut(), context) {
            Ok(()) => PropagateFuture { attempt: Admitted::call(self.inner.call(request)) },
            Err(rejection) => PropagateFuture { attempt: Admitted::refused(rejection) },
        }
    }
}

impl PropagateLayer {
    fn tell(self, headers: &mut HeaderMap, context: &CallContext) -> Result<(), Rejection> {
        if let Some(deadline) = context.deadline() {
            let left = deadline.remaining(clock::now());
            if left < LEFT_MIN {
                return Err(Rejection::DeadlineExceeded { after: left });
            }
            self.tell_time(headers, left);
        }
        if let Some(trace) = context.trace()
            && self.is_telling_trace
            && Trace::read(headers).is_none()
        {
            trace.write(headers);
        }
        if let Some(baggage) = context.baggage()
            && self.is_telling_baggage
            && !headers.contains_key(&BAGGAGE)
        {
            baggage.write(headers);
        }
        Ok(())
    }

    fn tell_time(self, headers: &mut HeaderMap, left: Duration) {
        tell_time_left(headers, &TIMEOUT_MS, left);
        if self.is_telling_envoy {
            tell_time_left(headers, &ENVOY_TIMEOUT_MS, left);
        }
        if is_grpc(headers) {
            tell_grpc_timeout(headers, left);
        }
    }
}

impl<F, T, E> Future for PropagateFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Rejection>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().attempt.poll(cx)
    }
}

/// The unit of [`TIMEOUT_MS`]: less cannot be told, and is no time to answer in.
pub(crate) const LEFT_MIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
