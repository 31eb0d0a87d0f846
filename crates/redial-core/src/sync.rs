//! The atomics that this crate counts with, and the locks that it only ever tries, so that loom can
//! stand in for them.

#[cfg(loom)]
pub(crate) use loom::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::yield_now,
};
#[cfg(not(loom))]
pub(crate) use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::yield_now,
};

/// A cache line of its own, and the one that processors fetch along with it: what one thread writes
/// there slows no reader of anything else.
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// How many groups threads are dealt into, so that the members of different groups never write to the
/// same cache line. Loom models have one, in which everybody meets.
#[cfg(not(loom))]
pub(crate) const LANES: usize = 8;
#[cfg(loom)]
pub(crate) const LANES: usize = 1;

/// Returns the group of the thread that asks: always the same one, below [`LANES`].
#[cfg(not(loom))]
pub(crate) fn lane() -> u8 {
    use std::{cell::Cell, sync::atomic::AtomicU8};

    const UNKNOWN: u8 = u8::MAX;
    const LAST: u8 = 7;
    const { assert!(LAST as usize + 1 == LANES) };
    static NEXT: AtomicU8 = AtomicU8::new(0);
    thread_local!(static LANE: Cell<u8> = const { Cell::new(UNKNOWN) });

    let lane = LANE.get();
    if lane != UNKNOWN {
        return lane;
    }
    // In turn: threads that are started together end up apart.
    let lane = NEXT.fetch_add(1, Ordering::Relaxed) & LAST;
    LANE.set(lane);
    lane
}

#[cfg(loom)]
pub(crate) const fn lane() -> u8 {
    0
}
