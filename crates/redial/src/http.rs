//! What HTTP says about failing and repeating: methods, statuses, dates, and the servers' wishes.
//!
//! [`read`] turns one attempt's outcome into a [`Reading`](redial_core::Reading). It is a pure
//! function of the policy, the request's head, the response's head and the wall clock's time, so the
//! command can explain and the tests can check exactly what a running program does.

mod because;
mod date;
mod dialect;
mod grpc_timeout;
mod keyed;
mod method;
mod proxy_status;
mod pushback;
mod ratelimit;
mod read;
mod time_left;

pub use because::Because;
pub use date::parse_http_date;
pub(crate) use grpc_timeout::is_grpc;
pub use grpc_timeout::{
    GRPC_TIMEOUT, InvalidTimeout, format_grpc_timeout, parse_grpc_timeout, tell_grpc_timeout,
};
pub(crate) use method::{IDEMPOTENCY_KEY, idempotency};
pub use method::{idempotency_of, is_idempotent, is_safe};
pub use pushback::{Wish, retry_after, wish};
pub use ratelimit::{RateLimit, rate_limits};
pub use read::{Answer, read, read_answer, read_fault};
pub use time_left::{ENVOY_TIMEOUT_MS, TIMEOUT_MS};
pub(crate) use time_left::{read_time_left, tell_time_left};
