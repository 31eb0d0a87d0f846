//! The one place that reads clocks.

use std::time::{Duration, Instant};

/// Returns the runtime's time: paused and advanced by tests like any of its timers.
#[inline]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the wall clock's time in seconds since 1970: what an HTTP-date is measured by.
pub(crate) fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Returns the wall clock's time since 1970, for what many clients do at the same moment.
pub(crate) fn since_1970() -> Duration {
    Duration::try_from(jiff::Timestamp::now().as_duration()).unwrap_or_default()
}
