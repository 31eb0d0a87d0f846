use std::time::Duration;

use http::{HeaderName, HeaderValue};
use redial_core::{Evidence, Rule, Triggers};

use super::*;

const NOW: i64 = 1_790_000_000;

fn answer(policy: &Policy, code: u16, fields: &[(&'static str, &'static str)]) -> Reading {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let status = StatusCode::from_u16(code).unwrap();
    read_answer(policy, false, Answer { status, headers: &headers }, || NOW, |_| {})
}

fn plain(code: u16) -> Reading {
    answer(&Policy::default(), code, &[])
}

#[test]
fn statuses_mean_what_the_standards_and_the_vectors_say() {
    use Class::{Authentication, InvalidRequest, Other, Server};
    use Verdict::{Permanent, Success, Throttled, Transient};
    let table = [
        (200, Success),
        (204, Success),
        (301, Success),
        (304, Success),
        (400, Permanent(InvalidRequest)),
        (401, Permanent(Authentication)),
        (403, Permanent(Authentication)),
        (404, Permanent(InvalidRequest)),
        (407, Permanent(Authentication)),
        (408, Transient(Other)),
        (409, Permanent(InvalidRequest)),
        (413, Permanent(InvalidRequest)),
        (422, Permanent(InvalidRequest)),
        (425, Transient(Other)),
        (429, Throttled),
        (500, Transient(Server)),
        (501, Permanent(Server)),
        (502, Transient(Server)),
        (503, Transient(Server)),
        (504, Transient(Server)),
        (505, Permanent(Server)),
        (529, Transient(Server)),
    ];
    for (code, verdict) in table {
        assert_eq!(plain(code).verdict, verdict, "{code}");
    }
}

#[test]
fn only_statuses_that_refuse_by_definition_prove_that_nothing_happened() {
    for code in [413, 417, 421, 425, 429] {
        assert_eq!(plain(code).evidence(), Evidence::RejectedUnprocessed, "{code}");
    }
    for code in [400, 401, 404, 408, 409, 500, 502, 503, 504] {
        assert_eq!(plain(code).evidence(), Evidence::MaybeApplied, "{code}");
    }
    let doubting = Policy { is_429_unprocessed: false, ..Policy::default() };
    assert_eq!(answer(&doubting, 429, &[]).evidence(), Evidence::MaybeApplied);
    let field = [("proxy-status", "gw; error=connection_refused; attempts=1")];
    let proven = answer(&Policy::default(), 502, &field);
    assert_eq!(proven.proof, Some(Proof::ProxyStatus));
}

#[test]
fn a_413_is_temporary_only_with_retry_after() {
    let temporary = answer(&Policy::default(), 413, &[("retry-after", "2")]);
    assert_eq!(temporary.verdict, Verdict::Transient(Class::Other));
    assert_eq!(temporary.pushback, Some(Pushback::AtLeast(Duration::from_secs(2))));
}

#[test]
fn a_421_is_sent_again_once_and_a_417_only_when_it_expected_something() {
    assert!(plain(421).at_once && !plain(417).at_once);
    let headers = HeaderMap::new();
    let refused = Answer { status: StatusCode::EXPECTATION_FAILED, headers: &headers };
    assert!(read_answer(&Policy::default(), true, refused, || NOW, |_| {}).at_once);
}

#[test]
fn the_servers_own_word_vetoes_and_enables() {
    let policy = Policy::default();
    let vetoed = answer(&policy, 429, &[("x-should-retry", "false")]);
    assert_eq!(vetoed.verdict, Verdict::Permanent(Class::Throttled));
    let misdirected = answer(&policy, 421, &[("x-should-retry", "false")]);
    assert!(!misdirected.at_once);
    let invited = answer(&policy, 409, &[("x-should-retry", "true")]);
    assert_eq!(invited.verdict, Verdict::Transient(Class::Other));
    assert_eq!(answer(&policy, 200, &[("x-should-retry", "true")]), Reading::SUCCESS);
    let never = answer(&policy, 503, &[("grpc-retry-pushback-ms", "-1")]);
    assert_eq!(never.verdict, Verdict::Permanent(Class::Server));
}

#[test]
fn a_403_over_quota_is_throttling() {
    let field = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1790000060")];
    let reading = answer(&Policy::default(), 403, &field);
    assert_eq!(reading.verdict, Verdict::Throttled);
    assert_eq!(reading.evidence(), Evidence::RejectedUnprocessed);
    assert_eq!(reading.pushback, Some(Pushback::AtLeast(Duration::from_secs(60))));
    let with_wish = answer(&Policy::default(), 403, &[("retry-after", "3")]);
    assert_eq!(with_wish.verdict, Verdict::Throttled);
}

#[test]
fn policies_choose_what_is_retried() {
    let policy = Policy { triggers: Triggers::parse("401,501,dns").unwrap(), ..Policy::default() };
    assert_eq!(answer(&policy, 401, &[]).verdict, Verdict::Transient(Class::Other));
    assert_eq!(answer(&policy, 501, &[]).verdict, Verdict::Transient(Class::Server));
    assert_eq!(answer(&policy, 503, &[]).verdict, Verdict::Permanent(Class::Server));
    assert_eq!(answer(&policy, 429, &[]).verdict, Verdict::Permanent(Class::Throttled));

    let policy = Policy::default();
    let backoff = policy.retry.rule(Class::Server).backoff;
    let retry = policy.retry.with_rule(Class::Authentication, Rule { max_retries: 1, backoff });
    let policy = Policy { retry, ..policy };
    assert_eq!(answer(&policy, 401, &[]).verdict, Verdict::Transient(Class::Authentication));
}

#[test]
fn faults_are_read_by_the_policy_and_keep_their_proof() {
    let policy = Policy::default();
    let reset = read_fault(&policy, Fault::ConnectionReset.into(), |_| {});
    assert_eq!(reset, Reading::new(Verdict::Transient(Class::Connection)).proof(Proof::Sent));
    let unwritten = Diagnosis { fault: Fault::ConnectionReset, proof: Proof::NothingWritten };
    assert_eq!(read_fault(&policy, unwritten, |_| {}).evidence(), Evidence::NeverSent);
    let refused = read_fault(&policy, Fault::RefusedStream.into(), |_| {});
    assert!(refused.at_once);
    let certificate = read_fault(&policy, Fault::TlsCertificate.into(), |_| {});
    assert_eq!(certificate.verdict, Verdict::Permanent(Class::Authentication));
    let none = Policy { triggers: Triggers::NONE, ..policy };
    let refused = read_fault(&none, Fault::RefusedStream.into(), |_| {});
    assert_eq!((refused.verdict, refused.at_once), (Verdict::Permanent(Class::Connection), false));
}

#[test]
fn every_rule_that_applied_is_told() {
    let mut rules = Vec::new();
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", HeaderValue::from_static("2"));
    let unavailable = Answer { status: StatusCode::SERVICE_UNAVAILABLE, headers: &headers };
    let _ = read_answer(
        &Policy::default(),
        false,
        unavailable,
        || NOW,
        |rule| {
            rules.push(rule.to_string());
        },
    );
    assert_eq!(
        rules,
        [
            "status 503 is retried by the policy (RFC 9110 §15.6.4)",
            "maybe_applied: status 503 does not tell whether the request was processed",
            "retry-after asks to wait for 2s",
        ]
    );
}
