//! A number of places, and the queue of those who wait for one.
//!
//! A place is taken with one atomic step on the gate's word, and given back with one. Only when somebody
//! waits is there more to do: then a lock keeps the queue and the gate's count of it in step.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Instant,
};

use pin_project_lite::pin_project;
use redial_core::{BulkheadPolicy, Entry, Gate};
use tokio::{sync::oneshot, time::Sleep};

use crate::{clock, deadline::current_deadline, diagnose::Rejection, origins::PerOrigin};

/// The places of one bulkhead.
#[derive(Debug)]
pub(crate) struct Places {
    gate: Gate,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order in which they came, which is that of their numbers.
    waiters: VecDeque<Waiter>,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    grant: oneshot::Sender<Permit>,
}

/// A place in a bulkhead, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    places: Arc<Places>,
}

/// What came of asking for a place.
pub(super) enum Admission {
    Entered(Permit),
    /// Boxed, so that who need not wait does not carry a timer around.
    Waits(Pin<Box<Wait>>),
    Refused(Rejection),
}

pin_project! {
    /// A wait for a place, in the queue. Dropping it leaves the queue.
    pub(super) struct Wait {
        grant: oneshot::Receiver<Permit>,
        #[pin]
        sleep: Sleep,
        rejection: Rejection,
        in_queue: InQueue,
    }
}

/// Takes its waiter out of the queue when dropped.
struct InQueue {
    places: Arc<Places>,
    number: u64,
}

impl Places {
    pub(super) fn new(policy: &BulkheadPolicy) -> Self {
        Self { gate: Gate::new(policy.in_flight_max()), queue: Mutex::default() }
    }

    #[inline]
    pub(super) fn try_enter(places: &Arc<Self>, policy: &BulkheadPolicy) -> Option<Permit> {
        places.follow(policy);
        places.gate.try_enter().ok()?;
        Some(Permit { places: Arc::clone(places) })
    }

    #[inline]
    pub(super) fn admit(places: &Arc<Self>, policy: &BulkheadPolicy) -> Admission {
        match Self::try_enter(places, policy) {
            Some(permit) => Admission::Entered(permit),
            None => Self::wait(places, policy),
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.gate.in_flight()
    }

    pub(super) fn waiting(&self) -> u32 {
        self.gate.waiting()
    }

    #[cold]
    fn wait(places: &Arc<Self>, policy: &BulkheadPolicy) -> Admission {
        let in_flight_max = policy.in_flight_max();
        let left = current_deadline().map(|deadline| deadline.remaining(clock::now()));
        let after = left.map_or(policy.max_wait(), |left| left.min(policy.max_wait()));
        // Who may not wait is let in or refused. No timer is made for that.
        let queue_max = if after.is_zero() { 0 } else { policy.queue_max() };
        let mut queue = places.lock();
        match places.gate.enter_or_wait(queue_max) {
            Entry::Entered => Admission::Entered(Permit { places: Arc::clone(places) }),
            Entry::Full => Admission::Refused(Rejection::BulkheadFull { in_flight_max }),
            Entry::Waits => {
                let (grant, granted) = oneshot::channel();
                let number = queue.next;
                queue.next += 1;
                queue.waiters.push_back(Waiter { number, grant });
                drop(queue);
                Admission::Waits(Box::pin(Wait {
                    grant: granted,
                    sleep: tokio::time::sleep(after),
                    rejection: Rejection::BulkheadTimeout { in_flight_max, after },
                    in_queue: InQueue { places: Arc::clone(places), number },
                }))
            }
        }
    }

    /// Lets the number of places be what `policy` says.
    #[inline]
    fn follow(self: &Arc<Self>, policy: &BulkheadPolicy) {
        if self.gate.limit() != policy.in_flight_max() {
            self.resize(policy.in_flight_max());
        }
    }

    #[cold]
    fn resize(self: &Arc<Self>, in_flight_max: u32) {
        self.gate.set_limit(in_flight_max);
        self.let_in();
    }

    /// Lets in who waits, as long as there is room.
    #[cold]
    fn let_in(self: &Arc<Self>) {
        loop {
            let next = {
                let mut queue = self.lock();
                if !self.gate.admit_waiting() {
                    return;
                }
                queue.waiters.pop_front()
            };
            // Outside of the lock: whoever is gone meanwhile gives the permit back right here, and a
            // waker may do anything.
            let permit = Permit { places: Arc::clone(self) };
            if let Some(waiter) = next {
                drop(waiter.grant.send(permit));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in a critical section panics.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PerOrigin for Places {
    type Policy = BulkheadPolicy;

    fn open(policy: &BulkheadPolicy, _: Instant) -> Self {
        Self::new(policy)
    }

    /// The number of places is followed call by call.
    fn serves(&self, _: &BulkheadPolicy) -> bool {
        true
    }

    fn succeeded_by(&self, policy: &BulkheadPolicy, _: Instant) -> Self {
        Self::new(policy)
    }
}

impl Wait {
    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Permit, Rejection>> {
        let this = self.project();
        if let Poll::Ready(Ok(permit)) = Pin::new(this.grant).poll(cx) {
            return Poll::Ready(Ok(permit));
        }
        ready!(this.sleep.poll(cx));
        Poll::Ready(Err(*this.rejection))
    }
}

impl Drop for InQueue {
    fn drop(&mut self) {
        let mut queue = self.places.lock();
        let place = queue.waiters.binary_search_by_key(&self.number, |waiter| waiter.number);
        // Who is not there any more has a place, or is about to get it.
        let Ok(place) = place else { return };
        let waiter = queue.waiters.remove(place);
        self.places.gate.forget_waiting();
        drop(queue);
        drop(waiter);
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if self.places.gate.leave() {
            self.places.let_in();
        }
    }
}
