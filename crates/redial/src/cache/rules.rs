//! What may be stored, shared and given out: RFC 9111 §3 and §4, on heads alone.
//!
//! The cache stands between one client and all its callers, so it keeps to the rules of a shared cache
//! wherever mixing callers up would harm: credentials, `s-maxage`, `proxy-revalidate`. The one private
//! thing about it is that `private` answers to requests without credentials are kept: nobody in
//! particular asked for them.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response::Parts};

use super::{
    directives::{Terms, span, split},
    outlook::Outlook,
};
use crate::http::parse_http_date;

/// What may be done with an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Use {
    /// It may be stored, if there is any use in it.
    pub(super) is_storable: bool,
    /// It may be given to calls that were waiting for it.
    pub(super) is_shareable: bool,
}

/// The request's fields that an answer was selected by, and their values.
pub(super) type Selected = Box<[(HeaderName, Box<[HeaderValue]>)]>;

/// Returns what may be done with an answer to a GET, given whether its request had credentials.
pub(super) fn use_of(head: &Parts, outlook: &Outlook, has_credentials: bool) -> Use {
    let (headers, terms) = (&head.headers, &outlook.terms);
    let is_known = match head.status.as_u16() {
        200 | 203 | 204 | 300 | 301 | 308 => true,
        // Failures of the caller's, and moves for a while: kept only where the server says for how long.
        302 | 303 | 307 | 404 | 410 => outlook.lifetime.is_some_and(|span| !span.is_zero()),
        // Failures are never answers to keep, whatever they say of themselves (R86).
        _ => false,
    };
    let is_somebodys = has_credentials && !terms.is_for_everybody();
    let is_storable = is_known
        && !terms.no_store
        && !is_somebodys
        && !headers.contains_key(header::SET_COOKIE)
        && !headers.contains_key(header::CONTENT_RANGE)
        && !is_endless(headers);
    // What is stale when it comes was made for one.
    Use { is_storable, is_shareable: is_storable && !outlook.came_stale() }
}

/// Returns whether an answer can be validated later.
pub(super) fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED)
}

/// Returns how long an answer is fresh, where it says so. Nothing is guessed from `Last-Modified`: an
/// API's caller is better off with one call too many than with an answer that nobody vouched for.
pub(super) fn lifetime(terms: &Terms, headers: &HeaderMap, now: i64) -> Option<Duration> {
    if terms.no_cache {
        return Some(Duration::ZERO);
    }
    terms.s_maxage.or(terms.max_age).or_else(|| expires(headers, now))
}

/// `Expires` less `Date`; what is no date is in the past (§5.3).
fn expires(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let mut values = headers.get_all(header::EXPIRES).iter();
    let first = values.next()?;
    let is_one = values.all(|value| value == first);
    let at = date_of(Some(first), now).filter(|_| is_one);
    let from = date_of(headers.get(header::DATE), now).unwrap_or(now);
    let seconds = at.map_or(0, |at| at.saturating_sub(from));
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(1 << 31)))
}

/// Returns the age of an answer that came after `delay` (§4.2.3): by its `Age`, or by its `Date` where
/// that says more.
pub(super) fn initial_age(headers: &HeaderMap, delay: Duration, now: i64) -> Duration {
    let first = headers.get(header::AGE).map(HeaderValue::as_bytes);
    let first = first.and_then(|value| split(value, b',').next());
    let told = first.and_then(span).unwrap_or_default();
    let date = date_of(headers.get(header::DATE), now).unwrap_or(now);
    let apparent = Duration::from_secs(u64::try_from(now.saturating_sub(date)).unwrap_or(0));
    apparent.max(told.saturating_add(delay))
}

/// Returns the fields that select the answer, with the request's values for them; `None` where no later
/// request can be known to select the same: `Vary: *`, names that are none, or too many.
pub(super) fn selected(response: &HeaderMap, request: &HeaderMap) -> Option<Selected> {
    // The host is part of what was asked for, and not always of the URI.
    let mut names = vec![header::HOST];
    for value in &response.get_all(header::VARY) {
        for name in split(value.as_bytes(), b',') {
            let name = HeaderName::from_bytes(name).ok().filter(|_| name != b"*")?;
            if !names.contains(&name) {
                names.push(name);
            }
            if VARY_MAX < names.len() {
                return None;
            }
        }
    }
    let values = |name: &HeaderName| request.get_all(name).iter().map(detached).collect();
    Some(names.into_iter().map(|name| (name.clone(), values(&name))).collect())
}

