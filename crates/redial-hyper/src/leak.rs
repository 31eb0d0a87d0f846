//! Connections that do not come back: who has them, and for how long.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

/// A mark in a request's extensions: where in the program the call was made.
///
/// Without it the place is the one that called the transport, which is a layer's where there are
/// layers.
///
/// # Examples
///
/// ```
/// use redial_hyper::CallSite;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(CallSite::here());
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CallSite {
    pub(crate) location: &'static Location<'static>,
}

/// A connection, or a stream of one, that a call has had for longer than it should.
///
/// Most often the body of its answer is neither read nor dropped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Leak {
    /// Where the connection goes: `https://a.example`.
    pub origin: String,
    /// How long the call has had it.
    pub age: Duration,
    /// Where the call was made; see [`CallSite`].
    pub site: &'static Location<'static>,
    /// The name and the id of the span that the call was made in, if it was made in one.
    pub span: Option<(&'static str, u64)>,
}

/// Who took a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    site: &'static Location<'static>,
    span: Option<(&'static str, u64)>,
}

/// Whoever is told of leaks.
#[derive(Clone)]
pub(crate) struct OnLeak {
    pub(crate) observe: Arc<dyn Fn(&Leak) + Send + Sync>,
}

impl CallSite {
    /// Returns the place that this is called from.
    #[must_use]
    #[track_caller]
    pub fn here() -> Self {
        Self { location: Location::caller() }
    }
}

impl Caller {
    /// Takes the place, and the span that is entered now unless `is_watched` says that nobody will
    /// ask.
    pub(crate) fn new(site: &'static Location<'static>, is_watched: bool) -> Self {
        let span = is_watched.then(tracing::Span::current);
        let span = span.and_then(|span| Some((span.metadata()?.name(), span.id()?.into_u64())));
        Self { site, span }
    }

    pub(crate) fn leak(self, origin: String, age: Duration) -> Leak {
        Leak { origin, age, site: self.site, span: self.span }
    }
}

impl Leak {
    /// Tells the log, and the observer if there is one.
    pub(crate) fn report(&self, observer: Option<&OnLeak>) {
        tracing::warn!(
            origin = self.origin,
            age_ms = u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX),
            site = %self.site,
            span = self.span.map(|(name, _)| name),
            span_id = self.span.map(|(_, id)| id),
            "a call keeps its connection; is its body neither read nor dropped?"
        );
        if let Some(observer) = observer {
            (observer.observe)(self);
        }
    }
}

impl fmt::Debug for OnLeak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnLeak")
    }
}
