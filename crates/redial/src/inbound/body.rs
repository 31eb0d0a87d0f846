//! The body of an answer, which ends when the caller's time is up.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::answer::{Refusal, write_grpc_status};
use crate::{clock, context::CallContext, deadline::Limit, diagnose::BoxError};

pin_project! {
    /// The body of a handler's answer, or of a refusal.
    ///
    /// The handler's ends in [`Rejection::DeadlineExceeded`](crate::Rejection) when the time is up, a gRPC
    /// call's in trailers with the status `DEADLINE_EXCEEDED`; what made it is dropped then.
    #[derive(Debug)]
    pub struct InboundBody<B> {
        // The handler's; None in a refusal, and after the time was up.
        #[pin]
        body: Option<B>,
        text: Option<Bytes>,
        context: CallContext,
        ending: Ending,
        // Boxed when there is something to wait for: until then, who moves this moves a pointer.
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

/// When a body ends that does not end by itself, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ending {
    pub(super) limit: Option<Limit>,
    pub(super) is_grpc: bool,
}

impl<B> InboundBody<B> {
    pub(super) const fn guarded(body: B, context: CallContext, ending: Ending) -> Self {
        Self { body: Some(body), text: None, context, ending, sleep: None }
    }

    pub(super) fn text(text: Bytes) -> Self {
        Self { text: Some(text), ..Self::empty() }
    }

    pub(super) fn empty() -> Self {
        Self {
            body: None,
            text: None,
            context: CallContext::default(),
            ending: Ending::default(),
            sleep: None,
        }
    }
}

impl<B> Default for InboundBody<B> {
    /// A body without anything in it.
    fn default() -> Self {
        Self::empty()
    }
}

impl<B> Body for InboundBody<B>
where
    B: Body<Data: From<Bytes>, Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(this.text.take().map(|text| Ok(Frame::data(text.into()))));
        };
        let Some(limit) = this.ending.limit else {
            let frame = this.context.enter(|| body.poll_frame(cx));
            return frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)));
        };
        // A body that always has more would never come to its timer; one that is whole may say so.
        let is_up = !body.is_end_stream() && limit.deadline.remaining(clock::now()).is_zero();
        if !is_up {
            if let Poll::Ready(frame) = this.context.enter(|| body.poll_frame(cx)) {
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            }
            ready!(limit.poll(this.sleep, cx));
        }
        this.body.set(None);
        if this.ending.is_grpc {
            let mut trailers = HeaderMap::new();
            write_grpc_status(&mut trailers, Refusal::Expired);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(Some(Err(limit.exceeded().into())))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Some(body) => body.is_end_stream(),
            None => self.text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.body, &self.text) {
            (Some(body), _) => body.size_hint(),
            (None, text) => {
                let bytes = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(bytes).unwrap_or(u64::MAX))
            }
        }
    }
}
