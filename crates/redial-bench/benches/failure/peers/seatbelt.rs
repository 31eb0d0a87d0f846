//! seatbelt.

use std::sync::Arc;

use redial::{Rejection, core::Entropy};
use seatbelt::{RecoveryInfo, ResilienceContext, breaker::Breaker, retry::Retry, timeout::Timeout};
use tick::Clock;
use tower::ServiceBuilder;

use crate::{
    stacks::{MAX_RETRIES, Stack, TIMEOUT, wait},
    upstream_model::{Answered, Asked, Client, Refused, Upstream, client},
};

pub(crate) const STACKS: &[Stack] = &[Stack {
    name: "seatbelt: retry, breaker",
    setup: "no budget; breaker on a tenth of at least 100 within 30 s, open for 5 s, then progressive \
            probes; refusals not retried",
    refuses: true,
    reads_system_clock: true,
    make,
}];

type Outcome = Result<Answered, Refused>;

fn make(upstream: Upstream, seed: u64) -> Client {
    let context = ResilienceContext::<Asked, Outcome>::new(Clock::new_tokio());
    let entropy = Arc::new(Entropy::seeded(seed));
    let retry = Retry::layer("retry", &context)
        .clone_input()
        .max_retry_attempts(MAX_RETRIES)
        .recovery_with(move |outcome, args| match outcome {
            Err(Refused(Rejection::BreakerOpen { .. })) => RecoveryInfo::never(),
            outcome if is_well(outcome) => RecoveryInfo::never(),
            _ => RecoveryInfo::retry().delay(wait(args.attempt().index() + 1, &entropy)),
        });
    let breaker =
        Breaker::layer("breaker", &context)
            .recovery_with(|outcome, _| {
                if is_well(outcome) { RecoveryInfo::never() } else { RecoveryInfo::retry() }
            })
            .rejected_input_error(|_, _| Refused(Rejection::BreakerOpen { retry_after: None }));
    let timeout = Timeout::layer("timeout", &context)
        .timeout(TIMEOUT)
        .timeout_error(|_| Refused(Rejection::AttemptTimeout { after: TIMEOUT }));
    let stack = ServiceBuilder::new().layer(retry).layer(breaker).layer(timeout);
    client(stack.service(upstream))
}

fn is_well(outcome: &Outcome) -> bool {
    outcome.as_ref().is_ok_and(|answer| !answer.status().is_server_error())
}
