//! Lines for people.

use redial_telemetry::HumanFormat;
use tracing::{debug, error, info, info_span, trace, warn};

use crate::{human, logged, noon};

#[test]
fn a_line_is_time_level_source_message_and_fields() {
    let line = human(|| {
        warn!(target: "redial", attempt = 2, upstream = "api", after = 0.5, last = false, "retrying");
    });
    assert_eq!(
        line,
        "12:03:04.123 WARN  redial: retrying attempt=2 upstream=api after=0.5 last=false\n"
    );
}

#[test]
fn levels_are_aligned() {
    let lines = human(|| {
        error!(target: "t", "m");
        warn!(target: "t", "m");
        info!(target: "t", "m");
        debug!(target: "t", "m");
        trace!(target: "t", "m");
    });
    let levels = lines.lines().map(|line| &line[13..]);
    let expected = ["ERROR t: m", "WARN  t: m", "INFO  t: m", "DEBUG t: m", "TRACE t: m"];
    assert_eq!(levels.collect::<Vec<_>>(), expected);
}

#[test]
fn text_is_quoted_where_it_would_be_ambiguous() {
    let line = human(|| {
        info!(target: "t", a = "two words", b = "", c = "x=y", d = "\"", e = "C:\\x", f = "plain");
    });
    let fields = r#"a="two words" b="" c="x=y" d="\"" e="C:\\x" f=plain"#;
    assert_eq!(line, format!("12:03:04.123 INFO  t: {fields}\n"));
}

#[test]
fn nothing_in_a_value_starts_a_line_or_speaks_to_the_terminal() {
    let line = human(|| info!(target: "t", a = "x\u{1b}[2J", b = "\u{202e}", "one\ntwo\r\u{9b}3m"));
    let shown = r#"one\ntwo\r\u{9b}3m a="x\u{1b}[2J" b="\u{202e}""#;
    assert_eq!(line, format!("12:03:04.123 INFO  t: {shown}\n"));
}

#[test]
fn fields_of_spans_come_before_those_of_the_event() {
    let line = human(|| {
        info_span!("call", upstream = "api", attempt = 1).in_scope(|| {
            info!(target: "t", attempt = 2, status = 503, "answered");
        });
    });
    assert_eq!(line, "12:03:04.123 INFO  t: answered upstream=api attempt=2 status=503\n");
}

#[test]
fn urls_hide_their_secrets() {
    let line = human(|| info!(target: "t", { url.full = "https://u:p@host/x" }, "sent"));
    assert_eq!(line, "12:03:04.123 INFO  t: sent url.full=https://REDACTED:REDACTED@host/x\n");
}

#[test]
fn colors_appear_only_where_they_are_wanted() {
    let emit = || warn!(target: "redial", attempt = 2, "retrying");
    let line = logged(HumanFormat::default().with_clock(noon), true, emit);
    let expected = "\x1b[2m12:03:04.123\x1b[0m \x1b[33mWARN \x1b[0m \x1b[2mredial:\x1b[0m retrying \
                    \x1b[2mattempt=\x1b[0m2\n";
    assert_eq!(line, expected);
    assert!(!human(emit).contains('\x1b'));
}
