//! Retrying anything at all: a query, a message, a file on a network drive.
//!
//! [`retry`] runs an operation under a [`RepeatPolicy`]; the operation says of each error whether it
//! is worth another attempt. [`retrying`] says the same as one readable expression around an operation
//! that knows nothing of retries.

use std::{
    error::Error as StdError,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::{Duration, Instant},
};

use redial_core::{Backoff, Entropy, Jitter, Stop};

use crate::clock;

mod blocking;

/// How often to repeat an operation, how long to wait in between, and how long it may take in all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepeatPolicy {
    /// Attempts after the first: 0 never retries.
    pub max_retries: u32,
    /// The wait before each retry.
    pub backoff: Backoff,
    /// How long all of it may take, waits included; `None` for as long as it needs.
    pub deadline: Option<Duration>,
}

/// An operation's error, and whether another attempt may help.
///
/// `?` turns any error into a transient one; [`Failure::permanent`] marks one that stays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure<E> {
    /// Another attempt may succeed.
    Transient(E),
    /// Another attempt would fail alike.
    Permanent(E),
}

/// Why an operation has failed for good, and the errors that led there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exhausted<E> {
    errors: Vec<E>,
    attempts: u32,
    stop: Stop,
}

type Hook<E> = Box<dyn FnMut(&E, Duration) + Send>;

/// An operation and how it is retried; see [`retrying`].
#[must_use = "nothing runs before it is awaited or called"]
pub struct Retrying<Op, E> {
    op: Op,
    policy: RepeatPolicy,
    retry_if: Box<dyn FnMut(&E) -> bool + Send>,
    notify: Hook<E>,
    last_error_only: bool,
    entropy: Entropy,
}

/// Runs `op` until it succeeds, fails permanently, or `policy` has enough; returns its last outcome
/// as it came.
///
/// # Errors
///
/// Returns the error of the last attempt.
///
/// # Cancellation
///
/// Dropping the future drops the attempt or the wait that it is in. An attempt that is still running
/// at the deadline is left to end; no further one begins.
///
/// # Examples
///
/// ```
/// use redial::{Failure, RepeatPolicy, retry};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mut attempts = 0;
/// let outcome = retry(RepeatPolicy::default(), || {
///     attempts += 1;
///     let attempt = attempts;
///     async move {
///         match attempt {
///             1 => Err(Failure::Transient("connection reset")),
///             2 => Err(Failure::Permanent("no such table")),
///             _ => Ok(()),
///         }
///     }
/// });
/// assert_eq!(outcome.await, Err("no such table"));
/// assert_eq!(attempts, 2);
/// # }
/// ```
pub async fn retry<T, E, Op, Fut>(policy: RepeatPolicy, mut op: Op) -> Result<T, E>
where
    Op: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    retry_notify(policy, &mut op, |_, _| {}).await
}

/// Runs `op` as [`retry`] does, and tells `notify` of each error that is followed by another attempt,
/// and of the wait before that.
///
/// # Errors
///
/// Returns the error of the last attempt.
pub async fn retry_notify<T, E, Op, Fut>(
    policy: RepeatPolicy,
    mut op: Op,
    mut notify: impl FnMut(&E, Duration),
) -> Result<T, E>
where
    Op: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    let mut course = Course::starting(policy, Entropy::seeded(random()), clock::now());
    loop {
        let error = match op().await {
            Ok(value) => return Ok(value),
            Err(Failure::Permanent(error)) => return Err(error),
            Err(Failure::Transient(error)) => error,
        };
        match course.after(true, clock::now()) {
            Err(_) => return Err(error),
            Ok(wait) => {
                notify(&error, wait);
                sleep(wait).await;
            }
        }
    }
}

/// Wraps an operation so that it is retried, as one expression.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial::retrying;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mut answers = ["busy", "busy", "ready"].into_iter();
/// let outcome = retrying(move || {
///     let answer = answers.next().unwrap_or("ready");
///     async move { if answer == "ready" { Ok(answer) } else { Err(answer) } }
/// })
/// .max_retries(3)
/// .delay(Duration::from_millis(100))
/// .retry_if(|error| *error == "busy")
/// .last_error_only(true)
/// .notify(|error, wait| println!("{error}, again in {wait:?}"))
/// .await;
/// assert_eq!(outcome, Ok("ready"));
/// # }
/// ```
pub fn retrying<Op, Fut, T, E>(op: Op) -> Retrying<Op, E>
where
    Op: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    Retrying::new(op)
}

/// Wraps an operation that blocks so that it is retried, as one expression that ends in
/// [`call_blocking`](Retrying::call_blocking).
pub fn retrying_blocking<Op, T, E>(op: Op) -> Retrying<Op, E>
where
    Op: FnMut() -> Result<T, E>,
{
    Retrying::new(op)
}

impl Default for RepeatPolicy {
    /// 3 retries, waits from 500 ms, growing by half, at most 60 s, ± 50 %: the schedule of
    /// cenkalti/backoff; no deadline.
    fn default() -> Self {
        let first = Duration::from_millis(500);
        let growing = Backoff::exponential(first, 1.5, Duration::from_secs(60));
        let spread = growing.and_then(|backoff| backoff.jitter(Jitter::Proportional(0.5)));
        let backoff = spread.unwrap_or_else(|_| Backoff::fixed(first));
        Self { max_retries: 3, backoff, deadline: None }
    }
}

