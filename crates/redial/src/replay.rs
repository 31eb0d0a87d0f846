//! A request body that can be sent again.
//!
//! Nothing is read before it is sent, but for a first piece that is there already: pieces are kept as
//! they pass, up to a cap. A body that outgrows the cap passes through once, unkept, and the call can
//! no longer be repeated; one that was not read at all can, whatever its size. A body that is a
//! single piece of bytes is not even shared: the piece is cheap to copy.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::diagnose::BoxError;

/// One sending of a body that may be sent again.
///
/// Data comes out as [`Bytes`], byte for byte what the caller's body gave, trailers included. A
/// sending that is still being read when a later one begins ends in [`Superseded`].
pub struct ReplayBody<B> {
    state: State<B>,
}

/// What it takes to send a body again.
pub struct Replay<B> {
    source: Source<B>,
}

/// A later attempt sends this body now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a later attempt sends this body now")]
pub struct Superseded;

enum State<B> {
    Whole(Option<Bytes>),
    /// The caller's own body. Locked only by those who look at it, never by who reads it; what is
    /// in a mutex can be shared between threads even where it could not be by itself.
    Once(Mutex<B>),
    Shared {
        shared: Arc<Shared<B>>,
        turn: u64,
        position: usize,
        is_done: bool,
    },
}

enum Source<B> {
    Whole(Option<Bytes>),
    Shared(Arc<Shared<B>>),
}

struct Shared<B> {
    kept: Mutex<Kept<B>>,
}

struct Kept<B> {
    /// The rest of the caller's body; `None` when it has ended.
    body: Option<B>,
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    bytes: usize,
    bytes_max: usize,
    is_lost: bool,
    /// Which sending may read on: an earlier one that lingers in a connection may not.
    turn: u64,
}

impl<B> Replay<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    /// Splits a body into its first sending and what it takes to send it again, keeping at most
    /// `bytes_max` bytes.
    pub fn split(body: B, bytes_max: usize) -> (ReplayBody<B>, Self) {
        if body.is_end_stream() {
            return (ReplayBody::empty(), Self::empty());
        }
        let is_too_long = body.size_hint().lower() > u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let mut kept = Kept::new(body, bytes_max);
        if !is_too_long && let Some(only) = kept.only_piece() {
            let source = Source::Whole(Some(only.clone()));
            return (ReplayBody::whole(Some(only)), Self { source });
        }
        let shared = Arc::new(Shared { kept: Mutex::new(kept) });
        let first = ReplayBody::shared(&shared, 0);
        (first, Self { source: Source::Shared(shared) })
    }

    /// Returns whether the body can be sent from its start: nothing of it was lost.
    pub fn is_possible(&self) -> bool {
        match &self.source {
            Source::Whole(_) => true,
            Source::Shared(shared) => !shared.lock().is_lost,
        }
    }

    /// Returns whether the body is no more than one piece, so that several sendings of it can be
    /// under way at once.
    pub const fn is_whole(&self) -> bool {
        matches!(self.source, Source::Whole(_))
    }

    /// Ends keeping: the sending that is out goes on, and there will be no other.
    pub(crate) fn forgo(self) {
        if let Source::Shared(shared) = &self.source {
            shared.lock().is_lost = true;
        }
    }

    /// Returns the body from its start. Sendings handed out before end in [`Superseded`] from here
    /// on.
    pub fn again(&self) -> ReplayBody<B> {
        match &self.source {
            Source::Whole(piece) => ReplayBody::whole(piece.clone()),
            Source::Shared(shared) => {
                let mut kept = shared.lock();
                kept.turn += 1;
                ReplayBody::shared(shared, kept.turn)
            }
        }
    }
}

impl<B> Replay<B> {
    /// Creates what it takes to send nothing again.
    pub const fn empty() -> Self {
        Self { source: Source::Whole(None) }
    }
}

impl<B> ReplayBody<B> {
    /// Creates the sending of nothing.
    pub const fn empty() -> Self {
        Self::whole(None)
    }

    /// Wraps a body that is sent once: nothing is read ahead, kept or shared.
    pub(crate) const fn once(body: B) -> Self {
        Self { state: State::Once(Mutex::new(body)) }
    }

    const fn whole(piece: Option<Bytes>) -> Self {
        Self { state: State::Whole(piece) }
    }

