//! From a tree to settings and routes: the one place that knows what the keys mean.

mod budget;
mod value;

use redial_core::Class;

use crate::{
    config::Route,
    keys,
    problem::Problem,
    settings::{BackoffSettings, PushbackSettings, Settings},
    tree::{Entry, Node, Place, Value},
    units,
};

/// Walks a tree and collects what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Walker {
    pub(crate) problems: Vec<Problem>,
}

impl Walker {
    /// Reads the policies and routes of a whole file. Routes name policies that are checked later.
    pub(crate) fn file<'a>(
        &mut self,
        root: &'a Node,
    ) -> (Vec<(String, &'a Node, Settings)>, Vec<Route>) {
        let (mut policies, mut routes) = (Vec::new(), Vec::new());
        let Some(entries) = self.table(root, "") else { return (policies, routes) };
        let is_compact = entries.iter().any(|entry| keys::COMPACT.contains(&entry.key.as_str()));
        if is_compact {
            let settings = self.compact(root, "");
            return (vec![("default".to_owned(), root, settings)], routes);
        }
        self.known(entries, "", keys::TOP);
        for entry in entries {
            match entry.key.as_str() {
                "policies" => policies = self.policies(&entry.node),
                "routes" => routes = self.routes(&entry.node),
                _ => {}
            }
        }
        (policies, routes)
    }

    fn policies<'a>(&mut self, node: &'a Node) -> Vec<(String, &'a Node, Settings)> {
        let Some(entries) = self.table(node, "policies") else { return Vec::new() };
        if POLICIES_MAX < entries.len() {
            self.wrong(&node.place, "policies", format!("more than {POLICIES_MAX} policies"));
            return Vec::new();
        }
        self.known(entries, "policies", &[]);
        let policy = |entry: &'a Entry| {
            let path = format!("policies.{}", entry.key);
            (entry.key.clone(), &entry.node, self.policy(&entry.node, &path))
        };
        entries.iter().map(policy).collect()
    }

    fn policy(&mut self, node: &Node, path: &str) -> Settings {
        let Some(entries) = self.table(node, path) else { return Settings::default() };
        if entries.iter().any(|entry| keys::COMPACT.contains(&entry.key.as_str())) {
            return self.compact(node, path);
        }
        self.known(entries, path, keys::POLICY);
        let mut settings = Settings::default();
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
                "budget" => settings.budget = self.budget(node, &path),
                "classes" => settings.classes = self.classes(node, &path),
                _ => {}
            }
        }
        settings
    }

    /// `{"maxRetries":3,"initialDelayMs":1000,"backoffFactor":2,"jitterEnabled":true}`: exponential, with
    /// additive jitter or none.
    fn compact(&mut self, node: &Node, path: &str) -> Settings {
        use redial_core::Jitter;
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

    fn backoff(&mut self, node: &Node, path: &str) -> BackoffSettings {
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

    fn routes(&mut self, node: &Node) -> Vec<Route> {
        let Value::List(items) = &node.value else {
            self.wrong(&node.place, "routes", format!("expected a list, found {}", node.kind()));
            return Vec::new();
        };
        if ROUTES_MAX < items.len() {
            self.wrong(&node.place, "routes", format!("more than {ROUTES_MAX} routes"));
            return Vec::new();
        }
        let routes = items.iter().enumerate();
        routes.filter_map(|(n, node)| self.route(node, &format!("routes.{n}"))).collect()
    }

    fn route(&mut self, node: &Node, path: &str) -> Option<Route> {
        let entries = self.table(node, path)?;
        self.known(entries, path, keys::ROUTE);
        let mut route = Route {
            host: None,
            path: None,
            methods: Vec::new(),
            policy: String::new(),
            place: node.place.clone(),
        };
        for Entry { key, node, .. } in entries {
            let path = join(path, key);
            match key.as_str() {
                "host" => route.host = self.host(node, &path),
                "path" => route.path = self.pattern(node, &path),
                "method" => route.methods = self.words(node, &path),
                "policy" => {
                    route.policy = self.word(node, &path).unwrap_or_default();
                    route.place = node.place.clone();
                }
                _ => {}
            }
        }
        if node.get("policy").is_none() {
            self.wrong(&node.place, path, "a route names a `policy`");
            return None;
        }
        Some(route)
    }

    /// Returns a table's entries; says so where it is none.
    fn table<'a>(&mut self, node: &'a Node, path: &str) -> Option<&'a [Entry]> {
        if let Value::Map(entries) = &node.value {
            return Some(entries);
        }
        self.wrong(&node.place, path, format!("expected a table, found {}", node.kind()));
        None
    }

    /// Says which keys are unknown, where not any will do, and which are there twice.
    fn known(&mut self, entries: &[Entry], path: &str, known: &[&str]) {
        let mut seen = std::collections::HashSet::new();
        for Entry { key, place, .. } in entries {
            let path = join(path, key);
            if !seen.insert(key) {
                self.wrong(place, &path, "this key is there twice");
            }
            if known.is_empty() || known.contains(&key.as_str()) {
                continue;
            }
            let problem = Problem::at(place, &path, "unknown key");
            let suggestion = match keys::meant(key, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("there are {}", known.join(", ")),
            };
            self.problems.push(problem.suggest(suggestion));
        }
    }

    fn wrong(&mut self, place: &Place, path: &str, rule: impl Into<String>) {
        self.problems.push(Problem::at(place, path, rule));
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

const POLICIES_MAX: usize = 1_000;
const ROUTES_MAX: usize = 10_000;
