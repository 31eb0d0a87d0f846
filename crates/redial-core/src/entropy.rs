//! Random draws that can be repeated.
//!
//! Policies take 64 random bits as an argument; this is where a running program gets them. The
//! generator is `SplitMix64` over a shared counter: one atomic addition a draw, no lock, and a seed
//! fixes the whole sequence.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};

/// A seeded source of uniformly random draws, shared by reference between threads.
///
/// Not for secrets: whoever knows the seed knows every draw.
///
/// # Examples
///
/// ```
/// use redial_core::Entropy;
///
/// let (a, b) = (Entropy::seeded(7), Entropy::seeded(7));
/// assert_eq!([a.draw(), a.draw()], [b.draw(), b.draw()]);
/// ```
pub struct Entropy {
    state: AtomicU64,
}

impl Entropy {
    /// Creates a source whose draws depend on `seed` alone.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// Returns the next 64 uniformly random bits.
    pub fn draw(&self) -> u64 {
        // The counter orders nothing but itself.
        mix(self.state.fetch_add(GOLDEN_GAMMA, Ordering::Relaxed).wrapping_add(GOLDEN_GAMMA))
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entropy").finish_non_exhaustive()
    }
}

/// Returns the draw number `n`, from 0, of a source with this seed.
pub(crate) const fn nth_draw(seed: u64, n: u64) -> u64 {
    mix(seed.wrapping_add(GOLDEN_GAMMA.wrapping_mul(n.wrapping_add(1))))
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", OOPSLA 2014).
const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn draws_match_the_published_sequence() {
        // First outputs of the reference `splitmix64.c` for the seed 1234567.
        let entropy = Entropy::seeded(1_234_567);
        let draws = [entropy.draw(), entropy.draw(), entropy.draw()];
        let published =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(draws, published);
        assert_eq!([0, 1, 2].map(|n| nth_draw(1_234_567, n)), published);
    }

    #[test]
    fn debug_output_keeps_the_state_to_itself() {
        assert_eq!(format!("{:?}", Entropy::seeded(42)), "Entropy { .. }");
    }
}
