//! Calls over a network that fails.

mod attempt_timeout;
mod budgets;
mod buffer;
mod classify;
mod clock;
mod deadline;
mod diagnose;
mod headers;
pub mod http;
mod log;
mod observe;
mod operation;
mod policies;
mod replay;
mod retry;
mod stack;

pub use attempt_timeout::{AttemptTimeout, AttemptTimeoutFuture, AttemptTimeoutLayer};
pub use budgets::Budgets;
pub use buffer::{BufferAnswer, BufferAnswerLayer, BufferFuture, BufferedBody};
pub use classify::{Classify, HttpClassifier};
pub use deadline::{DeadlineBody, DeadlineFuture, DeadlineLayer, WithDeadline, current_deadline};
pub use diagnose::{BoxError, Diagnose, Diagnosis, Fresh, Rejection};
pub use headers::{SetHeaders, SetHeadersLayer};
pub use log::{Log, LogFuture, LogLayer};
pub use observe::{Call, LogEvents, Observe, Observer};
pub use operation::{
    Exhausted, Failure, RepeatPolicy, Retrying, retry, retry_notify, retrying, retrying_blocking,
};
pub use policies::{PolicyCell, Span};
pub use redial_core as core;
pub use replay::{Replay, ReplayBody, Superseded};
pub use retry::{Attempts, Retry, RetryFuture, RetryLayer};
pub use stack::{Omit, Stack, StandardStack, stack};
