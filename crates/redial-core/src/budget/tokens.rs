//! Tokens, and a bucket of them that refills with time.

use std::{fmt, time::Duration};

use super::policy::InvalidBudget;
use crate::sync::{AtomicU64, Ordering};

/// An amount of tokens, in whole billionths.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tokens {
    nanos: u64,
}

/// A bounded account of tokens with a constant inflow. Lock-free.
///
/// Time is counted from the bucket's creation, and the inflow is credited when somebody takes: each
/// stretch of time once, to the taker who moves the mark past it.
#[derive(Debug)]
pub struct TokenBucket {
    max: Tokens,
    floor_per_second: Tokens,
    balance: AtomicU64,
    credited_until_nanos: AtomicU64,
}

impl Tokens {
    /// No tokens.
    pub const ZERO: Self = Self { nanos: 0 };
    /// One token: what a retry costs unless a policy says otherwise.
    pub const ONE: Self = Self { nanos: NANOS };
    /// A tenth of a token.
    pub const TENTH: Self = Self { nanos: NANOS / 10 };

    /// Returns `count` tokens.
    #[must_use]
    pub const fn whole(count: u32) -> Self {
        Self { nanos: count as u64 * NANOS }
    }

    /// Returns `count` times the amount, or as much as can be counted.
    #[must_use]
    pub const fn repeated(self, count: u32) -> Self {
        Self { nanos: self.nanos.saturating_mul(count as u64) }
    }

    /// Returns both amounts together, or as much as can be counted.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos) }
    }

    /// Returns the amount in billionths of a token.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.nanos
    }

    /// Returns the amount as a number, for showing it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for showing")]
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    pub(super) const fn half(self) -> Self {
        Self { nanos: self.nanos / 2 }
    }

    pub(super) const fn doubled(self) -> Self {
        Self { nanos: self.nanos * 2 }
    }

    pub(super) const fn in_thousandths(self) -> Self {
        Self { nanos: self.nanos / (NANOS / 1_000) * (NANOS / 1_000) }
    }

    /// Returns what this amount a second makes in `span`.
    pub(super) fn times(self, span: Duration) -> Self {
        let nanos = u128::from(self.nanos) * span.as_nanos() / u128::from(NANOS);
        Self { nanos: u64::try_from(nanos).unwrap_or(u64::MAX) }
    }
}

impl TryFrom<f64> for Tokens {
    type Error = InvalidBudget;

    /// Rounds to a billionth.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "0 to 10¹⁵ fits"
    )]
    fn try_from(tokens: f64) -> Result<Self, InvalidBudget> {
        if !(0.0..=1_000_000.0).contains(&tokens) {
            return Err(InvalidBudget::Tokens(tokens));
        }
        Ok(Self { nanos: (tokens * NANOS as f64).round() as u64 })
    }
}

impl TokenBucket {
    /// Creates a bucket that holds `initial` of at most `max` tokens, and gains `floor_per_second`.
    #[must_use]
    pub fn new(max: Tokens, initial: Tokens, floor_per_second: Tokens) -> Self {
        Self {
            max,
            floor_per_second,
            balance: AtomicU64::new(initial.min(max).nanos),
            credited_until_nanos: AtomicU64::new(0),
        }
    }

    /// Adds tokens; what does not fit is lost.
    pub fn put(&self, tokens: Tokens) {
        self.change(|balance| {
            // A full bucket is not written to: successes on many cores then share a clean line.
            (balance < self.max.nanos)
                .then(|| balance.saturating_add(tokens.nanos).min(self.max.nanos))
        });
    }

    /// Takes tokens at `elapsed` since the bucket's creation; returns whether all of them were
    /// there. If not, none is taken.
    #[must_use]
    pub fn take(&self, tokens: Tokens, elapsed: Duration) -> bool {
        self.credit(elapsed);
        self.change(|balance| balance.checked_sub(tokens.nanos))
    }

    /// Removes tokens, as many as there are.
    pub(super) fn drain(&self, tokens: Tokens) {
        self.change(|balance| Some(balance.saturating_sub(tokens.nanos)));
    }

    /// Returns the tokens that could be taken at `elapsed` since the bucket's creation.
    #[must_use]
    pub fn available(&self, elapsed: Duration) -> Tokens {
        self.credit(elapsed);
        Tokens { nanos: self.balance.load(Ordering::Acquire) }
    }

    fn credit(&self, elapsed: Duration) {
        if self.floor_per_second == Tokens::ZERO {
            return;
        }
        let now = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let mut until = self.credited_until_nanos.load(Ordering::Acquire);
        loop {
            let Some(span) = now.checked_sub(until) else { return };
            let gain = self.floor_per_second.times(Duration::from_nanos(span));
            if gain == Tokens::ZERO {
                return;
            }
            // Only the time that was paid for is used up; a rest too short for a billionth waits.
            let rate = u128::from(self.floor_per_second.nanos);
            let paid = (u128::from(gain.nanos) * u128::from(NANOS)).div_ceil(rate);
            let next = until + u64::try_from(paid).unwrap_or(span).min(span);
            match self.credited_until_nanos.compare_exchange(
                until,
                next,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return self.put(gain),
                Err(moved) => until = moved,
            }
        }
    }

    /// Applies `change` until it is not interrupted; returns whether it changed anything.
    fn change(&self, change: impl Fn(u64) -> Option<u64>) -> bool {
        let mut balance = self.balance.load(Ordering::Acquire);
        while let Some(next) = change(balance) {
            match self.balance.compare_exchange_weak(
                balance,
                next,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(moved) => balance = moved,
            }
        }
        false
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_f64())
    }
}

const NANOS: u64 = 1_000_000_000;
