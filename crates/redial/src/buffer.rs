//! Answers that are whole before they are handed on.
//!
//! An answer that breaks off in the middle can be repeated only while nobody has seen its beginning.
//! This layer, below a retry, reads short answers to their end first: a broken one is then a failed
//! attempt like any other. Longer ones are handed on as they come.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower_layer::Layer;
use tower_service::Service;

use crate::diagnose::Rejection;

/// Wraps services in [`BufferAnswer`].
#[derive(Clone, Copy, Debug)]
pub struct BufferAnswerLayer {
    bytes_max: usize,
    idle_max: Duration,
}

/// A service that reads answers of up to a number of bytes before it hands them on.
///
/// An answer whose body brings nothing for `idle_max` fails with [`Rejection::AttemptTimeout`].
#[derive(Clone, Copy, Debug)]
pub struct BufferAnswer<S> {
    layer: BufferAnswerLayer,
    inner: S,
}

/// The body of an answer: what was read ahead, then the rest.
#[derive(Debug)]
pub struct BufferedBody<B> {
    ahead: VecDeque<Frame<Bytes>>,
    rest: Option<B>,
}

pin_project! {
    /// An attempt in flight: its head, then as much of its body as is read ahead.
    #[derive(Debug)]
    pub struct BufferFuture<F, B> {
        #[pin]
        attempt: F,
        #[pin]
        idle: Option<Sleep>,
        reading: Option<Reading<B>>,
        layer: BufferAnswerLayer,
    }
}

#[derive(Debug)]
struct Reading<B> {
    response: Response<B>,
    ahead: VecDeque<Frame<Bytes>>,
    bytes: usize,
}

impl BufferAnswerLayer {
    /// Creates a layer that reads up to `bytes_max` bytes ahead, and waits up to `idle_max` for each
    /// piece.
    #[must_use]
    pub const fn new(bytes_max: usize, idle_max: Duration) -> Self {
        Self { bytes_max, idle_max }
    }
}

impl<S> Layer<S> for BufferAnswerLayer {
    type Service = BufferAnswer<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BufferAnswer { inner, layer: *self }
    }
}

impl<S, R, B> Service<R> for BufferAnswer<S>
where
    S: Service<R, Response = Response<B>>,
    S::Error: From<B::Error> + From<Rejection>,
    B: Body<Data = Bytes> + Unpin,
{
    type Response = Response<BufferedBody<B>>;
    type Error = S::Error;
    type Future = BufferFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let attempt = self.inner.call(request);
        BufferFuture { attempt, idle: None, reading: None, layer: self.layer }
    }
}

impl<F, B, E> Future for BufferFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: From<B::Error> + From<Rejection>,
    B: Body<Data = Bytes> + Unpin,
{
    type Output = Result<Response<BufferedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let reading = match this.reading {
            Some(reading) => reading,
            None => {
                let response = ready!(this.attempt.poll(cx))?;
                this.reading.insert(Reading { response, ahead: VecDeque::new(), bytes: 0 })
            }
        };
        let idle_max = this.layer.idle_max;
        while reading.bytes <= this.layer.bytes_max && !reading.response.body().is_end_stream() {
            match Pin::new(reading.response.body_mut()).poll_frame(cx) {
                Poll::Ready(Some(frame)) => {
                    let frame = frame?;
                    reading.bytes += frame.data_ref().map_or(0, Bytes::len);
                    reading.ahead.push_back(frame);
                    if let Some(idle) = this.idle.as_mut().as_pin_mut() {
                        idle.reset(Instant::now() + idle_max);
                    }
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    if this.idle.is_none() {
                        this.idle.set(Some(tokio::time::sleep(idle_max)));
                    }
                    if let Some(idle) = this.idle.as_mut().as_pin_mut() {
                        ready!(idle.poll(cx));
                    }
                    return Poll::Ready(Err(Rejection::AttemptTimeout { after: idle_max }.into()));
                }
            }
        }
        let Some(Reading { response, ahead, bytes }) = this.reading.take() else {
            return Poll::Pending;
        };
        let is_whole = bytes <= this.layer.bytes_max;
        let rest = |body| (!is_whole).then_some(body);
        Poll::Ready(Ok(response.map(|body| BufferedBody { ahead, rest: rest(body) })))
    }
}

impl<B> BufferedBody<B> {
    /// A body of which everything is there.
    pub(crate) fn whole(data: Bytes) -> Self {
        let is_empty = data.is_empty();
        let ahead = (!is_empty).then(|| Frame::data(data)).into_iter().collect();
        Self { ahead, rest: None }
    }

    /// A body of which nothing was read ahead.
    pub(crate) const fn passing(body: B) -> Self {
        Self { ahead: VecDeque::new(), rest: Some(body) }
    }

    /// A body of which a part was read ahead, and what comes after it, if anything does.
    pub(crate) const fn partly(ahead: VecDeque<Frame<Bytes>>, rest: Option<B>) -> Self {
        Self { ahead, rest }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for BufferedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let data = self.ahead.iter().filter_map(Frame::data_ref).map(Bytes::len).sum::<usize>();
        let data = u64::try_from(data).unwrap_or(u64::MAX);
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(data));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(data));
        }
        hint
    }
}
