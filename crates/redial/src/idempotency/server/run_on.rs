//! Work that is not lost when nobody waits for it any more.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tracing::{Instrument, Span};

/// Polls `work` in place; dropped before it has ended, it hands the rest to a task of its own.
pub(super) struct RunOn<F: Future<Output: Send> + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    span: Span,
}

impl<F: Future<Output: Send> + Send + 'static> RunOn<F> {
    pub(super) fn new(work: F) -> Self {
        Self { work: Some(Box::pin(work)), span: Span::current() }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for RunOn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out while it is polled: what panics is dropped there, and never polled again.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let poll = work.as_mut().poll(cx);
        if poll.is_pending() {
            self.work = Some(work);
        }
        poll
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for RunOn<F> {
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            runtime.spawn(work.instrument(self.span.clone()));
        }
    }
}
