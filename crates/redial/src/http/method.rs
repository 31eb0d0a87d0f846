//! Which methods may be repeated: the IANA HTTP Method Registry.

use http::{HeaderMap, HeaderName, Method};
use redial_core::Idempotency;

/// Returns whether `method` is registered as safe. Methods are case-sensitive, and what is not
/// registered is not safe (RFC 9110 §9.1, §9.2.1).
///
/// # Examples
///
/// ```
/// use redial::http::{is_idempotent, is_safe};
///
/// assert!(is_safe("QUERY") && is_idempotent("QUERY"));
/// assert!(!is_safe("PUT") && is_idempotent("PUT"));
/// assert!(!is_idempotent("POST") && !is_idempotent("get"));
/// ```
#[must_use]
pub fn is_safe(method: &str) -> bool {
    SAFE.contains(&method)
}

/// Returns whether `method` is registered as idempotent (RFC 9110 §9.2.2); every safe one is.
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    is_safe(method) || IDEMPOTENT.contains(&method)
}

/// Returns why repeating a request is harmless, if it is: its method, its `Idempotency-Key`, or the
/// policy that declares it so.
#[must_use]
pub fn idempotency_of(method: &Method, headers: &HeaderMap, is_declared: bool) -> Idempotency {
    idempotency(method, || headers.contains_key(&IDEMPOTENCY_KEY), is_declared)
}

/// As [`idempotency_of`], asking for the key only where it matters.
pub(crate) fn idempotency(
    method: &Method,
    has_key: impl FnOnce() -> bool,
    is_declared: bool,
) -> Idempotency {
    if is_safe(method.as_str()) {
        Idempotency::Safe
    } else if is_idempotent(method.as_str()) {
        Idempotency::Method
    } else if has_key() {
        Idempotency::Key
    } else if is_declared {
        Idempotency::Declared
    } else {
        Idempotency::None
    }
}

/// draft-ietf-httpapi-idempotency-key-header-07 §2.
pub(crate) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

// https://www.iana.org/assignments/http-methods, with QUERY of RFC 10008. The most frequent first.
const SAFE: &[&str] =
    &["GET", "HEAD", "OPTIONS", "QUERY", "TRACE", "PROPFIND", "REPORT", "SEARCH", "PRI"];

const IDEMPOTENT: &[&str] = &[
    "PUT",
    "DELETE",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPPATCH",
    "REBIND",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_decides_and_case_counts() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND"] {
            assert!(is_safe(method) && is_idempotent(method), "{method}");
        }
        for method in ["PUT", "DELETE", "COPY", "MOVE", "PROPPATCH", "LINK", "BIND"] {
            assert!(!is_safe(method) && is_idempotent(method), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "LOCK", "foo", "get", "Put", ""] {
            assert!(!is_safe(method) && !is_idempotent(method), "{method}");
        }
    }

    #[test]
    fn a_key_or_a_declaration_makes_any_method_repeatable() {
        let (mut headers, post) = (HeaderMap::new(), Method::POST);
        assert_eq!(idempotency_of(&Method::GET, &headers, false), Idempotency::Safe);
        assert_eq!(idempotency_of(&Method::PUT, &headers, false), Idempotency::Method);
        assert_eq!(idempotency_of(&post, &headers, false), Idempotency::None);
        assert_eq!(idempotency_of(&post, &headers, true), Idempotency::Declared);
        headers.insert(&IDEMPOTENCY_KEY, http::HeaderValue::from_static("\"k\""));
        assert_eq!(idempotency_of(&post, &headers, true), Idempotency::Key);
    }
}
