//! A file as a tree, every value of which knows where it stands.

use std::sync::Arc;

/// Where a value stands: in a file, or in the environment.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) source: Arc<str>,
    /// From 1; 0 where there are no lines.
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A number, and how it was written.
    Number(f64, String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

impl Place {
    pub(crate) fn start(source: &str) -> Self {
        Self { source: source.into(), line: 1, column: 1 }
    }

    pub(crate) fn at(&self, line: usize, column: usize) -> Self {
        Self { source: Arc::clone(&self.source), line, column }
    }
}

impl Node {
    /// Returns what kind of value this is, for saying what was found.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(..) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a table",
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// Returns what stands at `path`, keys with dots between them.
    pub(crate) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, key| node.get(key))
    }

    /// Returns what stands as far along `path` as there is something, and how far that is.
    pub(crate) fn nearest<'a>(&self, path: &'a str) -> (&Self, &'a str) {
        let (mut node, mut end) = (self, 0);
        for key in path.split('.') {
            let Some(inner) = node.get(key) else { break };
            node = inner;
            end += key.len() + usize::from(end != 0);
        }
        (node, path.get(..end).unwrap_or_default())
    }

    /// Returns the value as a person would write it, for showing where it came from.
    pub(crate) fn text(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(_, text) | Value::Text(text) => text.clone(),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(Self::text).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Map(entries) => {
                let entries = entries.iter().map(|e| format!("{}: {}", e.key, e.node.text()));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// What a scalar without quotes means: the same in YAML and in the environment.
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => {
            let is_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
            let number = text.parse::<f64>().ok().filter(|n| is_number && n.is_finite());
            let text = text.to_owned();
            match number {
                Some(number) => Value::Number(number, text),
                None => Value::Text(text),
            }
        }
    }
}

/// Nothing in a configuration is nested deeper.
pub(crate) const DEPTH_MAX: usize = 16;
