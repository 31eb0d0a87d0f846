//! Tokens that expire: a sliding window in ten slices.

use std::{array, fmt, time::Duration};

use super::tokens::Tokens;
use crate::sync::{AtomicU64, Ordering};

/// An account over a sliding window: what was put in or taken out longer ago no longer counts.
/// Lock-free.
///
/// The window is cut into ten slices, so an entry counts for nine to ten tenths of the window. Each
/// slice holds its own sum beside the number of the turn it belongs to, in one word: whoever finds a
/// slice of an earlier turn clears it, and one compare-and-swap makes sure that this happens once.
pub struct WindowBucket {
    slice_nanos: u64,
    reserve_micros: i64,
    slices: [AtomicU64; SLICES],
    /// The sum of all slices, as the bits of an `i64`: what `take` decides on.
    balance: AtomicU64,
    /// The newest slice for which all older ones are cleared.
    swept: AtomicU64,
}

impl WindowBucket {
    /// Creates an account over `window` in which `reserve` is always there to begin with.
    #[must_use]
    pub fn new(window: Duration, reserve: Tokens) -> Self {
        let slice = window.as_nanos() / SLICES as u128;
        Self {
            slice_nanos: u64::try_from(slice).unwrap_or(u64::MAX).max(1),
            reserve_micros: micros(reserve),
            slices: array::from_fn(|_| AtomicU64::new(0)),
            balance: AtomicU64::new(0),
            swept: AtomicU64::new(0),
        }
    }

    /// Adds tokens at `elapsed` since the account's creation.
    pub fn put(&self, tokens: Tokens, elapsed: Duration) {
        let slice = self.sweep(elapsed);
        self.enter(slice, micros(tokens));
        self.add(micros(tokens));
    }

    /// Takes tokens at `elapsed` since the account's creation; returns whether all of them were
    /// there. If not, none is taken.
    #[must_use]
    pub fn take(&self, tokens: Tokens, elapsed: Duration) -> bool {
        let slice = self.sweep(elapsed);
        let cost = micros(tokens);
        let mut bits = self.balance.load(Ordering::Acquire);
        loop {
            let balance = bits.cast_signed();
            if balance.saturating_add(self.reserve_micros) < cost {
                return false;
            }
            let next = (balance - cost).cast_unsigned();
            match self.balance.compare_exchange_weak(
                bits,
                next,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => break,
                Err(moved) => bits = moved,
            }
        }
        self.enter(slice, -cost);
        true
    }

    /// Returns the tokens that could be taken at `elapsed` since the account's creation.
    #[must_use]
    pub fn available(&self, elapsed: Duration) -> Tokens {
        self.sweep(elapsed);
        let balance = self.balance.load(Ordering::Acquire).cast_signed() + self.reserve_micros;
        let millions = Duration::from_micros(u64::try_from(balance).unwrap_or_default());
        Tokens::whole(1).times(millions)
    }

    /// Clears the slices that have left the window; returns the current slice.
    fn sweep(&self, elapsed: Duration) -> u64 {
        let now = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let slice = now / self.slice_nanos;
        if slice <= self.swept.load(Ordering::Acquire) {
            return slice;
        }
        for place in &self.slices {
            self.expire(place, slice);
        }
        // Every slice is clear before anybody is told so.
        self.swept.fetch_max(slice, Ordering::AcqRel);
        slice
    }

    /// Clears a slice that has left the window.
    fn expire(&self, place: &AtomicU64, slice: u64) {
        let mut bits = place.load(Ordering::Acquire);
        while let (turn, sum) = unpack(bits)
            && sum != 0
            && age(turn, slice) == Age::Expired
        {
            match self.replace(place, bits, pack(slice, 0), sum) {
                Ok(()) => return,
                Err(moved) => bits = moved,
            }
        }
    }

    /// Adds `delta` to the sum of `slice`, clearing what an earlier turn left there.
    fn enter(&self, slice: u64, delta: i64) {
        let place = &self.slices[usize::try_from(slice % SLICES_U64).unwrap_or_default()];
        let mut bits = place.load(Ordering::Acquire);
        loop {
            let (turn, sum) = unpack(bits);
            let (turn, kept) = match age(turn, slice) {
                Age::Current => (slice, sum),
                Age::Expired => (slice, 0),
                // Whoever comes late enters into the turn that has begun meanwhile.
                Age::Ahead => (turn, sum),
            };
            match self.replace(place, bits, pack(turn, kept + delta), sum - kept) {
                Ok(()) => return,
                Err(moved) => bits = moved,
            }
        }
    }

