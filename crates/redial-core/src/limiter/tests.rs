#![expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
#![expect(clippy::unwrap_used, reason = "what these tests build is valid")]

use proptest::prelude::*;

use super::*;
use crate::Entropy;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn policy(permits: u32, per: Duration, burst: u32) -> RateLimitPolicy {
    RateLimitPolicy::new(permits, per).unwrap().burst(burst).unwrap()
}

fn limiter(permits: u32, burst: u32) -> (RateLimiter, Instant) {
    let now = Instant::now();
    (RateLimiter::new(&policy(permits, SECOND, burst), now), now)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire(u32),
    Reserve(u64),
    GiveBack,
    Pass(u64),
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (1..4_u32).prop_map(Step::Acquire),
        4 => (0..800_000_000_u64).prop_map(Step::Reserve),
        1 => Just(Step::GiveBack),
        2 => (0..400_000_000_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    /// Over *any* stretch of time, counting each permit at the moment from which it may be used.
    #[test]
    fn permits_in_any_window_are_within_burst_and_rate(
        steps in any_steps(),
        permits in 1_u32..2_000,
        burst in 1_u32..12,
    ) {
        let (limiter, mut now) = limiter(permits, burst);
        let interval = Duration::from_nanos(limiter.interval_nanos);
        let (mut used, mut held) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Acquire(count) => {
                    if limiter.try_acquire_many(count, now).is_ok() {
                        used.extend((0..count).map(|_| now));
                    }
                }
                Step::Reserve(longest) => {
                    if let Ok(slot) = limiter.reserve(now, Duration::from_nanos(longest)) {
                        prop_assert!(slot.wait() <= Duration::from_nanos(longest));
                        held.push((now + slot.wait(), slot));
                    }
                }
                Step::GiveBack => {
                    if let Some((at, slot)) = held.pop() && !limiter.give_back(slot) {
                        // Those of others came after: it counts as used.
                        used.push(at);
                    }
                }
                Step::Pass(nanos) => now += Duration::from_nanos(nanos),
            }
        }
        used.extend(held.into_iter().map(|(at, _)| at));
        used.sort_unstable();
        for (first, from) in used.iter().enumerate() {
            for (last, until) in used.iter().enumerate().skip(first) {
                let by_rate = (*until - *from).as_nanos() / interval.as_nanos();
                let count = u128::try_from(last - first + 1).unwrap();
                prop_assert!(count <= u128::from(burst) + by_rate);
            }
        }
    }

    #[test]
    fn waiters_get_later_slots_than_those_who_came_before(
        arrivals in prop::collection::vec(0_u64..50_000_000, 1..100),
        burst in 1_u32..5,
    ) {
        let (limiter, mut now) = limiter(50, burst);
        let mut slots = Vec::new();
        for gap in arrivals {
            now += Duration::from_nanos(gap);
            if let Ok(slot) = limiter.reserve(now, SECOND) {
                slots.push(now + slot.wait());
            }
        }
        prop_assert!(slots.is_sorted());
        let burst = usize::try_from(burst).unwrap();
        prop_assert!(slots.windows(burst + 1).all(|w| MILLI * 20 <= w[burst] - w[0]));
    }

    #[test]
    fn a_refusal_leaves_everything_as_it_was_and_says_when_to_come_again(
        taken in 0_u32..20,
        count in 1_u32..6,
        later in 0_u64..300_000_000,
        longest in 0_u64..100_000_000,
    ) {
        let (limiter, start) = limiter(100, 5);
        for _ in 0..taken {
            let _ = limiter.reserve(start, SECOND);
        }
        let now = start + Duration::from_nanos(later);
        let before = limiter.arrival.load();
        if count <= 5 && let Err(refusal) = limiter.try_acquire_many(count, now) {
            prop_assert_eq!(limiter.arrival.load(), before);
            let soon = now + refusal.retry_after - Duration::from_nanos(1);
            prop_assert!(limiter.try_acquire_many(count, soon).is_err());
            prop_assert!(limiter.try_acquire_many(count, now + refusal.retry_after).is_ok());
        }
        let before = limiter.arrival.load();
        if let Err(refusal) = limiter.reserve(now, Duration::from_nanos(longest)) {
            prop_assert_eq!(limiter.arrival.load(), before);
            prop_assert_eq!(refusal.retry_after, limiter.wait(now));
            prop_assert!(Duration::from_nanos(longest) < refusal.retry_after);
        }
    }
}

