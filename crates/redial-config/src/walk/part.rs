//! The parts of a policy: tables whose keys change a value, one checked setter a key.

use std::fmt::Display;

use super::{Walker, join};
use crate::{
    problem::Problem,
    settings::BackoffSettings,
    tree::{Node, Value},
};

use redial_core::Backoff;

/// A part of a policy while it is read.
pub(super) struct Part<'w, 'n, P> {
    walker: &'w mut Walker,
    node: &'n Node,
    path: &'n str,
    /// How many problems there were before this part.
    problems: usize,
    /// What has come of it so far.
    pub(super) policy: P,
}

/// What a setter has against a value.
pub(super) struct Refused {
    rule: String,
    suggestion: Option<String>,
}

impl Walker {
    /// Reads a part that is off, or on with its defaults, or a table of `known` keys; `base` is
    /// what the table is laid over. Returns nothing where it is wrong, and no policy where it is
    /// off.
    pub(super) fn part<P>(
        &mut self,
        node: &Node,
        path: &str,
        known: &[&str],
        base: P,
        build: impl FnOnce(&mut Part<'_, '_, P>),
    ) -> Option<Option<P>> {
        match &node.value {
            // What older readers of YAML, which files may pass through, make of `on` and `off`.
            Value::Bool(is_on) if !is_on => return Some(None),
            Value::Text(word) if OFF.contains(&word.as_str()) => return Some(None),
            Value::Text(word) if word == ON => {}
            Value::Bool(_) | Value::Map(_) => {}
            _ => {
                let rule = format!("expected a table, on or off, found {}", node.kind());
                self.wrong(&node.place, path, rule);
                return None;
            }
        }
        Some(Some(self.build(node, path, known, base, build)))
    }

    /// Lets `build` read a table of `known` keys.
    pub(super) fn build<P>(
        &mut self,
        node: &Node,
        path: &str,
        known: &[&str],
        base: P,
        build: impl FnOnce(&mut Part<'_, '_, P>),
    ) -> P {
        let problems = self.problems.len();
        if let Value::Map(entries) = &node.value {
            self.known(entries, path, known);
        }
        let mut part = Part { walker: self, node, path, problems, policy: base };
        build(&mut part);
        part.policy
    }

    /// Reads a key that a table cannot do without.
    pub(super) fn need<T>(
        &mut self,
        node: &Node,
        path: &str,
        (what, key): (&str, &str),
        read: impl FnOnce(&mut Self, &Node, &str) -> Option<T>,
    ) -> Option<T> {
        let Some(inner) = node.get(key) else {
            self.wrong(&node.place, path, format!("{what} has `{key}`"));
            return None;
        };
        read(self, inner, &join(path, key))
    }

    /// Returns in which of several forms a table is written, each of which has keys of its own, or
    /// `unsaid` where it has none of them.
    pub(super) fn form<'f>(
        &mut self,
        node: &Node,
        path: &str,
        what: &str,
        forms: &[(&'f str, &[&str])],
        unsaid: Option<&'f str>,
    ) -> Option<&'f str> {
        let is_written = |keys: &[&str]| keys.iter().any(|key| node.get(key).is_some());
        let written = forms.iter().filter(|(_, keys)| is_written(keys)).map(|(form, _)| *form);
        match written.collect::<Vec<_>>()[..] {
            [form] => return Some(form),
            [] if unsaid.is_some() => return unsaid,
            [] => {
                let keys = forms.iter().map(|(_, keys)| keys.join(" and "));
                let keys = keys.collect::<Vec<_>>().join(", or ");
                self.wrong(&node.place, path, format!("{what} has {keys}"));
            }
            ref several => {
                let rule =
                    format!("{what} has one form; this has keys of {}", several.join(" and "));
                self.wrong(&node.place, path, rule);
            }
        }
        None
    }
}

