//! Logs of Redial's programs: lines for people, or one JSON object a line in Elastic Common Schema
//! (ECS 9.5).
//!
//! Libraries emit [`tracing`] events and know nothing of this crate; a program calls [`init`] once
//! at its start. Everything goes to standard error: standard output belongs to the program's
//! result. The formats are public by themselves, so that tests can write into a buffer and other
//! programs can build their own subscriber.
//!
//! # Examples
//!
//! ```
//! use redial_telemetry::{Format, Options, init};
//!
//! let mut options = Options::new("orders", "1.4.0");
//! options.format = Format::EcsJson;
//! options.filter = Some("warn,redial=debug".into());
//! init(options)?;
//!
//! tracing::warn!(http.response.status_code = 503, attempt = 2, "retrying");
//! # Ok::<(), redial_telemetry::InvalidFilter>(())
//! ```
//!
//! That writes one line:
//!
//! ```json
//! {"@timestamp":"2026-01-02T12:03:04.123Z","log.level":"warn","message":"retrying","ecs.version":"9.5.0","service.name":"orders","service.version":"1.4.0","log.logger":"orders","process.pid":4711,"http.response.status_code":503,"resilience.attempt":2}
//! ```

mod clock;
mod ecs;
mod fields;
mod human;
mod redact;
mod visible;

use std::{env, io};

use tracing::{Subscriber, subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::ParseError,
    fmt::{self, FormatEvent},
    layer::SubscriberExt as _,
    registry::{LookupSpan, Registry},
};

pub use self::{ecs::EcsFormat, fields::SpanFields, human::HumanFormat, redact::redacted_url};

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Time, level, source, message and fields in one line, as [`HumanFormat`] writes it.
    #[default]
    Human,
    /// One JSON object a line in Elastic Common Schema, as [`EcsFormat`] writes it.
    EcsJson,
}

/// What a program wants of its log.
#[derive(Clone, Debug)]
pub struct Options {
    /// How a line looks; for people unless set.
    pub format: Format,
    /// Which events are written: a level (`debug`), or levels by source (`warn,redial=debug`), as
    /// [`EnvFilter`] reads them. `None` takes the environment's `REDIAL_LOG`, and `info` where
    /// that is missing or empty.
    pub filter: Option<String>,
    /// Whether lines for people are colored; off unless set. The program decides, from its
    /// arguments and from what standard error is.
    pub ansi: bool,
    /// The value of `service.name` in ECS lines.
    pub service_name: String,
    /// The value of `service.version` in ECS lines.
    pub service_version: String,
}

impl Options {
    /// Creates options for a program of this name and version: for people, without colors, the
    /// filter from the environment.
    ///
    /// # Examples
    ///
    /// ```
    /// use redial_telemetry::{Format, Options};
    ///
    /// let options = Options::new("orders", env!("CARGO_PKG_VERSION"));
    /// assert_eq!(options.format, Format::Human);
    /// assert_eq!(options.filter, None);
    /// ```
    #[must_use]
    pub fn new(service_name: impl Into<String>, service_version: impl Into<String>) -> Self {
        Self {
            format: Format::default(),
            filter: None,
            ansi: false,
            service_name: service_name.into(),
            service_version: service_version.into(),
        }
    }
}

/// A filter that is neither a level nor a list of `source=level`.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{filter}` is not a log filter: it takes a level (error, warn, info, debug, trace, off) or \
     source=level, several joined by commas"
)]
pub struct InvalidFilter {
    filter: String,
    source: ParseError,
}

impl InvalidFilter {
    /// Returns the filter as it was given.
    #[must_use]
    pub fn filter(&self) -> &str {
        &self.filter
    }
}

/// Sends the events of this process to standard error from now on.
///
/// A process has one log: where some subscriber is installed already, this call leaves it in
/// place. When standard error is closed, lines are lost and the program goes on.
///
/// # Errors
///
/// When the filter, given or from the environment, cannot be read. Nothing is installed then.
///
/// # Examples
///
/// ```
/// use redial_telemetry::{Options, init};
///
/// let mut options = Options::new("orders", "1.4.0");
/// options.filter = Some("redial=loud".into());
/// let error = init(options).unwrap_err();
/// assert_eq!(error.filter(), "redial=loud");
/// ```
pub fn init(options: Options) -> Result<(), InvalidFilter> {
    let filter = options.filter.unwrap_or_else(filter_from_environment);
    let filter = match EnvFilter::builder().parse(&filter) {
        Ok(parsed) => parsed,
        Err(source) => return Err(InvalidFilter { filter, source }),
    };
    let Options { service_name, service_version, ansi, .. } = options;
    match options.format {
        Format::Human => install(filter, layer(HumanFormat::new(), ansi)),
        Format::EcsJson => {
            install(filter, layer(EcsFormat::new(service_name, service_version), false));
        }
    }
    Ok(())
}

fn filter_from_environment() -> String {
    let text = env::var_os(FILTER_VARIABLE).unwrap_or_default();
    let text = text.to_string_lossy();
    if text.trim().is_empty() { "info".to_owned() } else { text.into_owned() }
}

fn layer<S, F>(format: F, ansi: bool) -> impl Layer<S> + Send + Sync + 'static
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: FormatEvent<S, SpanFields> + Send + Sync + 'static,
{
    fmt::layer()
        .fmt_fields(SpanFields::new())
        .event_format(format)
        .with_ansi(ansi)
        .with_writer(io::stderr)
        // It would report a failing standard error on standard error, and panic.
        .log_internal_errors(false)
}

fn install<L>(filter: EnvFilter, layer: L)
where
    L: Layer<tracing_subscriber::layer::Layered<EnvFilter, Registry>> + Send + Sync + 'static,
{
    // Fails only where a subscriber is installed already, which is documented to stay.
    let _ = subscriber::set_global_default(Registry::default().with(filter).with(layer));
}

/// Where the filter comes from when a program does not set one.
const FILTER_VARIABLE: &str = "REDIAL_LOG";