#[test]
fn a_burst_goes_at_once_and_the_rest_evenly() {
    let (limiter, now) = limiter(10, 3);
    assert_eq!(limiter.available(now), 3);
    let granted = [(); 4].map(|()| limiter.try_acquire(now).is_ok());
    assert_eq!(granted, [true, true, true, false]);
    let waits = [(); 3].map(|()| limiter.reserve(now, SECOND).unwrap().wait());
    assert_eq!(waits, [MILLI * 100, MILLI * 200, MILLI * 300]);
    assert_eq!(limiter.available(now + MILLI * 300), 0);
    assert_eq!(limiter.available(now + MILLI * 450), 1);
    assert_eq!(limiter.available(now + SECOND * 60), 3, "a pause brings back a burst, no more");
}

#[test]
fn many_are_taken_together_or_not_at_all() {
    let (limiter, now) = limiter(10, 3);
    assert!(limiter.try_acquire_many(2, now).is_ok());
    let refusal = limiter.try_acquire_many(2, now).unwrap_err();
    assert_eq!(refusal.retry_after, MILLI * 100);
    assert_eq!(refusal.to_string(), "no permit for 100ms");
    assert_eq!(limiter.available(now), 1);
    assert!(limiter.try_acquire_many(0, now).is_ok());
    for count in [4, u32::MAX] {
        let never = limiter.try_acquire_many(count, now + SECOND * 99).unwrap_err();
        assert_eq!(never.retry_after, Duration::MAX);
        assert_eq!(never.to_string(), "more permits than a burst has");
    }
}

#[test]
fn what_is_given_back_from_the_end_of_the_line_is_as_if_never_taken() {
    let (limiter, now) = limiter(10, 1);
    let fresh = limiter.arrival.load();
    let [first, second, third] = [(); 3].map(|()| limiter.reserve(now, SECOND).unwrap());
    assert!(limiter.give_back(third) && limiter.give_back(second) && limiter.give_back(first));
    assert_eq!(limiter.arrival.load(), fresh);
}

#[test]
fn what_is_given_back_from_within_the_line_costs_its_own_slot_and_no_more() {
    let (limiter, now) = limiter(10, 1);
    let [_first, second, third] = [(); 3].map(|()| limiter.reserve(now, SECOND).unwrap());
    assert!(!limiter.give_back(second));
    assert_eq!(limiter.wait(now), MILLI * 300, "the line is as long as before");
    assert!(limiter.give_back(third));
    assert_eq!(limiter.wait(now), MILLI * 200);
}

#[test]
fn a_clock_that_stands_before_the_beginning_counts_as_the_beginning() {
    let start = Instant::now() + SECOND;
    let limiter = RateLimiter::new(&policy(1, SECOND, 1), start);
    assert!(limiter.try_acquire(start - SECOND).is_ok());
    assert_eq!(limiter.try_acquire(start).unwrap_err().retry_after, SECOND);
    assert_eq!(format!("{limiter:?}"), "RateLimiter { interval: 1s, .. }");
}

#[test]
fn a_rate_that_does_not_divide_its_period_is_never_exceeded() {
    let policy = policy(3, SECOND, 1);
    assert_eq!(policy.interval(), Duration::from_nanos(333_333_334));
    let start = Instant::now();
    let limiter = RateLimiter::new(&policy, start);
    let asked = (0..3_000_u64).map(|n| start + Duration::from_millis(n * 10));
    assert_eq!(asked.filter(|at| limiter.try_acquire(*at).is_ok()).count(), 89, "of 30 s");
}

#[test]
fn another_policy_takes_over_what_is_gone_and_leaves_one() {
    let (limiter, now) = limiter(10, 8);
    assert!(limiter.try_acquire_many(5, now).is_ok());
    let faster = policy(1_000, SECOND, 8);
    assert!(!limiter.keeps(&faster) && limiter.keeps(&policy(10, SECOND, 8)));
    assert_eq!(limiter.succeeded_by(&faster, now).available(now), 3);
    assert_eq!(limiter.succeeded_by(&faster, now + MILLI * 250).available(now), 5);
    let smaller = policy(10, SECOND, 2);
    assert!(!limiter.keeps(&smaller), "the rate is the same, the burst is not");
    assert_eq!(limiter.succeeded_by(&smaller, now).available(now), 1);
    let even = policy(10, SECOND, 1);
    assert_eq!(limiter.succeeded_by(&even, now).available(now), 1);
}

