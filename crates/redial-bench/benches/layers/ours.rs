//! Redial's layers, one at a time and stacked; with what the standard stack makes of them when the policy has
//! nothing for them.

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Response, header};
use http_body_util::Empty;
use redial::{
    AdaptiveLimitLayer, AttemptTimeoutLayer, BreakerLayer, Bulkhead, BulkheadLayer, CacheLayer,
    ChaosLayer, ChaosSwitch, DeadlineLayer, FallbackLayer, HedgeLayer, LogLayer, PolicyCell,
    RateLimitLayer, ResumeLayer, RetryLayer, SetHeadersLayer, StallTimeoutLayer, ThrottleLayer,
    UploadStallLayer,
    core::{
        AdaptivePolicy, Backoff, Breaker, BreakerPolicy, BulkheadPolicy, CachePolicy, ChaosPolicy,
        ChaosRule, FallbackPolicy, Health, HedgePolicy, Policy, RateKey, RateLimitPolicy,
        RateLimiter, ResumePolicy, StallPolicy, ThrottlePolicy,
    },
};
use tower::{Layer, service_fn};

use crate::{
    Case, drive,
    peers::around,
    road::{Answered, Asked, Refused, Server, call},
};

macro_rules! cases {
    ($($group:literal, $name:literal: $layer:expr;)*) => {
        &[$(Case {
            group: $group,
            name: $name,
            make: |shape| drive(shape, $layer.layer(Server::new(shape))),
        },)*]
    };
}

pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    [LAYERS, OTHERS, WITHOUT].into_iter().flatten()
}

const LAYERS: &[Case] = cases! {
    "retry + budget", "redial": RetryLayer::new(policy());
    "breaker", "redial (slow calls too)": BreakerLayer::new(breaker());
    "timeout", "redial attempt timeout": AttemptTimeoutLayer::new(HALF_A_MINUTE);
    "timeout", "redial deadline": DeadlineLayer::new(HALF_A_MINUTE);
    "bulkhead", "redial": BulkheadLayer::new(BulkheadPolicy::default());
    "bulkhead", "redial adaptive limit": AdaptiveLimitLayer::new(AdaptivePolicy::default());
    "rate limit", "redial direct": RateLimitLayer::new(rate().map(|rate| rate.key(RateKey::All)));
    "rate limit", "redial keyed": RateLimitLayer::new(rate());
    "throttle", "redial": ThrottleLayer::new(ThrottlePolicy::default());
    "hedge", "redial": HedgeLayer::new(hedging());
    "fallback", "redial": FallbackLayer::new(Arc::new(FallbackPolicy::default()));
    "cache", "redial, nothing to store": CacheLayer::new(CachePolicy::default());
    "chaos", "redial, switched off": ChaosLayer::new(chaos()).switch(off());
    "chaos", "redial, elsewhere": ChaosLayer::new(chaos());
    "stall", "redial": StallTimeoutLayer::new(StallPolicy::default());
    "stall", "redial upload": UploadStallLayer::new(StallPolicy::default());
    "resume", "redial": ResumeLayer::new(ResumePolicy::default());
    "stack", "redial standard": redial::stack(Policy {
        deadline: Some(HALF_A_MINUTE),
        ..policy()
    });
};

