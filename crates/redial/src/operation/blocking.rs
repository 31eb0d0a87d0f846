//! Retrying on a thread that may sleep.

use std::time::{Duration, Instant};

use super::{Course, Exhausted, Failures, Retrying};

impl<Op, T, E> Retrying<Op, E>
where
    Op: FnMut() -> Result<T, E>,
{
    /// Runs the operation on this thread, which sleeps during the waits. Needs no runtime.
    ///
    /// # Errors
    ///
    /// Returns [`Exhausted`] when the operation has failed for good.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use redial::retrying_blocking;
    ///
    /// let mut left = 2;
    /// let outcome = retrying_blocking(|| {
    ///     left -= 1;
    ///     if left == 0 { Ok("done") } else { Err("not yet") }
    /// })
    /// .delay(Duration::from_millis(1))
    /// .call_blocking();
    /// assert_eq!(outcome, Ok("done"));
    /// ```
    pub fn call_blocking(self) -> Result<T, Exhausted<E>> {
        self.call_blocking_with(real_clock, real_sleep)
    }

    pub(super) fn call_blocking_with(
        self,
        now: impl Fn() -> Instant,
        sleep: impl Fn(Duration),
    ) -> Result<T, Exhausted<E>> {
        let Self { mut op, policy, mut retry_if, mut notify, last_error_only, entropy } = self;
        let mut course = Course::starting(policy, entropy, now());
        let mut failed = Failures::new(last_error_only);
        loop {
            let error = match op() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match course.after(retry_if(&error), now()) {
                Err(stop) => return Err(failed.end(error, stop)),
                Ok(wait) => {
                    notify(&error, wait);
                    failed.push(error);
                    sleep(wait);
                }
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread without a runtime has no other clock")]
fn real_clock() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "that is what a blocking wait is")]
fn real_sleep(wait: Duration) {
    std::thread::sleep(wait);
}
