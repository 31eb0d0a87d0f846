#![expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]

use proptest::prelude::*;

use super::*;
use crate::Class;

const FAILURE: Reading = Reading::new(Verdict::Transient(Class::Server));
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum Step {
    Succeed,
    Retry,
    RetryAndSucceed,
    Pass(u64),
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Succeed),
        3 => Just(Step::Retry),
        1 => Just(Step::RetryAndSucceed),
        1 => (0..3_000_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    /// Amplification over *any* window stays within the three terms that allow it: what was there
    /// at most when the window began, a share of the successes in it, and the floor; a refund only
    /// gives back what was taken.
    #[test]
    fn retries_in_any_window_are_paid_for(
        steps in any_steps(),
        max_retries in 0_u32..20,
        window in 1_usize..400,
    ) {
        let start = Instant::now();
        let budget = Budget::new(&BudgetPolicy::default(), max_retries, start);
        let mut now = start;
        let mut log = Vec::new();
        for step in steps {
            let (mut successes, mut unhelpful) = (0_u64, 0_u64);
            match step {
                Step::Succeed => {
                    budget.deposit(&Reading::SUCCESS);
                    successes = 1;
                }
                Step::Retry => unhelpful = u64::from(budget.withdraw(now)),
                Step::RetryAndSucceed => {
                    if budget.withdraw(now) {
                        budget.deposit(&Reading::SUCCESS);
                        budget.refund(now);
                        successes = 1;
                    }
                }
                Step::Pass(millis) => now += Duration::from_millis(millis),
            }
            log.push((now, successes, unhelpful));
        }
        let kept = Tokens::whole(10.max(max_retries)).nanos();
        for window in log.windows(window.min(log.len())) {
            let successes: u64 = window.iter().map(|entry| entry.1).sum();
            let unhelpful: u64 = window.iter().map(|entry| entry.2).sum();
            let span = window[window.len() - 1].0 - window[0].0;
            let floor = Tokens::TENTH.times(span + Duration::from_nanos(10)).nanos();
            let allowed = kept + successes * Tokens::TENTH.nanos() + floor;
            prop_assert!(unhelpful * Tokens::ONE.nanos() <= allowed);
        }
    }

    #[test]
    fn a_windows_retries_stay_within_ratio_and_floor(
        steps in prop::collection::vec((0..4_u8, 0..400_u64), 1..300),
        ratio in 0.0..1.0_f64,
        floor in 0_u32..5,
    ) {
        let window = WindowBudget::new(ratio, f64::from(floor), SECOND * 5).unwrap();
        let start = Instant::now();
        let budget = Budget::new(&BudgetPolicy::Window(window), 3, start);
        let mut now = start;
        let mut log: Vec<(Instant, u64, u64)> = Vec::new();
        for (step, millis) in steps {
            now += Duration::from_millis(millis);
            if step == 0 {
                budget.deposit_call(now);
                log.push((now, 1, 0));
            } else if budget.withdraw(now) {
                log.push((now, 0, 1));
            }
            // What nine tenths of the window hold is held for certain; ten tenths at most count.
            let since = |span: Duration| {
                log.iter().filter(move |entry| now.saturating_duration_since(entry.0) < span)
            };
            let retries: u64 = since(SECOND * 9 / 2).map(|entry| entry.2).sum();
            let calls: u64 = since(SECOND * 10).map(|entry| entry.1).sum();
            let allowed = calls * (window.ratio.nanos() / 1_000) + u64::from(floor) * 5_000_000;
            prop_assert!(retries * 1_000_000 <= allowed + 1_000_000);
        }
    }

    #[test]
    fn any_fraction_is_exact(millionths in 0_u32..=1_000_000, calls in 0_u64..5_000) {
        let ratio = f64::from(millionths) / 1e6;
        let policy = BudgetPolicy::Window(WindowBudget::new(ratio, 0.0, SECOND * 60).unwrap());
        let now = Instant::now();
        let budget = Budget::new(&policy, 3, now);
        let mut retries = 0;
        for _ in 0..calls {
            budget.deposit_call(now);
            retries += u64::from(budget.withdraw(now));
        }
        prop_assert_eq!(retries, calls * u64::from(millionths) / 1_000_000);
    }
}

#[test]
fn a_fresh_origin_pays_for_one_call_then_lives_on_successes() {
    let now = Instant::now();
    let budget = Budget::new(&BudgetPolicy::default(), 3, now);
    assert_eq!([(); 4].map(|()| budget.withdraw(now)), [true, true, true, false]);
    for _ in 0..9 {
        budget.deposit(&Reading::SUCCESS);
    }
    assert!(!budget.withdraw(now), "nine tenths are not enough");
    budget.deposit(&Reading::SUCCESS);
    assert!(budget.withdraw(now));
    assert_eq!(budget.available(now), Some(Tokens::ZERO));
}

