//! A request's body on its way into reqwest, and what becomes of it there.
//!
//! A body that is one piece goes in as bytes, because reqwest can send those again when it follows
//! a 307 or 308; any other goes in as a stream.
//!
//! Either is watched, unless the method is a safe one. reqwest follows redirects within a call and
//! does not say so, and a POST that was processed and answered with "see there" must not count as
//! never sent because there is nobody there. Two things tell: what was sent to the first server is
//! let go of before the second is called, and the call [gives up its turn](crate::turn) in between.
//! Where both can be seen, either is enough to believe nothing.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame, SizeHint};
use redial::BoxError;
use redial_core::Proof;

use crate::turn::Turn;

/// How far a call had come when it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    is_kept: bool,
    has_yielded: bool,
}

/// What became of a request's body.
#[derive(Debug)]
pub(crate) struct Trace {
    kind: Kind,
    is_begun: bool,
    turn: Option<Arc<Turn>>,
}

#[derive(Debug)]
enum Kind {
    /// Repeating the request is harmless, whatever became of it.
    Unwatched,
    /// One piece: shared with the bytes that reqwest holds.
    Whole(Arc<()>),
    Stream(Arc<Seen>),
}

#[derive(Debug, Default)]
struct Seen {
    was_polled: AtomicBool,
    has_failed: AtomicBool,
}

/// Bytes that tell, by their being dropped, that nobody is going to send them any more.
struct Kept {
    bytes: Bytes,
    _kept: Arc<()>,
}

struct Streamed<B> {
    ahead: Option<Frame<Bytes>>,
    body: B,
    seen: Arc<Seen>,
}

impl Course {
    /// The request went to the first server, or nowhere.
    pub(crate) const FIRST: Self = Self { is_kept: true, has_yielded: false };

    /// Nobody looked.
    pub(crate) const UNKNOWN: Self = Self { is_kept: false, has_yielded: true };

    /// Returns whether `proof` is about the request that was given to reqwest, and not about the
    /// one that a redirect led to.
    pub(crate) const fn supports(self, proof: Proof) -> bool {
        match proof {
            // Before there is a connection nothing but a redirect gives up a turn.
            Proof::NoConnection => self.is_kept && !self.has_yielded,
            _ => self.is_kept,
        }
    }
}

impl Trace {
    /// Traces nothing, and says that the body is waiting.
    pub(crate) const UNWATCHED: Self = Self::new(Kind::Unwatched);

    const fn new(kind: Kind) -> Self {
        Self { kind, is_begun: false, turn: None }
    }

    /// Polls the call that sends the body; tells with its outcome how far it had come.
    pub(crate) fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<(T, Course)> {
        if matches!(self.kind, Kind::Unwatched) {
            return poll(cx).map(|outcome| (outcome, Course::FIRST));
        }
        // Looked at before, because the poll that ends the call drops everything. What is refused
        // as it is handed over is dropped before anybody can look.
        let is_kept = !mem::replace(&mut self.is_begun, true) || self.is_kept();
        let outcome = ready!(Turn::poll(&mut self.turn, cx, poll));
        let has_yielded = self.turn.as_ref().is_some_and(|turn| turn.was_given_up());
        Poll::Ready((outcome, Course { is_kept, has_yielded }))
    }

    /// Returns whether nobody has begun to send the body, or can still send it again.
    fn is_kept(&self) -> bool {
        match &self.kind {
            Kind::Unwatched => true,
            Kind::Whole(kept) => 1 < Arc::strong_count(kept),
            Kind::Stream(seen) => !seen.was_polled.load(Ordering::Relaxed),
        }
    }

    /// Returns whether the body itself reported an error.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(&self.kind, Kind::Stream(seen) if seen.has_failed.load(Ordering::Relaxed))
    }
}

/// Turns the body of a request with `method` into reqwest's.
pub(crate) fn outgoing<B>(method: &Method, mut body: B) -> (reqwest::Body, Trace)
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + Sync + 'static,
{
    if body.is_end_stream() {
        return whole(method, Bytes::new());
    }
    // A longer body may be one that must not be read before there is a connection.
    let is_short = body.size_hint().exact().is_some_and(|bytes| bytes <= AHEAD_BYTES_MAX);
    let mut ahead = None;
    if is_short {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) if body.is_end_stream() => match frame.into_data() {
                Ok(only) => return whole(method, only),
                Err(frame) => ahead = Some(Ok(frame)),
            },
            Poll::Ready(frame) => ahead = frame,
            Poll::Pending => {}
        }
    }
    stream(ahead, body)
}

/// Hands over a body that is one piece.
pub(crate) fn whole(method: &Method, bytes: Bytes) -> (reqwest::Body, Trace) {
    if method.is_safe() {
        return (bytes.into(), Trace::UNWATCHED);
    }
    let kept = Arc::new(());
    let bytes = Bytes::from_owner(Kept { bytes, _kept: Arc::clone(&kept) });
    (bytes.into(), Trace::new(Kind::Whole(kept)))
}

fn stream<B>(ahead: Option<Result<Frame<Bytes>, B::Error>>, body: B) -> (reqwest::Body, Trace)
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + Sync + 'static,
{
    let seen = Arc::new(Seen::default());
    let trace = Trace::new(Kind::Stream(Arc::clone(&seen)));
    let ahead = match ahead.transpose() {
        Ok(ahead) => ahead,
        Err(error) => {
            seen.has_failed.store(true, Ordering::Relaxed);
            return (reqwest::Body::wrap(Failed(Some(error.into()))), trace);
        }
    };
    (reqwest::Body::wrap(Streamed { ahead, body, seen }), trace)
}

impl<B> Body for Streamed<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.seen.was_polled.store(true, Ordering::Relaxed);
        if let Some(frame) = self.ahead.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                self.seen.has_failed.store(true, Ordering::Relaxed);
                error.into()
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let data = self.ahead.as_ref().and_then(Frame::data_ref);
        let ahead = data.map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

/// A body that failed when it was looked at.
struct Failed(Option<BoxError>);

impl Body for Failed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.take().map(Err))
    }
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Up to here a body is read to its first piece when it is handed over, to learn whether that is
/// all of it: what a policy keeps by default.
const AHEAD_BYTES_MAX: u64 = 64 * 1024;
