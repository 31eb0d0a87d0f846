//! The server's own wish: whether to come back, and when.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};
use redial_core::Pushback;

use super::{date::parse_http_date, dialect, ratelimit::rate_limits};

/// What a response asks its caller to do about repeating.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wish {
    /// The wait asked for, where one is.
    pub pushback: Option<Pushback>,
    /// The field that the wait came from.
    pub field: Option<&'static str>,
    /// Whether the server says outright that the request should, or should not, be repeated.
    pub should_retry: Option<bool>,
}

/// Reads what a response's head asks for; `now` gives the time in seconds since 1970.
///
/// In this order: `grpc-retry-pushback-ms` is exact, and anything but one whole number of
/// milliseconds means never (gRFC A6). `Retry-After` and its forms in milliseconds come next, the
/// longest of them; then a `RateLimit` that is used up; then the dialects of vendors. Outright words
/// (`x-should-retry`, `stripe-should-retry`) are read beside all of these.
///
/// `Retry-After: 0` is taken at its word: at once. Any other wish for no wait, such as a date that has
/// passed, is none.
///
/// Quota fields count only where `is_refusal` says that the response refuses the request: on others
/// they are about the next request, not this one.
#[must_use]
pub fn wish(headers: &HeaderMap, now: impl FnOnce() -> i64, is_refusal: bool) -> Wish {
    if !may_ask(headers) {
        return Wish::default();
    }
    let now = now();
    let should_retry = outright(headers);
    let at_least = |wait, field| Wish {
        pushback: Some(Pushback::AtLeast(wait)),
        field: Some(field),
        should_retry,
    };
    if headers.contains_key(&GRPC_PUSHBACK) {
        return match grpc_pushback(headers) {
            Some(wait) => Wish {
                pushback: Some(Pushback::Exactly(wait)),
                field: Some("grpc-retry-pushback-ms"),
                should_retry,
            },
            None => Wish { should_retry: Some(false), ..Wish::default() },
        };
    }
    let millis =
        IN_MILLIS.iter().filter_map(|(name, field)| Some((milliseconds(headers, name)?, *field)));
    let seconds = retry_after(headers, now).map(|wait| (wait, "retry-after"));
    if let Some((wait, field)) = millis.chain(seconds).max_by_key(|(wait, _)| *wait) {
        if wait.is_zero() && says_now(headers) {
            let pushback = Some(Pushback::Exactly(wait));
            return Wish { pushback, field: Some("retry-after"), should_retry };
        }
        return at_least(wait, field);
    }
    if is_refusal {
        let used_up = rate_limits(headers).into_iter().filter(|limit| limit.remaining == 0);
        if let Some(wait) = used_up.filter_map(|limit| limit.reset).max() {
            return at_least(wait, "ratelimit");
        }
        if let Some(wait) = dialect::quota_reset(headers, now) {
            return at_least(wait, "x-ratelimit-reset");
        }
    }
    Wish { should_retry, ..Wish::default() }
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): the longest of its values, or none where none is usable.
///
/// Seconds are digits only; more than can be counted is as long as can be. A date is taken relative
/// to the response's own `Date`, so that clocks that disagree do not matter, and to `now` without
/// one; a date that has passed asks for no wait.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use http::{HeaderMap, HeaderValue};
/// use redial::http::retry_after;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("date", HeaderValue::from_static("Sun, 06 Nov 1994 08:49:07 GMT"));
/// headers.insert("retry-after", HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
/// assert_eq!(retry_after(&headers, 1_790_000_000), Some(Duration::from_secs(30)));
/// headers.insert("retry-after", HeaderValue::from_static("-1"));
/// assert_eq!(retry_after(&headers, 1_790_000_000), None);
/// ```
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let date = headers.get(header::DATE).and_then(|value| value.to_str().ok());
    let here = date.and_then(|date| parse_http_date(date.trim(), now)).unwrap_or(now);
    let values =
        headers.get_all(header::RETRY_AFTER).iter().filter_map(|value| value.to_str().ok());
    values.filter_map(|value| delay_or_date(value, here, now)).max()
}

/// Returns whether any field may ask for something: most heads have none, and are looked at no further.
/// Every field that is read here is about retrying or has a limit in its name.
fn may_ask(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        matches!(name.as_bytes().first(), Some(b'a' | b'g' | b'r' | b's' | b'x'))
            && (name.contains("retry") || name.contains("limit"))
    })
}

