//! A further copy of a request: made ready by itself, then sent.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Request;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::future::Outcome;
use crate::replay::ReplayBody;

pin_project! {
    /// The copies after the first, as a chain: the newest holds the one before. The first of them is
    /// one allocation, and each further one another.
    pub(super) struct Chain<S, B>
    where
        S: Service<Request<ReplayBody<B>>>,
    {
        pub(super) number: u32,
        // When it was sent, since the call's start.
        pub(super) sent_at: Duration,
        #[pin]
        sending: Sending<S, B>,
        pub(super) next: Option<Pin<Box<Chain<S, B>>>>,
    }
}

pin_project! {
    #[project = SendingProjection]
    enum Sending<S, B>
    where
        S: Service<Request<ReplayBody<B>>>,
    {
        GettingReady { service: S, request: Option<Request<ReplayBody<B>>> },
        Out { #[pin] answer: S::Future },
        Ended,
    }
}

impl<S, B> Chain<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    /// Adds a copy to those that are there. Nothing is sent until it is polled.
    pub(super) fn grow(
        number: u32,
        sent_at: Duration,
        (service, request): (S, Request<ReplayBody<B>>),
        next: Option<Pin<Box<Self>>>,
    ) -> Pin<Box<Self>> {
        let sending = Sending::GettingReady { service, request: Some(request) };
        Box::pin(Self { number, sent_at, sending, next })
    }

    /// Polls the copies from the newest to the oldest, and hands each that ends to `ended`, its
    /// number and time of sending first, until that returns something.
    pub(super) fn poll_each<R>(
        mut chain: Option<&mut Pin<Box<Self>>>,
        cx: &mut Context<'_>,
        mut ended: impl FnMut(u32, Duration, Outcome<S, B>) -> Option<R>,
    ) -> Option<R> {
        while let Some(copy) = chain {
            let mut copy = copy.as_mut().project();
            if let Poll::Ready(outcome) = copy.sending.as_mut().poll(cx) {
                // What is left of it goes now, and not with the others.
                copy.sending.set(Sending::Ended);
                if let Some(result) = ended(*copy.number, *copy.sent_at, outcome) {
                    return Some(result);
                }
            }
            chain = copy.next.as_mut();
        }
        None
    }
}

impl<S, B> Sending<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<S, B>> {
        loop {
            match self.as_mut().project() {
                SendingProjection::GettingReady { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    let Some(request) = request.take() else { return Poll::Pending };
                    let answer = service.call(request);
                    self.set(Self::Out { answer });
                }
                SendingProjection::Out { answer } => return answer.poll(cx),
                SendingProjection::Ended => return Poll::Pending,
            }
        }
    }
}
