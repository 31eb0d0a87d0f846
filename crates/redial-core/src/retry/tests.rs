#![expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::{BudgetPolicy, Evidence, Proof, TokenBudget, Tokens};

const SECOND: Duration = Duration::from_secs(1);

fn transient(class: Class) -> Reading {
    Reading::new(Verdict::transient(class))
}

fn get(reading: Reading) -> Attempt {
    Attempt::first(reading, Idempotency::Safe)
}

fn post(reading: Reading) -> Attempt {
    Attempt::first(reading, Idempotency::None)
}

fn stops(policy: &RetryPolicy, attempt: &Attempt) -> Option<Stop> {
    match policy.decide(attempt, None, u64::MAX) {
        Decision::Stop(stop) => Some(stop),
        Decision::Retry { .. } => None,
    }
}

fn wait(policy: &RetryPolicy, attempt: &Attempt, draw: u64) -> Duration {
    match policy.decide(attempt, None, draw) {
        Decision::Retry { after, .. } => after,
        Decision::Stop(stop) => panic!("stopped: {stop}"),
    }
}

#[test]
fn each_class_has_the_rule_it_is_given_by_default() {
    let policy = RetryPolicy::default();
    let table = [
        (Class::Timeout, 3, 1_000),
        (Class::Throttled, 5, 2_000),
        (Class::Connection, 3, 500),
        (Class::Server, 3, 500),
        (Class::Other, 3, 500),
    ];
    for (class, max_retries, initial_millis) in table {
        let rule = policy.rule(class);
        assert_eq!(rule.max_retries, max_retries, "{class}");
        assert_eq!(rule.backoff.initial(), Duration::from_millis(initial_millis), "{class}");
        assert_eq!(rule.backoff.max(), SECOND * 60, "{class}");
        for number in 1..=max_retries {
            assert_eq!(stops(&policy, &Attempt { number, ..get(transient(class)) }), None);
        }
        let last = Attempt { number: max_retries + 1, ..get(transient(class)) };
        assert_eq!(stops(&policy, &last), Some(Stop::RetriesExhausted));
    }
    assert_eq!(policy.rule(Class::Authentication).max_retries, 0);
    assert_eq!(policy.rule(Class::InvalidRequest).max_retries, 0);
    assert_eq!(policy.most_retries(), 5);
}

#[test]
fn success_and_permanent_failures_end_the_call() {
    let policy = RetryPolicy::default();
    assert_eq!(stops(&policy, &get(Reading::SUCCESS)), Some(Stop::Success));
    let permanent = Reading::new(Verdict::Permanent(Class::Authentication));
    assert_eq!(stops(&policy, &get(permanent)), Some(Stop::Permanent));
}

#[test]
fn a_request_that_is_not_idempotent_is_repeated_only_on_proof() {
    let policy = RetryPolicy::default();
    for evidence in Evidence::ALL {
        let reading = transient(Class::Connection).proof(Proof::Stated(evidence));
        let expected = (!evidence.is_unapplied()).then_some(Stop::MaybeApplied);
        assert_eq!(stops(&policy, &post(reading)), expected, "{evidence}");
        assert_eq!(stops(&policy, &get(reading)), None, "{evidence}");
    }
    let unknown = post(transient(Class::Connection));
    assert_eq!(stops(&policy, &unknown), Some(Stop::MaybeApplied));
    for idempotency in [Idempotency::Method, Idempotency::Key, Idempotency::Declared] {
        assert_eq!(stops(&policy, &Attempt { idempotency, ..unknown }), None);
    }
}

#[test]
fn what_cannot_be_sent_again_is_not() {
    let attempt = Attempt { is_replayable: false, ..get(transient(Class::Server)) };
    assert_eq!(stops(&RetryPolicy::default(), &attempt), Some(Stop::NotReplayable));
}

#[test]
fn the_harm_is_named_before_the_count() {
    let policy = RetryPolicy::default().max_retries(0);
    assert_eq!(stops(&policy, &post(transient(Class::Server))), Some(Stop::MaybeApplied));
    assert_eq!(stops(&policy, &get(transient(Class::Server))), Some(Stop::RetriesExhausted));
}

