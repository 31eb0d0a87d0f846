//! Bodies that stop coming.
//!
//! A timeout on an answer's head says nothing about its body, and a deadline only about the whole. A
//! body that brings nothing, or next to nothing, is given up here, so that somebody above can go on
//! with a better one. A timer exists only while somebody waits, and is set once for many pieces.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Buf;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use redial_core::{Stall, StallMeter, StallPolicy};
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    clock,
    diagnose::{BoxError, Rejection},
    policies::Ruling,
};

/// Wraps services in [`StallTimeout`].
#[derive(Clone, Debug)]
pub struct StallTimeoutLayer {
    policy: Ruling<StallPolicy>,
}

/// A service that gives up answers whose bodies stop coming.
///
/// Reading such a body fails with [`Rejection::Stalled`], or with [`Rejection::TooSlow`] where the
/// policy wants a least throughput. The time in which nobody reads does not count.
///
/// The body's errors are the service's own, which must take in those of the body below.
///
/// # Cancellation
///
/// Dropping the future drops the call; dropping the body drops its timer.
#[derive(Clone, Debug)]
pub struct StallTimeout<S> {
    policy: Ruling<StallPolicy>,
    inner: S,
}

/// Wraps services in [`UploadStall`].
#[derive(Clone, Debug)]
pub struct UploadStallLayer {
    policy: Ruling<StallPolicy>,
}

/// A service that gives up requests whose bodies stop coming: a file that hangs, a caller that sends
/// nothing more. How fast the server takes them is not looked at.
///
/// The request's body fails then, which its transport tells as any other failure of the caller's body.
///
/// # Cancellation
///
/// As that of the service below.
#[derive(Clone, Debug)]
pub struct UploadStall<S> {
    policy: Ruling<StallPolicy>,
    inner: S,
}

pin_project! {
    /// A call in flight, whose answer's body will be watched.
    #[derive(Debug)]
    pub struct StallFuture<F> {
        #[pin]
        call: F,
        policy: Option<StallPolicy>,
    }
}

pin_project! {
    /// A body that fails when it stops coming.
    #[derive(Debug)]
    pub struct StallBody<B, E> {
        #[pin]
        body: B,
        watch: Option<Box<Watch>>,
        // Boxed when something has to be waited for, so that the body can be moved if its inner one can.
        sleep: Option<Pin<Box<Sleep>>>,
        error: PhantomData<fn() -> E>,
    }
}

#[derive(Debug)]
struct Watch {
    policy: StallPolicy,
    meter: StallMeter,
    /// When it is over, while somebody waits.
    end: Option<(Instant, Stall)>,
}

impl StallTimeoutLayer {
    /// Creates a layer that gives bodies up by `policy`: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says when the call begins.
    pub fn new(policy: impl Into<Ruling<StallPolicy>>) -> Self {
        Self { policy: policy.into() }
    }
}

impl UploadStallLayer {
    /// Creates a layer that gives requests' bodies up by `policy`: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says when the call begins.
    pub fn new(policy: impl Into<Ruling<StallPolicy>>) -> Self {
        Self { policy: policy.into() }
    }
}

impl<S> Layer<S> for StallTimeoutLayer {
    type Service = StallTimeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        StallTimeout { inner, policy: self.policy.clone() }
    }
}

impl<S> Layer<S> for UploadStallLayer {
    type Service = UploadStall<S>;

    fn layer(&self, inner: S) -> Self::Service {
        UploadStall { inner, policy: self.policy.clone() }
    }
}

impl<S, R, B> Service<Request<R>> for StallTimeout<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<StallBody<B, S::Error>>;
    type Error = S::Error;
    type Future = StallFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let policy = self.policy.copied(request.extensions());
        StallFuture { call: self.inner.call(request), policy }
    }
}

impl<S, R> Service<Request<R>> for UploadStall<S>
where
    S: Service<Request<StallBody<R, BoxError>>>,
    R: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> S::Future {
        let policy = self.policy.copied(request.extensions());
        self.inner.call(request.map(|body| StallBody::new(body, policy)))
    }
}

