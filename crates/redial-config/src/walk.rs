//! From a tree to settings and routes: the one place that knows what the keys mean.

mod adaptive_limit;
mod body;
mod breaker;
mod budget;
mod bulkhead;
mod cache;
mod chaos;
mod fallback;
mod hedge;
mod part;
mod policy;
mod rate_limit;
mod throttle;
mod value;

use crate::{
    config::Route,
    keys,
    problem::Problem,
    settings::Settings,
    tree::{Entry, Node, Place, Value},
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
    match (path, key) {
        ("", one) | (one, "") => one.to_owned(),
        (path, key) => format!("{path}.{key}"),
    }
}

const POLICIES_MAX: usize = 1_000;
const ROUTES_MAX: usize = 10_000;
