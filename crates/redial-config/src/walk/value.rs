//! Single values: numbers, durations, words.

use std::time::Duration;

use redial_core::{Profile, Triggers};

use super::Walker;
use crate::{
    keys,
    problem::Problem,
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
        let (Value::Text(text) | Value::Number(_, text)) = &node.value else {
            self.wrong(&node.place, path, format!("expected text, found {}", node.kind()));
            return None;
        };
        match parse(text) {
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
        if let Value::Number(number, _) = node.value {
            return Some(number);
        }
        self.wrong(&node.place, path, format!("expected a number, found {}", node.kind()));
        None
    }

    /// A number of retries.
    pub(super) fn count(&mut self, node: &Node, path: &str) -> Option<u32> {
        let count = self.whole_to(node, path, RETRIES_MAX)?;
        u32::try_from(count).ok()
    }

    /// A whole number of whatever size its type holds; what is right in between, the setters know.
    pub(super) fn whole<T: Whole>(&mut self, node: &Node, path: &str) -> Option<T> {
        let number = self.whole_to(node, path, T::MAX)?;
        T::try_from(number).ok()
    }

    fn whole_to(&mut self, node: &Node, path: &str, max: u64) -> Option<u64> {
        let number = self.number(node, path)?;
        let text = node.text();
        let whole = text.parse::<u64>().ok().or_else(|| whole_of(number));
        let whole = whole.filter(|whole| *whole <= max);
        if whole.is_none() {
            let rule = format!("{text} is not a whole number from 0 to {max}");
            self.wrong(&node.place, path, rule);
        }
        whole
    }

    /// A number of bytes.
    pub(super) fn size<T: Whole>(&mut self, node: &Node, path: &str) -> Option<T> {
        let bytes = self.read(node, path, units::parse_size)?;
        let size = T::try_from(bytes).ok();
        if size.is_none() {
            let rule = format!("{} is more than {} bytes", node.text(), T::MAX);
            self.wrong(&node.place, path, rule);
        }
        size
    }

    pub(super) fn duration(&mut self, node: &Node, path: &str) -> Option<Duration> {
        self.read(node, path, units::parse_duration)
    }

    /// Text, or a number as it was written, of at most so many bytes.
    pub(super) fn text(&mut self, node: &Node, path: &str, bytes_max: usize) -> Option<String> {
        let text = self.read(node, path, |text| Ok(text.to_owned()))?;
        if bytes_max < text.len() {
            let rule = format!("a text of {} bytes is longer than {bytes_max}", text.len());
            self.wrong(&node.place, path, rule);
            return None;
        }
        Some(text)
    }

    /// One of several words, each with its meaning.
    pub(super) fn choice<T: Copy>(
        &mut self,
        node: &Node,
        path: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let word = self.read(node, path, |text| Ok(text.to_owned()))?;
        let found = choices.iter().find(|(name, _)| *name == word);
        if found.is_none() {
            let names = || choices.iter().map(|(name, _)| *name);
            let list = names().collect::<Vec<_>>().join(", ");
            let problem = Problem::at(&node.place, path, format!("`{word}` is none of {list}"));
            self.problems.push(match keys::meant(&word, names()) {
                Some(meant) => problem.suggest(format!("did you mean `{meant}`?")),
                None => problem,
            });
        }
        found.map(|(_, value)| *value)
    }

    pub(super) fn profile(&mut self, node: &Node, path: &str) -> Option<Profile> {
        self.choice(node, path, &Profile::ALL.map(|profile| (profile.name(), profile)))
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

    /// A list of words: `default,409`, `[default, 409]`, or one word.
    pub(super) fn list(&mut self, node: &Node, path: &str) -> Option<Vec<String>> {
        let items = match &node.value {
            Value::List(items) => items.iter().collect::<Vec<_>>(),
            _ => vec![node],
        };
        let mut words = Vec::new();
        for item in items {
            let text = self.read(item, path, |text| Ok(text.to_owned()))?;
            words.extend(text.split(',').map(|word| word.trim().to_owned()));
        }
        Some(words)
    }

    /// A list of triggers.
    pub(super) fn triggers(&mut self, node: &Node, path: &str) -> Option<Triggers> {
        let list = self.list(node, path)?;
        match Triggers::parse(&list.join(",")) {
            Ok(triggers) => Some(triggers),
            Err(unknown) => {
                let problem = Problem::at(&node.place, path, unknown.to_string());
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

/// The whole numbers that setters take.
pub(super) trait Whole: TryFrom<u64> {
    const MAX: u64;
}

impl Whole for u16 {
    const MAX: u64 = Self::MAX as u64;
}

impl Whole for u32 {
    const MAX: u64 = Self::MAX as u64;
}

impl Whole for u64 {
    const MAX: Self = Self::MAX;
}

/// The whole number that a fraction or an exponent was written for: `2.0`, `1e3`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range was checked"
)]
fn whole_of(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number)).then_some(number as u64)
}

const RETRIES_MAX: u64 = 1_000_000;
/// 2⁵³, up to which a floating-point number is exact.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
