//! The reasons for a decision, as sentences with their sources.

use std::time::Duration;

use http::Method;
use redial::core::{Attempt, Class, Idempotency, Policy, Stop, Verdict};

use crate::{plan::describe_backoff, show};

/// Adds the reasons that follow those by which the outcome was read.
pub(super) fn add(
    because: &mut Vec<String>,
    policy: &Policy,
    attempt: &Attempt,
    method: &Method,
    decision: Result<(Duration, Duration), Stop>,
) {
    match decision {
        Err(Stop::Success) => {}
        Err(Stop::Permanent) => because.push(Stop::Permanent.to_string()),
        Err(Stop::MaybeApplied) => {
            because.push(repeatable(attempt, method));
            because.push(
                "it may have been applied, so it is not repeated automatically (RFC 9110 §9.2.2); \
                 with an Idempotency-Key it would be"
                    .to_owned(),
            );
        }
        Err(stop) => {
            because.push(repeatable(attempt, method));
            because.push(stopped(policy, attempt, stop));
        }
        Ok(_) => {
            because.push(repeatable(attempt, method));
            because.push(continued(policy, attempt));
        }
    }
}

fn repeatable(attempt: &Attempt, method: &Method) -> String {
    let evidence = attempt.reading.evidence();
    match attempt.idempotency {
        Idempotency::Safe => format!("{method} is safe, so it may be repeated (RFC 9110 §9.2.1)"),
        Idempotency::Method => {
            format!("{method} is idempotent, so it may be repeated (RFC 9110 §9.2.2)")
        }
        Idempotency::Key => "it carries an Idempotency-Key, so it may be repeated".to_owned(),
        Idempotency::Declared => "the policy declares it idempotent".to_owned(),
        Idempotency::None if evidence.is_unapplied() => {
            format!(
                "{method} is not idempotent, but {evidence} makes repeating it safe (RFC 9110 §9.2.2)"
            )
        }
        Idempotency::None => format!("{method} is not idempotent (RFC 9110 §9.2.2)"),
    }
}

fn stopped(policy: &Policy, attempt: &Attempt, stop: Stop) -> String {
    let wish = attempt.reading.pushback.map(|wish| show::span(wish.wait())).unwrap_or_default();
    let left = attempt.remaining.map(show::span);
    match (stop, left) {
        (Stop::RetriesExhausted, _) => {
            let most = rule_of(policy, attempt).max_retries;
            format!("attempt {} was the last of 1 + {most} (max_retries)", attempt.number)
        }
        (Stop::PushbackTooLong, Some(left)) => {
            let max = show::span(policy.retry.pushback_policy().max());
            format!(
                "a wait of {wish} is above the cap of {max} or the {left} left; it is never shortened"
            )
        }
        (Stop::PushbackTooLong, None) => {
            let max = show::span(policy.retry.pushback_policy().max());
            format!(
                "a wait of {wish} is above the cap of {max} (pushback.max); it is never shortened"
            )
        }
        (Stop::Deadline, Some(left)) => {
            format!("{left} are left before the deadline: the wait would not end before it")
        }
        (stop, _) => stop.to_string(),
    }
}

fn continued(policy: &Policy, attempt: &Attempt) -> String {
    let rule = rule_of(policy, attempt);
    let retries = format!("retry {} of {}", attempt.number, rule.max_retries);
    if attempt.reading.at_once {
        return "once, at once, outside the count of retries".to_owned();
    }
    let pushback = policy.retry.pushback_policy();
    match pushback.wish(attempt.reading.pushback) {
        Some(redial::core::Pushback::Exactly(wait)) => {
            format!("{retries}: exactly the {} asked for (gRFC A6)", show::span(wait))
        }
        Some(wish) => format!(
            "{retries}: the {} asked for, plus jitter of up to {} %, never less",
            show::span(wish.wait()),
            pushback.jitter() * 100.0
        ),
        None => format!("{retries}: {}", describe_backoff(&rule.backoff)),
    }
}

fn rule_of(policy: &Policy, attempt: &Attempt) -> redial::core::Rule {
    let class = match attempt.reading.verdict {
        Verdict::Success => Class::Other,
        verdict => verdict.class().unwrap_or(Class::Other),
    };
    *policy.retry.rule(class)
}