#[test]
fn a_quiet_client_can_retry_again_after_a_while() {
    let now = Instant::now();
    let budget = Budget::new(&BudgetPolicy::default(), 1, now);
    assert!(budget.withdraw(now));
    assert!(!budget.withdraw(now + SECOND * 10 - Duration::from_nanos(1)));
    assert!(budget.withdraw(now + SECOND * 10));
    assert!(!budget.withdraw(now + SECOND * 19));
    assert!(budget.withdraw(now + SECOND * 20));
}

#[test]
fn asking_often_does_not_lose_time() {
    let now = Instant::now();
    let budget = Budget::new(&BudgetPolicy::default(), 1, now);
    assert!(budget.withdraw(now));
    let asked = (1..).map(|n| now + Duration::from_nanos(333_333 * n));
    let granted = asked.take_while(|at| *at < now + SECOND * 10).filter(|at| budget.withdraw(*at));
    assert_eq!(granted.count(), 0);
    assert!(budget.withdraw(now + SECOND * 10));
}

#[test]
fn an_account_never_holds_more_than_its_most() {
    let now = Instant::now();
    let budget = Budget::new(&BudgetPolicy::default(), 3, now);
    for _ in 0..1_000 {
        budget.deposit(&Reading::SUCCESS);
    }
    assert_eq!(budget.available(now + SECOND * 3_600), Some(Tokens::whole(10)));
    let generous = Budget::new(&BudgetPolicy::default(), 25, now);
    assert_eq!(generous.available(now), Some(Tokens::whole(25)), "a call's own retries always fit");
}

#[test]
fn an_explicit_start_is_taken_as_it_is() {
    let now = Instant::now();
    let tokens = TokenBudget { initial: Some(Tokens::ONE), ..TokenBudget::default() };
    let budget = Budget::new(&BudgetPolicy::Tokens(tokens), 3, now);
    assert_eq!([(); 2].map(|()| budget.withdraw(now)), [true, false]);
}

#[test]
fn failures_fund_nothing() {
    let now = Instant::now();
    let tokens = TokenBudget { initial: Some(Tokens::ZERO), ..TokenBudget::default() };
    let budget = Budget::new(&BudgetPolicy::Tokens(tokens), 3, now);
    for _ in 0..1_000 {
        budget.deposit(&FAILURE);
        budget.deposit_call(now);
    }
    assert!(!budget.withdraw(now));
}

#[test]
fn entries_leave_the_window_when_they_are_old() {
    let now = Instant::now();
    let policy = BudgetPolicy::Window(WindowBudget::new(1.0, 0.0, SECOND).unwrap());
    let budget = Budget::new(&policy, 3, now);
    budget.deposit_call(now);
    budget.deposit_call(now);
    assert!(budget.withdraw(now + Duration::from_millis(999)));
    // The deposits leave at 1 s, and the withdrawal, not yet, is owed.
    assert!(!budget.withdraw(now + SECOND));
    assert_eq!(budget.available(now + SECOND), Some(Tokens::ZERO));
    budget.deposit_call(now + SECOND);
    assert!(!budget.withdraw(now + SECOND));
    budget.refund(now + SECOND);
    assert!(budget.withdraw(now + SECOND));
    assert_eq!(budget.available(now + SECOND * 100), Some(Tokens::ZERO));
    let reserve = BudgetPolicy::Window(WindowBudget::default());
    let reserved = Budget::new(&reserve, 3, now).available(now);
    assert_eq!(reserved, Some(Tokens::whole(100)));
}

#[test]
fn withdrawals_leave_the_window_as_well() {
    let now = Instant::now();
    let policy = BudgetPolicy::Window(WindowBudget::new(0.0, 3.0, SECOND).unwrap());
    let budget = Budget::new(&policy, 3, now);
    for turn in 0..5 {
        let at = now + SECOND * turn;
        let granted = [(); 4].map(|()| budget.withdraw(at));
        assert_eq!(granted, [true, true, true, false], "turn {turn}");
        assert_eq!(budget.available(at), Some(Tokens::ZERO));
    }
    assert_eq!(budget.available(now + SECOND * 5), Some(Tokens::whole(3)));
}

#[test]
fn a_throttle_blocks_while_failures_prevail() {
    let now = Instant::now();
    let budget = Budget::new(&BudgetPolicy::Throttle(Throttle::new(10.0, 0.1).unwrap()), 3, now);
    let fail = || {
        budget.deposit(&FAILURE);
        budget.withdraw(now)
    };
    // gRFC A6 with (10, 0.1): 9, 8, 7, 6 allow; 5.0 blocks; a success makes 5.1, which allows.
    assert_eq!([(); 5].map(|()| fail()), [true, true, true, true, false]);
    budget.deposit(&Reading::SUCCESS);
    assert!(budget.withdraw(now));
    budget.deposit(&Reading::SUCCESS);
    assert!(!fail(), "4.2 blocks");
    for _ in 0..20 {
        budget.deposit(&FAILURE);
    }
    let successes = (1..).find(|_| {
        budget.deposit(&Reading::SUCCESS);
        budget.withdraw(now)
    });
    assert_eq!(successes, Some(51));
    budget.deposit(&Reading::new(Verdict::Permanent(Class::InvalidRequest)));
    budget.refund(now);
    assert_eq!(budget.available(now).map(Tokens::as_f64), Some(5.1));
}

