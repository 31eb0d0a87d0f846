use proptest::prelude::*;

use super::*;

const MILLI: Duration = Duration::from_millis(1);
const NANO: Duration = Duration::from_nanos(1);

#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
fn begin() -> Instant {
    Instant::now()
}

/// Every attempt that ends closes a window.
fn eager(algorithm: LimitAlgorithm) -> AdaptivePolicy {
    let policy = AdaptivePolicy::default().with_algorithm(algorithm);
    policy.with_window(Duration::ZERO, 1).unwrap()
}

/// Sends `count` at once, and answers each after `latency` as `health` says; returns the time then.
fn wave(
    limit: &AdaptiveLimit,
    now: Instant,
    count: usize,
    health: Health,
    latency: Duration,
) -> Instant {
    let permits: Vec<_> =
        (0..count).filter_map(|_| LimitPermit::try_acquire(limit, now).ok()).collect();
    let then = now + latency;
    for permit in &permits {
        permit.record(health, false, then);
    }
    then
}

#[test]
fn as_many_are_admitted_as_the_limit_says_and_a_dropped_permit_makes_room() {
    let now = begin();
    let limit = AdaptiveLimit::new(&AdaptivePolicy::default(), now);
    let mut permits: Vec<_> =
        (0..20).map(|_| LimitPermit::try_acquire(&limit, now).unwrap()).collect();
    assert_eq!(LimitPermit::try_acquire(&limit, now).unwrap_err(), 20);
    permits.pop();
    assert!(LimitPermit::try_acquire(&limit, now).is_ok());
    drop(permits);
    assert_eq!(limit.in_flight(), 0);
    assert_eq!(format!("{limit:?}"), "AdaptiveLimit { limit: 20, in_flight: 0, .. }");
}

#[test]
fn a_limit_does_not_grow_while_less_than_half_of_it_is_used() {
    for algorithm in [LimitAlgorithm::Aimd, LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2] {
        let mut now = begin();
        let limit = AdaptiveLimit::new(&eager(algorithm), now);
        for _ in 0..1_000 {
            now = wave(&limit, now, 9, Health::Well, 10 * MILLI);
        }
        assert_eq!(limit.limit(), 20, "{algorithm:?}");
        for _ in 0..1_000 {
            now = wave(&limit, now, 10, Health::Well, 10 * MILLI);
        }
        assert!(limit.limit() <= 20, "{algorithm:?}: twice of what was in flight");
    }
}

#[test]
fn a_limit_grows_while_all_of_it_is_used_and_answers_stay_fast() {
    for algorithm in [LimitAlgorithm::Aimd, LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2] {
        let mut now = begin();
        let limit = AdaptiveLimit::new(&eager(algorithm), now);
        let mut highest = 0;
        for _ in 0..800 {
            now = wave(&limit, now, 1_000, Health::Well, 10 * MILLI);
            highest = highest.max(limit.limit());
        }
        assert_eq!(highest, 200, "{algorithm:?}: the most that the policy allows");
    }
}

#[test]
fn overload_cuts_the_limit_by_a_tenth_a_window_down_to_the_lowest() {
    for algorithm in [LimitAlgorithm::Aimd, LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2] {
        let mut now = begin();
        let policy = AdaptivePolicy::default().with_algorithm(algorithm);
        let policy = policy.with_limits(3, 20, 200).unwrap();
        let limit = AdaptiveLimit::new(&policy, now);
        for wanted in [18, 16, 14] {
            now += Duration::from_secs(3);
            now = wave(&limit, now, 10, Health::Overloaded, MILLI);
            assert_eq!(limit.limit(), wanted, "{algorithm:?}");
        }
        for _ in 0..100 {
            now += Duration::from_secs(3);
            for _ in 0..4 {
                now = wave(&limit, now, 3, Health::Overloaded, MILLI);
            }
        }
        assert_eq!(limit.limit(), 3, "{algorithm:?}");
    }
}

#[test]
fn a_little_overload_and_failures_of_other_kinds_do_not_cut_it() {
    let mut now = begin();
    let limit = AdaptiveLimit::new(&AdaptivePolicy::default(), now);
    for _ in 0..50 {
        now += Duration::from_secs(3);
        now = wave(&limit, now, 19, Health::Failed, MILLI);
        now = wave(&limit, now, 1, Health::Overloaded, MILLI);
        now = wave(&limit, now, 20, Health::Unknown, MILLI);
    }
    assert_eq!(limit.limit(), 20);
    assert_eq!(limit.baseline(), None, "a fast failure is no latency");
}