impl<E> Failure<E> {
    /// Marks `error` as one that another attempt would meet again.
    pub const fn permanent(error: E) -> Self {
        Self::Permanent(error)
    }
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Self::Transient(error)
    }
}

impl<Op, E> Retrying<Op, E> {
    fn new(op: Op) -> Self {
        Self {
            op,
            policy: RepeatPolicy::default(),
            retry_if: Box::new(|_| true),
            notify: Box::new(|_, _| {}),
            last_error_only: true,
            entropy: Entropy::seeded(random()),
        }
    }

    /// Sets the number of attempts after the first.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.policy.max_retries = max_retries;
        self
    }

    /// Waits for `delay` before each retry, without jitter.
    pub fn delay(self, delay: Duration) -> Self {
        let fixed = Backoff::fixed(delay);
        self.backoff(fixed.jitter(Jitter::None).unwrap_or(fixed))
    }

    /// Waits as `backoff` says before each retry.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// Ends all of it after `deadline`: a wait that would not end before it is not begun.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.policy.deadline = Some(deadline);
        self
    }

    /// Retries only errors for which `predicate` is true; all others are permanent.
    pub fn retry_if(mut self, predicate: impl FnMut(&E) -> bool + Send + 'static) -> Self {
        self.retry_if = Box::new(predicate);
        self
    }

    /// Chooses whether only the last error is kept, which is the default, or all of them.
    pub fn last_error_only(mut self, last_error_only: bool) -> Self {
        self.last_error_only = last_error_only;
        self
    }

    /// Tells `hook` of each error that is followed by another attempt, and of the wait before that.
    pub fn notify(mut self, hook: impl FnMut(&E, Duration) + Send + 'static) -> Self {
        self.notify = Box::new(hook);
        self
    }

    /// Draws jitter from `seed`, so that a run can be repeated.
    pub fn seed(mut self, seed: u64) -> Self {
        self.entropy = Entropy::seeded(seed);
        self
    }
}

impl<Op, Fut, T, E> IntoFuture for Retrying<Op, E>
where
    Op: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    E: Send + 'static,
    T: 'static,
{
    type Output = Result<T, Exhausted<E>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { mut op, policy, mut retry_if, mut notify, last_error_only, entropy } = self;
        Box::pin(async move {
            let mut course = Course::starting(policy, entropy, clock::now());
            let mut failed = Failures::new(last_error_only);
            loop {
                let error = match op().await {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                };
                match course.after(retry_if(&error), clock::now()) {
                    Err(stop) => return Err(failed.end(error, stop)),
                    Ok(wait) => {
                        notify(&error, wait);
                        failed.push(error);
                        sleep(wait).await;
                    }
                }
            }
        })
    }
}

impl<E> Exhausted<E> {
    /// Returns the errors, the first one first: all of them, or only the last.
    #[must_use]
    pub fn errors(&self) -> &[E] {
        &self.errors
    }

    /// Returns how many attempts were made.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns why there are no more.
    #[must_use]
    pub const fn stop(&self) -> Stop {
        self.stop
    }

    /// Returns the last error.
    #[must_use]
    pub fn into_last(mut self) -> Option<E> {
        self.errors.pop()
    }
}

impl<E: fmt::Display> fmt::Display for Exhausted<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed after {} attempts, {}", self.attempts, self.stop)?;
        self.errors.iter().try_for_each(|error| write!(f, ": {error}"))
    }
}

impl<E: StdError + 'static> StdError for Exhausted<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.errors.last().map(|error| error as _)
    }
}

impl<Op, E> fmt::Debug for Retrying<Op, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Where an operation stands: retries made, time used.
struct Course {
    policy: RepeatPolicy,
    entropy: Entropy,
    retries: u32,
    previous: Duration,
    started: Instant,
}

impl Course {
    const fn starting(policy: RepeatPolicy, entropy: Entropy, started: Instant) -> Self {
        Self { policy, entropy, retries: 0, previous: Duration::ZERO, started }
    }

    /// Returns the wait before the attempt that follows an error, or why none does.
    fn after(&mut self, is_transient: bool, now: Instant) -> Result<Duration, Stop> {
        if !is_transient {
            return Err(Stop::Permanent);
        }
        if self.policy.max_retries <= self.retries {
            return Err(Stop::RetriesExhausted);
        }
        let draw = self.entropy.draw();
        let wait = self.policy.backoff.delay(self.retries + 1, self.previous, draw);
        let elapsed = now.saturating_duration_since(self.started);
        let fits = |deadline| elapsed.saturating_add(wait) < deadline;
        if !self.policy.deadline.is_none_or(fits) {
            return Err(Stop::Deadline);
        }
        self.retries += 1;
        self.previous = wait;
        Ok(wait)
    }
}

/// The errors so far: all of them, or none where only the last counts.
struct Failures<E> {
    errors: Vec<E>,
    attempts: u32,
    last_only: bool,
}

impl<E> Failures<E> {
    const fn new(last_only: bool) -> Self {
        Self { errors: Vec::new(), attempts: 0, last_only }
    }

    fn push(&mut self, error: E) {
        self.attempts += 1;
        if !self.last_only {
            self.errors.push(error);
        }
    }

    fn end(mut self, error: E, stop: Stop) -> Exhausted<E> {
        self.attempts += 1;
        self.errors.push(error);
        Exhausted { errors: self.errors, attempts: self.attempts, stop }
    }
}

async fn sleep(wait: Duration) {
    // The timer rounds up to its next tick: a wait of zero must not meet it.
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests;
