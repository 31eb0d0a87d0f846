//! Redial's layers, one at a time and stacked.

use std::time::Duration;

use redial::{
    AttemptTimeoutLayer, BreakerLayer, DeadlineLayer, RetryLayer,
    core::{Backoff, BreakerPolicy, Policy},
};
use tower::Layer;

use crate::{Case, drive, road::Server};

pub(crate) const CASES: &[Case] = &[
    Case {
        group: "retry + budget",
        name: "redial",
        make: |shape| drive(shape, RetryLayer::new(policy()).layer(Server::new(shape))),
    },
    Case {
        group: "breaker",
        name: "redial (slow calls too)",
        make: |shape| drive(shape, BreakerLayer::new(breaker()).layer(Server::new(shape))),
    },
    Case {
        group: "timeout",
        name: "redial attempt timeout",
        make: |shape| {
            drive(
                shape,
                AttemptTimeoutLayer::new(Duration::from_secs(30)).layer(Server::new(shape)),
            )
        },
    },
    Case {
        group: "timeout",
        name: "redial deadline",
        make: |shape| {
            drive(shape, DeadlineLayer::new(Duration::from_secs(30)).layer(Server::new(shape)))
        },
    },
    Case {
        group: "stack",
        name: "redial standard",
        make: |shape| {
            let policy = Policy { deadline: Some(Duration::from_secs(60)), ..policy() };
            drive(shape, redial::stack(policy).layer(Server::new(shape)))
        },
    },
];

/// The defaults, without a wait before a retry.
pub(crate) fn policy() -> Policy {
    let policy = Policy::default();
    Policy { retry: policy.retry.backoff(Backoff::fixed(Duration::ZERO)), ..policy }
}

/// The defaults, and slow calls counted as well.
fn breaker() -> BreakerPolicy {
    let policy = BreakerPolicy::default();
    policy.with_slow_calls(Duration::from_secs(2), 0.8).unwrap_or(policy)
}