    fn shared(shared: &Arc<Shared<B>>, turn: u64) -> Self {
        let shared = Arc::clone(shared);
        Self { state: State::Shared { shared, turn, position: 0, is_done: false } }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (shared, turn, position, is_done) = match &mut self.state {
            State::Whole(piece) => {
                return Poll::Ready(piece.take().map(|piece| Ok(Frame::data(piece))));
            }
            State::Once(body) => {
                let body = body.get_mut().unwrap_or_else(PoisonError::into_inner);
                let frame = ready!(Pin::new(body).poll_frame(cx));
                let in_bytes = |mut data: B::Data| data.copy_to_bytes(data.remaining());
                return Poll::Ready(frame.map(|frame| match frame {
                    Ok(frame) => Ok(frame.map_data(in_bytes)),
                    Err(error) => Err(error.into()),
                }));
            }
            State::Shared { shared, turn, position, is_done } => (shared, turn, position, is_done),
        };
        let mut kept = shared.lock();
        if kept.turn != *turn {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        loop {
            if let Some(piece) = kept.next(position) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if kept.body.is_none() {
                let trailers = kept.trailers.clone().filter(|_| !mem::replace(is_done, true));
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            if let Err(error) = ready!(kept.poll_read(cx)) {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Whole(piece) => piece.is_none(),
            State::Once(body) => {
                body.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
            }
            State::Shared { shared, position, is_done, .. } => {
                let kept = shared.lock();
                let has_body = kept.body.as_ref().is_some_and(|body| !body.is_end_stream());
                let has_trailers = kept.trailers.is_some() && !*is_done;
                !has_body && !has_trailers && kept.pieces.len() <= *position
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Whole(piece) => SizeHint::with_exact(piece.as_ref().map_or(0, length)),
            State::Once(body) => body.lock().unwrap_or_else(PoisonError::into_inner).size_hint(),
            State::Shared { shared, position, .. } => {
                let kept = shared.lock();
                let held = kept.pieces.iter().skip(*position).map(length).sum::<u64>();
                let rest = kept.body.as_ref().map(Body::size_hint);
                let rest = rest.unwrap_or_else(|| SizeHint::with_exact(0));
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(held));
                // An exact length would be framed by it, and trailers need chunks to follow.
                if let Some(upper) = rest.upper().filter(|_| kept.trailers.is_none()) {
                    hint.set_upper(upper.saturating_add(held));
                }
                hint
            }
        }
    }
}

impl<B> Shared<B> {
    fn lock(&self) -> MutexGuard<'_, Kept<B>> {
        // A body that panicked while it was read left nothing half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body + Unpin> Kept<B> {
    fn new(body: B, bytes_max: usize) -> Self {
        let (body, pieces, trailers) = (Some(body), Vec::new(), None);
        Self { body, pieces, trailers, bytes: 0, bytes_max, is_lost: false, turn: 0 }
    }

    /// Returns the body's only piece of data, if it is there at once and nothing follows it.
    ///
    /// A body that is not ready yet is asked again, with a real waker, when it is sent.
    fn only_piece(&mut self) -> Option<Bytes> {
        let body = self.body.as_mut()?;
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(&mut cx) else {
            return None;
        };
        let is_last = body.is_end_stream();
        match frame.into_data() {
            Ok(mut data) if is_last && data.remaining() <= self.bytes_max => {
                Some(data.copy_to_bytes(data.remaining()))
            }
            Ok(data) => {
                self.keep(data);
                None
            }
            Err(frame) => {
                self.end(frame.into_trailers().ok());
                None
            }
        }
    }

    /// Reads one frame of the caller's body.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), B::Error>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        match ready!(Pin::new(body).poll_frame(cx)) {
            None => self.end(None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.keep(data),
                Err(frame) => self.end(frame.into_trailers().ok()),
            },
            Some(Err(error)) => {
                self.is_lost = true;
                self.end(None);
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn keep(&mut self, mut data: B::Data) {
        self.bytes = self.bytes.saturating_add(data.remaining());
        self.is_lost |= self.bytes_max < self.bytes;
        self.pieces.push(data.copy_to_bytes(data.remaining()));
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.body = None;
        self.trailers = trailers;
    }
}

impl<B> Kept<B> {
    /// Returns the piece at `position` and moves on; a body that is lost keeps no piece.
    fn next(&mut self, position: &mut usize) -> Option<Bytes> {
        if self.is_lost {
            let sent = mem::take(position).min(self.pieces.len());
            self.pieces.drain(..sent);
            return (!self.pieces.is_empty()).then(|| self.pieces.remove(0));
        }
        let piece = self.pieces.get(*position)?.clone();
        *position += 1;
        Some(piece)
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

fn length(piece: &Bytes) -> u64 {
    u64::try_from(piece.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
