//! What the two formats write, line by line, into a buffer.

#![expect(clippy::unwrap_used, reason = "a log that cannot be read fails its test")]

mod ecs;
mod hostile;
mod human;

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use redial_telemetry::{EcsFormat, HumanFormat, SpanFields};
use tracing::{Level, subscriber};
use tracing_subscriber::{fmt::FormatEvent, registry::Registry};

/// A log that tests can read.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// 2026-01-02, 12:03:04.123 and a bit in UTC.
fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_767_355_384, 123_999_999)
}

/// Returns what `emit` logs as ECS.
fn ecs(emit: impl FnOnce()) -> String {
    logged(EcsFormat::new("orders", "1.4.0").with_clock(noon), false, emit)
}

/// Returns what `emit` logs for people, without colors.
fn human(emit: impl FnOnce()) -> String {
    logged(HumanFormat::new().with_clock(noon), false, emit)
}

fn logged<F>(format: F, ansi: bool, emit: impl FnOnce()) -> String
where
    F: FormatEvent<Registry, SpanFields> + Send + Sync + 'static,
{
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_ansi(ansi)
        .fmt_fields(SpanFields::new())
        .event_format(format)
        .with_writer(move || writer.clone())
        .finish();
    subscriber::with_default(subscriber, emit);
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}
