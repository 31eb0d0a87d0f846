//! Ids: 16 bytes for a trace, 8 for a span in it, and never all zero.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
};

/// The id of a trace; displayed as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TraceId {
    number: u128,
}

impl TraceId {
    pub(super) fn random() -> Self {
        let state = RandomState::new();
        let number = u128::from(state.hash_one(0_u8)) << 64 | u128::from(state.hash_one(1_u8));
        Self { number: number.max(1) }
    }

    pub(super) const fn number(self) -> u128 {
        self.number
    }

    /// Takes an id off the wire; `None` for zero.
    pub(super) fn of(number: u128) -> Option<Self> {
        (number != 0).then_some(Self { number })
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.number)
    }
}

/// Returns an id for a span. The standard library keys each `RandomState` anew, from what the system's
/// generator gave the thread, so that ids of different threads and processes do not collide.
pub(super) fn new_span_id() -> u64 {
    RandomState::new().hash_one(2_u8).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_do_not_repeat() {
        let spans: HashSet<u64> = (0..10_000).map(|_| new_span_id()).collect();
        let traces: HashSet<TraceId> = (0..10_000).map(|_| TraceId::random()).collect();
        assert_eq!((spans.len(), traces.len()), (10_000, 10_000));
    }

    #[test]
    fn an_id_is_written_in_full() {
        assert_eq!(TraceId::of(0xAF).unwrap().to_string(), format!("{}af", "0".repeat(30)));
        assert_eq!(TraceId::of(0), None);
    }
}
