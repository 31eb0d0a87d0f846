//! The stacks that are compared. Adding one is adding a line to a list here, in `ours.rs` or in `peers`.

use std::time::Duration;

use redial::core::Entropy;

use crate::{
    ours, peers,
    upstream_model::{Client, Upstream, uniform},
};

/// One way to call an upstream that may fail.
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    /// What was set, and what was left as it comes.
    pub(crate) setup: &'static str,
    /// Whether something in it refuses calls for the upstream's sake.
    pub(crate) refuses: bool,
    /// Whether it reads the system's clock, so that this one has to be ours.
    pub(crate) reads_system_clock: bool,
    /// Makes one client, whose draws come from a seed.
    pub(crate) make: fn(Upstream, u64) -> Client,
}

/// Every stack.
pub(crate) fn all() -> Vec<&'static Stack> {
    let lists = [ours::STACKS, peers::tower::STACKS, peers::tower_resilience::STACKS];
    let more = [peers::seatbelt::STACKS, peers::failsafe::STACKS];
    lists.into_iter().chain(more).flatten().collect()
}

/// The wait before retry number `retry`, from 1: full jitter over 100 ms, doubled each time. Every stack
/// waits like this.
pub(crate) fn wait(retry: u32, entropy: &Entropy) -> Duration {
    FIRST_WAIT.mul_f64(2_f64.powi(i32::try_from(retry).unwrap_or(i32::MAX) - 1) * uniform(entropy))
}

pub(crate) const MAX_RETRIES: u32 = 3;
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(100);
/// For one attempt.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);