impl<P: Clone> Part<'_, '_, P> {
    /// Reads a key, if it is there.
    pub(super) fn get<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Walker, &Node, &str) -> Option<T>,
    ) -> Option<T> {
        read(self.walker, self.node.get(key)?, &join(self.path, key))
    }

    /// Reads a key, if it is there, and hands its value to a setter that takes any.
    pub(super) fn put<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Walker, &Node, &str) -> Option<T>,
        setter: impl FnOnce(P, T) -> P,
    ) {
        if let Some(value) = self.get(key, read) {
            self.policy = setter(self.policy.clone(), value);
        }
    }

    /// Reads a key, if it is there, and hands its value to a setter that may refuse it.
    pub(super) fn set<T, E: Into<Refused>>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Walker, &Node, &str) -> Option<T>,
        setter: impl FnOnce(P, T) -> Result<P, E>,
    ) {
        if let Some(value) = self.get(key, read) {
            self.apply(&[key], setter(self.policy.clone(), value));
        }
    }

    /// Hands several values at once to a setter, which may refuse them: at the first of `keys` that
    /// is there. Does nothing where something is wrong already, for this might only follow from it.
    pub(super) fn settle<E: Into<Refused>>(
        &mut self,
        keys: &[&str],
        setter: impl FnOnce(P) -> Result<P, E>,
    ) {
        if self.is_sound() {
            self.apply(keys, setter(self.policy.clone()));
        }
    }

    /// Reads a table of waits, laid over those that there are.
    pub(super) fn backoff(
        &mut self,
        key: &str,
        base: &Backoff,
        setter: impl FnOnce(P, Backoff) -> Result<P, Refused>,
    ) {
        let read = |walker: &mut Walker, node: &Node, path: &str| Some(walker.backoff(node, path));
        let Some(settings): Option<BackoffSettings> = self.get(key, read) else { return };
        match settings.over(base) {
            Ok(waits) => self.apply(&[key], setter(self.policy.clone(), waits)),
            Err(error) => {
                let path = join(key, error.key());
                let (node, reached) = self.node.nearest(&path);
                self.walker.wrong(&node.place, &join(self.path, reached), error.to_string());
            }
        }
    }

    /// Reads a table of header fields, and hands each to a setter that may refuse it.
    pub(super) fn headers<E: Into<Refused>>(
        &mut self,
        setter: impl Fn(P, &str, &str) -> Result<P, E>,
    ) {
        let Some(node) = self.node.get("headers") else { return };
        let path = join(self.path, "headers");
        let Some(entries) = self.walker.table(node, &path) else { return };
        self.walker.known(entries, &path, &[]);
        if HEADERS_MAX < entries.len() {
            let rule = format!("more than {HEADERS_MAX} header fields");
            return self.walker.wrong(&node.place, &path, rule);
        }
        for entry in entries {
            let path = join(&path, &entry.key);
            let Some(value) = self.walker.text(&entry.node, &path, HEADER_BYTES_MAX) else {
                continue;
            };
            match setter(self.policy.clone(), &entry.key, &value) {
                Ok(policy) => self.policy = policy,
                Err(error) => self.walker.refuse(&entry.place, &path, error.into()),
            }
        }
    }

    /// Returns whether nothing of this part is wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.walker.problems.len() == self.problems
    }

    /// Says that something belongs here that is not here.
    pub(super) fn missing(&mut self, key: &str, what: &str) {
        let (node, reached) = self.node.nearest(key);
        self.walker.wrong(&node.place, &join(self.path, reached), what);
    }

    fn apply<E: Into<Refused>>(&mut self, keys: &[&str], made: Result<P, E>) {
        match made {
            Ok(policy) => self.policy = policy,
            Err(error) => {
                let key = keys.iter().find(|key| self.node.get(key).is_some());
                let (node, reached) = self.node.nearest(key.copied().unwrap_or_default());
                self.walker.refuse(&node.place, &join(self.path, reached), error.into());
            }
        }
    }
}

impl Walker {
    pub(super) fn refuse(&mut self, place: &crate::tree::Place, path: &str, refused: Refused) {
        let problem = Problem::at(place, path, refused.rule);
        self.problems.push(match refused.suggestion {
            Some(suggestion) => problem.suggest(suggestion),
            None => problem,
        });
    }
}

impl Refused {
    pub(super) fn suggest(self, suggestion: impl Into<String>) -> Self {
        Self { suggestion: Some(suggestion.into()), ..self }
    }
}

impl<E: Display> From<E> for Refused {
    fn from(error: E) -> Self {
        Self { rule: error.to_string(), suggestion: None }
    }
}

const OFF: [&str; 2] = ["off", "none"];
const ON: &str = "on";
/// As many as a fallback takes.
const HEADERS_MAX: usize = 64;
/// What most servers take of a head.
const HEADER_BYTES_MAX: usize = 8 * 1_024;
