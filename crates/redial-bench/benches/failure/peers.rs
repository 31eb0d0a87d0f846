//! The peers: their documented defaults, but for the waits, the retries and the timeout, which all share.

pub(crate) mod failsafe;
pub(crate) mod seatbelt;
pub(crate) mod tower;
pub(crate) mod tower_resilience;
