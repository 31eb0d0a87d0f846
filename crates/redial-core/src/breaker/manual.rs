//! What a hand can do to a breaker.

use std::time::{Duration, Instant};

use super::{
    Breaker, BreakerChange, BreakerState, TripReason,
    state::change,
    word::{Phase, Word},
};
use crate::{sync::Ordering, window::nanos};

impl Breaker {
    /// Opens it by hand: for `span`, after which probes decide, or with `None` until it is closed by
    /// hand. Does not count as a trip. If it was open already, the new time replaces the old.
    ///
    /// Returns what changed, which is nothing if it was open already.
    pub fn open(&self, span: Option<Duration>, now: Instant) -> Option<BreakerChange> {
        let now = self.nanos(now);
        let until = span.map_or(u64::MAX, |span| now.saturating_add(nanos(span)));
        loop {
            let word = self.settled();
            let opening = word.next(Phase::Opening);
            if self.swap(word, opening) {
                let spent = self.open_nanos.load(Ordering::Acquire);
                self.publish(opening, TripReason::Manual, now, until, spent);
                return change(word, BreakerState::Open, Some(TripReason::Manual));
            }
        }
    }

    /// Closes it by hand, with empty counts. Returns what changed, which is nothing if it was closed
    /// already.
    pub fn close(&self, now: Instant) -> Option<BreakerChange> {
        loop {
            let word = self.settled();
            if word.phase == Phase::Closed {
                return None;
            }
            if self.swap(word, Word::closed(word.generation.wrapping_add(1))) {
                self.since.store(self.nanos(now), Ordering::Release);
                return change(word, BreakerState::Closed, None);
            }
        }
    }

    /// Makes it as good as new: closed, with empty counts, and no trip remembered. Returns what changed,
    /// which is nothing if it was closed already.
    pub fn reset(&self, now: Instant) -> Option<BreakerChange> {
        loop {
            let word = self.settled();
            self.reason.store(None);
            self.open_nanos.store(0, Ordering::Release);
            if self.swap(word, Word::closed(word.generation.wrapping_add(1))) {
                self.since.store(self.nanos(now), Ordering::Release);
                return change(word, BreakerState::Closed, None);
            }
        }
    }
}