#[test]
fn repeated_attempts_give_no_latency_and_their_overload_counts() {
    let mut now = begin();
    let limit = AdaptiveLimit::new(&AdaptivePolicy::default(), now);
    let mut send = |health, is_repeat| {
        now += Duration::from_secs(1);
        let permit = LimitPermit::try_acquire(&limit, now).unwrap();
        now += 10 * MILLI;
        permit.record(health, is_repeat, now)
    };
    (0..30).for_each(|_| assert_eq!(send(Health::Well, true), None));
    assert_eq!(limit.baseline(), None);
    let changes: Vec<_> = (0..10).filter_map(|_| send(Health::Overloaded, true)).collect();
    assert_eq!(changes, [LimitChange { from: 20, to: 18 }]);
}

#[test]
fn a_slow_answer_is_overload_to_an_algorithm_that_learns_no_latency() {
    let slow = AdaptivePolicy::default().slow_after();
    assert_eq!(slow, Duration::from_secs(5));
    for (latency, wanted) in [(slow - MILLI, 20), (slow, 18)] {
        let now = begin();
        let limit = AdaptiveLimit::new(&eager(LimitAlgorithm::Aimd), now);
        wave(&limit, now, 1, Health::Well, latency);
        assert_eq!(limit.limit(), wanted, "{latency:?}");
    }
}

#[test]
fn an_attempt_that_is_given_up_late_is_a_latency_and_an_early_one_is_nothing() {
    let mut now = begin();
    let policy = eager(LimitAlgorithm::Vegas).with_limits(1, 20, 20).unwrap();
    let limit = AdaptiveLimit::new(&policy, now);
    for _ in 0..20 {
        now = wave(&limit, now, 20, Health::Well, 10 * MILLI);
    }
    let give_up = |now: Instant, after: Duration| {
        let permits: Vec<_> =
            (0..20).map_while(|_| LimitPermit::try_acquire(&limit, now).ok()).collect();
        permits.iter().filter_map(|permit| permit.abandon(false, now + after)).count()
    };
    assert_eq!(give_up(now, 5 * MILLI), 0, "perhaps it would have come at once");
    now += Duration::from_secs(1);
    assert_ne!(give_up(now, Duration::from_secs(1)), 0, "callers left, one after the other");
    assert!(limit.limit() < 20);
}

#[test]
fn what_never_answers_does_not_keep_a_probe_going() {
    let mut now = begin();
    let policy = AdaptivePolicy::default().with_limits(1, 20, 20).unwrap();
    let limit = AdaptiveLimit::new(&policy, now);
    while limit.limit() == 20 {
        now += Duration::from_millis(500);
        now = wave(&limit, now, 20, Health::Well, 10 * MILLI);
    }
    assert_eq!(limit.limit(), 10, "half of what it works on");
    // Twelve bodies are read for hours, and more calls come.
    limit.gate.set_limit(20);
    let bodies: Vec<_> = (0..12).map(|_| LimitPermit::try_acquire(&limit, now).unwrap()).collect();
    limit.gate.set_limit(10);
    assert!(LimitPermit::try_acquire(&limit, now).is_err());
    for _ in 0..2 {
        now += Duration::from_secs(1);
        let _ = LimitPermit::try_acquire(&limit, now);
    }
    assert!(LimitPermit::try_acquire(&limit, now).is_ok(), "the probe is over");
    assert_eq!((limit.limit(), bodies.len()), (20, 12));
}

#[test]
fn another_policy_takes_over_what_is_in_flight_and_what_was_learned() {
    let mut now = begin();
    let before = AdaptiveLimit::new(&eager(LimitAlgorithm::Gradient2), now);
    for _ in 0..400 {
        now = wave(&before, now, 1_000, Health::Well, 10 * MILLI);
    }
    let held = LimitPermit::try_acquire(&before, now).unwrap();
    let policy = eager(LimitAlgorithm::Gradient2).with_limits(1, 20, 50).unwrap();
    let after = before.succeeded_by(&policy, now);
    assert_eq!((after.limit(), after.in_flight()), (50, 1));
    assert_eq!(after.baseline(), before.baseline());
    assert_eq!(after.policy(), &policy);
    held.record(Health::Overloaded, false, now);
    assert_eq!(after.limit(), 50, "what an old policy counted moves nothing any more");
    drop(held);
    assert_eq!(after.in_flight(), 0);
}

