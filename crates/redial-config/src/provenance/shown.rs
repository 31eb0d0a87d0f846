//! A policy as a list of settings, each as a file could have it, or in words.

use std::time::Duration;

use redial_core::{
    Backoff, BudgetPolicy, Class, Fault, FaultSet, Growth, Jitter, Policy, PushbackPolicy,
    StatusSet, Triggers,
};

use super::{Shown, parts};

pub(super) fn settings(policy: &Policy) -> Vec<Shown> {
    let own = |value: Option<Duration>| value.map_or_else(|| "none".to_owned(), span);
    let general = [
        ("profile", "default".to_owned()),
        ("max_retries", retries(policy)),
        ("backoff", waits(policy)),
        ("deadline", own(policy.deadline)),
        ("attempt_timeout", own(policy.attempt_timeout)),
        ("retry_on", triggers(&policy.triggers)),
        ("idempotent", policy.is_idempotent.to_string()),
        ("assume_429_unprocessed", policy.is_429_unprocessed.to_string()),
        ("trust_proxy_status", policy.trusts_proxy_status.to_string()),
        ("replay_body", bytes(policy.replay_bytes_max as u64)),
        ("pushback", pushback(policy.retry.pushback_policy())),
        ("budget", budget(&policy.budget)),
        ("classes", "none".to_owned()),
    ];
    let mut all: Vec<_> = general.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    parts::add(policy, &mut all);
    all
}

/// A length of time, as a file has it.
pub(super) fn span(span: Duration) -> String {
    if span.is_zero() { "0s".to_owned() } else { format!("{span:?}") }
}

/// A number of bytes, in the largest unit that divides it.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

pub(super) fn jitter(jitter: Jitter) -> String {
    match jitter {
        Jitter::Proportional(share) => format!("proportional:{share}"),
        other => other.name().to_owned(),
    }
}

/// The number for most failures, then those of classes that differ.
fn retries(policy: &Policy) -> String {
    let text = |max| if max == u32::MAX { "no limit".to_owned() } else { format!("{max}") };
    let most = policy.retry.rule(Class::Other).max_retries;
    let others = Class::ALL.into_iter().filter(|class| class.is_transient());
    let others = others.filter_map(|class| {
        let own = policy.retry.rule(class).max_retries;
        (own != most).then(|| format!("; {class} {}", text(own)))
    });
    text(most) + &others.collect::<String>()
}

fn waits(policy: &Policy) -> String {
    let most = policy.retry.rule(Class::Other).backoff;
    let others = Class::ALL.into_iter().filter(|class| class.is_transient());
    let others = others.filter_map(|class| {
        let own = policy.retry.rule(class).backoff.initial();
        (own != most.initial()).then(|| format!("{class} {}", span(own)))
    });
    let others = others.collect::<Vec<_>>();
    let others =
        if others.is_empty() { String::new() } else { format!(" ({})", sorted(others).join(", ")) };
    schedule(&most, &others)
}

/// `exponential from 500ms, factor 2, max 60s, jitter full`.
fn schedule(waits: &Backoff, others: &str) -> String {
    let (name, factor) = match waits.growth() {
        Growth::Exponential(factor) => ("exponential", format!(", factor {factor}")),
        growth => (growth.name(), String::new()),
    };
    let (initial, max) = (span(waits.initial()), span(waits.max()));
    format!("{name} from {initial}{others}{factor}, max {max}, jitter {}", jitter(waits.spread()))
}

/// Timeouts before throttled ones, as everywhere.
fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort_by_key(|word| !word.starts_with("timeout"));
    words
}

fn pushback(policy: &PushbackPolicy) -> String {
    if policy.is_honored() {
        format!("honored up to {}, jitter {}", span(policy.max()), policy.jitter())
    } else {
        "ignored".to_owned()
    }
}

fn budget(budget: &BudgetPolicy) -> String {
    match budget {
        BudgetPolicy::Tokens(tokens) => {
            let initial = tokens.initial.map_or_else(
                || "one call's retries".to_owned(),
                |initial| initial.as_f64().to_string(),
            );
            let [deposit, max, floor, cost, throttled] = [
                tokens.deposit,
                tokens.max,
                tokens.floor_per_second,
                tokens.cost,
                tokens.throttled_cost,
            ]
            .map(|tokens| tokens.as_f64().to_string());
            let costs = match (cost.as_str(), throttled.as_str()) {
                ("1", "1") => String::new(),
                _ if cost == throttled => format!(", cost {cost}"),
                _ => format!(", cost {cost}, throttled_cost {throttled}"),
            };
            format!("deposit {deposit}, max {max}, initial {initial}, floor {floor}{costs}")
        }
        BudgetPolicy::Window(window) => format!(
            "ratio {}, floor {}, window {}",
            window.ratio.as_f64(),
            window.floor_per_second.as_f64(),
            span(window.window)
        ),
        BudgetPolicy::Throttle(throttle) => format!(
            "throttle of max_tokens {}, token_ratio {}",
            throttle.max.as_f64(),
            throttle.ratio.as_f64()
        ),
        BudgetPolicy::Unlimited => "unlimited".to_owned(),
    }
}

/// The fewest words that stand for the same, as far as they go, then single names.
fn triggers(triggers: &Triggers) -> String {
    if *triggers == Triggers::DEFAULT {
        return "default".to_owned();
    }
    let (mut words, mut said) = (Vec::new(), Triggers::NONE);
    for word in ["5xx", "gateway-error", "connect", "reset", "timeout", "refused-stream"] {
        let Ok(part) = Triggers::named(word) else { continue };
        let is_in = part.statuses.iter().all(|status| triggers.statuses.contains(status))
            && faults(part.faults).all(|fault| triggers.faults.contains(fault));
        let is_new = part.statuses.iter().any(|status| !said.statuses.contains(status))
            || faults(part.faults).any(|fault| !said.faults.contains(fault));
        if is_in && is_new {
            words.push(word.to_owned());
            said.statuses = part.statuses.iter().fold(said.statuses, StatusSet::with);
            said.faults = said.faults.union(part.faults);
        }
    }
    let statuses = triggers.statuses.iter().filter(|status| !said.statuses.contains(*status));
    words.extend(statuses.map(|status| status.to_string()));
    let single = faults(triggers.faults).filter(|fault| !said.faults.contains(*fault));
    words.extend(single.map(|fault| fault.name().to_owned()));
    if words.is_empty() { "none".to_owned() } else { format!("[{}]", words.join(", ")) }
}

fn faults(set: FaultSet) -> impl Iterator<Item = Fault> {
    Fault::ALL.into_iter().filter(move |fault| set.contains(*fault))
}
