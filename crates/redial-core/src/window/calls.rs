//! The last calls, whenever they were.

use super::{Counts, Sample, stamped::Stamped};
use crate::sync::Padded;

/// A ring with two bits a call, and running counts of what is in it.
///
/// Entering a call swaps its two bits for those of the call that leaves, in one compare-and-swap, and
/// the counts move by the difference. While nothing fails, the only thing that is written is the
/// position.
pub(super) struct LastCalls {
    length: u32,
    /// From 0 up to twice the length, then between the length and its double: one number tells the
    /// position and how many calls there are.
    position: Padded<Stamped>,
    ring: Box<[Stamped]>,
    failures: Stamped,
    slow: Stamped,
}

impl LastCalls {
    pub(super) fn new(length: u32) -> Self {
        let length = length.max(1);
        let words = length.div_ceil(CALLS_A_WORD);
        Self {
            length,
            position: Padded(Stamped::new()),
            ring: (0..words).map(|_| Stamped::new()).collect(),
            failures: Stamped::new(),
            slow: Stamped::new(),
        }
    }

    pub(super) fn enter(&self, sample: Sample, generation: u32) {
        let length = self.length;
        let step = |at: u32| if at + 1 < 2 * length { at + 1 } else { length };
        let Some(moved) = self.position.0.update(generation, step) else { return };
        let place = if moved.before < length { moved.before } else { moved.before - length };
        let index = usize::try_from(place / CALLS_A_WORD).unwrap_or_default();
        let Some(word) = self.ring.get(index) else { return };
        let shift = place % CALLS_A_WORD * 2;
        let bits = (u32::from(sample.is_slow) << 1 | u32::from(sample.is_failure)) << shift;
        let swap = |calls: u32| calls & !(0b11 << shift) | bits;
        let Some(swapped) = word.update(generation, swap) else { return };
        let (left, entered) = (swapped.before >> shift, swapped.after >> shift);
        move_by(&self.failures, generation, left & 1, entered & 1);
        move_by(&self.slow, generation, left >> 1 & 1, entered >> 1 & 1);
    }

    pub(super) fn counts(&self, generation: u32) -> Counts {
        // A call leaves its count after another has taken its place: between the two, a count may be
        // below zero for another thread.
        let count = |word: &Stamped| u64::try_from(word.read(generation).cast_signed());
        let (failures, slow) = (count(&self.failures), count(&self.slow));
        let calls = self.position.0.read(generation).min(self.length);
        Counts {
            calls: calls.into(),
            failures: failures.unwrap_or_default(),
            slow: slow.unwrap_or_default(),
        }
    }
}

fn move_by(count: &Stamped, generation: u32, left: u32, entered: u32) {
    if left != entered {
        count.update(generation, |value| value.wrapping_add(entered).wrapping_sub(left));
    }
}

const CALLS_A_WORD: u32 = 16;
