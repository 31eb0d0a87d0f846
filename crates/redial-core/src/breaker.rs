//! When to leave an upstream alone.
//!
//! A [`Breaker`] counts what an upstream's answers say about it. It *opens* on too many failures in a
//! row, or too large a share of failing or slow calls, and refuses calls for a time that grows from
//! trip to trip. Then it lets a few *probes* through, and closes again when enough of them go well.
//!
//! It is state alone; what to do stands in a [`BreakerPolicy`], which every operation is given. So a
//! policy can be switched at any moment and the state goes on.

mod manual;
mod policy;
mod snapshot;
mod state;
mod ticket;
mod word;

use std::fmt;

pub use self::{
    policy::{Abandoned, BreakerPolicy, InvalidBreaker},
    snapshot::BreakerSnapshot,
    state::Breaker,
    ticket::{Admission, BreakerRefusal, Ticket},
};

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
    /// Too many calls failed in a row.
    ConsecutiveFailures {
        /// How many.
        failures: u32,
    },
    /// Too large a share of the calls in the window failed.
    FailureRatio {
        /// How many failed.
        failures: u64,
        /// Of how many.
        calls: u64,
    },
    /// Too large a share of the calls in the window was slow.
    SlowRatio {
        /// How many were slow.
        slow: u64,
        /// Of how many.
        calls: u64,
    },
    /// A probe failed, or was slow.
    ProbeFailed,
    /// Probes were out and none of them ended in time.
    HalfOpenExpired,
    /// Somebody opened it by hand.
    Manual,
}

/// A step of a breaker from one state to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BreakerChange {
    /// What it was.
    pub from: BreakerState,
    /// What it is now.
    pub to: BreakerState,
    /// Why it opened, where it did.
    pub reason: Option<TripReason>,
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

impl TripReason {
    /// Returns the name used in reports and events: `consecutive_failures`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures { .. } => "consecutive_failures",
            Self::FailureRatio { .. } => "failure_ratio",
            Self::SlowRatio { .. } => "slow_ratio",
            Self::ProbeFailed => "probe_failed",
            Self::HalfOpenExpired => "half_open_expired",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TripReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures { failures } => write!(f, "{failures} failures in a row"),
            Self::FailureRatio { failures, calls } => {
                write!(f, "{failures} of {calls} calls failed")
            }
            Self::SlowRatio { slow, calls } => write!(f, "{slow} of {calls} calls were slow"),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::HalfOpenExpired => f.write_str("no probe ended in time"),
            Self::Manual => f.write_str("opened by hand"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
