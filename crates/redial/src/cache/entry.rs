//! One stored answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, Version, header, response::Parts};
use redial_core::CacheOutcome;

use super::{
    body::CachedBody,
    outlook::{Moment, Outlook},
    rules::{self, Selected},
};

/// A stored answer.
#[derive(Debug)]
pub(super) struct Entry {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
    selected: Selected,
    pub(super) outlook: Outlook,
}

impl Entry {
    /// Creates an entry for an answer that `selected` fields of its request have selected.
    pub(super) fn new(selected: Selected, head: &Parts, body: Bytes, outlook: Outlook) -> Self {
        let mut headers = rules::stored_headers(&head.headers);
        complete(&mut headers, outlook.received.unix);
        Self { status: head.status, version: head.version, headers, body, selected, outlook }
    }

    /// Returns the entry that a 304, which came at `received`, makes of this one.
    pub(super) fn refreshed(&self, news: &HeaderMap, delay: Duration, received: Moment) -> Self {
        let mut headers = self.headers.clone();
        // They belong to the answer that was: without new ones, the 304 was made just now.
        headers.remove(header::AGE);
        headers.remove(header::DATE);
        rules::update(&mut headers, news);
        let outlook = Outlook::new(&headers, delay, received);
        complete(&mut headers, received.unix);
        Self {
            status: self.status,
            version: self.version,
            headers,
            body: self.body.clone(),
            selected: self.selected.clone(),
            outlook,
        }
    }

    pub(super) fn is_selected_by(&self, request: &HeaderMap) -> bool {
        rules::selects(&self.selected, request)
    }

    pub(super) const fn selected(&self) -> &Selected {
        &self.selected
    }

    pub(super) const fn headers(&self) -> &HeaderMap {
        &self.headers
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
        // Its place is there already; inserting would make room for one more first.
        if let Some(age) = response.headers_mut().get_mut(header::AGE) {
            *age = HeaderValue::from(self.outlook.age(now).as_secs());
        }
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
}

/// Returns what a URI costs as a key, in bytes.
pub(super) fn key_weight(uri: &Uri) -> usize {
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    authority + uri.path().len() + uri.query().map_or(0, str::len) + ENTRY_OVERHEAD
}

/// Adds the date that a recipient has to add (RFC 9110 §6.6.1), and room for the age.
fn complete(headers: &mut HeaderMap, unix: i64) {
    headers.insert(header::AGE, HeaderValue::from_static("0"));
    if !headers.contains_key(header::DATE)
        && let Some(date) = http_date(unix)
    {
        headers.insert(header::DATE, date);
    }
}

fn http_date(unix: i64) -> Option<HeaderValue> {
    let stamp = jiff::Timestamp::from_second(unix).ok()?;
    HeaderValue::from_str(&stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()).ok()
}

/// A bucket, an index and a name of a `HeaderMap` , with room to spare.
const FIELD_OVERHEAD: usize = 128;
/// The structures of an entry, and its nodes in the map that holds it.
const ENTRY_OVERHEAD: usize = 512;
