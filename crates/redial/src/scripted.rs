//! Bodies for tests, which come as they are told to.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// A body that does one step after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) steps: VecDeque<Step>,
    /// The length that it announces.
    pub(crate) length: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Fail(io::ErrorKind),
    /// Nothing for the moment.
    Later,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), length: None }
    }

    /// Cuts `whole` into pieces of these sizes, over and over.
    pub(crate) fn pieces(whole: &Bytes, sizes: &[usize]) -> Self {
        let (mut rest, mut script) = (whole.clone(), Self::default());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            script.steps.push_back(Step::Data(rest.split_to((*size).min(rest.len()))));
            script.steps.push_back(Step::Later);
        }
        script
    }

    pub(crate) fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(step) = self.steps.pop_front() else { return Poll::Ready(None) };
        Poll::Ready(Some(match step {
            Step::Data(data) => Ok(Frame::data(data)),
            Step::Trailers(trailers) => Ok(Frame::trailers(trailers)),
            Step::Fail(kind) => Err(kind.into()),
            Step::Later => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