impl<F, B, E> Future for StallFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<StallBody<B, E>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match ready!(this.call.poll(cx)) {
            Ok(answer) => {
                Poll::Ready(Ok(answer.map(|body| StallBody::new(body, this.policy.take()))))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<B: Body, E> StallBody<B, E> {
    /// A body that has ended already is not watched.
    fn new(body: B, policy: Option<StallPolicy>) -> Self {
        let watch = policy
            .filter(|_| !body.is_end_stream())
            .map(|policy| Box::new(Watch { meter: StallMeter::new(&policy), policy, end: None }));
        Self { body, watch, sleep: None, error: PhantomData }
    }
}

impl<B, E> Body for StallBody<B, E>
where
    B: Body,
    E: From<B::Error> + From<Rejection>,
{
    type Data = B::Data;
    type Error = E;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, E>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            if let (Some(Ok(frame)), Some(watch)) = (&frame, this.watch) {
                watch.arrive(frame.data_ref().map_or(0, Buf::remaining));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(E::from)));
        }
        let Some(watch) = this.watch else { return Poll::Pending };
        let (at, stall) = watch.end();
        // A timer that is set for an earlier moment stays: it is set anew when it fires, which is less
        // often than pieces come.
        match this.sleep.as_mut() {
            None => *this.sleep = Some(Box::pin(tokio::time::sleep_until(at.into()))),
            Some(sleep) if at < sleep.deadline().into_std() => sleep.as_mut().reset(at.into()),
            Some(_) => {}
        }
        while let Some(sleep) = this.sleep.as_mut() {
            ready!(sleep.as_mut().poll(cx));
            if at <= sleep.deadline().into_std() {
                break;
            }
            sleep.as_mut().reset(at.into());
        }
        Poll::Ready(Some(Err(Rejection::from(stall).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Watch {
    fn arrive(&mut self, bytes: usize) {
        self.end = None;
        self.meter.arrive(&self.policy, u64::try_from(bytes).unwrap_or(u64::MAX), clock::now);
    }

    fn end(&mut self) -> (Instant, Stall) {
        let Self { policy, meter, end } = self;
        *end.get_or_insert_with(|| meter.wait(policy, clock::now()))
    }
}

impl From<Stall> for Rejection {
    fn from(stall: Stall) -> Self {
        match stall {
            Stall::Idle { after } => Self::Stalled { after },
            Stall::Slow { bytes_per_second_min, grace } => {
                Self::TooSlow { bytes_per_second_min, grace }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc, time::Duration};

    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty, Full};
    use redial_core::Policy;
    use tokio::time::{Instant, Interval, interval};
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::PolicyCell;

    const SECOND: Duration = Duration::from_secs(1);

    /// Brings pieces of some size at the ticks of a clock, and then nothing.
    struct Ticking {
        ticks: Interval,
        pieces: usize,
        bytes: usize,
    }

    impl Body for Ticking {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.pieces == 0 {
                return Poll::Pending;
            }
            ready!(self.ticks.poll_tick(cx));
            self.pieces -= 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; self.bytes])))))
        }
    }

    fn ticking(every: Duration, pieces: usize, bytes: usize) -> Ticking {
        Ticking { ticks: interval(every), pieces, bytes }
    }

    async fn body(
        policy: impl Into<Ruling<StallPolicy>>,
        body: Ticking,
    ) -> StallBody<Ticking, BoxError> {
        let mut body = Some(body);
        let service = StallTimeoutLayer::new(policy).layer(service_fn(move |_: Request<()>| {
            let body = body.take();
            async move { Ok::<_, BoxError>(Response::new(body.ok_or("asked twice")?)) }
        }));
        service.oneshot(Request::new(())).await.unwrap().into_body()
    }

    async fn end(
        mut body: impl Body<Data = Bytes, Error = BoxError> + Unpin,
    ) -> (Rejection, usize) {
        let mut bytes = 0;
        loop {
            match body.frame().await.unwrap() {
                Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
                Err(error) => return (*error.downcast::<Rejection>().unwrap(), bytes),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_brings_nothing_for_too_long_fails_then() {
        let policy = StallPolicy::default().idle(SECOND * 2).unwrap();
        let started = Instant::now();
        let body = body(policy, ticking(SECOND * 3 / 2, 4, 7)).await;
        let (rejection, bytes) = end(std::pin::pin!(body)).await;
        assert_eq!((rejection, bytes), (Rejection::Stalled { after: SECOND * 2 }, 28));
        assert_eq!(started.elapsed(), SECOND * 9 / 2 + SECOND * 2, "from the last piece on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_fails_when_its_grace_is_used_up() {
        let policy = StallPolicy::default().throughput(10, SECOND * 5).unwrap();
        let started = Instant::now();
        let body = body(policy, ticking(SECOND, 1_000, 5)).await;
        let (rejection, bytes) = end(std::pin::pin!(body)).await;
        let slow = Rejection::TooSlow { bytes_per_second_min: 10, grace: SECOND * 5 };
        // Half of what is wanted comes: half of the time is lost.
        assert_eq!((rejection, bytes), (slow, 50));
        assert_eq!(started.elapsed(), SECOND * 19 / 2);
        assert_eq!(
            rejection.to_string(),
            "the body stayed below 10 bytes a second for longer than 5s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_its_time_is_not_a_stall() {
        let policy = StallPolicy::default().idle(SECOND).unwrap();
        let mut body = std::pin::pin!(body(policy, ticking(SECOND / 2, 10, 1)).await);
        for _ in 0..9 {
            assert!(body.frame().await.unwrap().is_ok());
            tokio::time::sleep(SECOND * 60).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_policy_a_body_takes_as_long_as_it_takes() {
        let cell = PolicyCell::new(Policy::default());
        let mut slow = std::pin::pin!(body(cell.clone(), ticking(SECOND * 3_600, 3, 1)).await);
        for _ in 0..3 {
            assert!(slow.frame().await.unwrap().is_ok());
        }
        cell.switch(Policy { stall: Some(StallPolicy::default()), ..Policy::default() });
        let (rejection, _) = end(std::pin::pin!(body(cell, ticking(SECOND, 1, 1)).await)).await;
        assert_eq!(rejection, Rejection::Stalled { after: SECOND * 20 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_bring_its_own_policy() {
        let cell = PolicyCell::new(Policy::default());
        let own = StallPolicy::default().idle(SECOND).unwrap();
        let service = StallTimeoutLayer::new(cell).layer(service_fn(|_: Request<()>| async {
            Ok::<_, BoxError>(Response::new(ticking(SECOND, 0, 0)))
        }));
        let mut request = Request::new(());
        let policy = Arc::new(Policy { stall: Some(own), ..Policy::default() });
        request.extensions_mut().insert(policy);
        let body = service.oneshot(request).await.unwrap().into_body();
        let (rejection, _) = end(std::pin::pin!(body)).await;
        assert_eq!(rejection, Rejection::Stalled { after: SECOND });
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_body_that_stops_coming_fails_too() {
        let upload = UploadStallLayer::new(StallPolicy::default());
        let service =
            upload.layer(service_fn(|request: Request<StallBody<Ticking, BoxError>>| async {
                request.into_body().collect().await?;
                Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new()))
            }));
        let started = Instant::now();
        let error = service.oneshot(Request::new(ticking(SECOND, 3, 1))).await.unwrap_err();
        assert_eq!(error.to_string(), "the body brought nothing for 20s");
        assert_eq!(started.elapsed(), SECOND * 22);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_there_meets_no_timer() {
        let body = StallBody::new(Full::<Bytes>::from("all"), Some(StallPolicy::default()));
        let mut body: Pin<&mut StallBody<_, BoxError>> = std::pin::pin!(body);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.sleep.is_none() && body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
    }
}