/// Returns whether `request` selects what `selected` did.
pub(super) fn selects(selected: &Selected, request: &HeaderMap) -> bool {
    selected.iter().all(|(name, values)| request.get_all(name).iter().eq(values.iter()))
}

/// Returns whether a request is made in somebody's name: by a field that is known for it, or by one
/// whose value is marked as sensitive.
pub(super) fn has_credentials(headers: &HeaderMap) -> bool {
    CREDENTIALS.iter().any(|name| headers.contains_key(name))
        || headers.values().any(HeaderValue::is_sensitive)
}

/// Returns whether a cache has to keep out of a request: it is one for a part, conditional by its
/// caller's wish, or about the connection.
pub(super) fn is_for_upstream_only(headers: &HeaderMap) -> bool {
    NOT_FOR_CACHES.iter().any(|name| headers.contains_key(name))
}

/// Returns whether a status counts as the failure that a stale answer may cover up (RFC 5861 §4).
pub(super) const fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Returns whether a status says of the resource that what is stored of it is past.
pub(super) fn supersedes(status: StatusCode) -> bool {
    status.as_u16() < 500 && !matches!(status.as_u16(), 304 | 408 | 421 | 425 | 429)
}

/// Returns the fields that are stored: a copy of its own memory, without what belongs to a connection.
pub(super) fn stored_headers(headers: &HeaderMap) -> HeaderMap {
    let nominated: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| split(value.as_bytes(), b','))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    let mut stored = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in headers {
        if !CONNECTION_FIELDS.contains(name) && !nominated.contains(name) {
            stored.append(name.clone(), detached(value));
        }
    }
    stored
}

/// Takes over what a 304 says anew (§3.2); what describes the stored body stays.
pub(super) fn update(stored: &mut HeaderMap, news: &HeaderMap) {
    let news = stored_headers(news);
    for name in news.keys() {
        if !BODY_FIELDS.contains(name) && name != header::SET_COOKIE {
            stored.remove(name);
            for value in &news.get_all(name) {
                stored.append(name.clone(), value.clone());
            }
        }
    }
}

/// Returns whether a 304 is about what is stored: it names the same validator, or none (§4.3.4). Only
/// one answer was asked about.
pub(super) fn is_about(stored: &HeaderMap, news: &HeaderMap) -> bool {
    let opaque = |headers: &HeaderMap| {
        let tag = headers.get(header::ETAG)?.as_bytes();
        Some(tag.strip_prefix(b"W/").unwrap_or(tag).to_owned())
    };
    match (opaque(news), opaque(stored)) {
        (Some(new), Some(old)) => new == old,
        (Some(_), None) => false,
        (None, _) => match news.get(header::LAST_MODIFIED) {
            Some(new) => stored.get(header::LAST_MODIFIED).is_none_or(|old| old == new),
            None => true,
        },
    }
}

/// Returns a copy that holds no part of the buffer that the message was read into.
pub(super) fn detached(value: &HeaderValue) -> HeaderValue {
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    copy.set_sensitive(value.is_sensitive());
    copy
}

fn date_of(value: Option<&HeaderValue>, now: i64) -> Option<i64> {
    parse_http_date(value?.to_str().ok()?, now)
}

/// Streams that end when somebody leaves, and must not be read ahead.
fn is_endless(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let starts_with = |prefix: &&str| {
        kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    ["text/event-stream", "multipart/x-mixed-replace", "application/grpc"].iter().any(starts_with)
}

/// More fields than this select nothing that comes twice.
const VARY_MAX: usize = 16;

const CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
];

const NOT_FOR_CACHES: [HeaderName; 8] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::UPGRADE,
    header::EXPECT,
];

const CONNECTION_FIELDS: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

const BODY_FIELDS: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_TYPE, header::CONTENT_RANGE];
