//! Everything that a call is governed by, as one value.

use std::{sync::Arc, time::Duration};

use crate::{
    adaptive::AdaptivePolicy, breaker::BreakerPolicy, budget::BudgetPolicy,
    bulkhead::BulkheadPolicy, cache::CachePolicy, chaos::ChaosPolicy, fallback::FallbackPolicy,
    hedge::HedgePolicy, limiter::RateLimitPolicy, resume::ResumePolicy, retry::RetryPolicy,
    stall::StallPolicy, throttle::ThrottlePolicy, triggers::Triggers,
};

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
    /// When to leave an upstream alone; `None` never.
    pub breaker: Option<BreakerPolicy>,
    /// When to send a second copy while the first is out; `None` never. A request that is hedged is
    /// not retried (gRFC A6: one or the other).
    pub hedge: Option<HedgePolicy>,
    /// How many calls a second; `None` for as many as come.
    pub rate_limit: Option<RateLimitPolicy>,
    /// When to refuse calls because the upstream refuses most of them; `None` never.
    pub throttle: Option<ThrottlePolicy>,
    /// How many calls at once, by a fixed number; `None` for as many as come.
    pub bulkhead: Option<BulkheadPolicy>,
    /// How many attempts at once, learned from how long they take; `None` for as many as come.
    pub adaptive_limit: Option<AdaptivePolicy>,
    /// What a cache may do; `None` for no cache.
    pub cache: Option<CachePolicy>,
    /// What stands in for an answer that could not be had; `None` for the failure itself.
    pub fallback: Option<Arc<FallbackPolicy>>,
    /// How often a download that broke off goes on; `None` never.
    pub resume: Option<ResumePolicy>,
    /// When a body that brings nothing is given up; `None` never.
    pub stall: Option<StallPolicy>,
    /// Failures on purpose; `None` for those that happen by themselves.
    pub chaos: Option<Arc<ChaosPolicy>>,
}

impl Default for Policy {
    /// The defaults of each part; everything that refuses, repeats early or answers by itself is off;
    /// no deadline; 30 s for one attempt, so that a silent server is
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
            breaker: None,
            hedge: None,
            rate_limit: None,
            throttle: None,
            bulkhead: None,
            adaptive_limit: None,
            cache: None,
            fallback: None,
            resume: None,
            stall: None,
            chaos: None,
        }
    }
}
