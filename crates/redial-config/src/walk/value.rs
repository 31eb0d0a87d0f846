//! Single values: numbers, durations, words.

use std::time::Duration;

use redial_core::Triggers;

use super::Walker;
use crate::{
    keys,
    tree::{Node, Value},
    units::{self, InvalidValue},
};

impl Walker {
    /// Reads text, or a number as text, by `parse`.
    pub(super) fn read<T>(
        &mut self,
        node: &Node,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => {
                self.wrong(&node.place, path, format!("expected text, found {}", node.kind()));
                return None;
            }
        };
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(&node.place, path, error.to_string());
                None
            }
        }
    }

    /// A duration, or `none`.
    pub(super) fn limit(&mut self, node: &Node, path: &str) -> Option<Option<Duration>> {
        if matches!(&node.value, Value::Text(text) if text == "none") {
            return Some(None);
        }
        let span = self.read(node, path, units::parse_duration)?;
        if span.is_zero() {
            self.wrong(
                &node.place,
                path,
                "a limit of zero leaves no time at all; write none for no limit",
            );
            return None;
        }
        Some(Some(span))
    }

    pub(super) fn truth(&mut self, node: &Node, path: &str) -> Option<bool> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        self.wrong(&node.place, path, format!("expected true or false, found {}", node.kind()));
        None
    }

    pub(super) fn number(&mut self, node: &Node, path: &str) -> Option<f64> {
        if let Value::Number(number) = node.value {
            return Some(number);
        }
        self.wrong(&node.place, path, format!("expected a number, found {}", node.kind()));
        None
    }

    /// A number of retries.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked"
    )]
    pub(super) fn count(&mut self, node: &Node, path: &str) -> Option<u32> {
        let number = self.number(node, path)?;
        let is_count = number.fract() == 0.0 && (0.0..=RETRIES_MAX).contains(&number);
        if !is_count {
            let rule = format!("{number} is not a whole number from 0 to {RETRIES_MAX}");
            self.wrong(&node.place, path, rule);
            return None;
        }
        Some(number as u32)
    }

    /// A number of milliseconds.
    pub(super) fn millis(&mut self, node: &Node, path: &str) -> Option<Duration> {
        let number = self.number(node, path)?;
        let span = Duration::try_from_secs_f64(number / 1e3).ok();
        let span = span.filter(|span| *span <= Duration::from_secs(366 * 86_400));
        if span.is_none() {
            let rule = format!("{number} is not a number of milliseconds from 0 to 366 days");
            self.wrong(&node.place, path, rule);
        }
        span
    }

    /// A list of triggers: `default,409`, `[default, 409]`, or one status.
    pub(super) fn triggers(&mut self, node: &Node, path: &str) -> Option<Triggers> {
        let words = match &node.value {
            Value::List(items) => items.iter().collect::<Vec<_>>(),
            _ => vec![node],
        };
        let mut list = Vec::new();
        for word in words {
            list.push(self.read(word, path, |text| Ok(text.to_owned()))?);
        }
        match Triggers::parse(&list.join(",")) {
            Ok(triggers) => Some(triggers),
            Err(unknown) => {
                let problem = crate::problem::Problem::at(&node.place, path, unknown.to_string());
                let meant = keys::meant(&unknown.name, Triggers::WORDS);
                self.problems.push(match meant {
                    Some(meant) => problem.suggest(format!("did you mean `{meant}`?")),
                    None => problem,
                });
                None
            }
        }
    }

    pub(super) fn word(&mut self, node: &Node, path: &str) -> Option<String> {
        let word = self.read(node, path, |text| Ok(text.to_owned()))?;
        if word.is_empty() {
            self.wrong(&node.place, path, "expected text, found none");
            return None;
        }
        Some(word)
    }

    /// One word, or a list of them.
    pub(super) fn words(&mut self, node: &Node, path: &str) -> Vec<String> {
        match &node.value {
            Value::List(items) if items.is_empty() => {
                self.wrong(&node.place, path, "an empty list matches nothing");
                Vec::new()
            }
            Value::List(items) => items.iter().filter_map(|item| self.word(item, path)).collect(),
            _ => self.word(node, path).into_iter().collect(),
        }
    }

    /// A host's name, or `*.` and a domain.
    pub(super) fn host(&mut self, node: &Node, path: &str) -> Option<String> {
        let host = self.word(node, path)?;
        let name = host.strip_prefix("*.").unwrap_or(&host);
        let is_host = !name.is_empty() && !name.contains(['*', '/', ' ']);
        if !is_host {
            self.wrong(
                &node.place,
                path,
                format!("`{host}` is no host; write api.example.com or *.example.com"),
            );
            return None;
        }
        Some(host.to_ascii_lowercase())
    }

    /// A path, or the beginning of one and `*`.
    pub(super) fn pattern(&mut self, node: &Node, path: &str) -> Option<String> {
        let pattern = self.word(node, path)?;
        let fixed = pattern.strip_suffix('*').unwrap_or(&pattern);
        if !fixed.starts_with('/') || fixed.contains('*') {
            let rule = format!("`{pattern}` is no path; write /v1/orders or /v1/*");
            self.wrong(&node.place, path, rule);
            return None;
        }
        Some(pattern)
    }
}

const RETRIES_MAX: f64 = 1_000_000.0;
