//! Calls over a network that fails.

mod adaptive_limit;
mod admitted;
mod assess;
mod attempt_timeout;
mod breaker;
mod budgets;
mod buffer;
mod bulkhead;
mod cache;
pub mod chain;
mod chaos;
mod classify;
mod clock;
mod context;
mod deadline;
mod diagnose;
mod fallback;
mod headers;
mod hedge;
mod held;
pub mod http;
pub mod idempotency;
mod inbound;
mod log;
mod observe;
mod operation;
mod origins;
mod policies;
mod propagate;
mod rate_limit;
mod replay;
mod resume;
mod retry;
#[cfg(test)]
mod scripted;
mod stack;
mod stall;
mod throttle;
mod trace;

pub use adaptive_limit::{
    AdaptiveLimitFuture, AdaptiveLimitLayer, AdaptiveLimits, WithAdaptiveLimit,
};
pub use assess::{Assess, HttpAssess};
pub use attempt_timeout::{AttemptTimeout, AttemptTimeoutFuture, AttemptTimeoutLayer};
pub use breaker::{BreakerLayer, Breakers, CircuitBreaker, CircuitBreakerFuture};
pub use budgets::Budgets;
pub use buffer::{BufferAnswer, BufferAnswerLayer, BufferFuture, BufferedBody};
pub use bulkhead::{Bulkhead, BulkheadFuture, BulkheadLayer, Bulkheads, Permit, WithBulkhead};
pub use cache::{Cache, CacheFuture, CacheLayer, CacheStore, CachedBody, SentAt};
pub use chaos::{Chaos, ChaosBody, ChaosFuture, ChaosLayer, ChaosSwitch};
pub use classify::{Asked, Classify, HttpClassifier};
pub use context::{CallContext, Carried, carry, current_trace};
pub use deadline::{
    DeadlineBody, DeadlineFuture, DeadlineLayer, WithDeadline, current_deadline, with_deadline,
};
pub use diagnose::{
    AttemptNumber, BoxError, Diagnose, Diagnosis, Fresh, Rejection, lost_connection,
};
pub use fallback::{
    Fallback, FallbackBody, FallbackFuture, FallbackLayer, FellBack, FixedFallback,
    FunctionFallback, Instead, ServiceFallback,
};
pub use headers::{SetHeaders, SetHeadersLayer};
pub use hedge::{Hedge, HedgeFuture, HedgeLayer};
pub use held::HeldBody;
pub use inbound::{Inbound, InboundBody, InboundFuture, InboundLayer, InvalidName};
pub use log::{Log, LogFuture, LogLayer};
pub use observe::{Call, LogEvents, Observe, Observer};
pub use operation::{
    Exhausted, Failure, RepeatPolicy, Retrying, retry, retry_notify, retrying, retrying_blocking,
};
pub use policies::{Part, PolicyCell, Ruling, Span};
pub use propagate::{Propagate, PropagateFuture, PropagateLayer};
pub use rate_limit::{RateLimit, RateLimitFuture, RateLimitLayer, RateLimits};
pub use redial_core as core;
pub use replay::{Replay, ReplayBody, Superseded};
pub use resume::{
    Continuation, DigestCheck, OnceBody, Representation, Resume, ResumeFuture, ResumeLayer,
    ResumedBody,
};
pub use retry::{Attempts, Retry, RetryFuture, RetryLayer};
pub use stack::{AttemptLayers, CallLayers, Omit, RetryLayers, Sent, Stack, StandardStack, stack};
pub use stall::{
    StallBody, StallFuture, StallTimeout, StallTimeoutLayer, UploadStall, UploadStallLayer,
};
pub use throttle::{HttpAdmission, Throttle, ThrottleFuture, ThrottleLayer, Throttles};
pub use trace::{Baggage, Trace, TraceId};

/// The code in the pages under `docs/` compiles and does what it says.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/adaptive-limit.md")]
    struct AdaptiveLimit;
    #[doc = include_str!("../../../docs/breaker.md")]
    struct Breaker;
    #[doc = include_str!("../../../docs/budget.md")]
    struct Budget;
    #[doc = include_str!("../../../docs/bulkhead.md")]
    struct Bulkhead;
    #[doc = include_str!("../../../docs/cache.md")]
    struct Cache;
    #[doc = include_str!("../../../docs/chaos.md")]
    struct Chaos;
    #[doc = include_str!("../../../docs/deadlines.md")]
    struct Deadlines;
    #[doc = include_str!("../../../docs/fallback.md")]
    struct Fallback;
    #[doc = include_str!("../../../docs/hedging.md")]
    struct Hedging;
    #[doc = include_str!("../../../docs/idempotency.md")]
    struct Idempotency;
    #[doc = include_str!("../../../docs/README.md")]
    struct Index;
    #[doc = include_str!("../../../docs/observing.md")]
    struct Observing;
    #[doc = include_str!("../../../docs/profiles.md")]
    struct Profiles;
    #[doc = include_str!("../../../docs/rate-limit.md")]
    struct RateLimit;
    #[doc = include_str!("../../../docs/resume.md")]
    struct Resume;
    #[doc = include_str!("../../../docs/retry.md")]
    struct Retry;
    #[doc = include_str!("../../../docs/throttle.md")]
    struct Throttle;
    #[doc = include_str!("../../../docs/timeouts.md")]
    struct Timeouts;
}
