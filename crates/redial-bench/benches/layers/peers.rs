//! The peers, each set up as its own documentation shows, without a wait before a retry.

mod breakers;
mod clients;
mod seatbelt;
mod tower;
mod tower_resilience;

pub(crate) use self::breakers::around;
use crate::Case;

/// Every peer.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    let all =
        [tower::CASES, tower_resilience::CASES, seatbelt::CASES, breakers::CASES, clients::CASES];
    all.into_iter().flatten()
}