#[test]
fn amounts_are_shown_as_numbers() {
    let amount = Tokens::try_from(2.5).unwrap();
    assert_eq!((amount.to_string(), format!("{amount:?}")), ("2.5".to_owned(), "2.5".to_owned()));
    let bucket = WindowBucket::new(SECOND, Tokens::ZERO);
    assert_eq!(format!("{bucket:?}"), "WindowBucket { .. }");
}

#[test]
fn no_limit_means_no_limit() {
    let now = Instant::now();
    let budget = Budget::new(&BudgetPolicy::Unlimited, 0, now);
    budget.refund(now);
    assert!((0..10_000).all(|_| budget.withdraw(now)));
    assert_eq!(budget.available(now), None);
}

#[test]
fn values_that_form_no_budget_are_refused_with_the_rule() {
    let refused = [
        Tokens::try_from(-0.1).unwrap_err().to_string(),
        Tokens::try_from(f64::NAN).unwrap_err().to_string(),
        WindowBudget::new(0.1, 1e7, SECOND).unwrap_err().to_string(),
        WindowBudget::new(0.1, 1.0, SECOND / 2).unwrap_err().to_string(),
        WindowBudget::new(0.1, 1.0, SECOND * 3_601).unwrap_err().to_string(),
        Throttle::new(1_001.0, 0.1).unwrap_err().to_string(),
        Throttle::new(10.0, 0.0).unwrap_err().to_string(),
    ];
    let rules = [
        "-0.1 tokens are not within 0 to 1000000",
        "NaN tokens are not within 0 to 1000000",
        "10000000 tokens are not within 0 to 1000000",
        "window 500ms is not within 1s to 1h",
        "window 3601s is not within 1s to 1h",
        "throttle of 1001 tokens and 0.1 a success: both must be within 0.001 to 1000",
        "throttle of 10 tokens and 0 a success: both must be within 0.001 to 1000",
    ];
    assert_eq!(refused, rules);
    assert!(WindowBudget::new(0.1, 1.0, SECOND).is_ok());
    assert!(WindowBudget::new(0.1, 1.0, SECOND * 3_600).is_ok());
    assert_eq!(Throttle::new(10.0, 0.5466).unwrap().ratio, Tokens::try_from(0.546).unwrap());
}

#[test]
fn threads_never_get_more_than_there_is() {
    let now = Instant::now();
    let tokens = TokenBudget {
        initial: Some(Tokens::whole(1_000)),
        max: Tokens::whole(1_000),
        ..TokenBudget::default()
    };
    let window = WindowBudget::new(0.0, 1_000.0, SECOND).unwrap();
    for policy in [BudgetPolicy::Tokens(tokens), BudgetPolicy::Window(window)] {
        let budget = Budget::new(&policy, 3, now);
        let granted: usize = std::thread::scope(|scope| {
            let take = || (0..200).filter(|_| budget.withdraw(now)).count();
            let threads: Vec<_> = (0..32).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, 1_000);
    }
}

#[test]
fn a_retry_costs_what_its_failure_costs_and_that_is_given_back() {
    let now = Instant::now();
    let tokens = TokenBudget {
        initial: Some(Tokens::whole(20)),
        max: Tokens::whole(20),
        floor_per_second: Tokens::ZERO,
        cost: Tokens::whole(14),
        throttled_cost: Tokens::whole(5),
        ..TokenBudget::default()
    };
    let budget = Budget::new(&BudgetPolicy::Tokens(tokens), 3, now);
    assert!(budget.withdraw_after(Class::Server, now));
    assert!(!budget.withdraw_after(Class::Timeout, now), "6 are left");
    assert!(budget.withdraw_after(Class::Throttled, now));
    assert_eq!(budget.available(now), Some(Tokens::ONE));
    budget.refund_after(Class::Throttled, now);
    budget.refund_after(Class::Server, now);
    assert_eq!(budget.available(now), Some(Tokens::whole(20)));
}

#[test]
fn a_fresh_account_pays_for_one_calls_retries_whatever_they_cost() {
    let now = Instant::now();
    let tokens = TokenBudget { cost: Tokens::whole(4), ..TokenBudget::default() };
    let budget = Budget::new(&BudgetPolicy::Tokens(tokens), 3, now);
    assert_eq!([(); 4].map(|()| budget.withdraw(now)), [true, true, true, false]);
}
