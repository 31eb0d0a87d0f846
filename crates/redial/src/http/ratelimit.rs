//! The `RateLimit` field (draft-ietf-httpapi-ratelimit-headers-10): how much is left, until when.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, ListEntry, Parser};

/// What one quota policy has left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RateLimit {
    /// The policy's name.
    pub policy: String,
    /// Quota units left in the current window.
    pub remaining: u64,
    /// The time until quota is restored, where it is told.
    pub reset: Option<Duration>,
    /// Which partition of the quota this is about, as bytes.
    pub partition_key: Option<Vec<u8>>,
}

/// Reads the `RateLimit` field of a response's head: none where it is absent or malformed (a
/// malformed field is ignored as a whole), and none from a cache, whose `Age` is above zero.
///
/// Trailers must not be given here: the field has no meaning in them.
///
/// # Examples
///
/// ```
/// use http::{HeaderMap, HeaderValue};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("ratelimit", HeaderValue::from_static("\"default\";r=50;t=30"));
/// let limits = redial::http::rate_limits(&headers);
/// assert_eq!((limits[0].policy.as_str(), limits[0].remaining), ("default", 50));
/// ```
#[must_use]
pub fn rate_limits(headers: &HeaderMap) -> Vec<RateLimit> {
    if is_from_cache(headers) {
        return Vec::new();
    }
    let lines = headers.get_all(RATELIMIT).iter().map(http::HeaderValue::as_bytes);
    let field = lines.collect::<Vec<_>>().join(&b", "[..]);
    let list: Result<sfv::List, _> = Parser::new(&field).parse();
    let limits = list.ok().and_then(|list| list.iter().map(limit).collect::<Option<Vec<_>>>());
    limits.unwrap_or_default()
}

fn limit(entry: &ListEntry) -> Option<RateLimit> {
    let ListEntry::Item(item) = entry else { return None };
    let BareItem::String(name) = &item.bare_item else { return None };
    let number = |key: &str| match item.params.get(key) {
        None => Some(None),
        Some(BareItem::Integer(n)) => u64::try_from(i64::from(*n)).ok().map(Some),
        Some(_) => None,
    };
    let partition_key = match item.params.get("pk") {
        None => None,
        Some(BareItem::ByteSequence(bytes)) => Some(bytes.clone()),
        Some(_) => return None,
    };
    Some(RateLimit {
        policy: name.as_str().to_owned(),
        remaining: number("r")??,
        reset: number("t")?.map(Duration::from_secs),
        partition_key,
    })
}

fn is_from_cache(headers: &HeaderMap) -> bool {
    let age = headers.get(http::header::AGE).and_then(|value| value.to_str().ok());
    age.and_then(|age| age.trim().parse::<u64>().ok()).is_some_and(|age| 0 < age)
}

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(lines: &[&'static str]) -> Vec<RateLimit> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(RATELIMIT, HeaderValue::from_static(line));
        }
        rate_limits(&headers)
    }

    #[test]
    fn limits_are_read_with_their_parameters() {
        let limits = read(&["\"burst\";r=0;t=5;pk=:QXBwLTk5OQ==:;x=?1", "\"daily\";r=10"]);
        let [burst, daily] = &limits[..] else { panic!("{limits:?}") };
        assert_eq!((burst.policy.as_str(), burst.remaining), ("burst", 0));
        assert_eq!(burst.reset, Some(Duration::from_secs(5)));
        assert_eq!(burst.partition_key.as_deref(), Some(&b"App-999"[..]));
        assert_eq!((daily.remaining, daily.reset, &daily.partition_key), (10, None, &None));
    }

    #[test]
    fn malformed_fields_are_ignored_as_a_whole() {
        for line in [
            "default;r=50;t=30",
            "\"default\";t=30",
            "\"default\";r=-1",
            "\"default\";r=1.5",
            "\"default\";r=1;t=x",
            "\"default\";r=1;pk=abc",
            "(\"a\" \"b\");r=1",
            "\"a\";r=1,",
            "",
        ] {
            assert_eq!(read(&[line]), [], "{line}");
        }
        assert_eq!(read(&["\"good\";r=1", "bad;r=1"]), []);
    }

    #[test]
    fn what_comes_from_a_cache_says_nothing_about_now() {
        let mut headers = HeaderMap::new();
        headers.insert(RATELIMIT, HeaderValue::from_static("\"a\";r=0;t=5"));
        headers.insert("age", HeaderValue::from_static("0"));
        assert_eq!(rate_limits(&headers).len(), 1);
        headers.insert("age", HeaderValue::from_static("12"));
        assert_eq!(rate_limits(&headers), []);
    }
}
