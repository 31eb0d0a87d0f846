//! Which reply a request gets.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::Received;

/// Replies in a fixed order, or made for each request.
pub(crate) enum Script<R> {
    /// One reply a request, in order of arrival; the last one for ever.
    Fixed { replies: Vec<R>, drawn: AtomicUsize },
    /// Whatever the function says once the whole request is there.
    Handler(Handler<R>),
}

type Handler<R> = Box<dyn Fn(&Received) -> R + Send + Sync>;

impl<R: Clone> Script<R> {
    pub(crate) fn fixed(replies: impl IntoIterator<Item = R>) -> Self {
        let replies: Vec<R> = replies.into_iter().collect();
        assert!(!replies.is_empty(), "a script needs at least one reply");
        Self::Fixed { replies, drawn: AtomicUsize::new(0) }
    }

    pub(crate) fn handler(handler: impl Fn(&Received) -> R + Send + Sync + 'static) -> Self {
        Self::Handler(Box::new(handler))
    }

    /// Draws the next reply of a fixed script, which is known before the request is.
    pub(crate) fn draw(&self) -> Option<R> {
        let Self::Fixed { replies, drawn } = self else { return None };
        let index = drawn.fetch_add(1, Ordering::Relaxed).min(replies.len() - 1);
        replies.get(index).cloned()
    }

    /// Returns the reply that was drawn for this request, or lets the handler make one.
    pub(crate) fn reply(&self, drawn: Option<R>, received: &Received) -> R {
        match (drawn, self) {
            (Some(reply), _) => reply,
            (None, Self::Handler(handler)) => handler(received),
            (None, Self::Fixed { .. }) => unreachable!("a fixed script always has a reply"),
        }
    }
}

impl<R> fmt::Debug for Script<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if let Self::Fixed { .. } = self { "Fixed" } else { "Handler" };
        f.debug_struct(kind).finish_non_exhaustive()
    }
}
