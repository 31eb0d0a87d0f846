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
        // What it takes to go on: gone once nothing can go on any more.
        again: Option<Box<Again<B, E>>>,
    }
}

pin_project! {
    #[project = FlowProjection]
    enum Flow<B, F, E> {
        Reading { #[pin] body: B },
        // Asking for more; `error` is what the reader gets if there is nothing. Never locked: what is in a
        // mutex can be shared between threads even where it could not be by itself.
        Resuming { resuming: Mutex<F>, error: Option<E>, progress: Progress },
        Over,
    }
}

/// How far a body has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// How many bytes were handed on.
    pub(super) at: u64,
    /// Before which byte this part ends.
    pub(super) end: Option<u64>,
    /// How many bytes there are in all parts.
    length: Option<u64>,
}

impl<B, E> ResumedBody<B, E> {
    pub(super) const fn new(body: B, again: Option<Box<Again<B, E>>>) -> Self {
        Self { flow: Flow::Reading { body }, again }
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
                    let at = again.progress.at;
                    let noted = again.progress.note(frame);
                    if at < again.progress.at {
                        again.note_progress();
                    }
                    if let Ok(frame) = &noted
                        && let Err(rejection) = again.check(frame.as_ref())
                    {
                        // All of it came: there is nothing to go on with.
                        *this.again = None;
                        this.flow.set(Flow::Over);
                        return Poll::Ready(Some(Err(rejection.into())));
                    }
                    match noted {
                        Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                        Ok(None) => {
                            this.flow.set(Flow::Over);
                            return Poll::Ready(None);
                        }
                        Err(error) => error,
                    }
                }
                FlowProjection::Resuming { resuming, error, progress } => {
                    let resuming = resuming.get_mut().unwrap_or_else(PoisonError::into_inner);
                    let resumption = ready!(resuming.as_mut().poll(cx));
                    let last = match resumption {
                        Resumption::More { body, again } => {
                            *this.again = Some(again);
                            this.flow.set(Flow::Reading { body });
                            continue;
                        }
                        Resumption::Changed => Some(Rejection::Changed { at: progress.at }.into()),
                        Resumption::Nothing => error.take(),
                    };
                    this.flow.set(Flow::Over);
                    return Poll::Ready(last.map(Err));
                }
                FlowProjection::Over => return Poll::Ready(None),
            };
            let Some(again) = this.again.take().filter(|again| again.is_possible()) else {
                this.flow.set(Flow::Over);
                return Poll::Ready(Some(Err(error)));
            };
            let progress = again.progress;
            let resuming: Resuming<B, E> = Box::pin(again.run());
            let (resuming, error) = (Mutex::new(resuming), Some(error));
            this.flow.set(Flow::Resuming { resuming, error, progress });
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.flow {
            Flow::Reading { body } => {
                let awaits_digest = self.again.as_ref().is_some_and(|again| again.awaits_digest());
                body.is_end_stream() && self.left().is_none_or(|left| left == 0) && !awaits_digest
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
        let progress = match (&self.flow, &self.again) {
            (Flow::Resuming { progress, .. }, _) => progress,
            (_, Some(again)) => &again.progress,
            (_, None) => return None,
        };
        progress.length.map(|length| length.saturating_sub(progress.at))
    }
}

impl Progress {
    pub(super) const fn of(length: Option<u64>) -> Self {
        Self { at: 0, end: length, length }
    }

    /// Notes what came, or that it is over; an end at the wrong place is an error.
    fn note<D, E, F>(&mut self, frame: Option<Result<Frame<D>, F>>) -> Result<Option<Frame<D>>, E>
    where
        D: Buf,
        E: From<F> + From<Rejection>,
    {
        let frame = frame.transpose()?;
        let bytes = frame.as_ref().and_then(Frame::data_ref).map_or(0, Buf::remaining);
        self.at = self.at.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let announced = match frame {
            Some(_) => self.end.filter(|end| *end < self.at),
            None => self.length.filter(|length| self.at < *length),
        };
        match announced {
            Some(announced) => Err(Rejection::WrongLength { bytes: self.at, announced }.into()),
            None => Ok(frame),
        }
    }
}

impl<B, E> fmt::Debug for ResumedBody<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumedBody")
            .field("left", &self.left())
            .field("may_go_on", &self.again.is_some())
            .finish()
    }
}
