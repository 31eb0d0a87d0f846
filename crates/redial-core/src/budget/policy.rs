//! Where a budget's tokens come from.

use std::{fmt, time::Duration};

use super::tokens::Tokens;
use crate::class::Class;

/// How much extra load retries may make.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BudgetPolicy {
    /// Funded by successes, with a small floor.
    Tokens(TokenBudget),
    /// A share of the calls within a sliding window, and a floor.
    Window(WindowBudget),
    /// gRPC's throttle: retries stop while failures prevail.
    Throttle(Throttle),
    /// No limit. For a lone caller only.
    Unlimited,
}

/// A budget that lives on successes: under total failure it stops funding retries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TokenBudget {
    /// Tokens for each successful call.
    pub deposit: Tokens,
    /// The most tokens that are kept; at least what a fresh account starts with.
    pub max: Tokens,
    /// What a fresh account starts with; `None` for what the retries of one call cost.
    pub initial: Option<Tokens>,
    /// Tokens that come every second whatever happens, so that a quiet client can still retry.
    pub floor_per_second: Tokens,
    /// What a retry costs, and what is given back when it helped. Zero makes retries free.
    pub cost: Tokens,
    /// The same for a retry after the server asked for fewer requests ([`Class::Throttled`]).
    pub throttled_cost: Tokens,
}

/// A budget of `ratio` retries a call plus `floor_per_second`, over a sliding window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WindowBudget {
    /// Tokens for each call that begins, successful or not.
    pub ratio: Tokens,
    /// Tokens for each second of the window.
    pub floor_per_second: Tokens,
    /// The window's length.
    pub window: Duration,
}

/// gRPC's retry throttle (gRFC A6): every failure costs a token, every success brings a part of one,
/// and there are retries only while more than half of the tokens are there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Throttle {
    /// What the account starts with, and never exceeds.
    pub max: Tokens,
    /// Tokens for each success, in whole thousandths.
    pub ratio: Tokens,
}

/// The values given do not form a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InvalidBudget {
    /// A number of tokens is not within `0 <= tokens <= 1,000,000`.
    Tokens(f64),
    /// The window is not within 1 s to 1 h.
    Window(Duration),
    /// The throttle's tokens, or its ratio, are not within 0.001 to 1000.
    Throttle {
        /// The most tokens.
        max: f64,
        /// The tokens for each success.
        ratio: f64,
    },
}

impl WindowBudget {
    /// Creates a budget of `ratio` retries a call and `floor_per_second` over a sliding `window`.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBudget`] unless both numbers are within 0 to 1,000,000 and the window is
    /// within 1 s to 1 h.
    pub fn new(ratio: f64, floor_per_second: f64, window: Duration) -> Result<Self, InvalidBudget> {
        if window < Duration::from_secs(1) || Duration::from_secs(3_600) < window {
            return Err(InvalidBudget::Window(window));
        }
        let (ratio, floor) = (Tokens::try_from(ratio)?, Tokens::try_from(floor_per_second)?);
        Ok(Self { ratio, floor_per_second: floor, window })
    }

    pub(super) fn reserve(&self) -> Tokens {
        self.floor_per_second.times(self.window)
    }
}

impl Throttle {
    /// Creates a throttle of `max` tokens, of which a success brings back `ratio`.
    ///
    /// As gRFC A6 has it, digits of the ratio beyond the third are cut off.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBudget::Throttle`] unless `0.001 <= max <= 1000` and `0.001 <= ratio <= 1000`;
    /// gRFC A6 allows every `max` above 0.
    pub fn new(max: f64, ratio: f64) -> Result<Self, InvalidBudget> {
        let range = 0.001..=1_000.0;
        if !range.contains(&max) || !range.contains(&ratio) {
            return Err(InvalidBudget::Throttle { max, ratio });
        }
        Ok(Self { max: Tokens::try_from(max)?, ratio: Tokens::try_from(ratio)?.in_thousandths() })
    }
}

impl TokenBudget {
    /// Returns what a retry after a failure of `class` costs.
    #[must_use]
    pub const fn cost_of(&self, class: Class) -> Tokens {
        match class {
            Class::Throttled => self.throttled_cost,
            _ => self.cost,
        }
    }
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self::Tokens(TokenBudget::default())
    }
}

impl Default for TokenBudget {
    /// 0.1 tokens a success, at most 10, and a start that pays for one call's retries: the figures
    /// of Brooker's "Fixing retries with token buckets and circuit breakers" (2022) with the refund
    /// that makes it nearly as helpful as unlimited retries (`science.md` B6); 0.1 tokens a second; one
    /// token a retry, whatever failed.
    fn default() -> Self {
        Self {
            deposit: Tokens::TENTH,
            max: Tokens::whole(10),
            initial: None,
            floor_per_second: Tokens::TENTH,
            cost: Tokens::ONE,
            throttled_cost: Tokens::ONE,
        }
    }
}

impl Default for WindowBudget {
    /// A fifth of the calls plus 10 a second over 10 s: Finagle's `RetryBudget`.
    fn default() -> Self {
        Self {
            ratio: Tokens::TENTH.doubled(),
            floor_per_second: Tokens::whole(10),
            window: Duration::from_secs(10),
        }
    }
}

impl fmt::Display for InvalidBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(tokens) => write!(f, "{tokens} tokens are not within 0 to 1000000"),
            Self::Window(window) => write!(f, "window {window:?} is not within 1s to 1h"),
            Self::Throttle { max, ratio } => {
                write!(
                    f,
                    "throttle of {max} tokens and {ratio} a success: both must be within 0.001 to 1000"
                )
            }
        }
    }
}

impl std::error::Error for InvalidBudget {}
