//! When to send a second copy of a request while the first is still out.
//!
//! Most answers are fast and a few are not, for reasons that have nothing to do with the request: a
//! copy that goes elsewhere, or a moment later, is likely to be fast ("The Tail at Scale", 2013).
//! What a call does is decided here, as gRFC A6 has it: the first copy goes out at once, the next
//! after a delay, or at once when one fails in a way that another may not.

mod policy;
mod tracker;

use std::time::Duration;

pub use self::{
    policy::{HedgePolicy, InvalidHedge},
    tracker::HedgeTracker,
};
use crate::{event::HedgeCause, retry::Stop};

/// The copies of one call, and when the next goes out. Time is counted from the call's start.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::{CopyEnd, HedgeCause, HedgePolicy, Hedging, NextHedge};
///
/// let millis = Duration::from_millis;
/// let policy = HedgePolicy::fixed(millis(500)).with_max_hedges(3)?;
/// let mut hedging = Hedging::new(&policy, millis(500));
///
/// // The first copy is out, and the next is due after the delay …
/// assert_eq!(hedging.next(millis(0), || true), NextHedge::At(millis(500)));
///
/// // … or as soon as the first fails.
/// assert!(!hedging.ended(CopyEnd::Failed, millis(200)));
/// assert_eq!(hedging.next(millis(200), || true), NextHedge::Now(HedgeCause::Failure));
/// assert_eq!(hedging.next(millis(200), || true), NextHedge::At(millis(700)));
/// # Ok::<(), redial_core::InvalidHedge>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hedging {
    delay: Duration,
    copies_max: u32,
    sent: u32,
    out: u32,
    last_sent: Duration,
    due: Due,
    is_paid: bool,
}

/// What the end of one copy means for the call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CopyEnd {
    /// It has the answer.
    Success,
    /// It failed, and another copy would fail alike: this is the call's outcome.
    Fatal,
    /// It failed, and another copy may succeed.
    Failed,
    /// It failed, and the upstream said how long to wait with the next.
    PushedBack(Duration),
    /// It failed, and for this reason no further copy is sent. Those that are out may still win.
    Last(Stop),
}

/// What to do about the next copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NextHedge {
    /// Send it; it is counted as sent, and paid for.
    Now(HedgeCause),
    /// Ask again at this time since the call's start, unless a copy ends before.
    At(Duration),
    /// There is none, and this is why.
    Never(Stop),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Due {
    Delay,
    Failure,
    Pushback(Duration),
    Never(Stop),
}

impl Hedging {
    /// Begins a call whose first copy goes out now, and whose further ones follow after `delay`
    /// each: a fixed one, or [`HedgeTracker::delay`].
    #[must_use]
    pub const fn new(policy: &HedgePolicy, delay: Duration) -> Self {
        Self {
            delay,
            copies_max: 1 + policy.max_hedges(),
            sent: 1,
            out: 1,
            last_sent: Duration::ZERO,
            due: Due::Delay,
            is_paid: false,
        }
    }

    /// Returns how many copies were sent so far, the first included.
    #[must_use]
    pub const fn sent(&self) -> u32 {
        self.sent
    }

    /// Returns how many copies have not ended yet.
    #[must_use]
    pub const fn out(&self) -> u32 {
        self.out
    }

    /// Returns how long before `elapsed` the last copy was sent.
    #[must_use]
    pub const fn since_last(&self, elapsed: Duration) -> Duration {
        elapsed.saturating_sub(self.last_sent)
    }

    /// Decides at `elapsed` what to do about the next copy.
    ///
    /// `pay` is asked for what a copy costs when one is due; and before a wait that is all that is
    /// left of the call, because a caller who waits in vain is worse off than one who knows. When
    /// it refuses, no further copy is sent.
    pub fn next(&mut self, elapsed: Duration, pay: impl FnOnce() -> bool) -> NextHedge {
        if let Due::Never(stop) = self.due {
            return NextHedge::Never(stop);
        }
        if self.copies_max <= self.sent {
            return NextHedge::Never(Stop::RetriesExhausted);
        }
        let (at, cause) = match self.due {
            Due::Failure => (elapsed, HedgeCause::Failure),
            Due::Pushback(at) => (at, HedgeCause::Pushback),
            Due::Delay | Due::Never(_) => {
                (self.last_sent.saturating_add(self.delay), HedgeCause::Delay)
            }
        };
        let is_due = at <= elapsed;
        if (is_due || self.out == 0) && !self.is_paid {
            self.is_paid = pay();
            if !self.is_paid {
                self.due = Due::Never(Stop::BudgetExhausted);
                return NextHedge::Never(Stop::BudgetExhausted);
            }
        }
        if !is_due {
            return NextHedge::At(at);
        }
        self.sent += 1;
        self.out += 1;
        (self.last_sent, self.due, self.is_paid) = (elapsed, Due::Delay, false);
        NextHedge::Now(cause)
    }

    /// Notes that a copy ended at `elapsed`; returns whether that settles the call, and every other
    /// copy is to be cancelled.
    ///
    /// A wish of the upstream is never undercut: a later failure without one does not call for a
    /// copy before its time.
    pub fn ended(&mut self, end: CopyEnd, elapsed: Duration) -> bool {
        self.out = self.out.saturating_sub(1);
        self.due = match (end, self.due) {
            (CopyEnd::Success | CopyEnd::Fatal, _) => return true,
            (_, Due::Never(stop)) => Due::Never(stop),
            (CopyEnd::Last(stop), _) => Due::Never(stop),
            (CopyEnd::PushedBack(wait), Due::Pushback(at)) => {
                Due::Pushback(at.max(elapsed.saturating_add(wait)))
            }
            (CopyEnd::PushedBack(wait), _) => Due::Pushback(elapsed.saturating_add(wait)),
            (CopyEnd::Failed, Due::Pushback(at)) => Due::Pushback(at),
            (CopyEnd::Failed, _) => Due::Failure,
        };
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
