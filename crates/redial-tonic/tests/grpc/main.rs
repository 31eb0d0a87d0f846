//! Tonic's client and tonic's server over loopback sockets, with Redial between them.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

mod client;
mod deadlines;
mod example;
mod faults;
mod peeking;
mod refusals;
mod retries;
mod server;
mod streams;

use std::time::Duration;

use redial::core::{Backoff, Jitter, Policy, RetryPolicy};
use redial_tonic::GrpcPolicy;

/// Three retries after 100, 200 and 400 ms, whatever fails. Without a timeout for attempts: a paused
/// clock would jump to it while sockets are waited for.
fn policy() -> GrpcPolicy {
    GrpcPolicy::new(base())
}

fn base() -> Policy {
    let backoff = Backoff::exponential(MS * 100, 2.0, MS * 1_000).unwrap();
    let backoff = backoff.jitter(Jitter::None).unwrap();
    let retry = RetryPolicy::default().max_retries(3).backoff(backoff);
    Policy { retry, attempt_timeout: None, ..Policy::default() }
}

const MS: Duration = Duration::from_millis(1);
