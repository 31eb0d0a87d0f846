//! What is allowed in a file, and seldom meant.

use redial::core::{BudgetPolicy, Policy};
use redial_config::Config;
use serde_json::json;

/// Something that a file says and that its author may want to think about.
pub(super) struct Warning {
    policy: String,
    setting: &'static str,
    /// Where it is written, if it is.
    place: Option<String>,
    text: String,
}

/// Returns the warnings about every policy of a file.
pub(super) fn warnings(config: &Config) -> Vec<Warning> {
    let about = |name: &str| {
        let policy = config.policy(name)?;
        let warn = |(setting, text)| Warning {
            policy: name.to_owned(),
            setting,
            place: place(config, name, setting),
            text,
        };
        Some(of(policy).into_iter().map(warn).collect::<Vec<_>>())
    };
    config.names().filter_map(about).flatten().collect()
}

impl Warning {
    /// Writes it as problems are written: place, setting, what is the matter.
    pub(super) fn text(&self, file: &str) -> String {
        let Self { policy, setting, place, text } = self;
        let place = place.as_deref().unwrap_or(file);
        format!("{place}: warning: policies.{policy}.{setting}: {text}")
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let Self { policy, setting, place, text } = self;
        json!({"policy": policy, "setting": setting, "origin": place, "warning": text})
    }
}

fn of(policy: &Policy) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if let Some(chaos) = policy.chaos.as_ref().filter(|chaos| chaos.is_active()) {
        let rules = match chaos.rules().len() {
            1 => "1 rule makes".to_owned(),
            count => format!("{count} rules make"),
        };
        let text = format!("{rules} failures on purpose; set `enabled: false` in production");
        all.push(("chaos", text));
    }
    if policy.breaker.is_some_and(|breaker| breaker.is_observing()) {
        let text = "the breaker only tells what it would refuse, and refuses nothing";
        all.push(("breaker.observe_only", text.to_owned()));
    }
    let most = policy.retry.most_retries();
    if policy.budget == BudgetPolicy::Unlimited && 0 < most {
        let load = match most.checked_add(1) {
            Some(attempts) => format!("up to {attempts} times the load"),
            None => "load without bound".to_owned(),
        };
        let bare = policy.breaker.is_none() && policy.throttle.is_none();
        let held = if RETRIES_FEW < most && bare {
            ", and neither a breaker nor a throttle holds them back"
        } else {
            ""
        };
        let text = format!("retries make {load} in an outage{held}; give them a budget");
        all.push(("budget", text));
    }
    if policy.hedge.is_some() && policy.deadline.is_none() {
        let text = "nothing ends a hedged call whose copies all hang but the attempt timeout; \
                    set a deadline";
        all.push(("hedge", text.to_owned()));
    }
    all
}

/// Where the setting, or the first one within it, is written; `None` for defaults and profiles.
fn place(config: &Config, policy: &str, setting: &str) -> Option<String> {
    let is_within = |other: &str| {
        other.strip_prefix(setting).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let entry = config.provenance(policy).iter().find(|entry| is_within(&entry.setting))?;
    let is_written = entry.origin.contains(':') || entry.origin.starts_with("env ");
    is_written.then(|| entry.origin.clone())
}

/// Up to here retries without a budget are what most clients do; from the next one on, a call costs
/// an ailing upstream more than four times what it should.
const RETRIES_FEW: u32 = 3;