#[test]
fn a_wish_replaces_the_backoff_and_is_never_undercut() {
    let policy = RetryPolicy::default();
    let wish = Some(Pushback::AtLeast(SECOND * 2));
    let attempt = get(transient(Class::Server).pushback(wish));
    assert_eq!(wait(&policy, &attempt, 0), SECOND * 2);
    assert_eq!(wait(&policy, &attempt, u64::MAX), Duration::from_millis(2_500));
    assert_eq!(policy.bounds(&attempt), Ok((SECOND * 2, Duration::from_millis(2_500))));
    let nothing = get(transient(Class::Server).pushback(Some(Pushback::AtLeast(Duration::ZERO))));
    assert_eq!(wait(&policy, &nothing, u64::MAX), Duration::from_millis(500));
}

#[test]
fn a_wish_beyond_the_cap_or_the_deadline_ends_the_call() {
    let policy = RetryPolicy::default();
    let wish =
        |seconds| get(transient(Class::Server).pushback(Some(Pushback::AtLeast(SECOND * seconds))));
    assert_eq!(stops(&policy, &wish(120)), None);
    assert_eq!(stops(&policy, &wish(121)), Some(Stop::PushbackTooLong));
    let remaining = |seconds| Some(SECOND * seconds);
    let attempt = Attempt { remaining: remaining(2), ..wish(2) };
    assert_eq!(stops(&policy, &attempt), Some(Stop::PushbackTooLong));
    // Two seconds fit into two and a little; the jitter gives way.
    let attempt = Attempt { remaining: Some(Duration::from_millis(2_100)), ..wish(2) };
    assert_eq!(wait(&policy, &attempt, u64::MAX), Duration::from_millis(2_050));
    let ignoring = policy.pushback(PushbackPolicy::ignored());
    assert_eq!(wait(&ignoring, &wish(121), u64::MAX), Duration::from_millis(500));
    assert!(!ignoring.pushback_policy().is_honored());
}

#[test]
fn an_exact_wish_is_kept_and_starts_the_backoff_over() {
    let backoff = Backoff::exponential(SECOND, 2.0, SECOND * 60).unwrap();
    let policy = RetryPolicy::default().backoff(backoff.jitter(Jitter::None).unwrap());
    let plain = get(transient(Class::Server));
    let mut progress = Progress::default();
    for expected in [1, 2, 4] {
        let attempt = Attempt { progress, ..plain };
        let decision = policy.decide(&attempt, None, 0);
        assert_eq!(decision, Decision::Retry { after: SECOND * expected, why: Why::Backoff });
        progress = progress.after(decision, &attempt.reading);
    }
    let wish = plain.reading.pushback(Some(Pushback::Exactly(SECOND / 2)));
    let attempt = Attempt { progress, reading: wish, ..plain };
    let decision = policy.decide(&attempt, None, u64::MAX);
    assert_eq!(decision, Decision::Retry { after: SECOND / 2, why: Why::Pushback });
    let progress = progress.after(decision, &wish);
    assert_eq!(wait(&policy, &Attempt { progress, ..plain }, 0), SECOND);
    assert_eq!(progress.after(Decision::Stop(Stop::Permanent), &wish), progress);
}

#[test]
fn an_ordinary_wish_counts_as_a_step_of_the_backoff() {
    let backoff = Backoff::exponential(SECOND, 2.0, SECOND * 60).unwrap();
    let policy = RetryPolicy::default().backoff(backoff.jitter(Jitter::None).unwrap());
    let wish = transient(Class::Server).pushback(Some(Pushback::AtLeast(SECOND * 3)));
    let decision = policy.decide(&get(wish), None, 0);
    let progress = Progress::default().after(decision, &wish);
    let attempt = Attempt { number: 2, progress, ..get(transient(Class::Server)) };
    assert_eq!(wait(&policy, &attempt, 0), SECOND * 2);
    let third = Attempt { progress: Progress::after_retries(2), ..attempt };
    assert_eq!(wait(&policy, &third, 0), SECOND * 4);
}

