//! What events and spans say: names with values that keep their JSON type.
//!
//! `tracing-subscriber` keeps the fields of a span as one text; here that text is a JSON object, so
//! that a number is still a number when an event below the span is written.

use std::{
    error::Error,
    fmt::{self, Write},
};

use serde_json::{Map, Number, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::Record,
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

use crate::redact::redacted_url;

/// Keeps the fields of spans for [`EcsFormat`](crate::EcsFormat) and
/// [`HumanFormat`](crate::HumanFormat), which work with no other.
///
/// # Examples
///
/// ```
/// use redial_telemetry::{HumanFormat, SpanFields};
///
/// let subscriber = tracing_subscriber::fmt()
///     .fmt_fields(SpanFields::new())
///     .event_format(HumanFormat::new())
///     .finish();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SpanFields(());

impl SpanFields {
    /// Creates the keeper of fields.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<'writer> FormatFields<'writer> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'writer>, fields: R) -> fmt::Result {
        let mut map = Map::new();
        fields.record(&mut Recorder(&mut map));
        if map.is_empty() { Ok(()) } else { out.write_str(&Value::Object(map).to_string()) }
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        let mut map = stored(&current.fields);
        fields.record(&mut Recorder(&mut map));
        current.fields = Value::Object(map).to_string();
        Ok(())
    }
}

/// Everything that one event says.
#[derive(Debug)]
pub(crate) struct Said {
    /// The event's message, empty where it has none.
    pub(crate) message: String,
    /// Its fields and those of the spans around it; the inner one wins.
    pub(crate) fields: Map<String, Value>,
}

impl Said {
    /// Reads an event and the spans around it, outermost first, under the names that `key` gives.
    pub(crate) fn by<S>(
        event: &Event<'_>,
        context: &FmtContext<'_, S, SpanFields>,
        key: impl Fn(String) -> String,
    ) -> Self
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(kept) = span.extensions().get::<FormattedFields<SpanFields>>() {
                fields.extend(stored(&kept.fields).into_iter().map(|(name, v)| (key(name), v)));
            }
        }
        let mut own = Map::new();
        event.record(&mut Recorder(&mut own));
        let message = match own.shift_remove("message") {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        fields.extend(own.into_iter().map(|(name, value)| (key(name), value)));
        Self { message, fields }
    }
}

/// Reads what [`SpanFields`] wrote.
fn stored(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Takes fields one by one.
struct Recorder<'a>(&'a mut Map<String, Value>);

impl Recorder<'_> {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        // `r#type` is how the macros spell a field that is called like a keyword.
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        self.0.insert(name.to_owned(), value.into());
    }

    fn insert_text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        let mut clip = Clip::default();
        // An error here says that the text is longer than what is kept of it.
        let _ = if field.name() == "url.full" {
            // Before the cut, which might part a password from the `@` that gives it away.
            clip.write_str(&redacted_url(&text.to_string()))
        } else {
            clip.write_fmt(text)
        };
        self.insert(field, clip.finish());
    }
}

impl Visit for Recorder<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.insert(field, value),
            (_, Ok(value)) => self.insert(field, value),
            _ => self.insert(field, value.to_string()),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.insert(field, value),
            Err(_) => self.insert(field, value.to_string()),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match Number::from_f64(value) {
            Some(number) => self.insert(field, number),
            // JSON has no word for infinity, nor for what is not a number.
            None => self.insert(field, value.to_string()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert_text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.insert_text(field, format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert_text(field, format_args!("{value:?}"));
    }
}

/// An error and what caused it, as `what: why: why that`.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// A text that takes no more than [`VALUE_BYTES_MAX`] bytes and then stops its writer.
#[derive(Default)]
struct Clip {
    text: String,
    cut: bool,
}

impl Clip {
    fn finish(mut self) -> String {
        if self.cut {
            self.text.truncate(boundary(&self.text, VALUE_BYTES_MAX - CUT_MARK.len()));
            self.text.push_str(CUT_MARK);
        }
        self.text
    }
}

impl Write for Clip {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = VALUE_BYTES_MAX - self.text.len();
        self.cut |= room < piece.len();
        if self.cut {
            self.text.push_str(&piece[..boundary(piece, room)]);
            return Err(fmt::Error);
        }
        self.text.push_str(piece);
        Ok(())
    }
}

/// Returns the last place at or before `index` where `text` may be cut.
fn boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// The longest value, in bytes of UTF-8 before JSON escapes, its mark included: just below 32 KiB,
/// the longest term that Lucene indexes (`IndexWriter.MAX_TERM_LENGTH`). One byte more and
/// Elasticsearch refuses the whole line.
const VALUE_BYTES_MAX: usize = 32_766;

/// Stands at the end of a value that was longer.
const CUT_MARK: &str = "… [cut]";
