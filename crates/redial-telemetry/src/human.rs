//! One line an event, for people: `12:03:04.123 WARN  redial: retrying attempt=2`.

use std::{fmt, time::SystemTime};

use serde_json::Value;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, format::Writer},
    registry::LookupSpan,
};

use crate::{
    clock::{self, Clock},
    fields::{Said, SpanFields},
    visible,
};

/// Writes events as short lines for people.
///
/// Time of day, level, source, message, then the fields of the spans around the event and its own.
/// The time is UTC, as in `Date` and `Retry-After`, so that the two can be compared. Text with
/// spaces or quotes in it is quoted; line breaks and other control characters are escaped, so that
/// an event is always one line. Colors appear where the subscriber's `with_ansi` allows them.
///
/// # Examples
///
/// ```
/// use redial_telemetry::{HumanFormat, SpanFields};
///
/// let subscriber = tracing_subscriber::fmt()
///     .with_ansi(false)
///     .fmt_fields(SpanFields::new())
///     .event_format(HumanFormat::new())
///     .with_writer(std::io::stderr)
///     .finish();
/// tracing::subscriber::with_default(subscriber, || {
///     tracing::warn!(target: "redial", attempt = 2, "retrying");
///     // 12:03:04.123 WARN  redial: retrying attempt=2
/// });
/// ```
#[derive(Clone, Debug)]
pub struct HumanFormat {
    clock: Clock,
}

impl HumanFormat {
    /// Creates the format.
    #[must_use]
    pub const fn new() -> Self {
        Self { clock: clock::system }
    }

    /// Takes the time from `clock` instead of the system, for tests that compare whole lines.
    #[must_use]
    pub const fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }
}

impl Default for HumanFormat {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> FormatEvent<S, SpanFields> for HumanFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, SpanFields>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let said = Said::by(event, context, |name| name);
        let metadata = event.metadata();
        let time = clock::timestamp(self.clock).strftime("%H:%M:%S%.3f");
        let paint = Paint { ansi: out.has_ansi_escapes() };
        paint.write(&mut out, DIM, format_args!("{time}"))?;
        let level = format_args!("{:<5}", metadata.level().as_str());
        out.write_char(' ')?;
        paint.write(&mut out, color(*metadata.level()), level)?;
        out.write_char(' ')?;
        paint.write(&mut out, DIM, format_args!("{}:", metadata.target()))?;
        if !said.message.is_empty() {
            out.write_char(' ')?;
            visible::write_escaped(&mut out, &said.message)?;
        }
        for (name, value) in &said.fields {
            out.write_char(' ')?;
            paint.write(&mut out, DIM, format_args!("{name}="))?;
            write_value(&mut out, value)?;
        }
        out.write_char('\n')
    }
}

/// Colors, where they are wanted.
struct Paint {
    ansi: bool,
}

impl Paint {
    fn write(&self, out: &mut Writer<'_>, style: &str, text: fmt::Arguments<'_>) -> fmt::Result {
        if self.ansi { write!(out, "\x1b[{style}m{text}\x1b[0m") } else { out.write_fmt(text) }
    }
}

fn write_value(out: &mut Writer<'_>, value: &Value) -> fmt::Result {
    let Value::String(text) = value else { return write!(out, "{value}") };
    let ambiguous = |c: char| c.is_whitespace() || visible::is_active(c) || "\"=\\".contains(c);
    if !text.is_empty() && !text.contains(ambiguous) {
        return out.write_str(text);
    }
    out.write_char('"')?;
    visible::write_escaped(out, &text.replace('\\', "\\\\").replace('"', "\\\""))?;
    out.write_char('"')
}

/// Returns the ANSI style of a level.
fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        Level::DEBUG => "34",
        Level::TRACE => "35",
    }
}

const DIM: &str = "2";
