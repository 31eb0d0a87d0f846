//! One stored answer: what it says, how old it is, and to whom it may be given.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, Version, header, response::Parts};
use redial_core::{CacheOutcome, CachePolicy};

use super::{
    body::CachedBody,
    directives::{Asks, Terms},
    rules::{self, Selected},
};

/// A moment by both clocks: the runtime's, which no one sets back, and the wall's, which goes on while
/// a machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) unix: i64,
}

/// A stored answer.
#[derive(Debug)]
pub(super) struct Entry {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
    selected: Selected,
    terms: Terms,
    lifetime: Duration,
    initial_age: Duration,
    received: Moment,
}

/// Whether a stored answer serves a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Serves {
    /// As it is.
    Now(CacheOutcome),
    /// Only once the upstream has said so.
    OnceRevalidated,
}

impl Serves {
    pub(super) const fn is_now(self) -> bool {
        matches!(self, Self::Now(_))
    }
}

impl Entry {
    /// Creates an entry, without its body yet, from an answer that came at `received`, `delay` after it
    /// was asked for; `None` where no request can be known to select it.
    pub(super) fn new(
        request: &HeaderMap,
        head: &Parts,
        delay: Duration,
        received: Moment,
    ) -> Option<Self> {
        let selected = rules::selected(&head.headers, request)?;
        let headers = rules::stored_headers(&head.headers);
        let entry = Self {
            status: head.status,
            version: head.version,
            headers,
            body: Bytes::new(),
            selected,
            terms: Terms::default(),
            lifetime: Duration::ZERO,
            initial_age: Duration::ZERO,
            received,
        };
        Some(entry.read(&head.headers, delay))
    }

    pub(super) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// Returns the entry that a 304, which came at `received`, makes of this one.
    pub(super) fn refreshed(&self, news: &HeaderMap, delay: Duration, received: Moment) -> Self {
        let mut headers = self.headers.clone();
        // They belong to the answer that was: without new ones, the 304 was made just now.
        headers.remove(header::AGE);
        headers.remove(header::DATE);
        rules::update(&mut headers, news);
        let timed = headers.clone();
        let entry = Self {
            status: self.status,
            version: self.version,
            headers,
            body: self.body.clone(),
            selected: self.selected.clone(),
            terms: self.terms,
            lifetime: self.lifetime,
            initial_age: self.initial_age,
            received,
        };
        entry.read(&timed, delay)
    }

    /// Reads terms and age off `headers`, and makes room for what is added when it is given out.
    fn read(mut self, headers: &HeaderMap, delay: Duration) -> Self {
        let now = self.received.unix;
        self.terms = Terms::of(headers);
        self.lifetime = rules::lifetime(&self.terms, headers, now).unwrap_or_default();
        self.initial_age = rules::initial_age(headers, delay, now);
        self.headers.insert(header::AGE, HeaderValue::from_static("0"));
        if !self.headers.contains_key(header::DATE)
            && let Some(date) = http_date(now)
        {
            self.headers.insert(header::DATE, date);
        }
        self
    }

    /// Returns how old the answer is (§4.2.3). Never less than at an earlier `now` of the same clocks.
    pub(super) fn age(&self, now: Moment) -> Duration {
        let resident = now.at.saturating_duration_since(self.received.at);
        let slept = u64::try_from(now.unix.saturating_sub(self.received.unix)).unwrap_or(0);
        // A whole second may have just begun when the answer came: it does not count.
        let slept = Duration::from_secs(slept.saturating_sub(1));
        self.initial_age.saturating_add(resident.max(slept))
    }

    pub(super) fn is_selected_by(&self, request: &HeaderMap) -> bool {
        rules::selects(&self.selected, request)
    }

    pub(super) const fn selected(&self) -> &Selected {
        &self.selected
    }

    pub(super) const fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(super) const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns whether there is anything to gain from keeping the entry: it is fresh for a while, can be
    /// validated, or may be given out stale.
    pub(super) fn is_worth_keeping(&self, policy: &CachePolicy) -> bool {
        let is_of_use_stale = !self.terms.forbids_stale()
            && (!self.stale_if_error(policy).is_zero() || !self.while_revalidate(policy).is_zero());
        self.initial_age < self.lifetime || self.has_validator() || is_of_use_stale
    }

    /// Returns whether the answer was said to be fresh for a while that had passed when it came.
    pub(super) fn came_stale(&self) -> bool {
        !self.lifetime.is_zero() && self.lifetime <= self.initial_age
    }

