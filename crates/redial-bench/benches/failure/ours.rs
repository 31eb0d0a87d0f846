//! Redial's layers, and what comes of having none.

use std::time::Duration;

use redial::{
    AttemptTimeoutLayer, BreakerLayer, RetryLayer, ThrottleLayer,
    core::{Backoff, BreakerPolicy, BudgetPolicy, Jitter, Policy, ThrottlePolicy},
};
use tower::{Layer, ServiceBuilder};

use crate::{
    stacks::{FIRST_WAIT, MAX_RETRIES, Stack, TIMEOUT},
    upstream_model::client,
};

pub(crate) const STACKS: &[Stack] = &[
    Stack {
        name: "no retry",
        setup: "a timeout alone",
        refuses: false,
        reads_system_clock: false,
        make: |upstream, _| client(timeout().layer(upstream)),
    },
    Stack {
        name: "3 retries",
        setup: "redial's retry without a budget, which is what any plain loop does",
        refuses: false,
        reads_system_clock: false,
        make: |upstream, seed| {
            let policy = Policy { budget: BudgetPolicy::Unlimited, ..policy() };
            let retry = RetryLayer::new(policy).seed(seed);
            client(ServiceBuilder::new().layer(retry).layer(timeout()).service(upstream))
        },
    },
    Stack {
        name: "redial: retry",
        setup: "default budget: 0.1 tokens a success, kept up to 10, 3 to begin with, 0.1 a second, refund",
        refuses: false,
        reads_system_clock: false,
        make: |upstream, seed| {
            client(ServiceBuilder::new().layer(retry(seed)).layer(timeout()).service(upstream))
        },
    },
    Stack {
        name: "redial: retry, breaker",
        setup: "as above; default breaker: 10 failures in a row, or half of at least 100 within 10 s; \
                open for 5 s, doubling to 15 s",
        refuses: true,
        reads_system_clock: false,
        make: |upstream, seed| {
            let breaker = BreakerLayer::new(BreakerPolicy::default()).seed(seed);
            let stack = ServiceBuilder::new().layer(retry(seed)).layer(breaker);
            client(stack.layer(timeout()).service(upstream))
        },
    },
    Stack {
        name: "redial: retry, throttle",
        setup: "as above; default throttle: ratio 2 over 30 s, a probe a second",
        refuses: true,
        reads_system_clock: false,
        make: |upstream, seed| {
            let throttle = ThrottleLayer::new(ThrottlePolicy::default()).seed(seed);
            let stack = ServiceBuilder::new().layer(retry(seed)).layer(throttle);
            client(stack.layer(timeout()).service(upstream))
        },
    },
];

fn timeout() -> AttemptTimeoutLayer {
    AttemptTimeoutLayer::new(TIMEOUT)
}

fn retry(seed: u64) -> RetryLayer {
    RetryLayer::new(policy()).seed(seed)
}

/// The defaults, but for the waits and the number of retries, which all stacks share.
fn policy() -> Policy {
    let waits = Backoff::exponential(FIRST_WAIT, 2.0, Duration::from_secs(60));
    let waits = waits.and_then(|waits| waits.jitter(Jitter::Full));
    let Ok(waits) = waits else { unreachable!("the waits are valid") };
    let policy = Policy::default();
    Policy { retry: policy.retry.backoff(waits).max_retries(MAX_RETRIES), ..policy }
}
