//! The body of an answer that may be a fallback's.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer: the upstream's own, fixed bytes, or that of another service.
    ///
    /// # Errors
    ///
    /// Fixed bytes never fail; the others fail as they do.
    pub struct FallbackBody<B, C = B> {
        #[pin]
        kind: Kind<B, C>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B, C> {
        Upstream { #[pin] body: B },
        Fixed { bytes: Bytes },
        Other { #[pin] body: C },
    }
}

impl<B, C> FallbackBody<B, C> {
    pub(super) const fn upstream(body: B) -> Self {
        Self { kind: Kind::Upstream { body } }
    }

    pub(super) const fn fixed(bytes: Bytes) -> Self {
        Self { kind: Kind::Fixed { bytes } }
    }

    pub(super) const fn other(body: C) -> Self {
        Self { kind: Kind::Other { body } }
    }
}

impl<B, C> Body for FallbackBody<B, C>
where
    B: Body<Data = Bytes>,
    C: Body<Data = Bytes, Error: Into<B::Error>>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Upstream { body } => body.poll_frame(cx),
            KindProjection::Fixed { bytes } => {
                let bytes = mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            KindProjection::Other { body } => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Upstream { body } => body.is_end_stream(),
            Kind::Fixed { bytes } => bytes.is_empty(),
            Kind::Other { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Upstream { body } => body.size_hint(),
            Kind::Fixed { bytes } => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Kind::Other { body } => body.size_hint(),
        }
    }
}

impl<B, C> fmt::Debug for FallbackBody<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Upstream { .. } => "upstream",
            Kind::Fixed { .. } => "fixed",
            Kind::Other { .. } => "other",
        };
        f.debug_struct("FallbackBody").field("kind", &kind).finish()
    }
}
