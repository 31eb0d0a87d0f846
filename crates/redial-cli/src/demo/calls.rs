//! The two clients: one that sends each call as it is, and one with Redial's standard stack.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use redial::{
    BoxError, BufferAnswerLayer, CallLayers, LogEvents, LogLayer, Observe, PolicyCell, RetryLayer,
    core::{Event, Policy, Stop},
};
use redial_hyper::Transport;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use super::{
    script::{Call, Kind, Script},
    tally::{Made, Tally},
    upstream::Upstream,
};
use crate::cli::Failure;

pub(super) struct Client {
    upstream: Upstream,
    transport: Transport,
    retry: Option<(RetryLayer, PolicyCell)>,
    made: Mutex<Vec<Made>>,
    attempts: Arc<AtomicU32>,
    left_alone: Arc<AtomicU32>,
}

impl Client {
    pub(super) fn plain(upstream: Upstream) -> Result<Self, Failure> {
        let transport = Transport::builder().build();
        let transport = transport.map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Self {
            upstream,
            transport,
            retry: None,
            made: Mutex::default(),
            attempts: Arc::default(),
            left_alone: Arc::default(),
        })
    }

    pub(super) fn redial(upstream: Upstream, seed: u64) -> Result<Self, Failure> {
        let client = Self::plain(upstream)?;
        let cell = PolicyCell::new(Policy {
            attempt_timeout: Some(ATTEMPT_TIMEOUT),
            deadline: Some(DEADLINE),
            ..Policy::default()
        });
        let attempts = Arc::clone(&client.attempts);
        let left_alone = Arc::clone(&client.left_alone);
        let count = move |call: &redial::Call<'_>, event: &Event| {
            LogEvents.observe(call, event);
            match event {
                Event::AttemptStarted { .. } => attempts.fetch_add(1, Ordering::Relaxed),
                Event::GaveUp { stop: Stop::MaybeApplied, .. } => {
                    left_alone.fetch_add(1, Ordering::Relaxed)
                }
                _ => 0,
            };
        };
        let retry = RetryLayer::new(cell.clone()).observe(count).seed(seed);
        Ok(Self { retry: Some((retry, cell)), ..client })
    }

    /// Makes call number `n`, and notes how it went.
    pub(super) async fn make(&self, n: u32, call: Call) {
        let Ok(target) = self.upstream.target(n).await else { return };
        let started = Instant::now();
        let is_success = match &self.retry {
            None => {
                self.attempts.fetch_add(1, Ordering::Relaxed);
                succeeds(self.transport.clone(), request(&target, n, call)).await
            }
            Some((retry, cell)) => {
                let ahead = BufferAnswerLayer::new(AHEAD_BYTES_MAX, ATTEMPT_TIMEOUT);
                let mut calls = CallLayers::new(cell.clone());
                calls.log = LogLayer::silent();
                let stack = redial::stack(cell.clone()).calls(calls).retries(retry.clone());
                let client = stack.map_attempts(|attempts| (ahead, attempts));
                succeeds(client.layer(self.transport.clone()), request(&target, n, call)).await
            }
        };
        let made = Made { trouble: call.trouble, is_success, took: started.elapsed() };
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
    }

    /// Returns how many calls have ended, and how many of them well.
    pub(super) fn progress(&self) -> (u32, u32) {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let good = made.iter().filter(|made| made.is_success).count();
        (u32::try_from(made.len()).unwrap_or(u32::MAX), u32::try_from(good).unwrap_or(u32::MAX))
    }

    pub(super) fn tally(&self, script: &Script) -> Tally {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Tally::new(
            made,
            script.calls().len(),
            self.attempts.load(Ordering::Relaxed),
            self.left_alone.load(Ordering::Relaxed),
            self.upstream.repeated_posts(),
        )
    }
}

fn request(target: &str, n: u32, call: Call) -> Request<Full<Bytes>> {
    let builder = match call.kind {
        Kind::Get => Request::get(target),
        Kind::Post => Request::post(target),
        Kind::KeyedPost => Request::post(target).header("idempotency-key", format!("\"call-{n}\"")),
    };
    let body = match call.kind {
        Kind::Get => Bytes::new(),
        Kind::Post | Kind::KeyedPost => Bytes::from_static(b"one espresso, please"),
    };
    builder.body(Full::new(body)).unwrap_or_default()
}

/// A call succeeds when its whole answer has arrived with a status below 400.
async fn succeeds<S, B>(client: S, request: Request<Full<Bytes>>) -> bool
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    B: Body<Error: Into<BoxError>>,
{
    match client.oneshot(request).await {
        Ok(response) if response.status().as_u16() < 400 => {
            response.into_body().collect().await.is_ok()
        }
        _ => false,
    }
}

const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(10);
const AHEAD_BYTES_MAX: usize = 64 * 1024;
