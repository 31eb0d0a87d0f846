//! What people see of a call while it runs: on stderr, one line an attempt, and at a terminal a line
//! that moves.

use std::{
    io::{self, Write},
    time::Duration,
};

use redial::core::Why;

use super::record::AttemptReport;
use crate::{show, style::Style};

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    pub(crate) style: Style,
    /// Lines about every attempt.
    pub(crate) is_verbose: bool,
    /// A line that moves, at a terminal only.
    pub(crate) is_live: bool,
    has_live_line: bool,
}

impl Timeline {
    pub(crate) const fn new(style: Style, is_verbose: bool, is_live: bool) -> Self {
        Self { style, is_verbose, is_live, has_live_line: false }
    }

    pub(crate) fn started(&mut self, attempt: u32) {
        self.live(&format!("attempt {attempt} …"));
    }

    pub(crate) fn ended(&mut self, attempt: &AttemptReport, took: Duration) {
        let what = match (attempt.status, attempt.error) {
            (Some(status), _) => status_line(status),
            (None, error) => error.unwrap_or_default().replace('_', " "),
        };
        let is_success = attempt.status.is_some_and(|status| status < 400);
        let what = if is_success { self.style.good(&what) } else { self.style.bad(&what) };
        let evidence = attempt.evidence.map_or(String::new(), |evidence| format!("  {evidence}"));
        let took = self.style.dim(&format!("{}{evidence}", show::span(took)));
        self.line(&format!("{:>3}  {what}  {took}", attempt.attempt));
    }

    pub(crate) fn waits(&mut self, after: Duration, why: Why) {
        let source = match why {
            Why::AtOnce => "at once".to_owned(),
            Why::Backoff => format!("again in {} (backoff)", show::span(after)),
            Why::Pushback => format!("again in {} (the server asked for it)", show::span(after)),
        };
        self.line(&format!("     {}", self.style.warn(&format!("↻ {source}"))));
        self.live(&format!("waiting {} …", show::span(after)));
    }

    pub(crate) fn hedges(&mut self, attempt: u32, after: Duration) {
        let text = format!("⇉ copy {attempt} goes out after {}", show::span(after));
        self.line(&format!("     {}", self.style.warn(&text)));
    }

    /// Writes a line, if lines are wanted.
    pub(crate) fn line(&mut self, text: &str) {
        if self.is_verbose {
            self.clear();
            write(&format!("{text}\n"));
        }
    }

    /// Replaces the line that moves.
    pub(crate) fn live(&mut self, text: &str) {
        if self.is_live {
            write(&format!("\r\u{1b}[K{}", self.style.dim(text)));
            self.has_live_line = true;
        }
    }

    /// Takes the line that moves away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.has_live_line) {
            write("\r\u{1b}[K");
        }
    }
}

fn status_line(status: u16) -> String {
    let name = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    name.map_or_else(|| status.to_string(), |name| format!("{status} {name}"))
}

fn write(text: &str) {
    // A terminal that is gone does not stop the call.
    let _ = io::stderr().write_all(text.as_bytes());
    let _ = io::stderr().flush();
}
