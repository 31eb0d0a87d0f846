//! When the caller stops caring: one point in time for every attempt and every wait.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use redial_core::Deadline;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    clock,
    diagnose::{BoxError, Rejection},
    policies::Span,
};

thread_local! {
    /// Set while a call with a deadline is made or polled, and only then.
    static CURRENT: Cell<Option<Deadline>> = const { Cell::new(None) };
}

/// Puts back what was there before, also where the work panics.
#[must_use]
struct Within {
    before: Option<Deadline>,
}

/// Returns the deadline of the call that this code works for, where there is one.
///
/// Every layer below a [`WithDeadline`] sees it, and so does a call made from within: it gets the
/// earlier of its own deadline and this one. A task that is spawned does not, unless
/// [`carry`](crate::carry) takes it there.
#[inline]
#[must_use]
pub fn current_deadline() -> Option<Deadline> {
    CURRENT.get()
}

/// Runs `work` so that it, and every call made from within, sees `deadline`, or the one that rules
/// already where that is earlier.
///
/// For whoever learns a deadline from elsewhere, as a server does from its caller. A future sees it
/// only while it is polled, so each of its polls has to be such a piece of work.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use redial::{core::Deadline, current_deadline, with_deadline};
///
/// let deadline = Deadline::after(Instant::now(), Duration::from_secs(3));
/// assert_eq!(with_deadline(deadline, current_deadline), Some(deadline));
/// assert_eq!(current_deadline(), None);
/// ```
pub fn with_deadline<T>(deadline: Deadline, work: impl FnOnce() -> T) -> T {
    within(Some(deadline.earlier(current_deadline())), work)
}

/// Wraps services in [`WithDeadline`].
#[derive(Clone, Debug)]
pub struct DeadlineLayer {
    span: Span,
}

/// A service that ends every call at its deadline, waits and the reading of the answer's body
/// included.
///
/// A call that runs out of time is cancelled, with everything below it, and fails with
/// [`Rejection::DeadlineExceeded`]. Within a call that has a deadline already, the earlier one
/// rules.
///
/// # Cancellation
///
/// Dropping the future drops the call.
#[derive(Clone, Debug)]
pub struct WithDeadline<S> {
    span: Span,
    inner: S,
}

