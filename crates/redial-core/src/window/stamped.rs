//! A small number that is forgotten when its time has passed.

use crate::sync::{AtomicU64, Ordering};

/// A number beside the stamp of the time that it belongs to, in one word.
///
/// Whoever comes with a later stamp finds zero, and whoever comes with an earlier one changes nothing:
/// a whole array of these is cleared by going on to the next stamp. Stamps come around after 2³².
pub(crate) struct Stamped {
    bits: AtomicU64,
}

/// What an update found, and what it left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Updated {
    pub(crate) before: u32,
    pub(crate) after: u32,
}

impl Stamped {
    pub(crate) fn new() -> Self {
        Self { bits: AtomicU64::new(0) }
    }

    pub(crate) fn with(stamp: u32, value: u32) -> Self {
        Self { bits: AtomicU64::new(pack(stamp, value)) }
    }

    /// Returns the number as of `stamp`.
    pub(crate) fn read(&self, stamp: u32) -> u32 {
        let (there, value) = unpack(self.bits.load(Ordering::Acquire));
        if there == stamp { value } else { 0 }
    }

    /// Returns the number if its stamp is `newest` or one of the `count` up to it.
    pub(crate) fn read_recent(&self, newest: u32, count: u32) -> u32 {
        let (there, value) = unpack(self.bits.load(Ordering::Acquire));
        if newest.wrapping_sub(there) < count { value } else { 0 }
    }

    /// Changes the number of `stamp`; returns nothing when a later stamp is there already.
    ///
    /// Nothing is written where nothing changes, so that many cores can share a clean line.
    #[inline]
    pub(crate) fn update(&self, stamp: u32, change: impl Fn(u32) -> u32) -> Option<Updated> {
        let mut bits = self.bits.load(Ordering::Acquire);
        loop {
            let (there, value) = unpack(bits);
            let before = if there == stamp {
                value
            } else if is_later(there, stamp) {
                return None;
            } else {
                0
            };
            let after = change(before);
            if after == before {
                return Some(Updated { before, after });
            }
            match self.bits.compare_exchange_weak(
                bits,
                pack(stamp, after),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(Updated { before, after }),
                Err(moved) => bits = moved,
            }
        }
    }
}

/// A stamp that seems to be ahead by more than anybody can be late was left behind before the stamps
/// came around.
const fn is_later(there: u32, stamp: u32) -> bool {
    there.wrapping_sub(stamp) < LATE_MAX
}

const fn pack(stamp: u32, value: u32) -> u64 {
    ((stamp as u64) << 32) | value as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
const fn unpack(bits: u64) -> (u32, u32) {
    ((bits >> 32) as u32, bits as u32)
}

const LATE_MAX: u32 = 1 << 24;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn add(word: &Stamped, stamp: u32) -> Option<u32> {
        word.update(stamp, |value| value + 1).map(|updated| updated.after)
    }

    #[test]
    fn a_later_stamp_starts_from_zero_and_an_earlier_one_changes_nothing() {
        let word = Stamped::new();
        assert_eq!([add(&word, 3), add(&word, 3), add(&word, 5)], [Some(1), Some(2), Some(1)]);
        assert_eq!(add(&word, 3), None);
        assert_eq!([word.read(3), word.read(5), word.read(6)], [0, 1, 0]);
    }

    #[test]
    fn stamps_come_around() {
        let word = Stamped::with(u32::MAX, 7);
        assert_eq!(word.read_recent(1, 3), 7);
        assert_eq!(word.read_recent(2, 3), 0);
        assert_eq!(add(&word, 0), Some(1));
        assert_eq!(add(&word, u32::MAX), None, "late by one");
        assert_eq!(add(&word, 1 << 31), Some(1), "not late by half of all stamps");
    }

    #[test]
    fn nothing_is_written_where_nothing_changes() {
        let word = Stamped::with(1, 7);
        assert_eq!(word.update(9, |_| 0), Some(Updated { before: 0, after: 0 }));
        assert_eq!(word.read(1), 7);
    }
}