#[test]
fn decorrelated_waits_follow_the_wait_before() {
    let backoff = Backoff::new(crate::Growth::Decorrelated, SECOND, SECOND * 60).unwrap();
    let policy = RetryPolicy::default().backoff(backoff);
    let first = get(transient(Class::Server));
    let decision = policy.decide(&first, None, u64::MAX);
    assert_eq!(decision, Decision::Retry { after: SECOND * 3, why: Why::Backoff });
    let progress = Progress::default().after(decision, &first.reading);
    assert_eq!(wait(&policy, &Attempt { progress, ..first }, u64::MAX), SECOND * 9);
}

#[test]
fn a_wait_that_does_not_fit_is_not_begun() {
    let backoff = Backoff::fixed(SECOND).jitter(Jitter::None).unwrap();
    let policy = RetryPolicy::default().backoff(backoff);
    let attempt =
        |remaining| Attempt { remaining: Some(remaining), ..get(transient(Class::Other)) };
    assert_eq!(stops(&policy, &attempt(SECOND)), Some(Stop::Deadline));
    assert_eq!(stops(&policy, &attempt(Duration::ZERO)), Some(Stop::Deadline));
    assert_eq!(wait(&policy, &attempt(SECOND + Duration::from_nanos(1)), 0), SECOND);
    let full = policy.backoff(Backoff::fixed(SECOND));
    assert_eq!(full.bounds(&attempt(SECOND / 2)), Ok((Duration::ZERO, SECOND / 2)));
}

#[test]
fn one_repetition_at_once_is_free_of_wait_count_and_budget() {
    let now = Instant::now();
    let tokens = TokenBudget { initial: Some(Tokens::ZERO), ..TokenBudget::default() };
    let budget = Budget::new(&BudgetPolicy::Tokens(tokens), 3, now);
    let policy = RetryPolicy::default().max_retries(1);
    let misdirected = Reading::new(Verdict::Permanent(Class::Other))
        .proof(Proof::RejectedByStatus(421))
        .at_once();
    let decision = policy.decide(&post(misdirected), Some(Withdrawal::new(&budget, now)), 0);
    assert_eq!(decision, Decision::Retry { after: Duration::ZERO, why: Why::AtOnce });
    let progress = Progress::default().after(decision, &misdirected);
    let second = Attempt { number: 2, progress, ..post(misdirected) };
    assert_eq!(stops(&policy, &second), Some(Stop::Permanent));

    let refused = transient(Class::Connection).proof(Proof::RefusedStream).at_once();
    let second = Attempt { reading: refused, ..second };
    assert_eq!(stops(&policy, &second), None, "the policy's own retry is still there");
    let third = Attempt { number: 3, ..second };
    assert_eq!(stops(&policy, &third), Some(Stop::RetriesExhausted));
}

#[test]
fn the_budget_is_asked_last_and_pays_for_the_retry() {
    let now = Instant::now();
    let budget = Budget::new(&BudgetPolicy::default(), 1, now);
    let decide = |attempt: &Attempt| {
        RetryPolicy::default().decide(attempt, Some(Withdrawal::new(&budget, now)), 0)
    };
    let reading = transient(Class::Server);
    assert_eq!(decide(&post(reading)), Decision::Stop(Stop::MaybeApplied));
    assert_eq!(budget.available(now), Some(Tokens::ONE), "what is not retried is not paid");
    assert!(matches!(decide(&get(reading)), Decision::Retry { .. }));
    assert_eq!(decide(&get(reading)), Decision::Stop(Stop::BudgetExhausted));
}

#[test]
fn a_rule_for_one_class_leaves_the_others_alone() {
    let rule = Rule { max_retries: 9, backoff: Backoff::fixed(SECOND) };
    let policy = RetryPolicy::default().with_rule(Class::Timeout, rule);
    assert_eq!(policy.rule(Class::Timeout), &rule);
    assert_eq!(policy.rule(Class::Server), RetryPolicy::default().rule(Class::Server));
    let policy = policy.max_retries(2);
    let retries = Class::ALL.map(|class| policy.rule(class).max_retries);
    assert_eq!(retries, [0, 2, 0, 2, 2, 2, 2]);
    assert_eq!(policy.rule(Class::Timeout).backoff, rule.backoff);
}

