use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::{Budget, BudgetPolicy, Quantile};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn four_copies() -> Hedging {
    let policy = HedgePolicy::fixed(millis(500)).with_max_hedges(3).unwrap_or_default();
    Hedging::new(&policy, millis(500))
}

/// What happens to a call at some moment.
#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    End(CopyEnd),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        1 => Just(CopyEnd::Success),
        1 => Just(CopyEnd::Fatal),
        4 => Just(CopyEnd::Failed),
        2 => (0_u64..2_000).prop_map(|wait| CopyEnd::PushedBack(millis(wait))),
        1 => Just(CopyEnd::Last(Stop::Permanent)),
    ];
    let step = prop_oneof![(0_u64..1_000).prop_map(Step::Wait), end.prop_map(Step::End)];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #[test]
    fn there_are_never_more_copies_than_allowed_or_paid_for(
        steps in steps(), max_hedges in 1_u32..=4, tokens in 0_u32..5, delay in 0_u64..700,
    ) {
        let policy = HedgePolicy::fixed(millis(delay)).with_max_hedges(max_hedges).unwrap();
        let mut hedging = Hedging::new(&policy, millis(delay));
        let (mut left, mut now, mut settled) = (tokens, Duration::ZERO, 0);
        for step in steps {
            match step {
                Step::Wait(wait) => now += millis(wait),
                Step::End(_) if hedging.out() == 0 => continue,
                Step::End(end) => settled += u32::from(hedging.ended(end, now)),
            }
            if settled != 0 {
                break;
            }
            let pay = || left.checked_sub(1).map(|less| left = less).is_some();
            if let NextHedge::At(at) = hedging.next(now, pay) {
                prop_assert!(now < at);
            }
            prop_assert!(hedging.out() <= hedging.sent());
        }
        prop_assert!(hedging.sent() <= 1 + max_hedges);
        prop_assert!(hedging.sent() <= 1 + tokens - left, "every copy but the first is paid for");
        prop_assert!(settled <= 1);
    }

    #[test]
    fn a_wish_of_the_upstream_is_never_undercut(
        wait in 1_u64..5_000, at in 0_u64..400, failure in 0_u64..5_000,
    ) {
        let mut hedging = four_copies();
        hedging.next(millis(500), || true);
        hedging.ended(CopyEnd::PushedBack(millis(wait)), millis(500 + at));
        let later = millis(500 + at + failure);
        hedging.ended(CopyEnd::Failed, later);
        let due = millis(500 + at + wait);
        let next = hedging.next(later, || true);
        let expected =
            if due <= later { NextHedge::Now(HedgeCause::Pushback) } else { NextHedge::At(due) };
        prop_assert_eq!(next, expected);
    }
}

#[test]
fn copies_go_out_one_delay_after_another() {
    let mut hedging = four_copies();
    for (at, out) in [(1, 1), (499, 1), (501, 2), (1_000, 2), (1_001, 3), (1_501, 4), (9_000, 4)] {
        while hedging.next(millis(at), || true) == NextHedge::Now(HedgeCause::Delay) {}
        assert_eq!(hedging.out(), out, "{at} ms");
    }
    let next = hedging.next(millis(9_000), || panic!("nothing is left to pay for"));
    assert_eq!(next, NextHedge::Never(Stop::RetriesExhausted));
    assert_eq!(hedging.since_last(millis(2_000)), millis(499));
}

#[test]
fn after_a_late_look_only_one_copy_goes_out_and_the_delay_begins_there() {
    let mut hedging = four_copies();
    assert_eq!(hedging.next(millis(1_700), || true), NextHedge::Now(HedgeCause::Delay));
    assert_eq!(hedging.next(millis(1_700), || true), NextHedge::At(millis(2_200)));
}

#[test]
fn a_failure_sends_the_next_copy_at_once_and_then_the_delay_holds_again() {
    let mut hedging = four_copies();
    assert!(!hedging.ended(CopyEnd::Failed, millis(200)));
    assert_eq!(hedging.next(millis(200), || true), NextHedge::Now(HedgeCause::Failure));
    assert_eq!(hedging.next(millis(200), || true), NextHedge::At(millis(700)));
}

