//! What a piece of work carries along, to every call that it makes: deadline, trace and baggage.
//!
//! It is there while the work runs, as the deadline is: set around each poll of a future, and taken away
//! after it. What the work spawns runs elsewhere, and has to be given it with [`carry`].

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use redial_core::Deadline;

use crate::{
    deadline::{current_deadline, with_deadline},
    trace::{Baggage, Trace, TraceId},
};

thread_local! {
    /// Set while work that belongs to a trace, or has baggage, runs or is polled, and only then.
    static CURRENT: RefCell<Option<Arc<Luggage>>> = const { RefCell::new(None) };
}

/// What work carries along: the moment at which it has to be done, the trace that it belongs to, and
/// baggage. Cheap to clone.
///
/// [`InboundLayer`](crate::InboundLayer) makes one of each request, and
/// [`PropagateLayer`](crate::PropagateLayer) writes what it holds into each request that is sent from within.
///
/// # Examples
///
/// A job that no request began:
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use redial::{CallContext, Trace, core::Deadline, current_deadline, current_trace};
///
/// let trace = Trace::start();
/// let deadline = Deadline::after(Instant::now(), Duration::from_secs(60));
/// let job = CallContext::default().with_trace(trace.clone()).with_deadline(deadline);
/// job.enter(|| {
///     assert_eq!(current_trace(), Some(trace.id()));
///     assert_eq!(current_deadline(), Some(deadline));
/// });
/// assert_eq!(current_trace(), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallContext {
    deadline: Option<Deadline>,
    luggage: Option<Arc<Luggage>>,
}

/// What is shared by all work of one call.
#[derive(Clone, Debug, Default)]
struct Luggage {
    trace: Option<Trace>,
    baggage: Option<Baggage>,
}

pin_project! {
    /// A future that carries a context; see [`carry`].
    ///
    /// # Cancellation
    ///
    /// Dropping it drops the work.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Carried<F> {
        #[pin]
        work: F,
        context: CallContext,
    }
}

/// Puts back what was there before, also where the work panics.
#[must_use]
struct Within {
    before: Option<Arc<Luggage>>,
}

/// Takes the context of the code that calls this along with `work`, wherever that is polled: into a task that
/// is spawned, most of all.
///
/// It is a context only. The task is not cancelled when the deadline passes or the caller goes away: calls
/// that it makes through Redial end in time, and whatever else it does goes on.
///
/// # Examples
///
/// ```
/// use redial::{CallContext, Trace, carry, current_trace};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let request = CallContext::default().with_trace(Trace::start());
/// let (alone, carried) = request.enter(|| {
///     let alone = tokio::spawn(async { current_trace() });
///     let carried = tokio::spawn(carry(async { current_trace() }));
///     (alone, carried)
/// });
/// assert_eq!(alone.await?, None);
/// assert_eq!(carried.await?, request.trace().map(|trace| trace.id()));
/// # Ok(())
/// # }
/// ```
pub fn carry<F: Future>(work: F) -> Carried<F> {
    CallContext::current().carry(work)
}

/// Returns the id of the trace that this code works for, where there is one: for logs.
#[must_use]
pub fn current_trace() -> Option<TraceId> {
    CURRENT.with_borrow(|luggage| luggage.as_ref()?.trace.as_ref().map(Trace::id))
}

impl CallContext {
    /// Returns the context of the code that calls this; an empty one where there is none.
    #[inline]
    #[must_use]
    pub fn current() -> Self {
        Self { deadline: current_deadline(), luggage: CURRENT.with_borrow(Option::clone) }
    }

    /// Sets the deadline, unless there is an earlier one.
    #[must_use]
    pub fn with_deadline(self, deadline: Deadline) -> Self {
        Self { deadline: Some(deadline.earlier(self.deadline)), ..self }
    }

    /// Sets the trace.
    #[must_use]
    pub fn with_trace(self, trace: Trace) -> Self {
        self.with(|luggage| luggage.trace = Some(trace))
    }

    /// Sets the baggage.
    #[must_use]
    pub fn with_baggage(self, baggage: Baggage) -> Self {
        self.with(|luggage| luggage.baggage = Some(baggage))
    }

    fn with(mut self, change: impl FnOnce(&mut Luggage)) -> Self {
        change(Arc::make_mut(self.luggage.get_or_insert_default()));
        self
    }

    /// Returns the moment at which the work has to be done.
    #[must_use]
    pub const fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Returns the trace that the work belongs to.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        self.luggage.as_ref()?.trace.as_ref()
    }

    /// Returns what the work carries for other hops.
    #[must_use]
    pub fn baggage(&self) -> Option<&Baggage> {
        self.luggage.as_ref()?.baggage.as_ref()
    }

    /// Returns whether there is nothing to carry.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.deadline.is_none() && self.luggage.is_none()
    }

    /// Runs `work` so that it, and every call made from within, has this context. What is not set here stays
    /// as it is there, and of two deadlines the earlier rules.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _within = self.luggage.clone().map(Within::new);
        match self.deadline {
            Some(deadline) => with_deadline(deadline, work),
            None => work(),
        }
    }

    /// Takes this context along with `work`, as [`carry`] does with the current one.
    pub fn carry<F: Future>(self, work: F) -> Carried<F> {
        Carried { work, context: self }
    }
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.context.enter(|| this.work.poll(cx))
    }
}

impl Within {
    fn new(luggage: Arc<Luggage>) -> Self {
        Self { before: CURRENT.replace(Some(luggage)) }
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn baggage() -> Baggage {
        let value = HeaderValue::from_static("tenant=7");
        Baggage::read(&HeaderMap::from_iter([("baggage".parse().unwrap(), value)])).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn contexts_nest_and_what_was_there_comes_back() {
        let outer = CallContext::default()
            .with_trace(Trace::start())
            .with_deadline(Deadline::after(clock::now(), SECOND));
        let inner = CallContext::default()
            .with_baggage(baggage())
            .with_deadline(Deadline::after(clock::now(), SECOND * 2));
        outer.enter(|| {
            inner.enter(|| {
                let current = CallContext::current();
                assert_eq!(current.baggage(), Some(&baggage()));
                assert_eq!(current.deadline(), outer.deadline(), "the earlier one");
            });
            assert_eq!(current_trace(), outer.trace().map(Trace::id));
        });
        assert!(CallContext::current().is_empty());
    }

    #[test]
    fn a_panic_leaves_no_context_behind() {
        let context = CallContext::default().with_trace(Trace::start());
        let work = std::panic::AssertUnwindSafe(|| context.enter(|| panic!("on purpose")));
        assert!(std::panic::catch_unwind(work).is_err());
        assert!(CallContext::current().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_has_its_context_at_each_poll() {
        let context = CallContext::default().with_trace(Trace::start());
        let id = context.trace().map(Trace::id);
        let work = context.carry(async {
            tokio::time::sleep(SECOND).await;
            current_trace()
        });
        let beside = async {
            tokio::time::sleep(SECOND / 2).await;
            current_trace()
        };
        assert_eq!(tokio::join!(work, beside), (id, None));
    }
}
