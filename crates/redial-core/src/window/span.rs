//! The last span of time, in ten slices.

use std::array;

use super::{Counts, Sample, stamped::Stamped};
use crate::sync::{LANES, Padded};

/// Four kinds of calls, each counted by slice of time: a call is one addition to one word.
///
/// A word carries the number of its slice, so nobody has to clear what has expired: it is no longer
/// counted, and overwritten when its turn comes. Calls that went well, the many, are counted in
/// lanes, so that threads do not meet.
pub(super) struct LastSpan {
    slice_nanos: u64,
    well: Box<[Padded<Slices>]>,
    failed: Slices,
    slow: Slices,
    failed_slow: Slices,
}

type Slices = [Stamped; SLICES];

impl LastSpan {
    pub(super) fn new(span_nanos: u64) -> Self {
        Self {
            slice_nanos: (span_nanos / SLICES as u64).max(1),
            well: (0..LANES).map(|_| Padded(slices())).collect(),
            failed: slices(),
            slow: slices(),
            failed_slow: slices(),
        }
    }

    #[inline]
    pub(super) fn enter(&self, lane: u8, sample: Sample, generation: u32, nanos: u64) {
        let slices = match (sample.is_failure, sample.is_slow) {
            (false, false) => match self.well.get(usize::from(lane)) {
                Some(well) => &well.0,
                None => return,
            },
            (true, false) => &self.failed,
            (false, true) => &self.slow,
            (true, true) => &self.failed_slow,
        };
        let turn = self.turn(generation, nanos);
        slices[place(turn)].update(stamp(turn), |count| count.saturating_add(1));
    }

    pub(super) fn counts(&self, generation: u32, nanos: u64) -> Counts {
        let newest = stamp(self.turn(generation, nanos));
        let sum = |slices: &Slices| -> u64 {
            slices.iter().map(|slice| u64::from(slice.read_recent(newest, AGES))).sum()
        };
        let (failed, slow) = (sum(&self.failed), sum(&self.slow));
        let failed_slow = sum(&self.failed_slow);
        let well: u64 = self.well.iter().map(|lane| sum(&lane.0)).sum();
        Counts {
            calls: well + failed + slow + failed_slow,
            failures: failed + failed_slow,
            slow: slow + failed_slow,
        }
    }

    /// Returns the number of the slice of time. Another generation is two windows ahead, so that
    /// nothing of the one before counts in it, even for a clock that is a little behind.
    fn turn(&self, generation: u32, nanos: u64) -> u64 {
        (nanos / self.slice_nanos).wrapping_add(u64::from(generation) * 2 * SLICES as u64)
    }
}

fn slices() -> Slices {
    array::from_fn(|_| Stamped::new())
}

#[expect(clippy::cast_possible_truncation, reason = "stamps come around")]
const fn stamp(turn: u64) -> u32 {
    turn as u32
}

#[expect(clippy::cast_possible_truncation, reason = "below ten")]
const fn place(turn: u64) -> usize {
    (turn % SLICES as u64) as usize
}

const SLICES: usize = 10;
/// A slice is in the window for as many turns as there are slices.
const AGES: u32 = 10;