    /// Returns whether the entry serves a request that `asks`.
    pub(super) fn serves(&self, asks: &Asks, policy: &CachePolicy, now: Moment) -> Serves {
        let age = self.age(now);
        let is_too_old = asks.max_age.is_some_and(|max_age| max_age < age);
        let stays_fresh = asks.min_fresh.unwrap_or_default();
        let is_fresh = age.saturating_add(stays_fresh) < self.lifetime;
        if asks.no_cache || is_too_old || self.terms.no_cache {
            return Serves::OnceRevalidated;
        }
        if is_fresh {
            return Serves::Now(CacheOutcome::Hit);
        }
        if self.terms.forbids_stale() || asks.min_fresh.is_some() {
            return Serves::OnceRevalidated;
        }
        let staleness = age.saturating_sub(self.lifetime);
        if asks.max_stale.is_some_and(|max_stale| staleness <= max_stale) {
            return Serves::Now(CacheOutcome::Stale);
        }
        let window = self.while_revalidate(policy);
        if !window.is_zero() && staleness <= window {
            return Serves::Now(CacheOutcome::StaleWhileRevalidate);
        }
        Serves::OnceRevalidated
    }

    /// Returns whether the entry may cover up a failure from a request that `asks` (R81, R82).
    pub(super) fn covers_failure(&self, asks: &Asks, policy: &CachePolicy, now: Moment) -> bool {
        if self.terms.forbids_stale() {
            return false;
        }
        // Who demands a validated or a young answer gets none that is neither, but by its own word.
        let told = if asks.demands() { Duration::ZERO } else { self.stale_if_error(policy) };
        let window = told.max(asks.stale_if_error.unwrap_or_default());
        let staleness = self.age(now).saturating_sub(self.lifetime);
        !window.is_zero() && staleness <= window
    }

    /// Makes `request` a conditional one; returns whether there was anything to make it so by.
    pub(super) fn validate(&self, request: &mut HeaderMap) -> bool {
        let tag = self.headers.get(header::ETAG);
        let date = self.headers.get(header::LAST_MODIFIED);
        if let Some(tag) = tag {
            request.insert(header::IF_NONE_MATCH, tag.clone());
        }
        if let Some(date) = date {
            request.insert(header::IF_MODIFIED_SINCE, date.clone());
        }
        tag.is_some() || date.is_some()
    }

    /// Returns the answer as it is given out at `now`.
    pub(super) fn answer<B: http_body::Body<Data = Bytes>>(
        &self,
        now: Moment,
        is_head: bool,
        outcome: CacheOutcome,
    ) -> Response<CachedBody<B>> {
        let body = if is_head { Bytes::new() } else { self.body.clone() };
        let mut response = Response::new(CachedBody::stored(body));
        *response.status_mut() = self.status;
        *response.version_mut() = self.version;
        *response.headers_mut() = self.headers.clone();
        let age = HeaderValue::from(self.age(now).as_secs());
        response.headers_mut().insert(header::AGE, age);
        response.extensions_mut().insert(outcome);
        response
    }

    /// Returns what the entry costs in memory, in bytes: what it holds, and an estimate of what holds it.
    pub(super) fn weight(&self) -> usize {
        let field = |value: &HeaderValue| value.len() + FIELD_OVERHEAD;
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + field(value));
        let selected = self.selected.iter();
        let selected = selected.map(|(name, values)| {
            name.as_str().len() + FIELD_OVERHEAD + values.iter().map(field).sum::<usize>()
        });
        self.body.len() + headers.sum::<usize>() + selected.sum::<usize>() + ENTRY_OVERHEAD
    }

    fn has_validator(&self) -> bool {
        self.headers.contains_key(header::ETAG) || self.headers.contains_key(header::LAST_MODIFIED)
    }

    fn stale_if_error(&self, policy: &CachePolicy) -> Duration {
        self.terms.stale_if_error.unwrap_or_else(|| policy.stale_if_error())
    }

    fn while_revalidate(&self, policy: &CachePolicy) -> Duration {
        self.terms.stale_while_revalidate.unwrap_or_else(|| policy.stale_while_revalidate())
    }
}

/// Returns what a URI costs as a key, in bytes.
pub(super) fn key_weight(uri: &Uri) -> usize {
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    authority + uri.path().len() + uri.query().map_or(0, str::len) + ENTRY_OVERHEAD
}

fn http_date(unix: i64) -> Option<HeaderValue> {
    let stamp = jiff::Timestamp::from_second(unix).ok()?;
    HeaderValue::from_str(&stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()).ok()
}

/// A bucket, an index and a name of a `HeaderMap` (measured: 104 bytes a field), rounded up.
const FIELD_OVERHEAD: usize = 128;
/// The structures of an entry, and its nodes in the map that holds it.
const ENTRY_OVERHEAD: usize = 512;
