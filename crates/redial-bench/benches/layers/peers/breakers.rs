//! Breakers, limiters and loops that are no layers: called by hand around the same server.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use backon::{ConstantBuilder, Retryable};
use failsafe::{CircuitBreaker, Config, backoff, failure_policy};
use governor::{Quota, RateLimiter};
use recloser::Recloser;

use crate::{
    Case, Shared,
    road::{Requests, Server, Shape, Well, call, poll},
};

pub(crate) const CASES: &[Case] = &[
    Case {
        group: "breaker",
        name: "failsafe (no slow calls)",
        make: |shape| {
            let open = backoff::exponential(Duration::from_secs(5), Duration::from_secs(60));
            let window = Duration::from_secs(10);
            let policy = failure_policy::success_rate_over_time_window(0.5, 20, window, open);
            let breaker = Config::new().failure_policy(policy).build();
            around(shape, breaker, |breaker, server, requests| {
                let attempt = || call(server, requests.make()).then_some(()).ok_or(());
                assert!(breaker.call(attempt).is_ok(), "the server answers well");
            })
        },
    },
    Case {
        group: "breaker",
        name: "recloser (no slow calls)",
        make: |shape| {
            let breaker = Recloser::custom().error_rate(0.5).closed_len(100).build();
            around(shape, breaker, |breaker, server, requests| {
                let attempt = || call(server, requests.make()).then_some(()).ok_or(());
                assert!(breaker.call(attempt).is_ok(), "the server answers well");
            })
        },
    },
    Case {
        group: "retry + budget",
        name: "backon (no budget, no copy)",
        make: |shape| {
            let waits = ConstantBuilder::default().with_delay(Duration::ZERO).with_max_times(3);
            around(shape, waits, |waits, server, requests| {
                let attempt = || async {
                    let answer = server.answer_to(requests.make());
                    if answer.is_well() { Ok(answer) } else { Err(()) }
                };
                let call = attempt.retry(*waits).sleep(|_| std::future::ready(()));
                assert!(matches!(poll(call), Some(Ok(_))), "a call ended badly");
            })
        },
    },
    Case {
        group: "rate limit",
        name: "governor direct",
        make: |shape| {
            let limiter = RateLimiter::direct(Quota::per_second(MANY));
            around(shape, limiter, |limiter, server, requests| {
                assert!(limiter.check().is_ok(), "the limit is out of reach");
                call(server, requests.make());
            })
        },
    },
    Case {
        group: "rate limit",
        name: "governor keyed",
        make: |shape| {
            let limiter = RateLimiter::keyed(Quota::per_second(MANY));
            around(shape, limiter, |limiter, server, requests| {
                let request = requests.make();
                let host = request.uri().host().unwrap_or_default().to_owned();
                assert!(limiter.check_key(&host).is_ok(), "the limit is out of reach");
                call(server, request);
            })
        },
    },
];

/// Calls a server through `guard`, which all tasks share.
pub(crate) fn around<G: Send + Sync + 'static>(
    shape: Shape,
    guard: G,
    work: fn(&G, &mut Server, &Requests),
) -> Shared {
    let (requests, server, guard) = (Requests::new(shape), Server::new(shape), Arc::new(guard));
    Box::new(move || {
        let (requests, mut server, guard) = (requests.clone(), server.clone(), Arc::clone(&guard));
        Box::new(move || work(&guard, &mut server, &requests))
    })
}

const MANY: NonZeroU32 = NonZeroU32::new(1_000_000_000).unwrap();
