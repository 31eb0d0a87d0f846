use std::{io, time::Duration};

use http::Request;
use redial::{BoxError, Rejection};
use redial_core::{
    Attempt, Decision, Evidence, Idempotency, PushbackPolicy, RetryPolicy, Rule, Stop,
};
use tonic::ConnectError;

use super::*;
use crate::{codes::CodeSet, methods::MethodSet, policy::GrpcPolicy, test_error::outer};

type Outcome = Result<Response<()>, GrpcError>;

fn answer(status: u16, fields: &[(&str, &str)]) -> Outcome {
    let response = Response::builder().status(status);
    let fields = fields.iter();
    Ok(fields.fold(response, |r, (name, value)| r.header(*name, *value)).body(()).unwrap())
}

fn ended(code: Code) -> Outcome {
    answer(200, &[("grpc-status", &(code as i32).to_string())])
}

fn broken(error: impl Into<BoxError>) -> Outcome {
    Err(GrpcError::from_transport(outer(error).into()))
}

fn read(policy: &GrpcPolicy, outcome: &Outcome) -> Reading {
    let request = Request::post("/shop.Orders/Place").body(()).unwrap();
    let (request, ()) = request.into_parts();
    GrpcClassifier::new(policy.clone()).classify(policy.policy(), &(&request).into(), outcome)
}

fn decide(policy: &GrpcPolicy, reading: Reading) -> Decision {
    let attempt = Attempt::first(reading, Idempotency::Declared);
    policy.policy().retry.decide(&attempt, None, u64::MAX)
}

#[test]
fn only_listed_codes_are_worth_a_retry() {
    let policy = GrpcPolicy::default();
    for code in (1..=16).map(Code::from_i32) {
        let reading = read(&policy, &ended(code));
        let is_transient = matches!(reading.verdict, Verdict::Transient(_) | Verdict::Throttled);
        assert_eq!(is_transient, code == Code::Unavailable, "{code:?}");
        assert_eq!(reading.evidence(), Evidence::MaybeApplied, "no code proves anything");
    }
    assert_eq!(read(&policy, &ended(Code::Ok)), Reading::SUCCESS);
    assert_eq!(read(&policy, &answer(200, &[])), Reading::SUCCESS, "headers commit");
}

#[test]
fn any_code_can_be_listed_whatever_the_rule_of_its_class() {
    for code in (1..=16).map(Code::from_i32) {
        let policy = GrpcPolicy::default().with_codes(CodeSet::of(&[code]));
        let decision = decide(&policy, read(&policy, &ended(code)));
        assert!(matches!(decision, Decision::Retry { .. }), "{code:?}: {decision:?}");
    }
    let rule = Rule { max_retries: 1, ..*RetryPolicy::default().rule(Class::Authentication) };
    let retry = RetryPolicy::default().with_rule(Class::Authentication, rule);
    let policy = GrpcPolicy::new(Policy { retry, ..Policy::default() });
    let policy = policy.with_codes(CodeSet::of(&[Code::Unauthenticated]));
    let reading = read(&policy, &ended(Code::Unauthenticated));
    assert_eq!(reading.verdict, Verdict::Transient(Class::Authentication));
}

#[test]
fn pushback_replaces_the_backoff_or_ends_the_call() {
    let policy = GrpcPolicy::default();
    let with = |code: &str, pushback: &str| {
        answer(200, &[("grpc-status", code), ("grpc-retry-pushback-ms", pushback)])
    };
    let reading = read(&policy, &with("14", "250"));
    let wait = Duration::from_millis(250);
    assert_eq!(reading.pushback, Some(Pushback::Exactly(wait)));
    assert!(matches!(decide(&policy, reading), Decision::Retry { after, .. } if after == wait));
    // A code that is not listed is final, whatever wait is named.
    assert_eq!(decide(&policy, read(&policy, &with("3", "250"))), Decision::Stop(Stop::Permanent));
    for code in ["14", "3"] {
        let reading = read(&policy, &with(code, "-1"));
        assert!(matches!(reading.verdict, Verdict::Transient(_)), "a failure for the throttle");
        assert_eq!(decide(&policy, reading), Decision::Stop(Stop::PushbackTooLong));
    }
    // Where a wait of any length would be obeyed, or none is, there is no wait to express it by.
    let endless = PushbackPolicy::new(Duration::MAX, 0.0).unwrap();
    for pushback in [endless, PushbackPolicy::ignored()] {
        let retry = RetryPolicy::default().pushback(pushback);
        let policy = GrpcPolicy::new(Policy { retry, ..Policy::default() });
        let decision = decide(&policy, read(&policy, &with("14", "-1")));
        assert_eq!(decision, Decision::Stop(Stop::Permanent));
    }
}

