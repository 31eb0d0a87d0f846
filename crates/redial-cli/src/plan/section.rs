//! The parts of a policy as they are shown: for people and for programs.

use std::io::Write;

use redial::core::Policy;
use serde_json::Value;

use super::{budget, limits, parts};
use crate::{
    cli::{Failure, Output},
    show,
};

/// One part of a policy.
pub(super) struct Section {
    /// The key that it has in a file.
    name: &'static str,
    lines: Vec<String>,
    json: Value,
}

impl Section {
    pub(super) fn new(name: &'static str, json: Value) -> Self {
        Self { name, lines: Vec::new(), json }
    }

    /// Adds a sentence, which may be as long as it needs to be.
    pub(super) fn say(mut self, text: &str) -> Self {
        self.lines.extend(show::wrap(text, TEXT_WIDTH));
        self
    }

    /// Adds a row of a table: what it is about, and its figures.
    pub(super) fn row(mut self, head: &str, cells: impl IntoIterator<Item = String>) -> Self {
        let cells = cells.into_iter().map(|cell| format!("{cell:>CELL_WIDTH$}"));
        let line = format!("{}{}", show::pad(head, HEAD_WIDTH), cells.collect::<String>());
        self.lines.push(line);
        self
    }
}

/// Returns every part that is on, in the order in which a call meets them.
pub(super) fn all(policy: &Policy) -> Vec<Section> {
    let optional = [
        policy.fallback.as_deref().map(parts::fallback),
        policy.cache.as_ref().map(parts::cache),
        policy.rate_limit.as_ref().map(limits::rate_limit),
        policy.bulkhead.as_ref().map(limits::bulkhead),
        policy.resume.as_ref().map(parts::resume),
        policy.hedge.as_ref().map(parts::hedge),
        policy.throttle.as_ref().map(limits::throttle),
        policy.adaptive_limit.as_ref().map(limits::adaptive_limit),
        policy.breaker.as_ref().map(parts::breaker),
        policy.stall.as_ref().map(parts::stall),
        policy.chaos.as_deref().map(parts::chaos),
    ];
    std::iter::once(budget::section(policy)).chain(optional.into_iter().flatten()).collect()
}

/// Writes the sections: names to the left, all else beside them.
pub(super) fn write(sections: &[Section], out: &mut Output) -> Result<(), Failure> {
    for section in sections {
        let mut name = section.name;
        for line in &section.lines {
            let label = out.style.bold(&show::pad(name, NAME_WIDTH));
            writeln!(out, "{label} {line}")?;
            name = "";
        }
    }
    Ok(())
}

/// Returns one object: the waits, and each section under its name.
pub(super) fn json(waits: Value, sections: &[Section]) -> Value {
    let sections = sections.iter().map(|section| (section.name.to_owned(), section.json.clone()));
    Value::Object(std::iter::once(("waits".to_owned(), waits)).chain(sections).collect())
}

const NAME_WIDTH: usize = 14;
const TEXT_WIDTH: usize = 84;
const HEAD_WIDTH: usize = 20;
const CELL_WIDTH: usize = 10;