#[test]
fn errors_state_the_values_and_the_rule() {
    let policy = AdaptivePolicy::default();
    let told = |outcome: Result<AdaptivePolicy, InvalidAdaptiveLimit>| {
        outcome.map_err(|error| error.to_string()).unwrap_err()
    };
    assert_eq!(
        told(policy.with_limits(5, 4, 9)),
        "limits of 5 at least, 4 at first and 9 at most are not within 1 to 2097151 and in that order"
    );
    assert_eq!(told(policy.with_tolerance(0.9)), "tolerance 0.9 is not within 1 to 10");
    assert_eq!(told(policy.with_tolerance(f64::NAN)), "tolerance NaN is not within 1 to 10");
    assert_eq!(
        told(policy.with_slow_after(Duration::ZERO)),
        "answers cannot be slow after no time at all"
    );
    assert_eq!(
        told(policy.with_overload_ratio(0.0)),
        "overload ratio 0 is not above 0 and at most 1"
    );
    assert_eq!(
        told(policy.with_window(Duration::from_secs(61), 1)),
        "a window of 61s and 1 samples is not within 60s and of 1 sample at least"
    );
    assert!(policy.with_window(Duration::ZERO, 0).is_err());
    assert_eq!(
        told(policy.with_probe_interval(MILLI)),
        "probe interval 1ms is not within 1s to 1h"
    );
    let hour = Duration::from_secs(3_600);
    assert!(policy.with_probe_interval(hour + NANO).is_err());
    assert!(policy.with_window(Duration::from_secs(60) + NANO, 1).is_err());
    let names = [LimitAlgorithm::Aimd, LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2];
    assert_eq!(names.map(LimitAlgorithm::name), ["aimd", "vegas", "gradient2"]);
}

#[test]
fn the_ends_of_each_range_are_within_it() {
    let (policy, second) = (AdaptivePolicy::default(), Duration::from_secs(1));
    assert!(policy.with_limits(1, 1, 1).is_ok() && policy.with_limits(0, 1, 1).is_err());
    assert!(policy.with_limits(1, 2, 1).is_err());
    assert!(policy.with_limits(Gate::MAX, Gate::MAX, Gate::MAX).is_ok());
    assert!(policy.with_limits(1, 1, Gate::MAX + 1).is_err());
    assert!(policy.with_tolerance(1.0).is_ok() && policy.with_tolerance(10.0).is_ok());
    assert!(policy.with_overload_ratio(1.0).is_ok() && policy.with_overload_ratio(1.1).is_err());
    assert_eq!(policy.with_window(second * 60, 1).unwrap().window(), second * 60);
    for interval in [second, second * 3_600] {
        assert_eq!(policy.with_probe_interval(interval).unwrap().probe_interval(), interval);
    }
}

fn algorithms() -> impl Strategy<Value = LimitAlgorithm> {
    prop_oneof![
        Just(LimitAlgorithm::Aimd),
        Just(LimitAlgorithm::Vegas),
        Just(LimitAlgorithm::Gradient2)
    ]
}

fn healths() -> impl Strategy<Value = Health> {
    prop_oneof![
        6 => Just(Health::Well),
        1 => Just(Health::Failed),
        1 => Just(Health::Overloaded),
        1 => Just(Health::Unknown)
    ]
}

proptest! {
    #[test]
    fn whatever_is_seen_the_limit_stays_within_its_bounds_and_in_flight_within_the_limit(
        algorithm in algorithms(),
        steps in prop::collection::vec((healths(), 0_u64..3_000, 1_usize..40, any::<bool>()), 1..60)
    ) {
        let mut now = begin();
        let policy = AdaptivePolicy::default().with_algorithm(algorithm);
        let policy = policy.with_limits(2, 5, 30).unwrap();
        let policy = policy.with_window(100 * MILLI, 3).unwrap();
        let limit = AdaptiveLimit::new(&policy, now);
        let mut permits = Vec::new();
        for (health, millis, count, keeps) in steps {
            for _ in 0..count {
                let before = limit.in_flight();
                if let Ok(permit) = LimitPermit::try_acquire(&limit, now) {
                    prop_assert!(before < limit.limit());
                    permits.push(permit);
                }
            }
            now += Duration::from_millis(millis);
            for permit in &permits {
                permit.record(health, false, now);
                prop_assert!((2..=30).contains(&limit.limit()));
            }
            permits.truncate(if keeps { permits.len() / 2 } else { 0 });
            prop_assert_eq!(usize::try_from(limit.in_flight()).unwrap(), permits.len());
        }
    }

    #[test]
    fn a_step_never_leads_out_of_the_bounds_or_beyond_twice_of_what_was_in_flight(
        algorithm in algorithms(),
        limit in 1.0..500.0_f64,
        in_flight_max in 0_u32..600,
        baseline: Duration,
        latency: Duration,
    ) {
        let policy = AdaptivePolicy::default().with_algorithm(algorithm);
        let policy = policy.with_limits(1, 20, 500).unwrap();
        let next = policy.next_limit(limit, &LimitRound { in_flight_max, baseline, latency });
        prop_assert!((1.0..=500.0).contains(&next));
        prop_assert!(next <= limit.max(2.0 * f64::from(in_flight_max)));
    }
}