/// The share of independent calls that is refused, by simulation with a fixed seed.
#[expect(clippy::cast_precision_loss, reason = "a share of all draws")]
fn refused(burst: u32, load: f64, calls: u32) -> f64 {
    let (limiter, mut now) = limiter(100, burst);
    let entropy = Entropy::seeded(11);
    let mut refused = 0.0;
    for _ in 0..calls {
        let gap = -((entropy.draw() as f64 + 1.0) / u64::MAX as f64).ln() / (100.0 * load);
        now += Duration::from_secs_f64(gap.max(0.0));
        refused += f64::from(u8::from(limiter.try_acquire(now).is_err()));
    }
    refused / f64::from(calls)
}

#[test]
fn a_tenth_of_the_permits_at_once_is_enough_for_calls_that_come_independently() {
    let even = refused(1, 0.5, 100_000);
    assert!((even - 1.0 / 3.0).abs() < 0.01, "{even}");
    assert!(refused(10, 0.5, 100_000) < 1e-4);
    assert!(refused(10, 0.9, 100_000) < 0.03);
    let new = |permits| RateLimitPolicy::new(permits, SECOND).unwrap();
    assert_eq!([1, 10, 11, 100].map(|permits| new(permits).most_at_once()), [1, 1, 2, 10]);
}

#[test]
fn a_policy_says_what_it_was_given() {
    let name = FieldName::new("X-Tenant").unwrap();
    let policy = RateLimitPolicy::new(90, SECOND * 60).unwrap();
    assert_eq!((policy.permits(), policy.period()), (90, SECOND * 60));
    assert_eq!((policy.most_at_once(), policy.longest_wait()), (9, Duration::ZERO));
    assert_eq!(policy.rate_key(), &RateKey::Origin);
    let policy = policy.max_wait(SECOND).unwrap().key(RateKey::Field(name));
    assert_eq!(policy.longest_wait(), SECOND);
    let keys = [RateKey::Origin, RateKey::All, *policy.rate_key()];
    assert_eq!(keys.map(|key| key.to_string()), ["origin", "all", "header:x-tenant"]);
}

#[test]
fn what_cannot_be_a_rate_is_refused_with_the_rule() {
    let day = SECOND * 86_400;
    let rate = |permits, per| RateLimitPolicy::new(permits, per).map_err(|e| e.to_string());
    let rule = "is not within one call a day to one every 100ns";
    assert_eq!(rate(0, SECOND), Err(format!("a rate of 0 in 1s {rule}")));
    assert_eq!(rate(1, Duration::ZERO), Err(format!("a rate of 1 in 0ns {rule}")));
    assert_eq!(rate(1, day * 2), Err(format!("a rate of 1 in 172800s {rule}")));
    assert!(rate(10_000_001, SECOND).is_ok_and(|p| p.interval() == Duration::from_nanos(100)));
    assert!(rate(10_101_011, SECOND).is_err() && rate(10_000_000, SECOND).is_ok());
    assert!(rate(1, day).is_ok() && rate(u32::MAX, day).is_ok() && rate(1, Duration::MAX).is_err());
    let ten = RateLimitPolicy::new(10, SECOND).unwrap();
    let rule = "one every 100ms, is not within 1 to what comes in a year";
    assert_eq!(ten.burst(0).unwrap_err().to_string(), format!("a burst of 0, {rule}"));
    let most = u32::try_from(366 * 864_000).unwrap();
    assert!(ten.burst(most).is_ok() && ten.burst(most + 1).is_err());
    let daily = RateLimitPolicy::new(1, day).unwrap();
    assert!(daily.burst(366).is_ok() && daily.burst(u32::MAX).is_err());
    let wait = ten.max_wait(SECOND * 3_601).unwrap_err();
    assert_eq!(wait.to_string(), "longest wait 3601s is above 1h");
    assert!(ten.max_wait(SECOND * 3_600).is_ok());
}
