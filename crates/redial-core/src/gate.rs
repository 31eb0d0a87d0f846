//! How many are in, how many wait, and how many may be in: one word, so that all three are seen at
//! one moment.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};

/// Counts what is in flight against a limit that may move. Lock-free.
///
/// Entering compares the count with the limit of that same moment. A limit that shrinks below what is
/// in flight turns nobody out: nobody enters until enough have left.
///
/// A gate only counts those who wait; whoever owns it keeps them in a queue, and lets them in with
/// [`admit_waiting`](Self::admit_waiting). While anybody waits, nobody enters past them.
///
/// # Examples
///
/// ```
/// use redial_core::Gate;
///
/// let gate = Gate::new(1);
/// assert_eq!(gate.try_enter(), Ok(1), "the first in flight");
/// assert_eq!(gate.try_enter(), Err(1), "the limit is 1");
/// gate.set_limit(2);
/// assert_eq!(gate.try_enter(), Ok(2));
/// gate.leave();
/// assert_eq!(gate.in_flight(), 1);
/// ```
pub struct Gate {
    /// From the lowest bit: [`FIELD_BITS`] of what is in flight, of who waits, and of the limit.
    word: AtomicU64,
}

/// What came of an attempt to enter, or to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// In flight now.
    Entered,
    /// Counted among those who wait.
    Waits,
    /// Neither: the limit, and the most that may wait, are reached.
    Full,
}

#[derive(Clone, Copy)]
struct Counts {
    in_flight: u64,
    waiting: u64,
    limit: u64,
}

impl Gate {
    /// The highest limit, and the most that may wait: two million, and a bit.
    pub const MAX: u32 = (1 << FIELD_BITS) - 1;

    /// Creates a gate that lets `limit` in at once, at most [`MAX`](Self::MAX).
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let counts = Counts { in_flight: 0, waiting: 0, limit: u64::from(limit.min(Self::MAX)) };
        Self { word: AtomicU64::new(counts.pack()) }
    }

    /// Enters if there is room and nobody waits; returns how many are in flight then.
    ///
    /// # Errors
    ///
    /// Returns the limit if there is no room, or somebody waits.
    #[inline]
    pub fn try_enter(&self) -> Result<u32, u32> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let counts = Counts::unpack(word);
            if counts.waiting != 0 || counts.limit <= counts.in_flight {
                return Err(narrow(counts.limit));
            }
            match self.swap(word, word + 1) {
                Ok(()) => return Ok(narrow(counts.in_flight + 1)),
                Err(moved) => word = moved,
            }
        }
    }

    /// Leaves; returns whether anybody waits, who is to be let in then.
    ///
    /// To be called once for each that entered: one call too many takes from the other counts, and nothing
    /// notices. Whoever owns the gate hands out permits that do it when dropped.
    #[inline]
    pub fn leave(&self) -> bool {
        Counts::unpack(self.word.fetch_sub(1, Ordering::AcqRel)).waiting != 0
    }

    /// Enters, or is counted among at most `waiting_max` who wait.
    ///
    /// The queue has to be kept in step: under its lock.
    #[must_use]
    pub fn enter_or_wait(&self, waiting_max: u32) -> Entry {
        let waiting_max = u64::from(waiting_max.min(Self::MAX));
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let counts = Counts::unpack(word);
            let (next, entry) = if counts.waiting == 0 && counts.in_flight < counts.limit {
                (Counts { in_flight: counts.in_flight + 1, ..counts }, Entry::Entered)
            } else if counts.waiting < waiting_max {
                (Counts { waiting: counts.waiting + 1, ..counts }, Entry::Waits)
            } else {
                return Entry::Full;
            };
            match self.swap(word, next.pack()) {
                Ok(()) => return entry,
                Err(moved) => word = moved,
            }
        }
    }

    /// Lets one in who waits, if anybody does and there is room; returns whether it did.
    ///
    /// The queue has to be kept in step: under its lock.
    #[must_use]
    pub fn admit_waiting(&self) -> bool {
        self.change(|counts| {
            let has_room = counts.waiting != 0 && counts.in_flight < counts.limit;
            has_room.then(|| Counts {
                in_flight: counts.in_flight + 1,
                waiting: counts.waiting - 1,
                ..counts
            })
        })
    }

    /// Takes note that one who waited has gone away.
    ///
    /// The queue has to be kept in step: under its lock.
    pub fn forget_waiting(&self) {
        self.change(|counts| {
            let waiting = counts.waiting.checked_sub(1)?;
            Some(Counts { waiting, ..counts })
        });
    }

    /// Moves the limit, to at most [`MAX`](Self::MAX); returns what it was.
    ///
    /// Those who wait may find room now.
    pub fn set_limit(&self, limit: u32) -> u32 {
        let limit = u64::from(limit.min(Self::MAX));
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let counts = Counts::unpack(word);
            if counts.limit == limit {
                return narrow(limit);
            }
            match self.swap(word, Counts { limit, ..counts }.pack()) {
                Ok(()) => return narrow(counts.limit),
                Err(moved) => word = moved,
            }
        }
    }

    /// Returns how many may be in flight.
    #[must_use]
    #[inline]
    pub fn limit(&self) -> u32 {
        narrow(self.counts().limit)
    }

    /// Returns how many are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        narrow(self.counts().in_flight)
    }

    /// Returns how many wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        narrow(self.counts().waiting)
    }

    fn counts(&self) -> Counts {
        Counts::unpack(self.word.load(Ordering::Acquire))
    }

    /// Applies `change` until it is not interrupted; returns whether it changed anything.
    fn change(&self, change: impl Fn(Counts) -> Option<Counts>) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while let Some(next) = change(Counts::unpack(word)) {
            match self.swap(word, next.pack()) {
                Ok(()) => return true,
                Err(moved) => word = moved,
            }
        }
        false
    }

    #[inline]
    fn swap(&self, from: u64, to: u64) -> Result<(), u64> {
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        self.word.compare_exchange_weak(from, to, success, failure).map(drop)
    }
}