#[test]
fn methods_that_are_not_declared_are_repeated_on_proof_alone() {
    let policy =
        GrpcPolicy::default().with_idempotent(MethodSet::of(["/shop.Orders/Get*"]).unwrap());
    let refused = || outer(io::Error::from(io::ErrorKind::ConnectionRefused));
    let outcomes = [
        (ended(Code::Unavailable), false),
        (broken(io::Error::from(io::ErrorKind::ConnectionReset)), false),
        (broken(ConnectError(Box::new(refused()))), true),
    ];
    for (outcome, is_repeated) in outcomes {
        let decision = decide(&policy, read(&policy, &outcome));
        assert_eq!(matches!(decision, Decision::Retry { .. }), is_repeated, "{outcome:?}");
        let anywhere = GrpcPolicy::default();
        let decision = decide(&anywhere, read(&anywhere, &outcome));
        assert!(matches!(decision, Decision::Retry { .. }), "{outcome:?}");
    }
}

#[test]
fn answers_that_are_not_grpc_are_read_by_their_http_status() {
    let policy = GrpcPolicy::default();
    let verdict = |status| read(&policy, &answer(status, &[])).verdict;
    assert_eq!(verdict(503), Verdict::Transient(Class::Server));
    assert_eq!(verdict(429), Verdict::Throttled);
    assert_eq!(verdict(401), Verdict::Permanent(Class::Authentication));
    assert_eq!(verdict(500), Verdict::Permanent(Class::Other));
    let proof = |status| read(&policy, &answer(status, &[])).proof;
    assert_eq!(proof(429), Some(Proof::RejectedByStatus(429)));
    assert_eq!(proof(302), Some(Proof::UnclearStatus(302)));
    let reading = read(&policy, &answer(503, &[("retry-after", "7")]));
    assert_eq!(reading.pushback, Some(Pushback::AtLeast(Duration::from_secs(7))));
}

#[test]
fn a_refusal_by_a_proxys_rate_limit_is_final_unless_it_names_the_wait() {
    let policy = GrpcPolicy::default();
    let limited = [("grpc-status", "14"), ("x-envoy-ratelimited", "true")];
    let reading = read(&policy, &answer(200, &limited));
    assert_eq!(reading.verdict, Verdict::Permanent(Class::Server));
    let named = [&limited[..], &[("grpc-retry-pushback-ms", "9")]].concat();
    assert_eq!(read(&policy, &answer(200, &named)).verdict, Verdict::Transient(Class::Server));
}

#[test]
fn our_own_refusals_are_final_and_an_injected_reset_is_not() {
    let policy = GrpcPolicy::default();
    let verdict = |rejection| read(&policy, &Err(GrpcError::from(rejection))).verdict;
    let breaker = Rejection::BreakerOpen { retry_after: None };
    assert_eq!(verdict(breaker), Verdict::Permanent(Class::Other));
    assert_eq!(verdict(Rejection::Throttled), Verdict::Permanent(Class::Other));
    assert_eq!(verdict(Rejection::InjectedReset), Verdict::Transient(Class::Connection));
    let late = Rejection::AttemptTimeout { after: Duration::from_secs(1) };
    assert_eq!(verdict(late), Verdict::Permanent(Class::Timeout), "its code is not listed");
}

#[test]
fn codes_tell_how_the_upstream_is() {
    let assess = |outcome: &Outcome| GrpcAssess.assess(outcome);
    let health = |code| assess(&ended(code)).health;
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded] {
        assert_eq!(health(code), Health::Overloaded, "{code:?}");
    }
    for code in [Code::Unknown, Code::Internal, Code::DataLoss] {
        assert_eq!(health(code), Health::Failed, "{code:?}");
    }
    for code in
        [Code::Ok, Code::NotFound, Code::InvalidArgument, Code::Unimplemented, Code::Aborted]
    {
        assert_eq!(health(code), Health::Well, "{code:?}");
    }
    assert_eq!(health(Code::Cancelled), Health::Unknown);
    assert_eq!(assess(&answer(200, &[])).health, Health::Well);
    assert_eq!(assess(&answer(503, &[])).health, Health::Overloaded);
    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    assert_eq!(assess(&broken(reset)).health, Health::Failed);
    assert_eq!(assess(&Err(Rejection::Throttled.into())).health, Health::Unknown);
    let busy = answer(200, &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "250")]);
    assert_eq!(assess(&busy).pushback, Some(Duration::from_millis(250)));
    let busy = answer(200, &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "-1")]);
    assert_eq!(assess(&busy).pushback, None);
}
