//! tower's own middleware.

use std::sync::Arc;

use redial::core::Entropy;
use tower::{
    BoxError, ServiceBuilder,
    retry::{
        Policy, RetryLayer,
        budget::{Budget, TpsBudget},
    },
    timeout::TimeoutLayer,
};

use crate::{
    stacks::{MAX_RETRIES, Stack, TIMEOUT, wait},
    upstream_model::{Answered, Asked, client},
};

pub(crate) const STACKS: &[Stack] = &[Stack {
    name: "tower: retry",
    setup: "`TpsBudget` of 20 % and 10 a second over 10 s, its default and Finagle's",
    refuses: false,
    reads_system_clock: false,
    make: |upstream, seed| {
        let retry = RetryLayer::new(Retries {
            budget: Arc::new(TpsBudget::default()),
            entropy: Arc::new(Entropy::seeded(seed)),
            made: 0,
        });
        let stack = ServiceBuilder::new().layer(retry).layer(TimeoutLayer::new(TIMEOUT));
        client(stack.service(upstream))
    },
}];

/// Retries what failed, as the documentation of `tower::retry::budget` does.
#[derive(Clone)]
struct Retries {
    budget: Arc<TpsBudget>,
    entropy: Arc<Entropy>,
    made: u32,
}

impl Policy<Asked, Answered, BoxError> for Retries {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        _: &mut Asked,
        outcome: &mut Result<Answered, BoxError>,
    ) -> Option<Self::Future> {
        if outcome.as_ref().is_ok_and(|answer| !answer.status().is_server_error()) {
            self.budget.deposit();
            return None;
        }
        if self.made == MAX_RETRIES || !self.budget.withdraw() {
            return None;
        }
        self.made += 1;
        Some(tokio::time::sleep(wait(self.made, &self.entropy)))
    }

    fn clone_request(&mut self, request: &Asked) -> Option<Asked> {
        Some(request.clone())
    }
}
