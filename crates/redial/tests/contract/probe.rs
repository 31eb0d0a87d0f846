//! A service that watches how it is used.

#![expect(clippy::unwrap_used, reason = "a probe that is broken should stop the test")]

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use redial::{Diagnose, Diagnosis, Rejection, core::Fault};
use tower::Service;

/// Answers when it is told to, is ready when it is told to, and notes every breach of the contract between
/// a service and its caller. Clones share the switches and the notes, and each has its own readiness.
#[derive(Debug)]
pub(crate) struct Probe {
    shared: Arc<Mutex<Shared>>,
    is_ready: bool,
}

#[derive(Debug, Default)]
struct Shared {
    is_shut: bool,
    hangs: bool,
    fails: bool,
    calls: usize,
    in_flight: usize,
    breaches: Vec<&'static str>,
    wakers: Vec<Waker>,
}

/// What the probe fails with, or a layer refuses with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the upstream's own error")]
    Upstream,
    #[error("{0}")]
    Rejected(#[from] Rejection),
}

/// A call in flight.
#[derive(Debug)]
pub(crate) struct Answer {
    shared: Arc<Mutex<Shared>>,
}

impl Probe {
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default(), is_ready: false }
    }

    /// Lets it be ready or not.
    pub(crate) fn shut(&self, is_shut: bool) {
        self.set(|shared| shared.is_shut = is_shut);
    }

    /// Lets calls hang, or answer.
    pub(crate) fn hang(&self, hangs: bool) {
        self.set(|shared| shared.hangs = hangs);
    }

    /// Lets calls fail.
    pub(crate) fn fail(&self, fails: bool) {
        self.set(|shared| shared.fails = fails);
    }

    pub(crate) fn calls(&self) -> usize {
        lock(&self.shared).calls
    }

    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.shared).in_flight
    }

    /// Panics with what was done wrong so far.
    pub(crate) fn assert_kept(&self) {
        assert!(lock(&self.shared).breaches.is_empty(), "{:?}", lock(&self.shared).breaches);
    }

    fn set(&self, change: impl FnOnce(&mut Shared)) {
        let wakers = {
            let mut shared = lock(&self.shared);
            change(&mut shared);
            std::mem::take(&mut shared.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        // A clone of a ready service is not ready: it has not been asked.
        Self { shared: Arc::clone(&self.shared), is_ready: false }
    }
}

impl<B> Service<Request<B>> for Probe {
    type Response = Response<Full<Bytes>>;
    type Error = Broken;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut shared = lock(&self.shared);
        if shared.is_shut {
            shared.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Answer {
        let mut shared = lock(&self.shared);
        if !std::mem::take(&mut self.is_ready) {
            shared.breaches.push("called without being ready");
        }
        shared.calls += 1;
        shared.in_flight += 1;
        Answer { shared: Arc::clone(&self.shared) }
    }
}

impl Future for Answer {
    type Output = Result<Response<Full<Bytes>>, Broken>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut shared = lock(&self.shared);
        if shared.hangs {
            shared.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        if shared.fails {
            return Poll::Ready(Err(Broken::Upstream));
        }
        let response = Response::builder().status(207).header("x-upstream", "mine");
        Poll::Ready(Ok(response.body(Full::from("untouched")).unwrap()))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        lock(&self.shared).in_flight -= 1;
    }
}

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Diagnose for Broken {
    fn diagnose(&self) -> Diagnosis {
        match self {
            Self::Upstream => Fault::ConnectionReset.into(),
            Self::Rejected(rejection) => rejection.diagnose(),
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap()
}