impl Counts {
    #[inline]
    const fn pack(self) -> u64 {
        self.in_flight | self.waiting << FIELD_BITS | self.limit << (2 * FIELD_BITS)
    }

    #[inline]
    const fn unpack(word: u64) -> Self {
        const MASK: u64 = (1 << FIELD_BITS) - 1;
        Self {
            in_flight: word & MASK,
            waiting: word >> FIELD_BITS & MASK,
            limit: word >> (2 * FIELD_BITS) & MASK,
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { in_flight, waiting, limit } = self.counts();
        f.debug_struct("Gate")
            .field("in_flight", &in_flight)
            .field("waiting", &waiting)
            .field("limit", &limit)
            .finish()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a field has 21 bits")]
#[inline]
const fn narrow(field: u64) -> u32 {
    field as u32
}

/// Three fields in 64 bits.
const FIELD_BITS: u32 = 21;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_limit_that_shrinks_turns_nobody_out_and_lets_nobody_in() {
        let gate = Gate::new(3);
        assert_eq!([gate.try_enter(), gate.try_enter(), gate.try_enter()], [Ok(1), Ok(2), Ok(3)]);
        assert_eq!(gate.set_limit(1), 3);
        assert_eq!((gate.in_flight(), gate.limit()), (3, 1));
        for left in [2, 1] {
            assert!(!gate.leave());
            assert_eq!((gate.in_flight(), gate.try_enter()), (left, Err(1)));
        }
        assert!(!gate.leave());
        assert_eq!(gate.try_enter(), Ok(1));
    }

    #[test]
    fn nobody_enters_past_those_who_wait() {
        let gate = Gate::new(1);
        assert_eq!(gate.enter_or_wait(1), Entry::Entered);
        assert_eq!(gate.enter_or_wait(1), Entry::Waits);
        assert_eq!(gate.enter_or_wait(1), Entry::Full);
        assert!(gate.leave(), "somebody waits");
        assert_eq!(gate.try_enter(), Err(1));
        assert!(gate.admit_waiting());
        assert!(!gate.admit_waiting());
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
    }

    #[test]
    fn who_goes_away_is_counted_no_longer() {
        let gate = Gate::new(0);
        assert_eq!(gate.enter_or_wait(9), Entry::Waits);
        gate.forget_waiting();
        gate.forget_waiting();
        assert_eq!(gate.waiting(), 0);
        assert_eq!(format!("{gate:?}"), "Gate { in_flight: 0, waiting: 0, limit: 0 }");
    }

    #[test]
    fn limits_beyond_what_can_be_counted_are_the_highest() {
        let gate = Gate::new(u32::MAX);
        assert_eq!(gate.limit(), Gate::MAX);
        assert_eq!(gate.set_limit(u32::MAX), Gate::MAX);
    }

    proptest! {
        #[test]
        fn in_flight_is_within_the_limit_at_every_entry(
            steps in prop::collection::vec((0_u8..6, 0_u32..9), 0..200)
        ) {
            let gate = Gate::new(4);
            let (mut in_flight, mut waiting, mut limit) = (0, 0, 4);
            for (step, n) in steps {
                match step {
                    0 => match gate.try_enter() {
                        Ok(now) => {
                            in_flight += 1;
                            prop_assert!(waiting == 0 && now == in_flight && in_flight <= limit);
                        }
                        Err(told) => {
                            prop_assert!(told == limit && (limit <= in_flight || waiting != 0));
                        }
                    },
                    1 => match gate.enter_or_wait(n) {
                        Entry::Entered => {
                            in_flight += 1;
                            prop_assert!(waiting == 0 && in_flight <= limit);
                        }
                        Entry::Waits => {
                            waiting += 1;
                            prop_assert!(waiting <= n);
                        }
                        Entry::Full => prop_assert!(n <= waiting),
                    },
                    2 if in_flight != 0 => {
                        in_flight -= 1;
                        prop_assert_eq!(gate.leave(), waiting != 0);
                    }
                    3 => {
                        let admits = waiting != 0 && in_flight < limit;
                        prop_assert_eq!(gate.admit_waiting(), admits);
                        in_flight += u32::from(admits);
                        waiting -= u32::from(admits);
                    }
                    4 => {
                        gate.forget_waiting();
                        waiting = waiting.saturating_sub(1);
                    }
                    _ => {
                        prop_assert_eq!(gate.set_limit(n), limit);
                        limit = n;
                    }
                }
                prop_assert_eq!(
                    (gate.in_flight(), gate.waiting(), gate.limit()),
                    (in_flight, waiting, limit)
                );
            }
        }
    }
}