#[test]
fn a_wish_moves_the_next_copy_and_then_the_delay_holds_again() {
    let mut hedging = four_copies();
    assert!(!hedging.ended(CopyEnd::PushedBack(millis(300)), millis(100)));
    assert_eq!(hedging.next(millis(100), || true), NextHedge::At(millis(400)));
    assert_eq!(hedging.next(millis(400), || true), NextHedge::Now(HedgeCause::Pushback));
    assert_eq!(hedging.next(millis(400), || true), NextHedge::At(millis(900)));
}

#[test]
fn a_refusal_of_further_copies_lasts_and_those_that_are_out_may_win() {
    let mut hedging = four_copies();
    assert_eq!(hedging.next(millis(500), || true), NextHedge::Now(HedgeCause::Delay));
    assert!(!hedging.ended(CopyEnd::Last(Stop::Permanent), millis(600)));
    assert_eq!(hedging.out(), 1);
    assert_eq!(hedging.next(millis(5_000), || true), NextHedge::Never(Stop::Permanent));
    assert!(!hedging.ended(CopyEnd::Failed, millis(5_000)));
    assert_eq!(hedging.next(millis(5_000), || true), NextHedge::Never(Stop::Permanent));
}

#[test]
fn an_answer_and_a_fatal_failure_settle_the_call() {
    for end in [CopyEnd::Success, CopyEnd::Fatal] {
        let mut hedging = four_copies();
        hedging.next(millis(500), || true);
        assert!(hedging.ended(end, millis(600)));
        assert_eq!(hedging.out(), 1, "that many are cancelled");
    }
}

#[test]
fn an_empty_budget_ends_hedging_for_the_call() {
    let mut hedging = four_copies();
    let refused = NextHedge::Never(Stop::BudgetExhausted);
    assert_eq!(hedging.next(millis(500), || false), refused);
    assert_eq!(hedging.next(millis(1_500), || true), refused);
    assert_eq!((hedging.sent(), hedging.out()), (1, 1));
}

