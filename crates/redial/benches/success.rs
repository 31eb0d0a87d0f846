//! What a call that succeeds costs: nanoseconds and allocations, layer by layer.
//!
//! `cargo bench -p redial`. Times are medians of 9 rounds on this machine; compare them within one run
//! only. Allocations are exact.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

#[path = "../tests/support/road.rs"]
mod road;

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use redial::{
    AttemptTimeoutLayer, ChaosLayer, DeadlineLayer, LogLayer, Omit, PolicyCell, ResumeLayer,
    RetryLayer, StallTimeoutLayer,
    core::{Policy, ResumePolicy, StallPolicy},
};
use road::{Ideal, call, request};
use tower::{Layer, Service};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let Ok(runtime) = runtime else { return };
    let _inside = runtime.enter();
    println!("{:<34}{:>10}{:>8}{:>12}{:>8}", "", "0 fields", "allocs", "6 fields", "allocs");
    let policy = Policy::default;
    row("bare", &mut Ideal);
    row("retry + budget", &mut RetryLayer::new(policy()).layer(Ideal));
    row("attempt timeout", &mut AttemptTimeoutLayer::new(policy().attempt_timeout).layer(Ideal));
    let deadline = DeadlineLayer::new(std::time::Duration::from_secs(9));
    row("deadline", &mut deadline.layer(Ideal));
    row("log, nobody listening", &mut LogLayer::new().layer(Ideal));
    let cell = PolicyCell::new(policy());
    row("chaos, none in the policy", &mut ChaosLayer::new(cell).layer(Ideal));
    row("resume", &mut ResumeLayer::new(ResumePolicy::default()).layer(Ideal));
    row("stall", &mut StallTimeoutLayer::new(StallPolicy::default()).layer(Ideal));
    row("standard stack", &mut redial::stack(policy()).layer(Ideal));
    row("standard stack without retry", &mut redial::stack(policy()).retry(Omit).layer(Ideal));
}

fn row<S: Service<Request<Empty<Bytes>>>>(name: &str, client: &mut S) {
    let [none, six] = [0, 6].map(|fields| (nanos(client, fields), allocations(client, fields)));
    println!("{name:<34}{:>8} ns{:>8}{:>10} ns{:>8}", none.0, none.1, six.0, six.1);
}

/// The median of 9 rounds, with the making of the request taken off.
fn nanos<S: Service<Request<Empty<Bytes>>>>(client: &mut S, fields: usize) -> u128 {
    let mut rounds = [(); 9].map(|()| {
        let prepared: Vec<_> = (0..CALLS).map(|_| request(fields)).collect();
        let started = Instant::now();
        for request in prepared {
            black_box(call(client, black_box(request)));
        }
        started.elapsed().as_nanos() / u128::from(CALLS)
    });
    rounds.sort_unstable();
    rounds[4]
}

fn allocations<S: Service<Request<Empty<Bytes>>>>(client: &mut S, fields: usize) -> u64 {
    let sent = request(fields);
    allocation_counter::measure(|| {
        black_box(call(client, sent));
    })
    .count_total
}

const CALLS: u32 = 20_000;
