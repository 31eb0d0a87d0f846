//! tower's retry policy, as its documentation shows one.

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use tower::retry::{
    Policy,
    budget::{Budget, TpsBudget},
};

/// Retries 5xx at most three times, within a budget that never runs out: it is the cost that is of interest.
#[derive(Clone, Debug)]
pub(crate) struct TowerPolicy {
    budget: Arc<TpsBudget>,
    left: u32,
}

impl TowerPolicy {
    pub(crate) fn new() -> Self {
        let budget = TpsBudget::new(Duration::from_secs(10), 1_000_000, 0.2);
        Self { budget: Arc::new(budget), left: 3 }
    }
}

impl<T, E> Policy<Request<Empty<Bytes>>, Response<T>, E> for TowerPolicy {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Empty<Bytes>>,
        outcome: &mut Result<Response<T>, E>,
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
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<Empty<Bytes>>) -> Option<Request<Empty<Bytes>>> {
        let mut copy = Request::new(Empty::new());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        Some(copy)
    }
}
