//! Where the settings of a policy come from.

mod parts;
mod shown;

use redial_core::{
    AdaptivePolicy, BreakerPolicy, BulkheadPolicy, CachePolicy, ChaosPolicy, FallbackPolicy,
    HedgePolicy, Policy, Profile, ResumePolicy, StallPolicy, ThrottlePolicy,
};

use crate::{
    keys,
    tree::{Node, Place, Value},
};

/// One setting of a policy, and where it comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Provenance {
    /// Which setting: `backoff.initial`.
    pub setting: String,
    /// Its value, as it was written, on one line; for what was not written, as it could have been,
    /// or in words.
    pub value: String,
    /// `redial.yaml:4:13`, or `env REDIAL__…`; for what was not written `default`, `profile` and
    /// its name, or `adjusted`, where a default gave way to what was written.
    pub origin: String,
}

/// Lists what is written in `node` first, then the rest of `policy`, which has come of it.
pub(crate) fn of(node: &Node, profile: Option<Profile>, policy: &Policy) -> Vec<Provenance> {
    let mut all = Vec::new();
    leaves(node, "", &mut all);
    let is_compact = keys::COMPACT.iter().any(|key| node.get(key).is_some());
    let base = profile.map(|profile| (profile, shown::settings(&profile.policy())));
    let defaults = shown::settings(&all_on());
    let value_in = |list: &[Shown], setting: &str| {
        list.iter().find(|(other, _)| other == setting).map(|(_, value)| value.clone())
    };
    for (setting, value) in shown::settings(policy) {
        let is_set_compactly =
            is_compact && matches!(setting.as_str(), "max_retries" | "backoff" | "profile");
        if is_set_compactly || node.at(&setting).is_some() {
            continue;
        }
        let of_profile = base.as_ref().and_then(|(profile, base)| {
            value_in(base, &setting).filter(|base| *base == value).map(|_| profile)
        });
        // A part that is off has no default to differ from.
        let is_default = value_in(&defaults, &setting).is_none_or(|default| default == value);
        let origin = match of_profile {
            _ if is_default => "default".to_owned(),
            Some(profile) => format!("profile {profile}"),
            None => "adjusted".to_owned(),
        };
        all.push(Provenance { setting, value, origin });
    }
    all
}

/// A setting, and its value.
type Shown = (String, String);

/// Each part that has defaults, with them.
fn all_on() -> Policy {
    Policy {
        breaker: Some(BreakerPolicy::default()),
        hedge: Some(HedgePolicy::default()),
        throttle: Some(ThrottlePolicy::default()),
        bulkhead: Some(BulkheadPolicy::default()),
        adaptive_limit: Some(AdaptivePolicy::default()),
        cache: Some(CachePolicy::default()),
        fallback: Some(FallbackPolicy::default().into()),
        resume: Some(ResumePolicy::default()),
        stall: Some(StallPolicy::default()),
        chaos: Some(ChaosPolicy::default().into()),
        ..Policy::default()
    }
}

fn leaves(node: &Node, path: &str, all: &mut Vec<Provenance>) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                let path = if path.is_empty() {
                    entry.key.clone()
                } else {
                    format!("{path}.{}", entry.key)
                };
                leaves(&entry.node, &path, all);
            }
        }
        Value::Map(_) if path.is_empty() => {}
        _ => {
            let Place { source, line, column } = &node.place;
            let origin =
                if *line == 0 { source.to_string() } else { format!("{source}:{line}:{column}") };
            let text = node.text();
            let is_line = !text.contains(char::is_control);
            let value = if is_line { text } else { format!("{text:?}") };
            all.push(Provenance { setting: path.to_owned(), value, origin });
        }
    }
}

#[cfg(test)]
mod tests;
