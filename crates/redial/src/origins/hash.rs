//! A hash for short names.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes short names in a few instructions a byte. Seeded, so that nobody outside can tell which
/// names collide; and with a few dozen of them in a place at most, little would come of it.
#[derive(Clone)]
pub(super) struct Quick {
    seed: u64,
}

pub(super) struct QuickHasher {
    hash: u64,
}

impl Quick {
    pub(super) fn new() -> Self {
        Self { seed: RandomState::new().hash_one(()) }
    }
}

impl BuildHasher for Quick {
    type Hasher = QuickHasher;

    fn build_hasher(&self) -> QuickHasher {
        QuickHasher { hash: self.seed }
    }
}

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.hash = (self.hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(ODD);
    }

    fn write_usize(&mut self, length: usize) {
        self.hash ^= u64::try_from(length).unwrap_or_default();
    }

    fn finish(&self) -> u64 {
        // The table looks at the upper bits and at the lower ones; a product mixes upward only.
        self.hash ^ (self.hash >> 32)
    }
}

/// The fractional part of the golden ratio, odd: what Fibonacci hashing multiplies by.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
