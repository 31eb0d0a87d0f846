//! The contract that every layer keeps, whatever its policy: the service below is called only when it is
//! ready, outcomes come through as they are, a call that is dropped leaves nothing behind, clones share, and
//! a service that takes one call at a time is not asked for two (attack J: peers' adapters call a clone that
//! was never ready).

mod checks;
mod probe;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, header};
use redial::{
    AttemptTimeoutLayer, DeadlineLayer, LogLayer, Omit, RetryLayer, SetHeadersLayer, core::Policy,
};
use tower::{Layer, Service};

use crate::checks::check;

/// One test a layer: `name: the layer;`.
macro_rules! layers {
    ($($name:ident: $layer:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let layer = $layer;
            check(|probe| layer.layer(probe), |limited| layer.layer(limited)).await;
        }
    )*};
}

layers! {
    attempt_timeout: AttemptTimeoutLayer::new(SECOND);
    deadline: DeadlineLayer::new(SECOND);
    headers: SetHeadersLayer::new().set(header::ACCEPT, HeaderValue::from_static("*/*"));
    log: LogLayer::new();
    omit: Omit;
    retry: RetryLayer::new(Policy::default());
    retry_that_marks_and_tells: RetryLayer::new(Policy::default()).mark().observe(redial::LogEvents);
    standard_stack: redial::stack(Policy::default());
}

const SECOND: Duration = Duration::from_secs(1);

/// A layer as peers have it: its calls go to a clone that was never asked whether it is ready.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "called without being ready")]
async fn a_layer_that_calls_an_unready_clone_is_found_out() {
    check(|service| Hasty { service }, |service| Hasty { service }).await;
}

#[derive(Clone)]
struct Hasty<S> {
    service: S,
}

impl<S: Service<R> + Clone, R> Service<R> for Hasty<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.service.clone().call(request)
    }
}
