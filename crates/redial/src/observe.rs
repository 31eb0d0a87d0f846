//! Who is told what happened.

use std::{fmt, sync::Arc};

use http::{Method, Uri};
use redial_core::{Event, Severity};

/// Is told of every step of every call.
///
/// Called from within the call, so it has to return at once; an observer that has much to do hands
/// the event on. Closures over `(&Call, &Event)` are observers.
pub trait Observe: Send + Sync {
    /// Takes note of `event`, which is a step of `call`.
    fn observe(&self, call: &Call<'_>, event: &Event);

    /// Returns whether events of `severity` are of interest at the moment. Those that are not may not be
    /// told, and what they would have cost is saved.
    fn wants(&self, severity: Severity) -> bool {
        let _ = severity;
        true
    }
}

/// The call that an event belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's target.
    pub uri: &'a Uri,
}

/// An observer, shared; or none, which costs nothing.
#[derive(Clone, Default)]
pub struct Observer {
    observe: Option<Arc<dyn Observe>>,
}

/// Writes events to the log: retries as warnings, giving up and permanent failures as errors, ready
/// to alert on, and all else as details.
///
/// The fields carry names of the Elastic Common Schema where it has one.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogEvents;

impl<F: Fn(&Call<'_>, &Event) + Send + Sync> Observe for F {
    fn observe(&self, call: &Call<'_>, event: &Event) {
        self(call, event);
    }
}

impl Observer {
    /// Creates an observer.
    pub fn new(observe: impl Observe + 'static) -> Self {
        Self { observe: Some(Arc::new(observe)) }
    }

    pub(crate) const fn is_some(&self) -> bool {
        self.observe.is_some()
    }

    /// Returns whether there is an observer that is interested in events of `severity`.
    pub(crate) fn wants(&self, severity: Severity) -> bool {
        self.observe.as_ref().is_some_and(|observe| observe.wants(severity))
    }

    pub(crate) fn tell(&self, call: &Call<'_>, event: Event) {
        if let Some(observe) = &self.observe
            && observe.wants(event.severity())
        {
            observe.observe(call, &event);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("is_some", &self.is_some()).finish()
    }
}

impl Observe for LogEvents {
    fn observe(&self, call: &Call<'_>, event: &Event) {
        match event.severity() {
            Severity::Debug => log_detail(call, event),
            Severity::Warning | Severity::Error => log_trouble(call, event),
        }
    }

    fn wants(&self, severity: Severity) -> bool {
        match severity {
            Severity::Debug => tracing::enabled!(tracing::Level::DEBUG),
            Severity::Warning => tracing::enabled!(tracing::Level::WARN),
            Severity::Error => tracing::enabled!(tracing::Level::ERROR),
        }
    }
}

fn log_detail(call: &Call<'_>, event: &Event) {
    let action = event.name();
    let Call { method, uri } = call;
    let domain = uri.host().unwrap_or_default();
    match event {
        Event::AttemptEnded { attempt, took, status, fault, verdict, proof, .. } => {
            tracing::debug!(
                event.action = action,
                http.request.method = %method,
                url.domain = domain,
                url.path = uri.path(),
                attempt,
                event.duration = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
                http.response.status_code = status,
                error.r#type = fault.map(redial_core::Fault::name),
                verdict = verdict.name(),
                evidence = proof.map(|proof| proof.evidence().name()),
                "attempt ended"
            )
        }
        Event::AttemptStarted { attempt } => {
            tracing::trace!(event.action = action, url.domain = domain, attempt, "attempt started");
        }
        _ => tracing::debug!(event.action = action, url.domain = domain, "{}", action),
    }
}

fn log_trouble(call: &Call<'_>, event: &Event) {
    let action = event.name();
    let Call { method, uri } = call;
    let (domain, path) = (uri.host().unwrap_or_default(), uri.path());
    match event {
        Event::Retrying { attempt, after, why } => tracing::warn!(
            event.action = action,
            http.request.method = %method,
            url.domain = domain,
            url.path = path,
            attempt,
            delay_ms = after.as_secs_f64() * 1e3,
            event.reason = why.name(),
            "attempt failed and will be repeated"
        ),
        Event::GaveUp { attempts, stop } => tracing::error!(
            event.action = action,
            event.outcome = "failure",
            http.request.method = %method,
            url.domain = domain,
            url.path = path,
            attempts,
            event.reason = stop.name(),
            "call failed for good: {stop}"
        ),
        _ => {}
    }
}
