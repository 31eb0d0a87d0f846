//! How much extra load retries may make.
//!
//! Without a bound, retries multiply the load just when the server can bear it least: four attempts
//! a call, through five layers, are 1,024 requests for one. A [`Budget`] is shared by all calls to
//! one origin and asked *before* the wait, so that retries that wait count as well. It counts in
//! whole billionths of a token with atomic operations: exact for any fraction, without a lock.

mod policy;
mod tokens;
mod window;

use std::time::{Duration, Instant};

pub use self::{
    policy::{BudgetPolicy, InvalidBudget, Throttle, TokenBudget, WindowBudget},
    tokens::{TokenBucket, Tokens},
    window::WindowBucket,
};
use crate::{
    class::Class,
    verdict::{Reading, Verdict},
};

/// The account from which retries to one origin are paid.
///
/// A retry costs one token, unless a [`TokenBudget`] says otherwise. Where tokens come from is the
/// [`BudgetPolicy`]'s business. Shared by reference; every operation is a few atomic instructions.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
///
/// use redial_core::{Budget, BudgetPolicy};
///
/// // A fresh origin can pay for the three retries of its first call.
/// let now = Instant::now();
/// let budget = Budget::new(&BudgetPolicy::default(), 3, now);
/// let granted = [(); 4].map(|()| budget.withdraw(now));
/// assert_eq!(granted, [true, true, true, false]);
///
/// // The retry that helped is given back.
/// budget.refund(now);
/// assert!(budget.withdraw(now));
/// ```
#[derive(Debug)]
pub struct Budget {
    kind: Kind,
    epoch: Instant,
}

#[derive(Debug)]
enum Kind {
    Tokens { bucket: TokenBucket, policy: TokenBudget },
    Window { bucket: WindowBucket, deposit: Tokens },
    Throttle { bucket: TokenBucket, ratio: Tokens, threshold: Tokens },
    Unlimited,
}

impl Budget {
    /// Opens an account at `now` for calls that may make `max_retries` retries each: where a
    /// [`TokenBudget`] names no start, it starts with what those cost. Other policies do not look at the
    /// number.
    #[must_use]
    pub fn new(policy: &BudgetPolicy, max_retries: u32, now: Instant) -> Self {
        let kind = match policy {
            BudgetPolicy::Tokens(tokens) => {
                let first_call = tokens.cost.repeated(max_retries);
                let initial = tokens.initial.unwrap_or(first_call);
                let max = tokens.max.max(initial);
                let bucket = TokenBucket::new(max, initial, tokens.floor_per_second);
                Kind::Tokens { bucket, policy: *tokens }
            }
            BudgetPolicy::Window(window) => {
                let reserve = window.reserve();
                let bucket = WindowBucket::new(window.window, reserve);
                Kind::Window { bucket, deposit: window.ratio }
            }
            BudgetPolicy::Throttle(throttle) => Kind::Throttle {
                bucket: TokenBucket::new(throttle.max, throttle.max, Tokens::ZERO),
                ratio: throttle.ratio,
                threshold: throttle.max.half(),
            },
            BudgetPolicy::Unlimited => Kind::Unlimited,
        };
        Self { kind, epoch: now }
    }

    /// Notes that a call begins: what a budget of `ratio` times the calls counts.
    pub fn deposit_call(&self, now: Instant) {
        if let Kind::Window { bucket, deposit } = &self.kind {
            bucket.put(*deposit, self.elapsed(now));
        }
    }

    /// Notes what an attempt's outcome was: what a budget that lives on successes counts.
    pub fn deposit(&self, reading: &Reading) {
        match (&self.kind, reading.verdict) {
            (Kind::Tokens { bucket, policy }, Verdict::Success) => bucket.put(policy.deposit),
            (Kind::Throttle { bucket, ratio, .. }, Verdict::Success) => bucket.put(*ratio),
            (Kind::Throttle { bucket, .. }, Verdict::Transient(_) | Verdict::Throttled) => {
                bucket.drain(Tokens::ONE)
            }
            _ => {}
        }
    }

    /// Takes what one retry costs, at `now`; returns whether it was there.
    #[must_use]
    pub fn withdraw(&self, now: Instant) -> bool {
        self.withdraw_after(Class::Other, now)
    }

    /// Takes what one retry after a failure of `class` costs, at `now`; returns whether it was there.
    #[must_use]
    pub fn withdraw_after(&self, class: Class, now: Instant) -> bool {
        match &self.kind {
            Kind::Tokens { bucket, policy } => {
                bucket.take(policy.cost_of(class), self.elapsed(now))
            }
            Kind::Window { bucket, .. } => bucket.take(Tokens::ONE, self.elapsed(now)),
            Kind::Throttle { bucket, threshold, .. } => {
                *threshold < bucket.available(Duration::ZERO)
            }
            Kind::Unlimited => true,
        }
    }

    /// Gives back what the last retry of a call cost, because it helped.
    pub fn refund(&self, now: Instant) {
        self.refund_after(Class::Other, now);
    }

    /// Gives back what the last retry of a call cost, which was made after a failure of `class`.
    pub fn refund_after(&self, class: Class, now: Instant) {
        match &self.kind {
            Kind::Tokens { bucket, policy } => bucket.put(policy.cost_of(class)),
            Kind::Window { bucket, .. } => bucket.put(Tokens::ONE, self.elapsed(now)),
            Kind::Throttle { .. } | Kind::Unlimited => {}
        }
    }

    /// Returns what could be withdrawn at `now`; `None` where there is no limit.
    #[must_use]
    pub fn available(&self, now: Instant) -> Option<Tokens> {
        match &self.kind {
            Kind::Tokens { bucket, .. } => Some(bucket.available(self.elapsed(now))),
            Kind::Window { bucket, .. } => Some(bucket.available(self.elapsed(now))),
            Kind::Throttle { bucket, .. } => Some(bucket.available(Duration::ZERO)),
            Kind::Unlimited => None,
        }
    }

    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