    /// Swaps a slice's word for one that leaves `expired` out, and takes that off the balance.
    ///
    /// Deposits leave the balance *before* the slice is seen to be clear and withdrawals after, so
    /// the balance is at no moment above what the window holds: two threads that meet here may
    /// refuse a token too many, never grant one.
    fn replace(&self, place: &AtomicU64, from: u64, to: u64, expired: i64) -> Result<(), u64> {
        let (deposits, withdrawals) = (expired.max(0), expired.min(0));
        self.add(-deposits);
        let swapped = place.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        match swapped {
            Ok(_) => self.add(-withdrawals),
            Err(_) => self.add(deposits),
        }
        swapped.map(|_| ())
    }

    fn add(&self, delta: i64) {
        if delta == 0 {
            return;
        }
        // Two's complement: adding the bits adds the numbers, below zero as well.
        self.balance.fetch_add(delta.cast_unsigned(), Ordering::AcqRel);
    }
}

impl fmt::Debug for WindowBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowBucket").finish_non_exhaustive()
    }
}

#[derive(Eq, PartialEq)]
enum Age {
    Current,
    Expired,
    Ahead,
}

fn age(turn: u64, slice: u64) -> Age {
    match slice.wrapping_sub(turn) & TURN_MASK {
        0..SLICES_U64 => Age::Current,
        behind if behind <= TURN_MASK / 2 => Age::Expired,
        _ => Age::Ahead,
    }
}

/// A slice's word: 20 bits of its number, which come around after a million slices, and 44 bits of
/// its sum in millionths, which hold 8 million tokens; a sum beyond stays at the edge.
const fn pack(slice: u64, sum: i64) -> u64 {
    let sum = if sum < -SUM_MAX {
        -SUM_MAX
    } else if SUM_MAX < sum {
        SUM_MAX
    } else {
        sum
    };
    ((slice & TURN_MASK) << SUM_BITS) | (sum.cast_unsigned() & ((1 << SUM_BITS) - 1))
}

const fn unpack(bits: u64) -> (u64, i64) {
    // The shift to the left and back spreads the sum's sign.
    (bits >> SUM_BITS, (bits << (64 - SUM_BITS)).cast_signed() >> (64 - SUM_BITS))
}

fn micros(tokens: Tokens) -> i64 {
    i64::try_from(tokens.nanos() / 1_000).unwrap_or(i64::MAX)
}

const SLICES: usize = 10;
const SLICES_U64: u64 = SLICES as u64;
const SUM_BITS: u32 = 44;
const SUM_MAX: i64 = (1 << (SUM_BITS - 1)) - 1;
const TURN_MASK: u64 = (1 << (64 - SUM_BITS)) - 1;

#[cfg(test)]
mod packing {
    use super::*;

    #[test]
    fn a_turn_is_current_expired_or_ahead_even_where_numbers_come_around() {
        let ages =
            [(5, 5), (5, 14), (5, 15), (15, 5), (0, 1 << 19), (TURN_MASK, 3), (3, TURN_MASK)];
        let [now, last, old, ahead, far, around, before] = ages.map(|(turn, at)| age(turn, at));
        assert!(now == Age::Current && last == Age::Current && around == Age::Current);
        assert!(old == Age::Expired && ahead == Age::Ahead && before == Age::Ahead);
        assert!(far == Age::Ahead && age(0, (1 << 19) - 1) == Age::Expired);
    }

    #[test]
    fn a_word_holds_a_turn_and_a_signed_sum() {
        for sum in [0, 1, -1, SUM_MAX, -SUM_MAX, 123_456_789, -987_654_321] {
            assert_eq!(unpack(pack(7, sum)), (7, sum));
        }
        assert_eq!(unpack(pack(0, SUM_MAX + 1)), (0, SUM_MAX));
        assert_eq!(unpack(pack(0, -SUM_MAX - 1)), (0, -SUM_MAX));
        assert_eq!(unpack(pack(TURN_MASK + 5, -3)), (4, -3));
    }
}
