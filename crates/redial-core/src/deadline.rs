//! When the caller stops caring.

use std::time::{Duration, Instant};

/// The point in time at which a whole call must have ended: every attempt, every wait.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use redial_core::Deadline;
///
/// let now = Instant::now();
/// let deadline = Deadline::after(now, Duration::from_secs(3));
/// assert_eq!(deadline.remaining(now), Duration::from_secs(3));
/// assert_eq!(deadline.clip(Duration::from_secs(10), now), Duration::from_secs(3));
/// ```
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// Creates a deadline at `at`.
    #[must_use]
    pub const fn at(at: Instant) -> Self {
        Self { at }
    }

    /// Creates a deadline `span` after `now`; a span that no clock can hold counts as a century.
    #[must_use]
    pub fn after(now: Instant, span: Duration) -> Self {
        Self { at: now.checked_add(span).unwrap_or_else(|| now + CENTURY) }
    }

    /// Returns the point in time.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.at
    }

    /// Returns the time left at `now`: zero when it has passed.
    #[must_use]
    pub fn remaining(self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
    }

    /// Returns `timeout`, or what is left at `now` when that is less.
    #[must_use]
    pub fn clip(self, timeout: Duration, now: Instant) -> Duration {
        timeout.min(self.remaining(now))
    }

    /// Returns the earlier of two deadlines, where there are two.
    #[must_use]
    pub fn earlier(self, other: Option<Self>) -> Self {
        other.map_or(self, |other| self.min(other))
    }
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn time_left_runs_out_and_stays_out() {
        let now = Instant::now();
        let deadline = Deadline::after(now, SECOND);
        assert_eq!(deadline.instant(), now + SECOND);
        assert_eq!(deadline.remaining(now + SECOND / 4), SECOND * 3 / 4);
        assert_eq!(deadline.remaining(now + SECOND * 2), Duration::ZERO);
        assert_eq!(deadline.clip(SECOND / 2, now), SECOND / 2);
        assert_eq!(deadline.clip(SECOND / 2, now + SECOND * 3 / 4), SECOND / 4);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn the_earlier_deadline_holds_and_a_span_past_all_clocks_is_far_away() {
        let now = Instant::now();
        let (soon, late) = (Deadline::after(now, SECOND), Deadline::after(now, Duration::MAX));
        assert_eq!(late.earlier(Some(soon)), soon);
        assert_eq!(soon.earlier(Some(late)), soon);
        assert_eq!(soon.earlier(None), soon);
        assert!(late.remaining(now) >= Duration::from_secs(3_153_600_000));
        assert_eq!(Deadline::at(now).remaining(now), Duration::ZERO);
    }
}
