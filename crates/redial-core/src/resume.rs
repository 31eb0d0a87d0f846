//! How often a download that broke off goes on.

use std::time::Duration;

use crate::backoff::Backoff;

/// How often a download that broke off goes on, and how long to wait first.
///
/// # Examples
///
/// ```
/// use redial_core::{Backoff, ResumePolicy};
///
/// let at_once = Backoff::fixed(std::time::Duration::ZERO);
/// let policy = ResumePolicy::default().max_resumes(3).backoff(at_once);
/// assert_eq!(policy.resumes(), 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResumePolicy {
    max_resumes: u32,
    backoff: Backoff,
}

impl ResumePolicy {
    /// Sets how often one download goes on at most, whether that brought anything or not. 0 never; 10
    /// unless set.
    #[must_use]
    pub const fn max_resumes(self, max_resumes: u32) -> Self {
        Self { max_resumes, ..self }
    }

    /// Sets how long to wait before going on. A resume that brought something starts the schedule
    /// anew. 500 ms doubling up to 60 s, with full jitter, unless set.
    #[must_use]
    pub const fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Returns how often one download goes on at most.
    #[must_use]
    pub const fn resumes(&self) -> u32 {
        self.max_resumes
    }

    /// Returns the schedule of the waits.
    #[must_use]
    pub const fn schedule(&self) -> &Backoff {
        &self.backoff
    }
}

impl Default for ResumePolicy {
    /// 10 times, as `object_store` repeats what a download needs (`RetryConfig::max_retries`); waits
    /// from 500 ms to 60 s with full jitter, as after any broken connection
    /// ([`RetryPolicy`](crate::RetryPolicy)).
    fn default() -> Self {
        let longest = Duration::from_secs(60);
        Self { max_resumes: 10, backoff: Backoff::doubling(Duration::from_millis(500), longest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_what_it_was_told_and_a_download_goes_on_ten_times_unless_set() {
        let policy = ResumePolicy::default();
        let millis = Duration::from_millis;
        assert_eq!(policy.resumes(), 10);
        assert_eq!(
            [1, 2, 9].map(|n| policy.schedule().ceiling(n)),
            [500, 1_000, 60_000].map(millis)
        );
        let policy = policy.max_resumes(0).backoff(Backoff::fixed(millis(7)));
        assert_eq!((policy.resumes(), *policy.schedule()), (0, Backoff::fixed(millis(7))));
    }
}
