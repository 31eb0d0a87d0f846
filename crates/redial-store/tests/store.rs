//! The stores on real servers: what each keeps, and what is left when somebody dies in the middle.

#![expect(clippy::unwrap_used, reason = "a test that cannot reach its server should stop")]

#[path = "store/child.rs"]
mod child;
#[path = "store/contract.rs"]
mod contract;
#[path = "store/crash.rs"]
mod crash;
#[path = "store/effects.rs"]
mod effects;
#[path = "store/optimistic.rs"]
mod optimistic;
#[path = "store/redis.rs"]
mod redis;
#[path = "store/servers.rs"]
mod servers;
#[path = "store/sql.rs"]
mod sql;
#[path = "../../redial/tests/support/store_contract.rs"]
mod store_contract;
