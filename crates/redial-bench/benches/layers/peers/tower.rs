//! tower's own middleware.

use std::{future::Ready, sync::Arc, time::Duration};

use http::Request;
use http_body_util::Empty;
use tower::{
    Layer,
    limit::ConcurrencyLimitLayer,
    retry::{
        Policy, RetryLayer,
        budget::{Budget, TpsBudget},
    },
    timeout::TimeoutLayer,
};

use crate::{
    Case, drive,
    road::{Answered, Asked, Refused, Server},
};

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

/// Retries 5xx at most three times, within a budget that never runs out: it is the cost that is of interest.
#[derive(Clone, Debug)]
struct TowerPolicy {
    budget: Arc<TpsBudget>,
    left: u32,
}

impl TowerPolicy {
    fn new() -> Self {
        let budget = TpsBudget::new(Duration::from_secs(10), 1_000_000, 0.2);
        Self { budget: Arc::new(budget), left: 3 }
    }
}

impl Policy<Asked, Answered, Refused> for TowerPolicy {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Asked,
        outcome: &mut Result<Answered, Refused>,
    ) -> Option<Ready<()>> {
        let is_well = outcome.as_ref().is_ok_and(|answer| !answer.status().is_server_error());
        if is_well {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Asked) -> Option<Asked> {
        let mut copy = Request::new(Empty::new());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        Some(copy)
    }
}
