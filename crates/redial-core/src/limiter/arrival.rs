//! The one word of the generic cell rate algorithm.

use crate::sync::{AtomicU64, Ordering};

/// When the next call would be due if calls came evenly, in nanoseconds since some beginning.
///
/// The word stands for itself and guards nothing else, so its order among other words is free.
pub(crate) struct Arrival {
    due: AtomicU64,
}

/// A step of that word, and the wait that it implies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    before: u64,
    after: u64,
    pub(crate) wait: u64,
}

impl Arrival {
    pub(crate) fn new(due: u64) -> Self {
        Self { due: AtomicU64::new(due) }
    }

    #[inline]
    pub(crate) fn load(&self) -> u64 {
        self.due.load(Ordering::Relaxed)
    }

    /// Moves the word on by `cost` at `now`, where calls may come up to `burst` before they are due,
    /// and returns the step. If that implied a wait above `longest`, returns that wait, and the word
    /// stays as it is.
    #[inline]
    pub(crate) fn take(&self, now: u64, cost: u64, burst: u64, longest: u64) -> Result<Slot, u64> {
        let mut before = self.load();
        loop {
            let after = before.max(now).saturating_add(cost);
            let wait = after.saturating_sub(now.saturating_add(burst));
            if longest < wait {
                return Err(wait);
            }
            match self.swap(before, after) {
                Ok(()) => return Ok(Slot { before, after, wait }),
                Err(moved) => before = moved,
            }
        }
    }

    /// Lets the next call be due at `due` at the earliest.
    pub(crate) fn postpone(&self, due: u64) {
        self.due.fetch_max(due, Ordering::Relaxed);
    }

    /// Takes a step back where no other came after it.
    ///
    /// The word grows with every step, and each step back returns it to where a step that is still
    /// taken had put it. So it has this step's value only while this step is the last.
    pub(crate) fn give_back(&self, slot: Slot) -> bool {
        let Slot { before, after, .. } = slot;
        self.swap(after, before).is_ok()
    }

    #[inline]
    fn swap(&self, from: u64, to: u64) -> Result<(), u64> {
        self.due.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).map(|_| ())
    }
}
