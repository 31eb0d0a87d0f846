//! When a body that brings nothing, or next to nothing, is given up.
//!
//! Only waiting counts. A reader that takes its time is not the sender's fault, so the clock runs from
//! the moment that somebody asked and nothing was there, until something comes.

#[cfg(all(test, not(loom)))]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
mod tests;

use std::{
    error::Error,
    fmt,
    time::{Duration, Instant},
};

/// How long a body may bring nothing, and how slowly it may come.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::StallPolicy;
///
/// # fn main() -> Result<(), redial_core::InvalidStall> {
/// let minute = Duration::from_secs(60);
/// let policy = StallPolicy::default().throughput(1_000, minute)?.idle(minute / 2)?;
/// assert_eq!(policy.idle_max(), Some(minute / 2));
/// assert_eq!(policy.throughput_min(), Some((1_000, minute)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StallPolicy {
    idle_max: Option<Duration>,
    throughput_min: Option<(u64, Duration)>,
}

/// What is known of one body's flow.
///
/// By itself it does nothing: ask [`wait`](Self::wait) when there is nothing to read, tell it with
/// [`arrive`](Self::arrive) when there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StallMeter {
    /// How much longer it may come too slowly: each moment of waiting takes from it, and each byte
    /// gives back the time that it may take.
    grace_left: Duration,
    waiting_since: Option<Instant>,
}

/// Which limit a body has run into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stall {
    /// Nothing came.
    Idle {
        /// For how long.
        after: Duration,
    },
    /// Too little came.
    Slow {
        /// What should have come each second.
        bytes_per_second_min: u64,
        /// How long less than that was borne.
        grace: Duration,
    },
}

/// Why a policy for stalled bodies cannot be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum InvalidStall {
    /// Every body would be given up at once.
    Zero,
    /// Nothing would ever be given up.
    Nothing,
}

impl StallPolicy {
    /// Sets how long a body may bring nothing; `None` for as long as it likes. 20 s unless set.
    ///
    /// # Errors
    ///
    /// If it is zero; or `None`, and there is no least throughput either.
    pub fn idle(self, idle_max: impl Into<Option<Duration>>) -> Result<Self, InvalidStall> {
        let idle_max = idle_max.into();
        if idle_max == Some(Duration::ZERO) {
            return Err(InvalidStall::Zero);
        }
        Self { idle_max, ..self }.checked()
    }

    /// Sets how many bytes must come each second, and for how long fewer are borne: the body is given
    /// up as soon as what it lacks is worth `grace`. Silence of that length is enough. Any speed will do
    /// unless set.
    ///
    /// # Errors
    ///
    /// If either is zero.
    pub fn throughput(
        self,
        bytes_per_second_min: u64,
        grace: Duration,
    ) -> Result<Self, InvalidStall> {
        if bytes_per_second_min == 0 || grace.is_zero() {
            return Err(InvalidStall::Zero);
        }
        Ok(Self { throughput_min: Some((bytes_per_second_min, grace)), ..self })
    }

    /// Returns how long a body may bring nothing.
    #[must_use]
    pub const fn idle_max(&self) -> Option<Duration> {
        self.idle_max
    }

    /// Returns how many bytes must come each second, and for how long fewer are borne.
    #[must_use]
    pub const fn throughput_min(&self) -> Option<(u64, Duration)> {
        self.throughput_min
    }

    fn checked(self) -> Result<Self, InvalidStall> {
        let is_nothing = self.idle_max.is_none() && self.throughput_min.is_none();
        if is_nothing { Err(InvalidStall::Nothing) } else { Ok(self) }
    }
}

impl Default for StallPolicy {
    /// 20 s of silence, the grace of the AWS SDK for Rust (`DEFAULT_GRACE_PERIOD` of its stalled
    /// stream protection); no least throughput.
    fn default() -> Self {
        Self { idle_max: Some(Duration::from_secs(20)), throughput_min: None }
    }
}

impl StallMeter {
    /// Begins with a body that has all of its grace left.
    #[must_use]
    pub fn new(policy: &StallPolicy) -> Self {
        let grace_left = policy.throughput_min.map_or(Duration::MAX, |(_, grace)| grace);
        Self { grace_left, waiting_since: None }
    }

    /// Notes that there is nothing to read, and returns what happens, and when, unless something comes
    /// before. Asked again while it waits, it says the same.
    pub fn wait(&mut self, policy: &StallPolicy, now: Instant) -> (Instant, Stall) {
        let since = *self.waiting_since.get_or_insert(now);
        let idle = policy.idle_max.unwrap_or(Duration::MAX);
        let (left, stall) = match policy.throughput_min {
            Some((bytes_per_second_min, grace)) if self.grace_left < idle => {
                (self.grace_left, Stall::Slow { bytes_per_second_min, grace })
            }
            _ => (idle, Stall::Idle { after: idle }),
        };
        // Beyond what a clock can show, any far moment is as good.
        (since.checked_add(left).unwrap_or(since + FAR), stall)
    }

    /// Notes that `bytes` have come. Only one that was waited for needs the time.
    pub fn arrive(&mut self, policy: &StallPolicy, bytes: u64, now: impl FnOnce() -> Instant) {
        let Some((speed, grace)) = policy.throughput_min else {
            self.waiting_since = None;
            return;
        };
        if let Some(since) = self.waiting_since.take() {
            let waited = now().saturating_duration_since(since);
            self.grace_left = self.grace_left.saturating_sub(waited);
        }
        if self.grace_left < grace {
            let worth = u128::from(bytes) * 1_000_000_000 / u128::from(speed);
            let worth = Duration::from_nanos(u64::try_from(worth).unwrap_or(u64::MAX));
            self.grace_left = self.grace_left.saturating_add(worth).min(grace);
        }
    }
}

impl fmt::Display for InvalidStall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zero => "a limit of 0 would give every body up; leave it out instead",
            Self::Nothing => "without a longest silence there must be a least throughput",
        })
    }
}

impl Error for InvalidStall {}

/// Thirty years: what is never reached, and can still be added to a clock.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);
