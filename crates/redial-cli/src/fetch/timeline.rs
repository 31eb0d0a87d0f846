//! What people see of a call while it runs: on stderr, one line an attempt, and at a terminal a line
//! that moves.

use std::{
    io::{self, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use redial::core::Why;

use super::record::AttemptReport;
use crate::{show, style::Style};

/// How much is shown.
#[derive(Debug)]
pub(crate) struct Timeline {
    pub(crate) style: Style,
    /// Lines about every attempt.
    pub(crate) is_verbose: bool,
    /// A line that moves, at a terminal only.
    pub(crate) is_live: bool,
    has_live_line: bool,
    /// Takes the place of the line that moves while a download comes.
    bar: Option<ProgressBar>,
}

impl Timeline {
    pub(crate) const fn new(style: Style, is_verbose: bool, is_live: bool) -> Self {
        Self { style, is_verbose, is_live, has_live_line: false, bar: None }
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
            self.say(text);
        }
    }

    /// Writes a line above what moves.
    pub(crate) fn say(&mut self, text: &str) {
        self.clear_line();
        let text = format!("{text}\n");
        match &self.bar {
            Some(bar) => bar.suspend(|| write(&text)),
            None => write(&text),
        }
    }

    /// Shows at a terminal how far a download has come, beginning with `at` of `length` bytes.
    pub(crate) fn progress(&mut self, at: u64, length: Option<u64>, resumes: u32) {
        if !self.is_live {
            return;
        }
        self.clear_line();
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
            bar
        });
        match length {
            Some(length) => bar.set_length(length),
            None => bar.unset_length(),
        }
        let template = if length.is_some() { MEASURED } else { UNMEASURED };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        if 0 < resumes {
            bar.set_message(format!("  resumed {resumes}×"));
        }
        // What was there before says nothing of the speed.
        bar.set_position(at);
        bar.reset_eta();
    }

    pub(crate) fn advance(&mut self, at: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(at);
        }
    }

    /// Replaces the line that moves.
    pub(crate) fn live(&mut self, text: &str) {
        if self.is_live && self.bar.is_none() {
            write(&format!("\r\u{1b}[K{}", self.style.dim(text)));
            self.has_live_line = true;
        }
    }

    /// Takes away what moves.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.clear_line();
    }

    fn clear_line(&mut self) {
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

const TICK: Duration = Duration::from_millis(200);
const MEASURED: &str =
    "{bar:20} {percent:>3} %  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left{msg}";
const UNMEASURED: &str = "{bytes}  {bytes_per_sec}  {elapsed}{msg}";
