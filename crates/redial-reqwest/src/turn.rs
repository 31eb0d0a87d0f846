//! Noticing that a future gave up its turn.
//!
//! reqwest follows a redirect by waking its own task and returning: the request to the next server
//! is begun in the turn after. A future that only waits never wakes itself.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// The waker of a future that is watched for waking itself.
#[derive(Debug)]
pub(crate) struct Turn {
    waker: Waker,
    was_given_up: AtomicBool,
}

thread_local! {
    /// The turn that this thread polls a future for, by its address.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// Puts back the turn that this one is nested in.
struct Restore(usize);

impl Turn {
    /// Polls a future in `turn`, which is made anew where the waker is another one than before.
    pub(crate) fn poll<T>(
        turn: &mut Option<Arc<Self>>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let known = turn.take();
        let was_given_up = known.as_ref().is_some_and(|turn| turn.was_given_up());
        let kept = known.filter(|turn| turn.waker.will_wake(cx.waker()));
        let turn = turn.insert(kept.unwrap_or_else(|| {
            let waker = cx.waker().clone();
            Arc::new(Self { waker, was_given_up: was_given_up.into() })
        }));
        let waker = Waker::from(Arc::clone(turn));
        let _restore = Restore(CURRENT.replace(turn.address()));
        poll(&mut Context::from_waker(&waker))
    }

    /// Returns whether the future has woken itself while it was polled.
    pub(crate) fn was_given_up(&self) -> bool {
        self.was_given_up.load(Ordering::Relaxed)
    }

    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Whoever wakes it from another thread, or later, has news from outside.
        if CURRENT.get() == self.address() {
            self.was_given_up.store(true, Ordering::Relaxed);
        }
        self.waker.wake_by_ref();
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn a_future_that_wakes_itself_while_it_is_polled_is_noticed_for_good() {
        let mut turn = None;
        let mut kept = None;
        let waits = |cx: &mut Context<'_>| {
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        };
        assert!(Turn::poll(&mut turn, &mut cx(), waits).is_pending());
        kept.unwrap().wake();
        assert!(!turn.as_ref().unwrap().was_given_up());
        let yields = |cx: &mut Context<'_>| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        };
        assert!(Turn::poll(&mut turn, &mut cx(), yields).is_pending());
        assert!(turn.as_ref().unwrap().was_given_up());
        let other = Waker::from(Arc::clone(turn.as_ref().unwrap()));
        let ready = |_: &mut Context<'_>| Poll::Ready(());
        assert!(Turn::poll(&mut turn, &mut Context::from_waker(&other), ready).is_ready());
        assert!(turn.unwrap().was_given_up());
    }

    #[test]
    fn what_is_woken_by_a_future_within_is_not_the_future_around_it() {
        let (mut outer, mut inner) = (None, None);
        let yields = |cx: &mut Context<'_>| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        };
        let nested = |cx: &mut Context<'_>| Turn::poll(&mut inner, cx, yields);
        assert!(Turn::poll(&mut outer, &mut cx(), nested).is_pending());
        assert!(inner.unwrap().was_given_up());
        assert!(!outer.unwrap().was_given_up());
    }
}
