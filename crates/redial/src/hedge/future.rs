//! A call in flight, and its copies.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use redial_core::NextHedge;
use tokio::time::{Sleep, sleep, sleep_until};
use tower_service::Service;

use super::{copy::Chain, race::Race};
use crate::{
    classify::Classify,
    diagnose::{BoxError, Diagnose},
    replay::ReplayBody,
};

pub(super) type Outcome<S, B> = Result<
    <S as Service<Request<ReplayBody<B>>>>::Response,
    <S as Service<Request<ReplayBody<B>>>>::Error,
>;

pin_project! {
    /// The call in flight: its first copy, polled in place, and whatever followed it.
    #[project = Projection]
    pub struct HedgeFuture<S, C, B>
    where
        S: Service<Request<ReplayBody<B>>>,
    {
        #[pin]
        first: Option<S::Future>,
        // Runs until the next copy is due.
        sleep: Option<Pin<Box<Sleep>>>,
        watch: Watch,
        // `None` for a call that is not hedged, which is all that most clients make: boxed, so that
        // they do not carry it around.
        race: Option<Box<Race<S, C, B>>>,
        copies: Option<Pin<Box<Chain<S, B>>>>,
        // The last failure, while no copy is out and one is still to come.
        held: Option<Box<Outcome<S, B>>>,
    }
}

/// What a call does about its next copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Watch {
    /// Asks what to do.
    Ask,
    /// Waits for the timer.
    Wait,
    /// Nothing: there is none.
    Rest,
}

impl<S, C, B> HedgeFuture<S, C, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    /// A call that is not hedged.
    #[inline]
    pub(super) const fn straight(first: S::Future) -> Self {
        let first = Some(first);
        Self { first, sleep: None, watch: Watch::Rest, race: None, copies: None, held: None }
    }

    #[inline]
    pub(super) fn hedged(first: S::Future, race: Race<S, C, B>) -> Self {
        Self {
            first: Some(first),
            sleep: None,
            watch: Watch::Ask,
            race: Some(Box::new(race)),
            copies: None,
            held: None,
        }
    }
}

impl<S, C, B, T> Future for HedgeFuture<S, C, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<T>> + Clone,
    S::Error: Diagnose,
    C: Classify<T, S::Error>,
    B: Body<Error: Into<BoxError>> + Unpin,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.race.is_none() {
            // A future that has finished is not polled again.
            return this.first.as_pin_mut().map_or(Poll::Pending, |first| first.poll(cx));
        }
        let outcome = ready!(this.poll_race(cx));
        // Whoever is still out is cancelled here, before the caller goes on.
        this.first.set(None);
        (*this.copies, *this.race) = (None, None);
        Poll::Ready(outcome)
    }
}

impl<S, C, B, T> Projection<'_, S, C, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<T>> + Clone,
    S::Error: Diagnose,
    C: Classify<T, S::Error>,
    B: Body<Error: Into<BoxError>> + Unpin,
{
    fn poll_race(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<S, B>> {
        let Some(race) = self.race else { return Poll::Pending };
        loop {
            let mut last = None;
            if let Some(first) = self.first.as_mut().as_pin_mut()
                && let Poll::Ready(outcome) = first.poll(cx)
            {
                self.first.set(None);
                match race.ended((1, Duration::ZERO), outcome) {
                    Ok(outcome) => return Poll::Ready(outcome),
                    Err(failure) => last = Some(failure),
                }
            }
            let settled = Chain::poll_each(self.copies.as_mut(), cx, |number, sent_at, outcome| {
                race.ended((number, sent_at), outcome).map_err(|failure| last = Some(failure)).ok()
            });
            if let Some(outcome) = settled {
                return Poll::Ready(outcome);
            }
            if last.is_some() {
                *self.watch = Watch::Ask;
            }
            let mut next = Next { watch: self.watch, sleep: self.sleep, held: self.held };
            match ready!(next.poll(race, last, cx)) {
                Some(outcome) => return Poll::Ready(outcome),
                None => {
                    let (number, sent_at) = (race.sent(), race.elapsed());
                    let before = self.copies.take();
                    *self.copies = Some(Chain::grow(number, sent_at, race.copy(), before));
                }
            }
        }
    }
}

/// What is known about the next copy.
struct Next<'a, T, E> {
    watch: &'a mut Watch,
    sleep: &'a mut Option<Pin<Box<Sleep>>>,
    held: &'a mut Option<Box<Result<Response<T>, E>>>,
}

impl<T, E> Next<'_, T, E> {
    /// Waits until the next copy is to be sent. `Some` when there is none and all others have
    /// failed: then that is the outcome. `last` is the failure that has just come.
    fn poll<S, C, B>(
        &mut self,
        race: &mut Race<S, C, B>,
        mut last: Option<Result<Response<T>, E>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Response<T>, E>>> {
        loop {
            match *self.watch {
                Watch::Rest => return Poll::Pending,
                Watch::Wait => {
                    if let Some(sleep) = self.sleep {
                        ready!(sleep.as_mut().poll(cx));
                    }
                    race.tick();
                    *self.watch = Watch::Ask;
                }
                Watch::Ask => match race.next() {
                    NextHedge::Now(_) => {
                        *self.held = None;
                        return Poll::Ready(None);
                    }
                    NextHedge::At(at) => {
                        if !race.has_copies_out() {
                            *self.held = last.take().map(Box::new);
                        }
                        *self.sleep = Some(Box::pin(timer(race.started(), at)));
                        *self.watch = Watch::Wait;
                    }
                    NextHedge::Never(stop) => {
                        *self.sleep = None;
                        *self.watch = Watch::Rest;
                        let last = last.take().or_else(|| self.held.take().map(|held| *held));
                        let last = last.filter(|_| !race.has_copies_out());
                        let outcome = last.map(|failure| race.give_up(stop, failure));
                        return outcome.map_or(Poll::Pending, |outcome| Poll::Ready(Some(outcome)));
                    }
                },
            }
        }
    }
}

impl<S, C, B> fmt::Debug for HedgeFuture<S, C, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeFuture").finish_non_exhaustive()
    }
}

fn timer(started: Instant, at: Duration) -> Sleep {
    // A point in time that no clock can hold never comes.
    started.checked_add(at).map_or_else(|| sleep(at), |at| sleep_until(at.into()))
}
