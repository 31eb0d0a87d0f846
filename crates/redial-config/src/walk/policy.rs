//! Policies, and what all of them have: retries, waits, limits of time.

use redial_core::{Class, Jitter, Policy, Profile};

use super::{Walker, join};
use crate::{
    keys,
    settings::{BackoffSettings, PushbackSettings, Settings},
    tree::{Entry, Node},
    units,
};

impl Walker {
    pub(super) fn policy(&mut self, node: &Node, path: &str) -> Settings {
        let Some(entries) = self.table(node, path) else { return Settings::default() };
        if entries.iter().any(|entry| keys::COMPACT.contains(&entry.key.as_str())) {
            return self.compact(node, path);
        }
        self.known(entries, path, keys::POLICY);
        let mut settings = Settings::default();
        // First of all, for everything else is laid over it.
        if let Some(node) = node.get("profile") {
            settings.profile = self.profile(node, &join(path, "profile"));
        }
        let base = settings.profile.map_or_else(Policy::default, Profile::policy);
        for Entry { key, node, .. } in entries {
            let path = join(path, key);
            match key.as_str() {
                "max_retries" => settings.max_retries = self.count(node, &path),
                "backoff" => settings.backoff = self.backoff(node, &path),
                "deadline" => settings.deadline = self.limit(node, &path),
                "attempt_timeout" => settings.attempt_timeout = self.limit(node, &path),
                "retry_on" => settings.retry_on = self.triggers(node, &path),
                "idempotent" => settings.idempotent = self.truth(node, &path),
                "assume_429_unprocessed" => {
                    settings.assume_429_unprocessed = self.truth(node, &path);
                }
                "trust_proxy_status" => settings.trust_proxy_status = self.truth(node, &path),
                "replay_body" => settings.replay_body = self.read(node, &path, units::parse_bytes),
                "pushback" => settings.pushback = self.pushback(node, &path),
                "budget" => settings.budget = self.budget(node, &path, base.budget),
                "classes" => settings.classes = self.classes(node, &path),
                _ => self.extra(key, node, &path, &base, &mut settings),
            }
        }
        settings
    }

    /// What most policies do without.
    fn extra(
        &mut self,
        key: &str,
        node: &Node,
        path: &str,
        base: &Policy,
        settings: &mut Settings,
    ) {
        match key {
            "breaker" => settings.breaker = self.breaker(node, path, base.breaker),
            "hedge" => settings.hedge = self.hedge(node, path, base.hedge),
            "rate_limit" => settings.rate_limit = self.rate_limit(node, path, base.rate_limit),
            "throttle" => settings.throttle = self.throttle(node, path, base.throttle),
            "bulkhead" => settings.bulkhead = self.bulkhead(node, path, base.bulkhead),
            "adaptive_limit" => {
                settings.adaptive_limit = self.adaptive_limit(node, path, base.adaptive_limit);
            }
            "cache" => settings.cache = self.cache(node, path, base.cache),
            "fallback" => settings.fallback = self.fallback(node, path, base.fallback.as_deref()),
            "resume" => settings.resume = self.resume(node, path, base.resume),
            "stall" => settings.stall = self.stall(node, path, base.stall),
            "chaos" => settings.chaos = self.chaos(node, path, base.chaos.as_deref()),
            _ => {}
        }
    }

    /// `{"maxRetries":3,"initialDelayMs":1000,"backoffFactor":2,"jitterEnabled":true}`:
    /// exponential, with additive jitter or none.
    pub(super) fn compact(&mut self, node: &Node, path: &str) -> Settings {
        let Some(entries) = self.table(node, path) else { return Settings::default() };
        self.known(entries, path, keys::COMPACT);
        let mut settings = Settings::default();
        for Entry { key, node, .. } in entries {
            let path = join(path, key);
            match key.as_str() {
                "maxRetries" => settings.max_retries = self.count(node, &path),
                "initialDelayMs" => settings.backoff.initial = self.millis(node, &path),
                "backoffFactor" => settings.backoff.factor = self.number(node, &path),
                "jitterEnabled" => {
                    let jitter = |enabled| if enabled { Jitter::Additive } else { Jitter::None };
                    settings.backoff.jitter = self.truth(node, &path).map(jitter);
                }
                "maxDelayMs" => settings.backoff.max = self.millis(node, &path),
                _ => {}
            }
        }
        settings
    }

    pub(super) fn backoff(&mut self, node: &Node, path: &str) -> BackoffSettings {
        let Some(entries) = self.table(node, path) else { return BackoffSettings::default() };
        self.known(entries, path, keys::BACKOFF);
        let mut settings = BackoffSettings::default();
        for Entry { key, node, .. } in entries {
            let path = join(path, key);
            match key.as_str() {
                "kind" => settings.kind = self.read(node, &path, units::parse_backoff_kind),
                "initial" => settings.initial = self.read(node, &path, units::parse_duration),
                "factor" => settings.factor = self.number(node, &path),
                "max" => settings.max = self.read(node, &path, units::parse_duration),
                "jitter" => settings.jitter = self.read(node, &path, units::parse_jitter),
                _ => {}
            }
        }
        settings
    }

    fn pushback(&mut self, node: &Node, path: &str) -> PushbackSettings {
        let Some(entries) = self.table(node, path) else { return PushbackSettings::default() };
        self.known(entries, path, keys::PUSHBACK);
        let mut settings = PushbackSettings::default();
        for Entry { key, node, .. } in entries {
            let path = join(path, key);
            match key.as_str() {
                "honor" => settings.honor = self.truth(node, &path),
                "max" => settings.max = self.read(node, &path, units::parse_duration),
                "jitter" => settings.jitter = self.number(node, &path),
                _ => {}
            }
        }
        settings
    }

    fn classes(&mut self, node: &Node, path: &str) -> Vec<(Class, Option<u32>, BackoffSettings)> {
        let Some(entries) = self.table(node, path) else { return Vec::new() };
        self.known(entries, path, &Class::ALL.map(Class::name));
        let mut classes = Vec::new();
        for Entry { key, node, .. } in entries {
            let path = join(path, key);
            let (Some(class), Some(entries)) = (Class::named(key), self.table(node, &path)) else {
                continue;
            };
            self.known(entries, &path, keys::CLASS);
            let retries = node.get("max_retries");
            let max_retries =
                retries.and_then(|node| self.count(node, &join(&path, "max_retries")));
            let waits = node.get("backoff");
            let backoff = waits.map(|node| self.backoff(node, &join(&path, "backoff")));
            classes.push((class, max_retries, backoff.unwrap_or_default()));
        }
        classes
    }
}
