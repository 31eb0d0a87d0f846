//! A breaker's state in one word.

use super::BreakerState;

/// All that has to change together: the number of the state, which grows with every change, what kind
/// of state it is, and the figures that lead on from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Word {
    pub(super) generation: u32,
    pub(super) phase: Phase,
    /// How often it opened since it was last closed; stays at the most that fits.
    pub(super) trips: u32,
    /// How many probes are out.
    pub(super) out: u32,
    /// How many probes went well.
    pub(super) successes: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Closed,
    /// Open, but how long and why is still being written down.
    Opening,
    Open,
    HalfOpen,
}

impl Word {
    pub(super) const fn closed(generation: u32) -> Self {
        Self { generation, phase: Phase::Closed, trips: 0, out: 0, successes: 0 }
    }

    /// Returns the next state, of another kind, in which no probe is out.
    pub(super) const fn next(self, phase: Phase) -> Self {
        let generation = self.generation.wrapping_add(1);
        Self { generation, phase, out: 0, successes: 0, ..self }
    }

    pub(super) const fn tripped(self) -> Self {
        Self { trips: if self.trips < FIELD { self.trips + 1 } else { FIELD }, ..self }
    }

    #[inline]
    pub(super) const fn pack(self) -> u64 {
        let phase = match self.phase {
            Phase::Closed => 0,
            Phase::Opening => 1,
            Phase::Open => 2,
            Phase::HalfOpen => 3,
        };
        (self.generation as u64) << 32
            | phase << 30
            | ((self.trips & FIELD) as u64) << 20
            | ((self.out & FIELD) as u64) << 10
            | (self.successes & FIELD) as u64
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the fields are cut out")]
    pub(super) const fn unpack(bits: u64) -> Self {
        let low = bits as u32;
        let phase = match low >> 30 {
            0 => Phase::Closed,
            1 => Phase::Opening,
            2 => Phase::Open,
            _ => Phase::HalfOpen,
        };
        Self {
            generation: (bits >> 32) as u32,
            phase,
            trips: low >> 20 & FIELD,
            out: low >> 10 & FIELD,
            successes: low & FIELD,
        }
    }
}

impl Phase {
    pub(super) const fn state(self) -> BreakerState {
        match self {
            Self::Closed => BreakerState::Closed,
            Self::Opening | Self::Open => BreakerState::Open,
            Self::HalfOpen => BreakerState::HalfOpen,
        }
    }
}

/// Ten bits: more than a policy can ask for.
const FIELD: u32 = 1_023;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_all_of_it() {
        for phase in [Phase::Closed, Phase::Opening, Phase::Open, Phase::HalfOpen] {
            let word = Word { generation: u32::MAX, phase, trips: 1_023, out: 1_000, successes: 7 };
            assert_eq!(Word::unpack(word.pack()), word);
        }
        assert_eq!(Word::closed(0).pack(), 0);
    }

    #[test]
    fn generations_come_around_and_trips_stay_at_their_most() {
        let word = Word { generation: u32::MAX, trips: 1_023, ..Word::closed(0) };
        let next = word.tripped().next(Phase::Open);
        assert_eq!((next.generation, next.trips), (0, 1_023));
    }
}
