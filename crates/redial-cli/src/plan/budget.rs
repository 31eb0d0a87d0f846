//! What the budget allows.

use redial::core::{Budget, BudgetPolicy, Class, Policy, Reading, Tokens, Verdict};
use serde_json::json;
use tokio::time::Instant;

use super::section::Section;
use crate::show;

/// Shows what the first call may do, and how many retries a steady stream of calls may make.
pub(super) fn section(policy: &Policy) -> Section {
    let most = policy.retry.most_retries();
    let first = first_call(&policy.budget, most);
    let steady = steady(&policy.budget);
    let json = json!({
        "kind": kind(&policy.budget),
        "first_call_retries": (policy.budget != BudgetPolicy::Unlimited).then_some(first),
        "retries_per_second_at_100": steady.map(|steady| (steady * 1e6).round() / 1e6),
    });
    let section = Section::new("budget", json);
    let steady = steady.map(show::number).unwrap_or_default();
    let retries = if first == 1 { "retry" } else { "retries" };
    let first_call = format!("pays for {first} {retries} of the first call");
    match policy.budget {
        BudgetPolicy::Tokens(_) | BudgetPolicy::Window(_) => {
            section.say(&format!("{first_call}; at 100 successes/s, {steady} retries/s"))
        }
        BudgetPolicy::Throttle(_) => section.say(&format!(
            "{first_call}; at 100 successes/s, retries stop above {steady} failures/s"
        )),
        BudgetPolicy::Unlimited => match most.checked_add(1) {
            Some(attempts) => {
                section.say(&format!("unlimited: an outage may see {attempts} times the load"))
            }
            None => section.say("unlimited: only time bounds the load of an outage"),
        },
    }
}

/// Lets one call fail, and fail again, under a budget that nobody has used before.
fn first_call(policy: &BudgetPolicy, most: u32) -> u32 {
    let now = Instant::now().into_std();
    let budget = Budget::new(policy, most, now);
    let failed = Reading::new(Verdict::Transient(Class::Other));
    budget.deposit_call(now);
    let paid = (0..most.min(COUNTED_MAX)).take_while(|_| {
        budget.deposit(&failed);
        budget.withdraw(now)
    });
    u32::try_from(paid.count()).unwrap_or(most)
}

/// How many retries a second 100 successes a second pay for; under a throttle, how many failures.
fn steady(policy: &BudgetPolicy) -> Option<f64> {
    let per_second = |each: Tokens, floor: Tokens| 100.0f64.mul_add(each.as_f64(), floor.as_f64());
    match policy {
        BudgetPolicy::Tokens(tokens) => {
            let rate = per_second(tokens.deposit, tokens.floor_per_second);
            let cost = tokens.cost.as_f64();
            (0.0 < cost).then(|| rate / cost)
        }
        BudgetPolicy::Window(window) => Some(per_second(window.ratio, window.floor_per_second)),
        BudgetPolicy::Throttle(throttle) => Some(per_second(throttle.ratio, Tokens::ZERO)),
        BudgetPolicy::Unlimited => None,
    }
}

const fn kind(policy: &BudgetPolicy) -> &'static str {
    match policy {
        BudgetPolicy::Tokens(_) => "tokens",
        BudgetPolicy::Window(_) => "window",
        BudgetPolicy::Throttle(_) => "throttle",
        BudgetPolicy::Unlimited => "unlimited",
    }
}

/// No first call is let on for longer.
const COUNTED_MAX: u32 = 10_000;
