//! Which story a call belongs to: W3C Trace Context and Baggage, read from one request and written to others.
//!
//! Nothing is recorded here. What comes in goes out again, with a new parent for each attempt, so that
//! whoever does record finds all hops and attempts of a call under one id.

mod baggage;
mod id;
mod parent;
mod state;

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) use self::baggage::BAGGAGE;
pub use self::{baggage::Baggage, id::TraceId};
use self::{id::new_span_id, parent::Parent, state::read_state};

/// A trace that a call is part of: its id, its flags and what tracing systems left in `tracestate`.
///
/// # Examples
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use redial::Trace;
///
/// let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let headers = HeaderMap::from_iter([("traceparent".parse()?, HeaderValue::from_static(parent))]);
/// let trace = Trace::read(&headers).ok_or("not a traceparent")?;
/// assert_eq!(trace.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
///
/// // The same trace, another parent: this attempt.
/// let mut sent = HeaderMap::new();
/// trace.write(&mut sent);
/// assert_eq!(Trace::read(&sent).map(|trace| trace.id()), Some(trace.id()));
/// assert_ne!(sent["traceparent"], parent);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trace {
    id: TraceId,
    flags: u8,
    state: Option<HeaderValue>,
}

impl Trace {
    /// Begins a trace with a random id, which is not sampled: nothing is recorded here.
    #[must_use]
    pub fn start() -> Self {
        Self { id: TraceId::random(), flags: parent::RANDOM, state: None }
    }

    /// Reads the trace that a request belongs to; `None` where it has no `traceparent`, more than one, or
    /// one that is malformed. `tracestate` means nothing without it, and is dropped whole where it is
    /// malformed.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&TRACEPARENT).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let Parent { id, flags } = Parent::parse(value.as_bytes())?;
        Some(Self { id, flags, state: read_state(headers) })
    }

    /// Returns the id, the same at every hop.
    #[must_use]
    pub const fn id(&self) -> TraceId {
        self.id
    }

    /// Returns whether the caller says that it records this trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & parent::SAMPLED != 0
    }

    /// Writes `traceparent`, with a parent id that was never used before, and `tracestate` as it came in.
    pub fn write(&self, headers: &mut HeaderMap) {
        let parent = Parent { id: self.id, flags: self.flags };
        headers.insert(&TRACEPARENT, parent.write(new_span_id()));
        match &self.state {
            Some(state) => headers.insert(&TRACESTATE, state.clone()),
            None => headers.remove(&TRACESTATE),
        };
    }
}

/// Joins the lines of a list field; `None` where there is none, or where it holds what is not ASCII.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut all = String::new();
    for line in headers.get_all(name) {
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(line.to_str().ok()?);
    }
    (!all.is_empty()).then_some(all)
}

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn attempts_share_the_trace_and_have_parents_of_their_own() {
        let trace = Trace::read(&headers(&[("traceparent", PARENT), ("tracestate", "a=1,b=2")]));
        let trace = trace.unwrap();
        assert!(trace.is_sampled());
        let sent = |()| {
            let mut headers = HeaderMap::new();
            trace.write(&mut headers);
            assert_eq!(headers["tracestate"], "a=1,b=2");
            headers["traceparent"].to_str().unwrap().to_owned()
        };
        let parents = HashSet::from([(); 3].map(sent));
        assert_eq!(parents.len(), 3);
        for parent in parents {
            assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{parent}");
            assert!(parent.ends_with("-01") && !parent.contains("b7ad6b7169203331"), "{parent}");
        }
    }

    #[test]
    fn two_parents_are_none_and_a_state_alone_means_nothing() {
        assert!(
            Trace::read(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])).is_none()
        );
        assert!(Trace::read(&headers(&[("tracestate", "a=1")])).is_none());
        assert!(Trace::read(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_trace_of_our_own_is_random_and_not_sampled() {
        let (one, other) = (Trace::start(), Trace::start());
        assert_ne!(one.id(), other.id());
        assert!(!one.is_sampled());
        let mut sent = headers(&[("tracestate", "left=over")]);
        one.write(&mut sent);
        assert!(sent["traceparent"].to_str().unwrap().ends_with("-02"));
        assert!(!sent.contains_key("tracestate"), "of another trace");
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
}
