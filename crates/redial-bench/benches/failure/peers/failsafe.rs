//! failsafe: a breaker around a loop of retries.

use std::{sync::Arc, time::Duration};

use failsafe::{FailurePolicy, StateMachine, backoff, failure_policy};
use redial::core::Entropy;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::{
    stacks::{MAX_RETRIES, Stack, TIMEOUT, wait},
    upstream_model::{Asked, Client, Upstream},
};

pub(crate) const STACKS: &[Stack] = &[Stack {
    name: "failsafe: breaker around retries",
    setup: "no budget; the breaker counts calls: less than 80 % success over 30 s, or 5 failures in a row; \
            open for 10 s, doubling to 300 s",
    refuses: true,
    reads_system_clock: true,
    make,
}];

fn make(upstream: Upstream, seed: u64) -> Client {
    let open = backoff::exponential(Duration::from_secs(10), Duration::from_secs(300));
    let window = Duration::from_secs(30);
    let share = failure_policy::success_rate_over_time_window(0.8, 5, window, open.clone());
    let policy = share.or_else(failure_policy::consecutive_failures(5, open));
    let breaker = Arc::new(StateMachine::new(policy, ()));
    let entropy = Arc::new(Entropy::seeded(seed));
    Box::new(move |request| {
        let (upstream, breaker, entropy) =
            (upstream.clone(), Arc::clone(&breaker), Arc::clone(&entropy));
        Box::pin(async move {
            if !breaker.is_call_permitted() {
                return false;
            }
            let is_well = call(&upstream, &request, &entropy).await;
            if is_well {
                breaker.on_success()
            } else {
                breaker.on_error()
            }
            is_well
        })
    })
}

async fn call(upstream: &Upstream, request: &Asked, entropy: &Entropy) -> bool {
    let mut retries = 0;
    loop {
        let attempt = timeout(TIMEOUT, upstream.clone().oneshot(request.clone())).await;
        if matches!(attempt, Ok(Ok(answer)) if answer.status().is_success()) {
            return true;
        }
        if retries == MAX_RETRIES {
            return false;
        }
        retries += 1;
        sleep(wait(retries, entropy)).await;
    }
}
