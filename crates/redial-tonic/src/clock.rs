//! The one place that reads a clock.

use std::time::Instant;

/// Returns the runtime's time: paused and advanced by tests like any of its timers.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