const OTHERS: &[Case] = &[
    Case {
        group: "rate limit",
        name: "redial by hand",
        make: |shape| {
            let (rate, now) =
                (rate().unwrap_or_else(|| panic!("the rate is valid")), Instant::now());
            around(shape, RateLimiter::new(&rate, now), |limiter, server, requests| {
                assert!(limiter.try_acquire(Instant::now()).is_ok(), "the limit is out of reach");
                call(server, requests.make());
            })
        },
    },
    Case {
        group: "breaker",
        name: "redial by hand (no slow calls)",
        make: |shape| {
            let policy = failures();
            let guard = (Breaker::new(&policy, Instant::now()), policy);
            around(shape, guard, |(breaker, policy), server, requests| {
                let ticket = breaker.try_acquire(policy, Instant::now(), || 0);
                let ticket = ticket.unwrap_or_else(|_| panic!("the server answers well"));
                call(server, requests.make());
                ticket.record(Health::Well, Instant::now(), || 0);
            })
        },
    },
    Case {
        group: "bulkhead",
        name: "redial by hand",
        make: |shape| {
            let bulkhead = Bulkhead::new(BulkheadPolicy::default());
            around(shape, bulkhead, |bulkhead, server, requests| {
                let permit = bulkhead.try_acquire();
                assert!(permit.is_ok(), "there are more places than tasks");
                call(server, requests.make());
            })
        },
    },
    Case {
        group: "cache",
        name: "redial, stored",
        make: |shape| {
            let layer = CacheLayer::new(CachePolicy::default());
            drive(shape, layer.layer(service_fn(answer_to_keep)))
        },
    },
    Case {
        group: "stack",
        name: "redial: retry, breaker, timeouts",
        make: |shape| {
            let attempt = AttemptTimeoutLayer::new(HALF_A_MINUTE).layer(Server::new(shape));
            let retry =
                RetryLayer::new(policy()).layer(BreakerLayer::new(breaker()).layer(attempt));
            drive(shape, DeadlineLayer::new(HALF_A_MINUTE).layer(retry))
        },
    },
    Case {
        group: "stack",
        name: "redial: retry, breaker, deadline, bulkhead",
        make: |shape| {
            let breaker = BreakerLayer::new(failures()).layer(Server::new(shape));
            let retry = RetryLayer::new(policy()).layer(breaker);
            let bulkhead = BulkheadLayer::new(BulkheadPolicy::default()).layer(retry);
            drive(shape, DeadlineLayer::new(HALF_A_MINUTE).layer(bulkhead))
        },
    },
];

const WITHOUT: &[Case] = cases! {
    "no policy", "redial breaker": BreakerLayer::new(nothing());
    "no policy", "redial attempt timeout": AttemptTimeoutLayer::new(nothing());
    "no policy", "redial deadline": DeadlineLayer::new(nothing());
    "no policy", "redial bulkhead": BulkheadLayer::new(nothing());
    "no policy", "redial adaptive limit": AdaptiveLimitLayer::new(nothing());
    "no policy", "redial rate limit": RateLimitLayer::new(nothing());
    "no policy", "redial throttle": ThrottleLayer::new(nothing());
    "no policy", "redial hedge": HedgeLayer::new(nothing());
    "no policy", "redial fallback": FallbackLayer::new(nothing());
    "no policy", "redial cache": CacheLayer::new(nothing());
    "no policy", "redial chaos": ChaosLayer::new(nothing());
    "no policy", "redial stall": StallTimeoutLayer::new(nothing());
    "no policy", "redial upload stall": UploadStallLayer::new(nothing());
    "no policy", "redial resume": ResumeLayer::new(nothing());
    "no policy", "redial log": LogLayer::new();
    "no policy", "redial headers": SetHeadersLayer::new();
};

/// The defaults, without a wait before a retry.
pub(crate) fn policy() -> Policy {
    let policy = Policy::default();
    Policy { retry: policy.retry.backoff(Backoff::fixed(Duration::ZERO)), ..policy }
}

/// The defaults, and it stays closed where every other attempt fails.
fn failures() -> BreakerPolicy {
    let policy = BreakerPolicy::default();
    policy.with_failure_ratio(0.9).unwrap_or(policy)
}

/// The same, and slow calls are counted as well.
fn breaker() -> BreakerPolicy {
    failures().with_slow_calls(Duration::from_secs(2), 0.8).unwrap_or_else(|_| failures())
}

/// More than anybody can use.
fn rate() -> Option<RateLimitPolicy> {
    RateLimitPolicy::new(10_000_000, Duration::from_secs(1)).ok()
}

fn hedging() -> Policy {
    Policy { hedge: Some(HedgePolicy::default()), ..policy() }
}

/// Hits another service.
fn chaos() -> ChaosPolicy {
    let rule = ChaosRule::new().host("other.example").and_then(|rule| rule.status(503));
    rule.and_then(|rule| ChaosPolicy::default().rule(rule)).unwrap_or_default()
}

fn off() -> ChaosSwitch {
    let switch = ChaosSwitch::new();
    switch.turn(false);
    switch
}

/// A policy that has no part for the layer in question.
fn nothing() -> PolicyCell {
    PolicyCell::new(Policy { attempt_timeout: None, ..Policy::default() })
}

fn answer_to_keep(_: Asked) -> Ready<Result<Answered, Refused>> {
    let mut response = Response::new(Empty::new());
    let fresh = HeaderValue::from_static("max-age=3600");
    response.headers_mut().insert(header::CACHE_CONTROL, fresh);
    ready(Ok(response))
}

const HALF_A_MINUTE: Duration = Duration::from_secs(30);
