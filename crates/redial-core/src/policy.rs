//! Everything that a call is governed by, as one value.

use std::time::Duration;

use crate::{budget::BudgetPolicy, retry::RetryPolicy, triggers::Triggers};

/// What to do when calls fail: plain data, without counters or clocks.
///
/// The values are valid one by one; where two of them contradict each other, as an attempt timeout
/// above the deadline does, the smaller one rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How often to repeat a failed attempt, and how long to wait first.
    pub retry: RetryPolicy,
    /// Which failures are worth repeating.
    pub triggers: Triggers,
    /// How much extra load retries may make.
    pub budget: BudgetPolicy,
    /// How long the whole call may take, waits included; `None` for as long as it needs.
    pub deadline: Option<Duration>,
    /// How long one attempt may take to the head of its answer; `None` for as long as it needs.
    pub attempt_timeout: Option<Duration>,
    /// Whether every request under this policy may be repeated, whatever its method.
    pub is_idempotent: bool,
    /// Whether a 429 means that the request was not processed. HTTP does not promise it (R26), the
    /// APIs of AWS, GitHub and gRPC gateways do.
    pub is_429_unprocessed: bool,
    /// Whether a `Proxy-Status` that says that the origin never saw the request is believed even
    /// without `attempts=1` (R90).
    pub trusts_proxy_status: bool,
    /// How many bytes of a request's body are kept for sending it again. A longer body is sent once.
    pub replay_bytes_max: usize,
}

impl Default for Policy {
    /// The defaults of each part; no deadline; 30 s for one attempt, so that a silent server is
    /// noticed at all; 64 KiB of body (what linkerd2-proxy and agentgateway keep).
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            triggers: Triggers::DEFAULT,
            budget: BudgetPolicy::default(),
            deadline: None,
            attempt_timeout: Some(Duration::from_secs(30)),
            is_idempotent: false,
            is_429_unprocessed: true,
            trusts_proxy_status: false,
            replay_bytes_max: 64 * 1024,
        }
    }
}
