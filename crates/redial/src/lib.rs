//! Calls over a network that fails.

mod adaptive_limit;
mod assess;
mod attempt_timeout;
mod breaker;
mod budgets;
mod buffer;
mod bulkhead;
mod cache;
mod chaos;
mod classify;
mod clock;
mod deadline;
mod diagnose;
mod fallback;
mod headers;
mod hedge;
pub mod http;
mod log;
mod observe;
mod operation;
mod origins;
mod policies;
mod rate_limit;
mod replay;
mod resume;
mod retry;
mod stack;
mod stall;
mod throttle;

pub use assess::{Assess, HttpAssess};
pub use attempt_timeout::{AttemptTimeout, AttemptTimeoutFuture, AttemptTimeoutLayer};
pub use breaker::{BreakerLayer, Breakers, CircuitBreaker, CircuitBreakerFuture};
pub use budgets::Budgets;
pub use buffer::{BufferAnswer, BufferAnswerLayer, BufferFuture, BufferedBody};
pub use classify::{Asked, Classify, HttpClassifier};
pub use deadline::{DeadlineBody, DeadlineFuture, DeadlineLayer, WithDeadline, current_deadline};
pub use diagnose::{AttemptNumber, BoxError, Diagnose, Diagnosis, Fresh, Rejection};
pub use headers::{SetHeaders, SetHeadersLayer};
pub use hedge::{Hedge, HedgeFuture, HedgeLayer};
pub use log::{Log, LogFuture, LogLayer};
pub use observe::{Call, LogEvents, Observe, Observer};
pub use operation::{
    Exhausted, Failure, RepeatPolicy, Retrying, retry, retry_notify, retrying, retrying_blocking,
};
pub use policies::{Part, PolicyCell, Ruling, Span};
pub use rate_limit::{RateLimit, RateLimitFuture, RateLimitLayer, RateLimits};
pub use redial_core as core;
pub use replay::{Replay, ReplayBody, Superseded};
pub use retry::{Attempts, Retry, RetryFuture, RetryLayer};
pub use stack::{Omit, Stack, StandardStack, stack};
pub use throttle::{HttpAdmission, Throttle, ThrottleFuture, ThrottleLayer, Throttles};