fn delay_or_date(value: &str, here: i64, now: i64) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if let Some(at) = parse_http_date(value, now) {
        return Some(Duration::from_secs(u64::try_from(at.saturating_sub(here)).unwrap_or(0)));
    }
    // Fields that were sent twice may arrive joined by commas.
    let delays = value.split(',').map(|part| delay_seconds(part.trim_matches([' ', '\t'])));
    delays.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Whether a server says in so many words that there is no need to wait.
fn says_now(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::RETRY_AFTER).iter();
    values.any(|value| delay_seconds(value.to_str().unwrap_or_default().trim()).is_some())
}

/// `delay-seconds = 1*DIGIT`
fn delay_seconds(value: &str) -> Option<Duration> {
    let is_delay = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    is_delay.then(|| Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))))
}

fn milliseconds(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    let millis = value.parse::<f64>().ok().filter(|_| !value.starts_with('+'))?;
    Duration::try_from_secs_f64(millis / 1e3).ok()
}

/// One value, a whole number of milliseconds that fits 31 bits.
fn grpc_pushback(headers: &HeaderMap) -> Option<Duration> {
    let mut values = headers.get_all(&GRPC_PUSHBACK).iter();
    let (only, more) = (values.next()?, values.next());
    let text = only.to_str().ok()?.trim();
    let is_number = more.is_none() && text.bytes().all(|b| b.is_ascii_digit());
    let millis = text.parse::<u64>().ok().filter(|millis| is_number && *millis <= GRPC_MOST)?;
    Some(Duration::from_millis(millis))
}

fn outright(headers: &HeaderMap) -> Option<bool> {
    let words = SHOULD_RETRY.iter().filter_map(|name| headers.get(name)?.to_str().ok());
    let told = words.filter_map(|word| match word.trim() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    });
    // Where two disagree, the careful one rules.
    told.min()
}

static GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const GRPC_MOST: u64 = i32::MAX as u64;

static SHOULD_RETRY: [HeaderName; 2] =
    [HeaderName::from_static("x-should-retry"), HeaderName::from_static("stripe-should-retry")];

