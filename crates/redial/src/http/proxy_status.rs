//! What a gateway says about its own failure: `Proxy-Status` (RFC 9209).

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, ListEntry, Parameters, Parser};

/// Returns whether a gateway says that the origin never saw the request.
///
/// The hop nearest to the origin, which is the first member, has to name an error that happens before
/// a request is forwarded. A gateway that retries may have forwarded it before it failed to, so it
/// is believed when it says that it made one attempt (`attempts=1`, a parameter of ours) or when
/// `is_trusted` declares it so.
pub(super) fn is_origin_untouched(headers: &HeaderMap, is_trusted: bool) -> bool {
    if !headers.contains_key(&PROXY_STATUS) {
        return false;
    }
    let lines = headers.get_all(&PROXY_STATUS).iter().map(http::HeaderValue::as_bytes);
    let field = lines.collect::<Vec<_>>().join(&b", "[..]);
    let list: Result<sfv::List, _> = Parser::new(&field).parse();
    let Ok(list) = list else { return false };
    let Some(ListEntry::Item(first)) = list.first() else { return false };
    let is_single =
        matches!(first.params.get("attempts"), Some(BareItem::Integer(n)) if i64::from(*n) == 1);
    (is_trusted || is_single)
        && error(&first.params).is_some_and(|error| BEFORE_FORWARDING.contains(&error))
}

fn error(params: &Parameters) -> Option<&str> {
    match params.get("error") {
        Some(BareItem::Token(error)) => Some(error.as_str()),
        _ => None,
    }
}

static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The errors of RFC 9209 §2.3 that happen before a request is forwarded.
const BEFORE_FORWARDING: [&str; 10] = [
    "connection_limit_reached",
    "connection_refused",
    "connection_timeout",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "destination_not_found",
    "dns_error",
    "dns_timeout",
    "proxy_loop_detected",
    "tls_certificate_error",
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn untouched(field: &'static str, is_trusted: bool) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(&PROXY_STATUS, HeaderValue::from_static(field));
        is_origin_untouched(&headers, is_trusted)
    }

    #[test]
    fn a_gateway_is_believed_when_it_tried_once_or_is_trusted() {
        assert!(untouched("gw; error=connection_refused; attempts=1", false));
        assert!(untouched("gw; error=dns_error", true));
        assert!(!untouched("gw; error=connection_refused", false));
        assert!(!untouched("gw; error=connection_refused; attempts=2", false));
    }

    #[test]
    fn only_errors_before_forwarding_prove_anything() {
        for error in ["connection_terminated", "http_response_timeout", "connection_read_timeout"] {
            let field = HeaderValue::from_str(&format!("gw; error={error}; attempts=1")).unwrap();
            let headers = HeaderMap::from_iter([(PROXY_STATUS.clone(), field)]);
            assert!(!is_origin_untouched(&headers, true), "{error}");
        }
        for field in ["gw", "gw; error=\"connection_refused\"", "(a b); error=dns_error", ";;", ""]
        {
            assert!(!untouched(field, true), "{field}");
        }
        assert!(!untouched(
            "origin-side; error=connection_terminated, edge; error=dns_error",
            true
        ));
    }
}
