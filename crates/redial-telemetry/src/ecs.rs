//! One JSON object a line, in Elastic Common Schema.
//!
//! The order of the first four keys and the dotted spelling follow the specification of Elastic's
//! logging libraries (ecs-logging). Fields that ECS knows keep their names; all others live below
//! `resilience.`, where they cannot meet a mapping of somebody else.

use std::{fmt, process, time::SystemTime};

use serde_json::{Map, Value};
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

/// Writes events as JSON in Elastic Common Schema 9.5, one object a line.
///
/// Every line has `@timestamp` (UTC, milliseconds), `log.level` (lower case), `message`,
/// `ecs.version`, `service.name`, `service.version`, `log.logger` (the event's target) and
/// `process.pid`. Then come the fields of the event and of the spans around it; where a name
/// repeats, the inner one wins, so no key stands twice in a line.
///
/// - Names that ECS defines and Redial uses (`http.request.method`, `http.response.status_code`,
///   `url.full`, `event.duration` in nanoseconds, `error.type`, `trace.id`, …) stand as they are;
///   any other name, `attempt` say, becomes `resilience.attempt`.
/// - Numbers and booleans keep their type; what does not fit in 64 bits or is not finite becomes a
///   string.
/// - Control characters are escaped, also those that JSON would let pass.
/// - A value is cut at just below 32 KiB, with the mark `… [cut]`.
/// - `url.full` passes through [`redacted_url`](crate::redacted_url).
///
/// # Examples
///
/// ```
/// use std::{io, sync::{Arc, Mutex}};
///
/// use redial_telemetry::{EcsFormat, SpanFields};
///
/// # #[derive(Clone, Default)] struct Buffer(Arc<Mutex<Vec<u8>>>);
/// # impl io::Write for Buffer {
/// #     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> { self.0.lock().unwrap().write(bytes) }
/// #     fn flush(&mut self) -> io::Result<()> { Ok(()) }
/// # }
/// let buffer = Buffer::default();
/// let writer = buffer.clone();
/// let subscriber = tracing_subscriber::fmt()
///     .fmt_fields(SpanFields::new())
///     .event_format(EcsFormat::new("orders", "1.4.0"))
///     .with_writer(move || writer.clone())
///     .finish();
/// tracing::subscriber::with_default(subscriber, || tracing::info!(attempt = 2, "sent"));
///
/// let line = String::from_utf8(buffer.0.lock().unwrap().clone())?;
/// assert!(line.contains(r#""message":"sent""#));
/// assert!(line.ends_with("\"resilience.attempt\":2}\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EcsFormat {
    service_name: String,
    service_version: String,
    clock: Clock,
}

impl EcsFormat {
    /// Creates the format of a program of this name and version.
    #[must_use]
    pub fn new(service_name: impl Into<String>, service_version: impl Into<String>) -> Self {
        Self {
            service_name: service_name.into(),
            service_version: service_version.into(),
            clock: clock::system,
        }
    }

    /// Takes the time from `clock` instead of the system, for tests that compare whole lines.
    #[must_use]
    pub const fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }
}

impl<S> FormatEvent<S, SpanFields> for EcsFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, SpanFields>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let said = Said::by(event, context, key);
        let metadata = event.metadata();
        let time = clock::timestamp(self.clock);
        let mut line: Map<String, Value> = [
            ("@timestamp", Value::from(format!("{time:.3}"))),
            ("log.level", level(*metadata.level()).into()),
            ("message", said.message.into()),
            ("ecs.version", ECS_VERSION.into()),
            ("service.name", self.service_name.as_str().into()),
            ("service.version", self.service_version.as_str().into()),
            ("log.logger", metadata.target().into()),
            ("process.pid", process::id().into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect();
        line.extend(said.fields);
        visible::write_json(&mut out, &Value::Object(line).to_string())?;
        out.write_char('\n')
    }
}

/// Returns the key under which a field of this name is written.
fn key(name: String) -> String {
    if ECS_FIELDS.contains(&name.as_str()) || name.starts_with(NAMESPACE) {
        name
    } else {
        format!("{NAMESPACE}{name}")
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The version of the schema that the names below are taken from.
const ECS_VERSION: &str = "9.5.0";

/// Where fields live that are ours alone.
const NAMESPACE: &str = "resilience.";

/// The fields of ECS that events of Redial carry.
const ECS_FIELDS: &[&str] = &[
    "error.message",
    "error.type",
    "event.action",
    "event.duration",
    "event.outcome",
    "event.reason",
    "http.request.id",
    "http.request.method",
    "http.response.status_code",
    "span.id",
    "trace.id",
    "transaction.id",
    "url.domain",
    "url.full",
    "url.path",
];