/// `Retry-After` in milliseconds: the SDKs of OpenAI and Anthropic, of Azure, of AWS.
static IN_MILLIS: [(HeaderName, &str); 3] = [
    (HeaderName::from_static("retry-after-ms"), "retry-after-ms"),
    (HeaderName::from_static("x-ms-retry-after-ms"), "x-ms-retry-after-ms"),
    (HeaderName::from_static("x-amz-retry-after"), "x-amz-retry-after"),
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOW: i64 = 1_790_000_000;
    const SECOND: Duration = Duration::from_secs(1);

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        fields.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    #[test]
    fn every_field_that_is_read_is_noticed_at_a_glance() {
        let others = [GRPC_PUSHBACK.clone(), header::RETRY_AFTER, "ratelimit".parse().unwrap()];
        let here = IN_MILLIS.iter().map(|(name, _)| name).chain(&SHOULD_RETRY);
        let all: Vec<HeaderName> =
            here.chain(dialect::reset_fields()).cloned().chain(others).collect();
        for name in all {
            let mut headers = HeaderMap::new();
            headers.insert(header::SERVER, HeaderValue::from_static("retry"));
            assert!(!may_ask(&headers));
            headers.insert(name, HeaderValue::from_static(""));
            assert!(may_ask(&headers), "{headers:?}");
        }
    }

    fn after(value: &'static str) -> Option<Duration> {
        retry_after(&headers(&[("retry-after", value)]), NOW)
    }

    #[test]
    fn seconds_are_digits_and_nothing_else() {
        assert_eq!(after("120"), Some(SECOND * 120));
        assert_eq!(after(" 120 "), Some(SECOND * 120));
        assert_eq!(after("0"), Some(Duration::ZERO));
        assert_eq!(after("120, 60"), Some(SECOND * 120));
        assert_eq!(after("99999999999999999999"), Some(SECOND * u32::MAX));
        for value in ["-1", "1.5", "1e3", "+5", "\"120\"", "", ",", "120,x", "soon", "1 2"] {
            assert_eq!(after(value), None, "{value}");
        }
        let two = headers(&[("retry-after", "2"), ("retry-after", "3"), ("retry-after", "x")]);
        assert_eq!(retry_after(&two, NOW), Some(SECOND * 3));
    }

    #[test]
    fn dates_are_measured_on_the_servers_own_clock() {
        let date = ("date", "Mon, 21 Sep 2026 12:00:00 GMT");
        let later = ("retry-after", "Mon, 21 Sep 2026 12:00:30 GMT");
        assert_eq!(retry_after(&headers(&[date, later]), NOW), Some(SECOND * 30));
        assert_eq!(retry_after(&headers(&[later]), NOW), Some(Duration::ZERO), "past here");
        let earlier = ("retry-after", "Mon, 21 Sep 2026 11:00:00 GMT");
        assert_eq!(retry_after(&headers(&[date, earlier]), NOW), Some(Duration::ZERO));
    }

    #[test]
    fn grpc_pushback_is_exact_or_never() {
        let read = |value| wish(&headers(&[("grpc-retry-pushback-ms", value)]), || NOW, true);
        assert_eq!(read(" 5000 ").pushback, Some(Pushback::Exactly(SECOND * 5)));
        assert_eq!(read("0").pushback, Some(Pushback::Exactly(Duration::ZERO)));
        for value in ["-1", "x", "", "1.5", "+1", "2147483648"] {
            assert_eq!(read(value).should_retry, Some(false), "{value}");
            assert_eq!(read(value).pushback, None, "{value}");
        }
        let two = [("grpc-retry-pushback-ms", "100"), ("grpc-retry-pushback-ms", "10")];
        assert_eq!(wish(&headers(&two), || NOW, true).should_retry, Some(false));
    }

    #[test]
    fn the_longest_form_of_retry_after_rules_and_comes_before_quotas() {
        let fields = [
            ("retry-after", "2"),
            ("retry-after-ms", "1500"),
            ("ratelimit", "\"a\";r=0;t=10"),
            ("x-ratelimit-reset", "90"),
        ];
        let read = |fields| wish(&headers(fields), || NOW, true);
        assert_eq!(read(&fields).pushback, Some(Pushback::AtLeast(SECOND * 2)));
        assert_eq!(read(&fields).field, Some("retry-after"));
        assert_eq!(read(&fields[1..]).field, Some("retry-after-ms"));
        assert_eq!(read(&fields[2..]).pushback, Some(Pushback::AtLeast(SECOND * 10)));
        assert_eq!(read(&fields[3..]).pushback, Some(Pushback::AtLeast(SECOND * 90)));
        assert_eq!(wish(&headers(&fields[2..]), || NOW, false).pushback, None);
        let several = [("ratelimit", "\"a\";r=0;t=5, \"b\";r=10;t=60, \"c\";r=0;t=3")];
        assert_eq!(read(&several).pushback, Some(Pushback::AtLeast(SECOND * 5)));
    }

    #[test]
    fn only_a_zero_in_so_many_words_asks_to_come_back_at_once() {
        let read = |fields: &[_]| wish(&headers(fields), || NOW, true).pushback;
        let (at_once, whenever) = (Duration::ZERO, Some(Pushback::AtLeast(Duration::ZERO)));
        assert_eq!(read(&[("retry-after", "0")]), Some(Pushback::Exactly(at_once)));
        assert_eq!(read(&[("retry-after", " 00 ")]), Some(Pushback::Exactly(at_once)));
        let past = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(read(&[("retry-after", past)]), whenever, "clocks differ");
        assert_eq!(read(&[("retry-after-ms", "0")]), whenever);
        let two = [("retry-after", "0"), ("retry-after-ms", "1500")];
        assert_eq!(read(&two), Some(Pushback::AtLeast(SECOND * 3 / 2)), "the longest rules");
    }

    #[test]
    fn vendors_milliseconds_are_milliseconds() {
        for name in ["retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after"] {
            let read = |value| {
                let mut headers = HeaderMap::new();
                headers.insert(name, HeaderValue::from_static(value));
                wish(&headers, || NOW, false).pushback
            };
            assert_eq!(read("1500"), Some(Pushback::AtLeast(Duration::from_millis(1_500))));
            assert_eq!(read("-100"), None);
            assert_eq!(read("NaN"), None);
        }
    }

    #[test]
    fn outright_words_are_read_and_no_beats_yes() {
        let read = |fields| wish(&headers(fields), || NOW, false).should_retry;
        assert_eq!(read(&[("x-should-retry", "true")]), Some(true));
        assert_eq!(read(&[("stripe-should-retry", "false")]), Some(false));
        assert_eq!(
            read(&[("x-should-retry", "true"), ("stripe-should-retry", "false")]),
            Some(false)
        );
        assert_eq!(read(&[("x-should-retry", "maybe")]), None);
    }
}
