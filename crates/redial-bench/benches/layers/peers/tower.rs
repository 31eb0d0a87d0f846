//! tower's own middleware.

use std::time::Duration;

use tower::{Layer, limit::ConcurrencyLimitLayer, retry::RetryLayer, timeout::TimeoutLayer};

use crate::{Case, drive, road::Server, tower_policy::TowerPolicy};

pub(crate) const CASES: &[Case] = &[
    Case {
        group: "retry + budget",
        name: "tower",
        make: |shape| drive(shape, RetryLayer::new(TowerPolicy::new()).layer(Server::new(shape))),
    },
    Case {
        group: "timeout",
        name: "tower",
        make: |shape| {
            let layer = TimeoutLayer::new(Duration::from_secs(30));
            drive(shape, layer.layer(Server::new(shape)))
        },
    },
    Case {
        group: "bulkhead",
        name: "tower concurrency_limit",
        make: |shape| drive(shape, ConcurrencyLimitLayer::new(64).layer(Server::new(shape))),
    },
];
