//! The body of an answer that went through a cache.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer: stored bytes, or the upstream's own, streaming through.
    ///
    /// # Errors
    ///
    /// Only the upstream's own body fails, with its own error.
    pub struct CachedBody<B: Body> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B: Body> {
        Stored { bytes: Bytes },
        Through { #[pin] body: B },
        Ahead { ahead: VecDeque<Frame<Bytes>>, rest: Rest<B> },
    }
}

/// What follows the part of a body that was read ahead.
pub(super) enum Rest<B: Body> {
    More(Pin<Box<B>>),
    Broken(Option<B::Error>),
}

impl<B: Body> CachedBody<B> {
    pub(super) const fn stored(bytes: Bytes) -> Self {
        Self { kind: Kind::Stored { bytes } }
    }

    pub(super) const fn through(body: B) -> Self {
        Self { kind: Kind::Through { body } }
    }

    pub(super) const fn ahead(ahead: VecDeque<Frame<Bytes>>, rest: Rest<B>) -> Self {
        Self { kind: Kind::Ahead { ahead, rest } }
    }

    /// Returns whether the body is there as a whole: stored, or just read for storing.
    pub const fn is_whole(&self) -> bool {
        matches!(self.kind, Kind::Stored { .. })
    }
}

impl<B: Body<Data = Bytes>> Body for CachedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Stored { bytes } => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            KindProjection::Through { body } => body.poll_frame(cx),
            KindProjection::Ahead { ahead, rest } => match (ahead.pop_front(), rest) {
                (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
                (None, Rest::More(body)) => body.as_mut().poll_frame(cx),
                (None, Rest::Broken(error)) => Poll::Ready(error.take().map(Err)),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Stored { bytes } => bytes.is_empty(),
            Kind::Through { body } => body.is_end_stream(),
            Kind::Ahead { ahead, rest } => {
                ahead.is_empty()
                    && match rest {
                        Rest::More(body) => body.is_end_stream(),
                        Rest::Broken(error) => error.is_none(),
                    }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Stored { bytes } => SizeHint::with_exact(length(bytes)),
            Kind::Through { body } => body.size_hint(),
            Kind::Ahead { ahead, rest } => {
                let held = ahead.iter().filter_map(Frame::data_ref).map(length).sum::<u64>();
                let rest = match rest {
                    Rest::More(body) => body.size_hint(),
                    Rest::Broken(_) => SizeHint::new(),
                };
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(held));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(held));
                }
                hint
            }
        }
    }
}

impl<B: Body> fmt::Debug for CachedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedBody").field("is_whole", &self.is_whole()).finish()
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
