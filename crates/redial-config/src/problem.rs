//! What is wrong with a file, and where.

use std::fmt;

use serde_json::{Value, json};

use crate::tree::Place;

/// One broken rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The file, or the environment variable.
    pub source: String,
    /// The line, from 1; 0 where there are no lines.
    pub line: usize,
    /// The column, from 1; 0 where there are no columns.
    pub column: usize,
    /// Which value: `policies.default.backoff.initial`.
    pub path: String,
    /// The rule that is broken.
    pub rule: String,
    /// What to do about it, where that is known.
    pub suggestion: Option<String>,
}

/// Everything that is wrong with a configuration, 50 problems at most.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl Problem {
    pub(crate) fn at(place: &Place, path: &str, rule: impl Into<String>) -> Self {
        Self {
            source: place.source.to_string(),
            line: place.line,
            column: place.column,
            path: path.to_owned(),
            rule: rule.into(),
            suggestion: None,
        }
    }

    pub(crate) fn suggest(self, suggestion: impl Into<String>) -> Self {
        Self { suggestion: Some(suggestion.into()), ..self }
    }

    /// Returns the problem as one JSON object, for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "source": self.source,
            "line": self.line,
            "column": self.column,
            "path": self.path,
            "rule": self.rule,
            "suggestion": self.suggestion,
        })
    }
}

impl ConfigError {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.truncate(PROBLEMS_MAX);
        Self { problems }
    }

    /// Returns the problems, in the order in which they were found.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self::new(vec![problem])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.line != 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.rule)?;
        self.suggestion.as_ref().map_or(Ok(()), |suggestion| write!(f, "; {suggestion}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n != 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

const PROBLEMS_MAX: usize = 50;
