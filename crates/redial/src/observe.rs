//! Who is told what happened.

mod log;

use std::{fmt, sync::Arc};

use http::{Method, Uri};
use redial_core::{Event, Severity};

pub use self::log::LogEvents;

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
