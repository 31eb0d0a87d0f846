//! Requests and accepts over a sliding window.

use std::{array, time::Duration};

use crate::sync::{AtomicU64, Ordering};

/// What was counted in a sliding window of ten slices: an entry counts for nine to ten tenths of it.
///
/// Each slice is one word: the number of the turn that it belongs to, the requests, the accepts. A
/// writer that finds an earlier turn there begins anew, in the same exchange that counts; a reader adds
/// up the slices whose turn is in the window. So nothing has to be cleared, and no sum is kept beside
/// the slices that could differ from them.
pub(super) struct Counts {
    slice_nanos: u64,
    slices: [AtomicU64; SLICES],
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Seen {
    pub(super) requests: u64,
    pub(super) accepts: u64,
}

impl Counts {
    pub(super) fn new(window: Duration) -> Self {
        let slice = window.as_nanos() / SLICES as u128;
        Self {
            slice_nanos: u64::try_from(slice).unwrap_or(u64::MAX).max(1),
            slices: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Counts, at `elapsed` nanoseconds since the beginning.
    pub(super) fn add(&self, requests: u64, accepts: u64, elapsed: u64) {
        let slice = elapsed / self.slice_nanos;
        let place = &self.slices[usize::try_from(slice % SLICES_U64).unwrap_or_default()];
        let mut word = place.load(Ordering::Relaxed);
        loop {
            let (turn, kept) = match age(word, slice) {
                Age::Within(0) => (word >> TURN_SHIFT, unpack(word)),
                // Another turn of this place, or none yet.
                _ => (slice, Seen::default()),
            };
            let next = pack(turn, kept.and(requests, accepts));
            match place.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(moved) => word = moved,
            }
        }
    }

    /// Returns what is in the window at `elapsed`.
    pub(super) fn total(&self, elapsed: u64) -> Seen {
        let slice = elapsed / self.slice_nanos;
        let words = self.slices.iter().map(|place| place.load(Ordering::Relaxed));
        words.filter(|word| age(*word, slice) != Age::Expired).fold(Seen::default(), |sum, word| {
            let Seen { requests, accepts } = unpack(word);
            sum.and(requests, accepts)
        })
    }

    /// Returns what is in the window at `elapsed`, slice by slice, the current one first.
    pub(super) fn by_age(&self, elapsed: u64) -> [Seen; SLICES] {
        let slice = elapsed / self.slice_nanos;
        let mut seen = [Seen::default(); SLICES];
        for word in self.slices.iter().map(|place| place.load(Ordering::Relaxed)) {
            if let Age::Within(behind) = age(word, slice) {
                seen[behind] = unpack(word);
            }
        }
        seen
    }
}

impl Seen {
    const fn and(self, requests: u64, accepts: u64) -> Self {
        Self { requests: self.requests + requests, accepts: self.accepts + accepts }
    }
}

#[derive(Eq, PartialEq)]
enum Age {
    /// By how many slices it is behind.
    Within(usize),
    Expired,
}

/// A turn ahead of `slice` belongs to a thread whose clock reading is newer: it is in the window.
fn age(word: u64, slice: u64) -> Age {
    let behind = slice.wrapping_sub(word >> TURN_SHIFT) & TURN_MASK;
    match usize::try_from(behind) {
        Ok(behind) if behind < SLICES => Age::Within(behind),
        _ if TURN_MASK - SLICES_U64 < behind => Age::Within(0),
        _ => Age::Expired,
    }
}

/// 20 bits of the slice's number, which come around after a million slices, and 22 bits each for
/// the requests and accepts. A slice that is full, with four million, keeps the share that it has.
const fn pack(turn: u64, seen: Seen) -> u64 {
    let Seen { mut requests, mut accepts } = seen;
    if COUNT_MAX < requests {
        // Both shrink alike.
        accepts = accepts * COUNT_MAX / requests;
        requests = COUNT_MAX;
    }
    ((turn & TURN_MASK) << TURN_SHIFT) | (requests << COUNT_BITS) | accepts
}

const fn unpack(word: u64) -> Seen {
    Seen { requests: (word >> COUNT_BITS) & COUNT_MAX, accepts: word & COUNT_MAX }
}

pub(super) const SLICES: usize = 10;
const SLICES_U64: u64 = SLICES as u64;
const COUNT_BITS: u32 = 22;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const TURN_SHIFT: u32 = 2 * COUNT_BITS;
const TURN_MASK: u64 = (1 << (64 - TURN_SHIFT)) - 1;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn seen(requests: u64, accepts: u64) -> Seen {
        Seen { requests, accepts }
    }

    #[test]
    fn what_is_counted_leaves_the_window_after_ten_slices() {
        let counts = Counts::new(Duration::from_nanos(1_000));
        counts.add(1, 1, 0);
        counts.add(1, 0, 99);
        counts.add(1, 1, 100);
        assert_eq!(counts.total(999), seen(3, 2));
        assert_eq!(counts.total(1_000), seen(1, 1), "the first slice has left");
        assert_eq!(counts.total(1_099), seen(1, 1));
        assert_eq!(counts.total(1_100), seen(0, 0));
        counts.add(5, 5, 1_050);
        assert_eq!(counts.total(1_050), seen(6, 6), "its place is used again");
        assert_eq!(counts.total(1 << 40), seen(0, 0));
    }

    #[test]
    fn a_clock_reading_that_is_a_little_old_counts_as_now() {
        let counts = Counts::new(Duration::from_nanos(1_000));
        counts.add(1, 1, 1_000);
        counts.add(1, 0, 90);
        assert_eq!(counts.total(1_000), seen(2, 1));
        assert_eq!(counts.total(910), seen(2, 1));
    }

    #[test]
    fn slices_are_told_by_their_age() {
        let counts = Counts::new(Duration::from_nanos(1_000));
        counts.add(7, 3, 250);
        counts.add(2, 2, 1_150);
        let by_age = counts.by_age(1_190);
        assert_eq!((by_age[0], by_age[9]), (seen(2, 2), seen(7, 3)));
        assert_eq!(by_age[1..9], [seen(0, 0); 8]);
    }

    #[test]
    fn numbers_that_come_around_are_not_taken_for_new_ones() {
        let counts = Counts::new(Duration::from_nanos(1_000));
        counts.add(3, 0, 0);
        for slices in [10, 1_000, 1 << 19, (1 << 19) + 1, (1 << 20) - 11] {
            assert_eq!(counts.total(slices * 100), seen(0, 0), "{slices}");
        }
    }

    #[test]
    fn a_full_slice_keeps_its_share() {
        let counts = Counts::new(Duration::from_nanos(1_000));
        counts.add(COUNT_MAX, COUNT_MAX / 2, 0);
        counts.add(COUNT_MAX, COUNT_MAX / 2, 0);
        assert_eq!(counts.total(0), seen(COUNT_MAX, COUNT_MAX / 2));
        counts.add(1, 1, 0);
        let Seen { requests, accepts } = counts.total(0);
        assert!(requests == COUNT_MAX && accepts.abs_diff(COUNT_MAX / 2) <= 1);
    }
}
