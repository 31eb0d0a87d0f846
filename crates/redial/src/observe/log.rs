//! Events as log lines.

use redial_core::{Event, Fault, Severity};
use tracing::Level;

use super::{Call, Observe};

/// Writes events to the log: what was repaired as warnings, giving up, permanent failures and breakers that
/// open as errors, ready to alert on, and all else as details.
///
/// The fields carry names of the Elastic Common Schema where it has one. Of the target only host and path
/// are logged: queries carry secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogEvents;

impl Observe for LogEvents {
    fn observe(&self, call: &Call<'_>, event: &Event) {
        match event.severity() {
            Severity::Debug => detail(call, event),
            Severity::Warning => warning(call, event),
            Severity::Error => error(call, event),
        }
    }

    fn wants(&self, severity: Severity) -> bool {
        match severity {
            Severity::Debug => tracing::enabled!(Level::DEBUG),
            Severity::Warning => tracing::enabled!(Level::WARN),
            Severity::Error => tracing::enabled!(Level::ERROR),
        }
    }
}

/// Writes one line, with what every line has.
macro_rules! line {
    ($level:ident, $call:ident, $event:ident, $($field:tt)*) => {
        tracing::$level!(
            event.action = $event.name(),
            http.request.method = %$call.method,
            url.domain = $call.uri.host().unwrap_or_default(),
            url.path = $call.uri.path(),
            $($field)*
        )
    };
}

fn detail(call: &Call<'_>, event: &Event) {
    match event {
        Event::AttemptStarted { attempt } => line!(trace, call, event, attempt, "attempt started"),
        Event::AttemptEnded { attempt, took, status, fault, verdict, proof, .. } => line!(
            debug,
            call,
            event,
            attempt,
            event.duration = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            http.response.status_code = status,
            error.r#type = fault.map(Fault::name),
            verdict = verdict.name(),
            evidence = proof.map(|proof| proof.evidence().name()),
            "attempt ended"
        ),
        Event::Hedged { attempt, after, cause } => line!(
            debug,
            call,
            event,
            attempt,
            delay_ms = after.as_secs_f64() * 1e3,
            event.reason = cause.name(),
            "another copy is sent"
        ),
        Event::HedgeSettled { winner, cancelled } => {
            line!(debug, call, event, attempt = winner, cancelled, "a copy won");
        }
        Event::WouldRefuse { by } => {
            line!(debug, call, event, event.reason = by, "would have been refused");
        }
        Event::LimitChanged { from, to } => {
            line!(debug, call, event, from, to, "the limit on attempts in flight moved");
        }
        Event::Cached { outcome } => {
            line!(debug, call, event, event.reason = outcome.name(), "the cache had a say");
        }
        Event::Keyed { outcome } => {
            line!(debug, call, event, event.reason = outcome.name(), "a request with a key");
        }
        Event::Injected { what } => {
            line!(debug, call, event, event.reason = what, "chaos: a failure on purpose");
        }
        _ => line!(debug, call, event, "{}", event.name()),
    }
}

fn warning(call: &Call<'_>, event: &Event) {
    match event {
        Event::Retrying { attempt, after, why } => line!(
            warn,
            call,
            event,
            attempt,
            delay_ms = after.as_secs_f64() * 1e3,
            event.reason = why.name(),
            "attempt failed and will be repeated"
        ),
        Event::BreakerChanged { from, to, .. } => {
            line!(warn, call, event, from = from.name(), to = to.name(), "the breaker is {to}");
        }
        Event::Refused { by } => line!(warn, call, event, event.reason = by, "refused: {by}"),
        Event::FellBack { status, fault } => line!(
            warn,
            call,
            event,
            http.response.status_code = status,
            error.r#type = fault.map(Fault::name),
            "call failed and was answered by its fallback"
        ),
        Event::Cached { outcome } => {
            line!(
                warn,
                call,
                event,
                event.reason = outcome.name(),
                "answered from the cache, stale"
            );
        }
        Event::Keyed { outcome } => {
            line!(
                warn,
                call,
                event,
                event.reason = outcome.name(),
                "a request with an idempotency key was not protected as it should be"
            );
        }
        Event::Resumed { at } => {
            line!(
                warn,
                call,
                event,
                at_bytes = at,
                "answer broke off and goes on where it stopped"
            );
        }
        _ => line!(warn, call, event, "{}", event.name()),
    }
}

fn error(call: &Call<'_>, event: &Event) {
    match event {
        Event::GaveUp { attempts, stop } => line!(
            error,
            call,
            event,
            event.outcome = "failure",
            attempts,
            event.reason = stop.name(),
            "call failed for good: {stop}"
        ),
        Event::BreakerChanged { reason: Some(reason), .. } => line!(
            error,
            call,
            event,
            event.reason = reason.name(),
            "the breaker has opened: {reason}"
        ),
        _ => line!(error, call, event, "{}", event.name()),
    }
}
