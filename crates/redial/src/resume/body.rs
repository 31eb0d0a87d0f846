//! The body that is put together from its parts.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::again::{Again, Resumption};
use crate::diagnose::Rejection;

type Resuming<B, E> = Pin<Box<dyn Future<Output = Resumption<B, E>> + Send>>;

pin_project! {
    /// The body of an answer, which goes on where it breaks off.
    pub struct ResumedBody<B, E> {
        #[pin]
        flow: Flow<B, Resuming<B, E>, E>,
        again: Option<Box<Again<B, E>>>,
        // How many bytes were handed on.
        at: u64,
        // Before which byte this part ends.
        end: Option<u64>,
        // How many bytes there are in all parts.
        length: Option<u64>,
    }
}

pin_project! {
    #[project = FlowProjection]
    enum Flow<B, F, E> {
        Reading { #[pin] body: B },
        // Asking for more; `error` is what the reader gets if there is nothing. Never locked: what is in a
        // mutex can be shared between threads even where it could not be by itself.
        Resuming { resuming: Mutex<F>, error: Option<E> },
        Over,
    }
}

impl<B, E> ResumedBody<B, E> {
    pub(super) fn new(body: B, again: Option<Box<Again<B, E>>>) -> Self {
        let length = again.as_ref().and_then(|again| again.length());
        Self { flow: Flow::Reading { body }, again, at: 0, end: length, length }
    }
}

impl<B, E> Body for ResumedBody<B, E>
where
    E: From<B::Error> + From<Rejection> + Send + 'static,
    B: Body + Send + 'static,
{
    type Data = B::Data;
    type Error = E;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, E>>> {
        let mut this = self.project();
        loop {
            let error = match this.flow.as_mut().project() {
                FlowProjection::Reading { body } => {
                    let frame = ready!(body.poll_frame(cx));
                    let Some(again) = this.again else {
                        return Poll::Ready(frame.map(|frame| frame.map_err(E::from)));
                    };
                    if let Some(Ok(frame)) = &frame
                        && let Some(bytes) = frame.data_ref().map(Buf::remaining)
                        && 0 < bytes
                    {
                        *this.at = this.at.saturating_add(to_u64(bytes));
                        again.note_progress();
                    }
                    match (frame, *this.end, *this.length) {
                        (Some(Ok(_)), Some(end), _) if end < *this.at => {
                            wrong_length(*this.at, end)
                        }
                        (Some(Ok(frame)), ..) => return Poll::Ready(Some(Ok(frame))),
                        (Some(Err(error)), ..) => error.into(),
                        (None, _, Some(length)) if *this.at < length => {
                            wrong_length(*this.at, length)
                        }
                        (None, ..) => {
                            this.flow.set(Flow::Over);
                            return Poll::Ready(None);
                        }
                    }
                }
                FlowProjection::Resuming { resuming, error } => {
                    let resuming = resuming.get_mut().unwrap_or_else(PoisonError::into_inner);
                    let resumption = ready!(resuming.as_mut().poll(cx));
                    let error = error.take();
                    let last = match resumption {
                        Resumption::More { body, end, again } => {
                            (*this.again, *this.end) = (Some(again), end);
                            this.flow.set(Flow::Reading { body });
                            continue;
                        }
                        Resumption::Changed => Some(Rejection::Changed { at: *this.at }.into()),
                        Resumption::Nothing => error,
                    };
                    this.flow.set(Flow::Over);
                    return Poll::Ready(last.map(Err));
                }
                FlowProjection::Over => return Poll::Ready(None),
            };
            let at = *this.at;
            let is_too_long = this.end.is_some_and(|end| end < at);
            let again = this.again.take().filter(|again| !is_too_long && again.is_possible(at));
            let Some(again) = again else {
                this.flow.set(Flow::Over);
                return Poll::Ready(Some(Err(error)));
            };
            let resuming = Box::pin(again.run(at));
            let resuming: Resuming<B, E> = resuming;
            let resuming = Mutex::new(resuming);
            this.flow.set(Flow::Resuming { resuming, error: Some(error) });
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.flow {
            Flow::Reading { body } => {
                body.is_end_stream() && self.left().is_none_or(|left| left == 0)
            }
            Flow::Resuming { .. } => false,
            Flow::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.flow, self.left()) {
            (Flow::Over, _) => SizeHint::with_exact(0),
            (_, Some(left)) => SizeHint::with_exact(left),
            (Flow::Reading { body }, None) => body.size_hint(),
            (Flow::Resuming { .. }, None) => SizeHint::default(),
        }
    }
}

impl<B, E> ResumedBody<B, E> {
    fn left(&self) -> Option<u64> {
        self.length.map(|length| length.saturating_sub(self.at))
    }
}

fn wrong_length<E: From<Rejection>>(bytes: u64, announced: u64) -> E {
    Rejection::WrongLength { bytes, announced }.into()
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl<B, E> fmt::Debug for ResumedBody<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumedBody")
            .field("at", &self.at)
            .field("length", &self.length)
            .field("may_go_on", &self.again.is_some())
            .finish()
    }
}
