//! When to leave an upstream alone.

use std::fmt;

/// When a breaker opens, for how long, and how it finds out that the upstream is back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {}

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum BreakerState {
    /// Calls flow.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls are let through to see whether the upstream is back.
    HalfOpen,
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripReason {
    /// Somebody opened it by hand.
    Manual,
}

impl BreakerState {
    /// Returns the name used in reports and events: `closed`, `open`, `half_open`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