pin_project! {
    /// A call in flight, and the timer that ends it.
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        #[pin]
        call: F,
        limit: Option<Limit>,
        // Boxed when there is something to wait for: until then, who moves this moves a pointer.
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

pin_project! {
    /// The body of an answer, which ends in [`Rejection::DeadlineExceeded`] when it takes too long.
    #[derive(Debug)]
    pub struct DeadlineBody<B> {
        #[pin]
        body: B,
        limit: Option<Limit>,
        // Boxed when there is something to wait for: until then, who moves this moves a pointer.
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

/// When a call ends, and how long it had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) deadline: Deadline,
    pub(crate) span: Duration,
}

impl DeadlineLayer {
    /// Creates a layer that gives each call `span`: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says at that moment.
    pub fn new(span: impl Into<Span>) -> Self {
        Self { span: span.into() }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadline { inner, span: self.span.clone() }
    }
}

impl<S, R, B> Service<R> for WithDeadline<S>
where
    S: Service<R, Response = Response<B>, Error: From<Rejection>>,
{
    type Response = Response<DeadlineBody<B>>;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let limit = self.limit();
        let _within = limit.map(|limit| Within::new(limit.deadline));
        DeadlineFuture { call: self.inner.call(request), limit, sleep: None }
    }
}

impl<S> WithDeadline<S> {
    fn limit(&self) -> Option<Limit> {
        let (span, outer) = (self.span.deadline(), current_deadline());
        if span.is_none() && outer.is_none() {
            return None;
        }
        let now = clock::now();
        let own = span.map(|span| Limit { deadline: Deadline::after(now, span), span });
        match (own, outer) {
            (own, None) => own,
            (Some(own), Some(outer)) if own.deadline <= outer => Some(own),
            (_, Some(deadline)) => Some(Limit { deadline, span: deadline.remaining(now) }),
        }
    }
}

impl<F, B, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: From<Rejection>,
{
    type Output = Result<Response<DeadlineBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let limit = *this.limit;
        let polled = {
            let _within = limit.map(|limit| Within::new(limit.deadline));
            this.call.poll(cx)
        };
        match polled {
            Poll::Ready(Ok(response)) => {
                let guard = |body| DeadlineBody { body, limit, sleep: None };
                return Poll::Ready(Ok(response.map(guard)));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        let Some(limit) = limit else { return Poll::Pending };
        ready!(limit.poll(this.sleep, cx));
        Poll::Ready(Err(limit.exceeded().into()))
    }
}

impl<B> Body for DeadlineBody<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(limit) = this.limit else { return Poll::Pending };
        ready!(limit.poll(this.sleep, cx));
        Poll::Ready(Some(Err(limit.exceeded().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Limit {
    pub(crate) const fn exceeded(&self) -> Rejection {
        Rejection::DeadlineExceeded { after: self.span }
    }

    /// Waits for the deadline, by a timer that is set at the first wait: what is ready at once needs
    /// none.
    pub(crate) fn poll(
        &self,
        sleep: &mut Option<Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let at = self.deadline.instant().into();
        sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at))).as_mut().poll(cx)
    }
}

/// Runs `work` so that it, and all that it calls, sees the deadline.
fn within<T>(deadline: Option<Deadline>, work: impl FnOnce() -> T) -> T {
    // Without a deadline of its own, a call is within what is there already.
    let _within = deadline.map(Within::new);
    work()
}

impl Within {
    #[inline]
    fn new(deadline: Deadline) -> Self {
        Self { before: CURRENT.replace(Some(deadline)) }
    }
}

impl Drop for Within {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// Runs `work` so that it, and all that it calls, sees a deadline that was in force before.
pub(crate) async fn under<F: Future>(deadline: Option<Deadline>, work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|cx| within(deadline, || work.as_mut().poll(cx))).await
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use tower::{ServiceExt, service_fn};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn answer_after(nap: Duration) -> Result<Response<Full<Bytes>>, BoxError> {
        tokio::time::sleep(nap).await;
        Ok(Response::new(Full::from("late")))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_deadline_and_says_so() {
        let service = DeadlineLayer::new(SECOND).layer(service_fn(answer_after));
        let started = tokio::time::Instant::now();
        let error = service.clone().oneshot(SECOND * 3).await.unwrap_err();
        assert_eq!(started.elapsed(), SECOND);
        assert_eq!(error.to_string(), "the call did not end within its deadline of 1s");
        assert!(service.oneshot(SECOND / 2).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_a_call_takes_as_long_as_it_takes() {
        let service = DeadlineLayer::new(None).layer(service_fn(answer_after));
        assert!(service.oneshot(SECOND * 3_600).await.is_ok());
        assert_eq!(current_deadline(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_within_a_call_gets_the_earlier_deadline() {
        let inner = DeadlineLayer::new(SECOND * 60).layer(service_fn(|()| async {
            let left = current_deadline().unwrap().remaining(clock::now());
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(format!("{left:?}"))))
        }));
        let outer = DeadlineLayer::new(SECOND * 2).layer(service_fn(move |()| {
            let inner = inner.clone();
            async move {
                tokio::time::sleep(SECOND / 2).await;
                inner.oneshot(()).await
            }
        }));
        let body = outer.oneshot(()).await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "1.5s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_from_elsewhere_holds_and_never_extends_the_one_that_rules() {
        let (soon, late) =
            (Deadline::after(clock::now(), SECOND), Deadline::after(clock::now(), SECOND * 2));
        let inner = with_deadline(soon, || with_deadline(late, current_deadline));
        assert_eq!(inner, Some(soon));
        assert_eq!(with_deadline(late, || with_deadline(soon, current_deadline)), Some(soon));
        assert_eq!(current_deadline(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_cut_as_well() {
        let service = DeadlineLayer::new(SECOND)
            .layer(service_fn(|()| async { Ok::<_, BoxError>(Response::new(Never)) }));
        let started = tokio::time::Instant::now();
        let mut body = std::pin::pin!(service.oneshot(()).await.unwrap().into_body());
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.is::<Rejection>());
        assert_eq!(started.elapsed(), SECOND);
    }

    struct Never;

    impl Body for Never {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }
}
