//! tower-resilience.

use std::time::Duration;

use tower::{Layer, ServiceBuilder};
use tower_resilience::{
    bulkhead::BulkheadLayer,
    circuitbreaker::CircuitBreakerLayer,
    retry::{RetryBudgetBuilder, RetryLayer},
    timelimiter::TimeLimiterLayer,
};

use crate::{
    Case, drive,
    road::{Answered, Asked, Refused, Server},
};

pub(crate) const CASES: &[Case] = &[
    Case {
        group: "retry + budget",
        name: "tower-resilience",
        make: |shape| drive(shape, retry().layer(Server::new(shape))),
    },
    Case {
        group: "breaker",
        name: "tower-resilience",
        make: |shape| {
            let breaker = CircuitBreakerLayer::builder()
                .failure_rate_threshold(0.5)
                .sliding_window_size(100)
                .slow_call_duration_threshold(Duration::from_secs(2))
                .slow_call_rate_threshold(0.8)
                .build();
            match breaker {
                Ok(breaker) => drive(shape, breaker.layer(Server::new(shape))),
                Err(error) => panic!("{error}"),
            }
        },
    },
    Case {
        group: "timeout",
        name: "tower-resilience",
        make: |shape| {
            let layer = TimeLimiterLayer::builder().timeout_duration(Duration::from_secs(30));
            drive(shape, layer.build().layer(Server::new(shape)))
        },
    },
    Case {
        group: "bulkhead",
        name: "tower-resilience",
        make: |shape| match BulkheadLayer::builder().max_concurrent_calls(64).build() {
            Ok(layer) => drive(shape, layer.layer(Server::new(shape))),
            Err(error) => panic!("{error}"),
        },
    },
    Case {
        group: "stack",
        name: "tower-resilience: the same four",
        make: |shape| {
            let (bulkhead, breaker) = (
                BulkheadLayer::builder().max_concurrent_calls(64).build(),
                CircuitBreakerLayer::builder().failure_rate_threshold(0.5).build(),
            );
            let (Ok(bulkhead), Ok(breaker)) = (bulkhead, breaker) else { panic!("not a layer") };
            let limit = TimeLimiterLayer::builder().timeout_duration(Duration::from_secs(30));
            let stack = ServiceBuilder::new().layer(bulkhead).layer(limit.build()).layer(breaker);
            drive(shape, stack.layer(retry()).service(Server::new(shape)))
        },
    },
];

fn retry() -> RetryLayer<Asked, Answered, Refused> {
    let budget = RetryBudgetBuilder::new().token_bucket().max_tokens(1_000_000);
    let budget = budget.tokens_per_second(1e9).build();
    let layer = RetryLayer::builder().max_attempts(4).fixed_backoff(Duration::ZERO);
    let layer = layer.retry_on_response(|answer: &Answered| answer.status().is_server_error());
    match budget {
        Ok(budget) => layer.budget(budget).build(),
        Err(error) => panic!("{error}"),
    }
}
