//! seatbelt.

use std::time::Duration;

use seatbelt::{RecoveryInfo, ResilienceContext, breaker::Breaker, retry::Retry, timeout::Timeout};
use tick::Clock;
use tower::ServiceBuilder;

use crate::{
    Case, drive,
    road::{Answered, Asked, Refused, Server},
};

type Outcome = Result<Answered, Refused>;

pub(crate) const CASES: &[Case] = &[
    Case {
        group: "retry + budget",
        name: "seatbelt (no budget)",
        make: |shape| {
            let retry = Retry::layer("retry", &context()).clone_input().base_delay(Duration::ZERO);
            let stack = ServiceBuilder::new().layer(retry.recovery_with(|o, _| recovery(o)));
            drive(shape, stack.service(Server::new(shape)))
        },
    },
    Case {
        group: "breaker",
        name: "seatbelt",
        make: |shape| {
            let breaker = Breaker::layer("breaker", &context())
                .recovery_with(|o, _| recovery(o))
                .rejected_input_error(|_, _| refused());
            drive(shape, ServiceBuilder::new().layer(breaker).service(Server::new(shape)))
        },
    },
    Case {
        group: "stack",
        name: "seatbelt: retry, breaker, timeout",
        make: |shape| {
            let context = context();
            let retry = Retry::layer("retry", &context)
                .clone_input()
                .base_delay(Duration::ZERO)
                .recovery_with(|o, _| recovery(o));
            let breaker = Breaker::layer("breaker", &context)
                .recovery_with(|o, _| recovery(o))
                .rejected_input_error(|_, _| refused());
            let timeout = Timeout::layer("timeout", &context)
                .timeout(Duration::from_secs(30))
                .timeout_error(|_| refused());
            let stack = ServiceBuilder::new().layer(retry).layer(breaker).layer(timeout);
            drive(shape, stack.service(Server::new(shape)))
        },
    },
];

fn context() -> ResilienceContext<Asked, Outcome> {
    ResilienceContext::new(Clock::new_tokio())
}

fn recovery(outcome: &Outcome) -> RecoveryInfo {
    match outcome {
        Ok(answer) if !answer.status().is_server_error() => RecoveryInfo::never(),
        _ => RecoveryInfo::retry(),
    }
}

fn refused() -> Refused {
    Refused(redial::Rejection::Throttled)
}
