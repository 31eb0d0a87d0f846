//! How long one attempt may take.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::{diagnose::Rejection, policies::Span};

/// Wraps services in [`AttemptTimeout`].
#[derive(Clone, Debug)]
pub struct AttemptTimeoutLayer {
    span: Span,
}

/// A service that gives each attempt a span of time, to the head of its answer.
///
/// An attempt that takes longer is cancelled and fails with [`Rejection::AttemptTimeout`]. Whether
/// the server acted on it is not known then. The time runs from the attempt's first poll.
///
/// # Cancellation
///
/// Dropping the future drops the attempt.
#[derive(Clone, Debug)]
pub struct AttemptTimeout<S> {
    span: Span,
    inner: S,
}

pin_project! {
    /// An attempt in flight, and its timer, which starts when the attempt is first found not to be ready.
    #[derive(Debug)]
    pub struct AttemptTimeoutFuture<F> {
        #[pin]
        attempt: F,
        // Boxed when there is something to wait for: until then, who moves this moves a pointer.
        sleep: Option<Pin<Box<Sleep>>>,
        span: Option<Duration>,
    }
}

impl AttemptTimeoutLayer {
    /// Creates a layer that gives each attempt `span`: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says at that moment.
    pub fn new(span: impl Into<Span>) -> Self {
        Self { span: span.into() }
    }
}

impl<S> Layer<S> for AttemptTimeoutLayer {
    type Service = AttemptTimeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptTimeout { inner, span: self.span.clone() }
    }
}

impl<S, R> Service<R> for AttemptTimeout<S>
where
    S: Service<R, Error: From<Rejection>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AttemptTimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let span = self.span.attempt_timeout();
        AttemptTimeoutFuture { attempt: self.inner.call(request), sleep: None, span }
    }
}

impl<F, T, E> Future for AttemptTimeoutFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Rejection>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(outcome) = this.attempt.poll(cx) {
            return Poll::Ready(outcome);
        }
        let Some(after) = *this.span else { return Poll::Pending };
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(Rejection::AttemptTimeout { after }.into()))
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::BoxError;

    const SECOND: Duration = Duration::from_secs(1);

    fn sleepy() -> impl Service<Duration, Response = &'static str, Error = BoxError> {
        service_fn(|nap: Duration| async move {
            tokio::time::sleep(nap).await;
            Ok("awake")
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_in_time_is_left_alone_and_a_late_one_is_cut() {
        let layer = AttemptTimeoutLayer::new(SECOND);
        assert_eq!(layer.layer(sleepy()).oneshot(SECOND / 2).await.unwrap(), "awake");
        let started = tokio::time::Instant::now();
        let error = layer.layer(sleepy()).oneshot(SECOND * 2).await.unwrap_err();
        assert_eq!(started.elapsed(), SECOND);
        let rejection = error.downcast::<Rejection>().unwrap();
        assert_eq!(*rejection, Rejection::AttemptTimeout { after: SECOND });
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_timeout_an_attempt_takes_as_long_as_it_takes() {
        let layer = AttemptTimeoutLayer::new(None);
        assert_eq!(layer.layer(sleepy()).oneshot(SECOND * 86_400).await.unwrap(), "awake");
    }
}
