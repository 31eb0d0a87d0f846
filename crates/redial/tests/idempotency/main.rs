//! One key, one execution: both sides, the store in memory, and the two together over sockets.

#![expect(clippy::unwrap_used, reason = "what fails here should stop the test")]

mod bodies;
mod client;
mod fire;
mod leases;
mod memory;
mod routers;
mod server;
mod shop;
#[path = "../support/store_contract.rs"]
mod store_contract;