#[test]
fn a_wait_that_is_all_that_is_left_is_paid_in_advance_and_once() {
    let mut hedging = four_copies();
    hedging.ended(CopyEnd::PushedBack(millis(300)), millis(100));
    assert_eq!(hedging.next(millis(100), || true), NextHedge::At(millis(400)));
    let next = hedging.next(millis(400), || panic!("it is paid for"));
    assert_eq!(next, NextHedge::Now(HedgeCause::Pushback));

    let mut hedging = four_copies();
    hedging.ended(CopyEnd::PushedBack(millis(300)), millis(100));
    let next = hedging.next(millis(100), || false);
    assert_eq!(next, NextHedge::Never(Stop::BudgetExhausted), "the caller does not wait in vain");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
fn a_budget_pays_for_as_many_copies_as_it_has_tokens() {
    let now = Instant::now();
    let budget = Budget::new(&BudgetPolicy::default(), 2, now);
    let mut hedging = four_copies();
    let next = [500, 1_000, 1_500].map(|at| hedging.next(millis(at), || budget.withdraw(now)));
    let sent = NextHedge::Now(HedgeCause::Delay);
    assert_eq!(next, [sent, sent, NextHedge::Never(Stop::BudgetExhausted)]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
fn the_delay_follows_the_quantile_once_there_are_enough_samples() {
    let (tracker, policy) = (HedgeTracker::new(Instant::now()), HedgePolicy::default());
    let start = Instant::now();
    let at = |n: u64| start + millis(n);
    assert_eq!(tracker.delay(&policy, at(0)), millis(500));
    (0..99).for_each(|_| tracker.record(millis(10), at(1)));
    assert_eq!(tracker.delay(&policy, at(200)), millis(500), "99 are too few for p95");
    tracker.record(millis(10), at(201));
    assert_eq!(tracker.delay(&policy, at(202)), millis(500), "what was known is fresh");
    let delay = tracker.delay(&policy, at(400));
    assert!(delay.abs_diff(millis(10)) < Duration::from_micros(330), "{delay:?}");
    (0..20).for_each(|_| tracker.record(millis(200), at(401)));
    let delay = tracker.delay(&policy, at(501));
    assert!(delay.abs_diff(millis(200)) < millis(7), "{delay:?}");
    let median = HedgePolicy::tracked(Quantile::P50).unwrap();
    let delay = tracker.delay(&median, at(502));
    assert!(delay < millis(11), "another quantile is looked up at once: {delay:?}");
    assert_eq!(tracker.delay(&policy, at(60_000)), millis(500), "all of it is too old");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
fn a_quantile_that_was_found_holds_for_a_tenth_of_a_second() {
    let start = Instant::now();
    let (tracker, policy) = (HedgeTracker::new(start), HedgePolicy::default());
    (0..100).for_each(|_| tracker.record(millis(10), start));
    let known = tracker.delay(&policy, start);
    (0..100).for_each(|_| tracker.record(millis(200), start));
    let until = start + millis(100);
    assert_eq!(tracker.delay(&policy, until - Duration::from_nanos(1)), known);
    let next = tracker.delay(&policy, until);
    assert!(millis(200) < next && next < millis(207), "{next:?}");
}

#[test]
fn bounds_hold_for_the_initial_delay_as_well() {
    let policy = HedgePolicy::default();
    assert_eq!(policy.delay(Some(Duration::ZERO)), millis(1));
    assert_eq!(policy.delay(Some(Duration::MAX)), millis(30_000));
    let tight = policy.with_bounds(millis(5), millis(100)).unwrap();
    assert_eq!(tight.delay(None), millis(100));
    assert_eq!(tight.delay(Some(millis(2))), millis(5));
    let late = policy.with_bounds(millis(900), millis(900)).unwrap();
    assert_eq!(late.delay(None), millis(900));
    let initial = policy.with_initial_delay(millis(70)).unwrap();
    assert_eq!(initial.delay(None), millis(70));
    let fixed = HedgePolicy::fixed(millis(70));
    assert_eq!((fixed.delay(Some(millis(9))), fixed.quantile()), (millis(70), None));
    assert_eq!(fixed.fixed_delay(), Some(millis(70)));
    assert_eq!((policy.fixed_delay(), policy.quantile()), (None, Some(Quantile::P95)));
    assert_eq!(tight.bounds(), Some((millis(5), millis(100))));
    assert_eq!((initial.initial_delay(), fixed.initial_delay()), (Some(millis(70)), None));
    assert_eq!(fixed.bounds(), None);
}

#[test]
fn what_contradicts_itself_is_refused_with_the_rule() {
    let policy = HedgePolicy::default();
    let p49 = Quantile::percent(49.9).unwrap();
    let refused = [
        policy.with_max_hedges(0).unwrap_err(),
        policy.with_max_hedges(5).unwrap_err(),
        policy.with_bounds(millis(9), millis(8)).unwrap_err(),
        HedgePolicy::tracked(p49).unwrap_err(),
        HedgePolicy::fixed(millis(8)).with_initial_delay(millis(8)).unwrap_err(),
        HedgePolicy::fixed(millis(8)).with_bounds(millis(8), millis(8)).unwrap_err(),
        InvalidHedge::NoQuantile,
    ];
    let fixed = "an initial, least or greatest delay does not go with the fixed delay 8ms";
    assert_eq!(
        refused.map(|refused| refused.to_string()),
        [
            "max hedges 0 is not within 1 to 4",
            "max hedges 5 is not within 1 to 4",
            "least delay 9ms is above the greatest, 8ms",
            "quantile p49.9 is below p50, so most calls would be hedged",
            fixed,
            fixed,
            "a quantile is a p and a percentage, such as p95 or p99.9",
        ]
    );
}
