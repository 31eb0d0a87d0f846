//! The one place that reads the wall clock: when an event happened is not known otherwise.

use std::time::SystemTime;

use jiff::Timestamp;

/// Where a format takes the time from.
pub(crate) type Clock = fn() -> SystemTime;

/// Returns the time of the system.
#[expect(clippy::disallowed_methods, reason = "a log line says when it was written")]
pub(crate) fn system() -> SystemTime {
    SystemTime::now()
}

/// Asks `clock` for the time in UTC; a time outside of the years -9999 to 9999 is read as 1970.
pub(crate) fn timestamp(clock: Clock) -> Timestamp {
    Timestamp::try_from(clock()).unwrap_or_default()
}
