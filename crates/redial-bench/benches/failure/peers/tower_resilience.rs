//! tower-resilience.

use std::time::Duration;

use redial::core::Entropy;
use tower::ServiceBuilder;
use tower_resilience::{
    circuitbreaker::{
        CircuitBreakerConfigBuilder, CircuitBreakerError, CircuitBreakerLayer, DefaultClassifier,
        SlidingWindowType,
    },
    retry::{FnInterval, RetryBudgetBuilder, RetryLayer},
    timelimiter::{TimeLimiterError, TimeLimiterLayer},
};

use crate::{
    stacks::{MAX_RETRIES, Stack, TIMEOUT, wait},
    upstream_model::{Answered, Asked, Client, Refused, Upstream, client},
};

pub(crate) const STACKS: &[Stack] = &[
    Stack {
        name: "tower-resilience: retry, breaker",
        setup: "in the order that its guide recommends, refusals not retried; token bucket of 100, full \
                at the start, 10 a second, 1 a success; breaker on half of \"the last 100 calls\", 5xx \
                among them, which in 0.13.0 are all calls since it last closed; open for 30 s, 1 probe",
        refuses: true,
        reads_system_clock: true,
        make: |upstream, seed| make(upstream, seed, CircuitBreakerLayer::builder()),
    },
    Stack {
        name: "tower-resilience: over 10 s",
        setup: "as above, but the breaker looks at the last 10 s, where there are 100 calls",
        refuses: true,
        reads_system_clock: true,
        make: |upstream, seed| {
            let breaker = CircuitBreakerLayer::builder()
                .sliding_window_type(SlidingWindowType::TimeBased)
                .sliding_window_duration(Duration::from_secs(10));
            make(upstream, seed, breaker)
        },
    },
];

type Limited = TimeLimiterError<Refused>;
type Broken = CircuitBreakerError<Limited>;

fn make(
    upstream: Upstream,
    seed: u64,
    breaker: CircuitBreakerConfigBuilder<DefaultClassifier>,
) -> Client {
    let entropy = Entropy::seeded(seed);
    let waits = FnInterval::new(move |retry| {
        wait(u32::try_from(retry).unwrap_or(u32::MAX).saturating_add(1), &entropy)
    });
    let budget = RetryBudgetBuilder::new().token_bucket().build();
    let breaker = breaker
        .failure_classifier(|outcome: &Result<Answered, Limited>| {
            outcome.as_ref().map_or(true, |answer| answer.status().is_server_error())
        })
        .build();
    let (Ok(budget), Ok(breaker)) = (budget, breaker) else { panic!("defaults are valid") };
    let retry = RetryLayer::<Asked, Answered, Broken>::builder()
        .max_attempts(usize::try_from(MAX_RETRIES).unwrap_or(usize::MAX) + 1)
        .backoff(waits)
        .budget(budget)
        .retry_on(|error| !error.is_circuit_open())
        .retry_on_response(|answer| answer.status().is_server_error())
        .build();
    let timeout = TimeLimiterLayer::builder().timeout_duration(TIMEOUT).build();
    let stack = ServiceBuilder::new().layer(retry).layer(breaker).layer(timeout);
    client(stack.service(upstream))
}
