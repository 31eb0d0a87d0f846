//! One log line for each call: what was asked, what came of it, how long it took.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use http::{Method, Request, Response, Uri};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Level;

use crate::{clock, context::current_trace, trace::TraceId};

/// Wraps services in [`Log`].
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLayer {
    is_silent: bool,
}

/// A service that logs each call when it ends: at the level `INFO`, `WARN` for a status from 400 on,
/// `ERROR` for an error, with fields named as in the Elastic Common Schema.
///
/// Of the target only host and path are logged: queries carry secrets. `trace.id` is there where the call is
/// part of a trace ([`current_trace`]). Where nobody listens, nothing is copied and no clock is read.
#[derive(Clone, Copy, Debug)]
pub struct Log<S> {
    is_silent: bool,
    inner: S,
}

pin_project! {
    /// A call in flight that will be logged.
    #[derive(Debug)]
    pub struct LogFuture<F> {
        #[pin]
        call: F,
        // Boxed, so that calls that are not logged do not carry it around.
        entry: Option<Box<Entry>>,
    }
}

#[derive(Debug)]
struct Entry {
    method: Method,
    uri: Uri,
    trace: Option<TraceId>,
    started: Instant,
}

impl LogLayer {
    /// Creates the layer.
    #[must_use]
    pub const fn new() -> Self {
        Self { is_silent: false }
    }

    /// Creates a layer that logs nothing, for the place of one that does.
    #[must_use]
    pub const fn silent() -> Self {
        Self { is_silent: true }
    }
}

impl<S> Layer<S> for LogLayer {
    type Service = Log<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Log { inner, is_silent: self.is_silent }
    }
}

impl<S, B, T> Service<Request<B>> for Log<S>
where
    S: Service<Request<B>, Response = Response<T>, Error: fmt::Display>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LogFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !self.is_silent && tracing::enabled!(Level::ERROR) {
            return self.call_and_log(request);
        }
        LogFuture { call: self.inner.call(request), entry: None }
    }
}

impl<S> Log<S> {
    /// Apart from `call`, so that where nobody listens the request is not even moved.
    #[inline(never)]
    fn call_and_log<B>(&mut self, request: Request<B>) -> LogFuture<S::Future>
    where
        S: Service<Request<B>>,
    {
        let entry = Box::new(Entry {
            method: request.method().clone(),
            uri: request.uri().clone(),
            trace: current_trace(),
            started: clock::now(),
        });
        LogFuture { call: self.inner.call(request), entry: Some(entry) }
    }
}

impl<F, T, E> Future for LogFuture<F>
where
    F: Future<Output = Result<Response<T>, E>>,
    E: fmt::Display,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.call.poll(cx));
        if let Some(entry) = this.entry.take() {
            entry.write(&outcome);
        }
        Poll::Ready(outcome)
    }
}

impl Entry {
    fn write<T, E: fmt::Display>(&self, outcome: &Result<Response<T>, E>) {
        let took = clock::now().saturating_duration_since(self.started);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        macro_rules! line {
            ($level:ident, $outcome:literal, $($field:tt)*) => {
                tracing::$level!(
                    http.request.method = %self.method,
                    url.domain = self.uri.host().unwrap_or_default(),
                    url.path = self.uri.path(),
                    trace.id = self.trace.map(tracing::field::display),
                    event.duration = nanos,
                    event.outcome = $outcome,
                    $($field)*
                )
            };
        }
        match outcome {
            Ok(response) if response.status().as_u16() < 400 => {
                line!(
                    info,
                    "success",
                    http.response.status_code = response.status().as_u16(),
                    "call answered"
                );
            }
            Ok(response) => {
                line!(
                    warn,
                    "failure",
                    http.response.status_code = response.status().as_u16(),
                    "call refused"
                );
            }
            Err(error) => line!(error, "failure", error.message = %error, "call failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use tower::{ServiceExt, service_fn};
    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span,
    };

    use super::*;
    use crate::{CallContext, Trace};

    /// Keeps the fields of every line.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = Line::default();
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[derive(Default)]
    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.push_str(&format!("{}={value:?} ", field.name()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_names_the_trace_where_there_is_one() {
        let lines = Lines::default();
        let _listening = tracing::subscriber::set_default(lines.clone());
        let client = LogLayer::new()
            .layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(()))));
        let request = || Request::get("http://shop.example/pens?page=2").body(()).unwrap();
        let context = CallContext::default().with_trace(Trace::start());
        let id = context.trace().unwrap().id();
        context.carry(client.oneshot(request())).await.unwrap();
        client.oneshot(request()).await.unwrap();

        let lines = lines.0.lock().unwrap();
        let (traced, plain) = (&lines[0], &lines[1]);
        assert!(traced.contains(&format!("trace.id={id} ")), "{traced}");
        assert!(plain.contains("url.path=\"/pens\"") && !plain.contains("trace.id"), "{plain}");
    }
}
