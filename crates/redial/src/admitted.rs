//! A call that a layer may refuse.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::diagnose::Rejection;

pin_project! {
    /// A call in flight, or the refusal of one: in one place, as there is never both, so that moving
    /// calls does not cost what few of them need, and refusing one allocates nothing.
    #[derive(Debug)]
    #[project = Projection]
    pub(crate) enum Admitted<F> {
        Call {
            #[pin]
            call: F,
        },
        // None where there is no call yet, or none any more.
        Refused { rejection: Option<Rejection> },
    }
}

impl<F> Admitted<F> {
    pub(crate) const NONE: Self = Self::Refused { rejection: None };

    pub(crate) const fn call(call: F) -> Self {
        Self::Call { call }
    }

    pub(crate) const fn refused(rejection: Rejection) -> Self {
        Self::Refused { rejection: Some(rejection) }
    }
}

impl<F, T, E> Future for Admitted<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Rejection>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            Projection::Call { call } => call.poll(cx),
            Projection::Refused { rejection } => refused(rejection.take()),
        }
    }
}

/// The end of a refused call. One that has ended is not polled again.
#[cold]
fn refused<T, E: From<Rejection>>(rejection: Option<Rejection>) -> Poll<Result<T, E>> {
    rejection.map_or(Poll::Pending, |rejection| Poll::Ready(Err(rejection.into())))
}
