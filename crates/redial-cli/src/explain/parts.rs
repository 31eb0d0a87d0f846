//! What an outcome means to the parts of a policy beside the retries.

use std::time::Duration;

use http::{Response, header, request};
use redial::{
    Assess, Diagnose, Diagnosis, HttpAssess,
    core::{Attempt, Health, Idempotency, Policy, Stop, Verdict},
    http::Answer,
};
use serde_json::{Map, Value};

use crate::show;

/// What the parts that are on make of an outcome; `None` where the part is off.
#[derive(Default)]
pub(super) struct Parts {
    /// What it says about the upstream, where a part counts that.
    health: Option<Health>,
    /// Whether the request is hedged instead of retried.
    pub(super) is_hedged: Option<bool>,
    /// The status of the fallback, where it would stand in for this outcome.
    fallback: Option<Option<u16>>,
}

/// An error of which nothing but its meaning is known.
struct Named(Diagnosis);

impl Diagnose for Named {
    fn diagnose(&self) -> Diagnosis {
        self.0
    }
}

impl Parts {
    pub(super) fn of(
        policy: &Policy,
        head: &request::Parts,
        attempt: &Attempt,
        outcome: &Result<Answer<'_>, Diagnosis>,
    ) -> Self {
        let counts = policy.breaker.is_some()
            || policy.throttle.is_some()
            || policy.adaptive_limit.is_some();
        let may_be_hedged =
            attempt.idempotency != Idempotency::None && !head.headers.contains_key(header::UPGRADE);
        let stands_in = policy.fallback.as_deref().map(|fallback| {
            let is_meant = match outcome {
                Ok(answer) => fallback.stands_in_for_status(answer.status.as_u16()),
                Err(diagnosis) => fallback.stands_in_for_fault(diagnosis.fault),
            };
            is_meant.then(|| fallback.status())
        });
        Self {
            health: counts.then(|| health(outcome)),
            is_hedged: policy.hedge.map(|_| may_be_hedged),
            fallback: stands_in,
        }
    }

    /// Adds what the parts do, as sentences.
    pub(super) fn add(&self, because: &mut Vec<String>, policy: &Policy, is_retried: bool) {
        if let Some(health) = self.health {
            because.push(format!(
                "the upstream counts as {}: {}",
                health.name(),
                counted(policy, health)
            ));
        }
        if self.is_hedged == Some(false) {
            because.push("it is not hedged: a second copy might be applied twice".to_owned());
        }
        match self.fallback {
            Some(Some(status)) if is_retried => because.push(format!(
                "if the last attempt ends so too, the fallback answers with {status}"
            )),
            Some(Some(status)) => because.push(format!("the fallback answers with {status}")),
            Some(None) => because.push("the fallback does not stand in for it".to_owned()),
            None => {}
        }
    }

    /// The keys that the parts have, none for those that are off.
    pub(super) fn json(&self) -> Map<String, Value> {
        let mut keys = Map::new();
        let mut add = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                keys.insert(key.to_owned(), value);
            }
        };
        add("health", self.health.map(|health| health.name().into()));
        add("hedged", self.is_hedged.map(Value::from));
        add("fallback_status", self.fallback.map(Value::from));
        keys
    }
}

/// Returns what becomes of a hedged call when this copy ends so, and the reasons: a further copy, or
/// the end.
pub(super) fn hedged(
    because: &mut Vec<String>,
    policy: &Policy,
    attempt: &Attempt,
) -> Result<(Duration, Duration), Stop> {
    let most = policy.hedge.map_or(0, |hedge| hedge.max_hedges());
    match attempt.reading.verdict {
        Verdict::Success => return Err(Stop::Success),
        Verdict::Permanent(_) if !attempt.reading.at_once => {
            because.push(Stop::Permanent.to_string());
            return Err(Stop::Permanent);
        }
        _ => {}
    }
    because.push("it is hedged, so it is not retried: one or the other (gRFC A6)".to_owned());
    let pushback = policy.retry.pushback_policy();
    let wish = pushback.wish(attempt.reading.pushback);
    let wait = wish.map_or(Duration::ZERO, |wish| wish.wait());
    if pushback.max() < wait || attempt.remaining.is_some_and(|left| left <= wait) {
        let wait = show::span(wait);
        because.push(format!("the {wait} asked for are too long to wait; no further copy is sent"));
        return Err(Stop::PushbackTooLong);
    }
    if most < attempt.number {
        because.push(format!("copy {} was the last of 1 + {most} (max_hedges)", attempt.number));
        return Err(Stop::RetriesExhausted);
    }
    let when = if wait.is_zero() { "at once" } else { "when the server wants it" };
    because.push(format!("hedge {} of {most} is sent {when}", attempt.number));
    let latest = wish.map_or(wait, |wish| pushback.delay(wish, u64::MAX));
    Ok((wait, latest))
}

fn health(outcome: &Result<Answer<'_>, Diagnosis>) -> Health {
    let outcome = match outcome {
        Ok(answer) => {
            let mut response = Response::new(());
            *response.status_mut() = answer.status;
            Ok(response)
        }
        Err(diagnosis) => Err(Named(*diagnosis)),
    };
    HttpAssess.assess(&outcome).health
}

/// Says how each part that is on counts it.
fn counted(policy: &Policy, health: Health) -> String {
    let breaker = policy.breaker.map(|_| match health {
        Health::Well => "a success for the breaker",
        Health::Failed | Health::Overloaded => "a failure for the breaker",
        Health::Unknown => "nothing for the breaker",
    });
    let throttle = policy.throttle.map(|_| match health {
        Health::Well => "a call taken for the throttle",
        Health::Failed | Health::Overloaded => "a call refused for the throttle",
        Health::Unknown => "nothing for the throttle",
    });
    let limit = policy.adaptive_limit.map(|_| match health {
        Health::Well => "a latency for the limit",
        Health::Overloaded => "an overload for the limit",
        Health::Failed => "no overload for the limit",
        Health::Unknown => "nothing for the limit",
    });
    breaker.into_iter().chain(throttle).chain(limit).collect::<Vec<_>>().join(", ")
}