#[test]
fn jitter_is_set_for_all_classes_or_refused() {
    let policy = RetryPolicy::default().jitter(Jitter::Additive).unwrap();
    assert!(
        Class::ALL.iter().all(|class| policy.rule(*class).backoff.spread() == Jitter::Additive)
    );
    assert!(policy.jitter(Jitter::Proportional(2.0)).is_err());
}

#[test]
fn every_reason_has_a_name_and_words() {
    let names = Stop::ALL.map(Stop::name);
    let expected = [
        "success",
        "permanent",
        "maybe_applied",
        "not_replayable",
        "retries_exhausted",
        "pushback_too_long",
        "deadline",
        "budget_exhausted",
        "cancelled",
    ];
    assert_eq!(names, expected);
    assert!(Stop::ALL.iter().all(|stop| 10 < stop.to_string().len()));
    let whys = [Why::AtOnce, Why::Backoff, Why::Pushback].map(Why::name);
    assert_eq!(whys, ["at_once", "backoff", "pushback"]);
}

proptest! {
    /// The promises of a whole call, on a virtual clock: attempts, time and load are bounded
    /// whatever the server does.
    #[test]
    fn a_call_ends_within_its_retries_and_its_deadline(
        outcomes in prop::collection::vec(any_reading(), 1..40),
        max_retries in 0_u32..8,
        deadline_millis in 0_u64..20_000,
        attempt_millis in 0_u64..2_000,
        seed: u64,
    ) {
        let policy = RetryPolicy::default().max_retries(max_retries);
        let entropy = crate::Entropy::seeded(seed);
        let deadline = Duration::from_millis(deadline_millis);
        let (mut now, mut number, mut progress) = (Duration::ZERO, 1, Progress::default());
        for reading in outcomes.iter().cycle() {
            now = (now + Duration::from_millis(attempt_millis)).min(deadline);
            let remaining = Some(deadline - now);
            let attempt = Attempt { number, progress, remaining, ..get(*reading) };
            let decision = policy.decide(&attempt, None, entropy.draw());
            progress = progress.after(decision, reading);
            match decision {
                Decision::Stop(_) => break,
                Decision::Retry { after, .. } => now += after,
            }
            number += 1;
            prop_assert!(now <= deadline);
        }
        prop_assert!(number <= 2 + max_retries, "one more than allowed is the one at once");
    }

    #[test]
    fn what_bounds_say_holds_for_every_draw(
        reading in any_reading(),
        remaining in prop::option::of(0_u64..100_000),
        number in 1_u32..6,
        draw: u64,
    ) {
        let policy = RetryPolicy::default();
        let remaining = remaining.map(Duration::from_millis);
        let progress = Progress::after_retries(number - 1);
        let attempt = Attempt { number, remaining, progress, ..get(reading) };
        match (policy.bounds(&attempt), policy.decide(&attempt, None, draw)) {
            (Ok((low, high)), Decision::Retry { after, .. }) => {
                prop_assert!(low <= after && after <= high);
            }
            (Ok(_), Decision::Stop(stop)) => prop_assert_eq!(stop, Stop::Deadline),
            (Err(stop), decision) => prop_assert_eq!(decision, Decision::Stop(stop)),
        }
    }
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let class = prop::sample::select(&Class::ALL[..]);
    let verdict = prop_oneof![
        8 => class.clone().prop_map(Verdict::transient),
        1 => class.prop_map(Verdict::Permanent),
        1 => Just(Verdict::Success),
    ];
    let wish = prop_oneof![
        Just(None),
        (0..200_000_u64).prop_map(|ms| Some(Pushback::AtLeast(Duration::from_millis(ms)))),
        (0..200_000_u64).prop_map(|ms| Some(Pushback::Exactly(Duration::from_millis(ms)))),
    ];
    (verdict, wish, prop::bool::weighted(0.1)).prop_map(|(verdict, pushback, at_once)| Reading {
        verdict,
        proof: Some(Proof::NothingWritten),
        pushback,
        at_once,
    })
}
