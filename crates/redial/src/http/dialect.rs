//! Rate-limit headers as vendors write them, from before there was a standard.
//!
//! The same name means seconds here, milliseconds there and a date elsewhere. The value's own shape
//! tells: a number too big for a wait is a point in time, letters are a duration or a date.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::date::parse_http_date;

/// Returns how long until a vendor's quota is restored, as far as its headers say that it is used
/// up: the longest of them.
pub(super) fn quota_reset(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let told = DIALECTS.iter().filter_map(|(reset, remaining)| {
        let is_used_up = remaining.as_ref().is_none_or(|name| is_zero_or_absent(headers, name));
        is_used_up.then(|| text(headers, reset)).flatten().and_then(|value| reset_in(value, now))
    });
    told.max()
}

/// Returns whether a vendor says in so many words that its quota is used up.
pub(super) fn is_quota_used_up(headers: &HeaderMap) -> bool {
    [X_RATELIMIT_REMAINING, X_RATE_LIMIT_REMAINING]
        .into_iter()
        .any(|name| text(headers, &name).is_some_and(|value| value == "0"))
}

/// Reads a vendor's reset: a point in time or a time to wait, whichever its shape tells.
fn reset_in(value: &str, now: i64) -> Option<Duration> {
    if let Ok(number) = value.parse::<f64>() {
        return number_in(number, now);
    }
    go_duration(value).or_else(|| date_in(value, now))
}

/// Above 10¹² a number is milliseconds since 1970, above 10⁹ it is seconds since 1970, and below it
/// is a time to wait: no quota waits for 30 years.
fn number_in(number: f64, now: i64) -> Option<Duration> {
    #[expect(clippy::cast_precision_loss, reason = "exact for the next 280 million years")]
    let now = now as f64;
    let seconds = if 1e12 < number {
        (number / 1e3 - now).max(0.0)
    } else if 1e9 <= number {
        (number - now).max(0.0)
    } else {
        number
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// Reads Go's notation: `6m0s`, `1.5s`, `12ms`.
fn go_duration(value: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (value, Duration::ZERO);
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        sum = sum.checked_add(part)?;
        rest = tail;
    }
    (!value.is_empty()).then_some(sum)
}

/// Reads RFC 3339, an HTTP-date, or what JavaScript prints.
fn date_in(value: &str, now: i64) -> Option<Duration> {
    let rfc3339 = || value.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    let javascript = || {
        let plain = value.split(" (").next()?;
        let zoned = jiff::fmt::strtime::parse("%a %b %d %Y %H:%M:%S GMT%z", plain).ok()?;
        zoned.to_timestamp().ok().map(jiff::Timestamp::as_second)
    };
    let at = rfc3339().or_else(|| parse_http_date(value, now)).or_else(javascript)?;
    Some(Duration::from_secs(u64::try_from(at - now).unwrap_or(0)))
}

fn is_zero_or_absent(headers: &HeaderMap, name: &HeaderName) -> bool {
    text(headers, name).is_none_or(|value| value == "0")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-rate-limit-remaining");

/// Where vendors put the reset, and what must be zero, if it is there, for it to count: Discord
/// (which prefers `-after`), GitHub and many, MailerLite, OpenAI, Anthropic (R48).
static DIALECTS: [(HeaderName, Option<HeaderName>); 8] = [
    (HeaderName::from_static("x-ratelimit-reset-after"), Some(X_RATELIMIT_REMAINING)),
    (HeaderName::from_static("x-ratelimit-reset"), Some(X_RATELIMIT_REMAINING)),
    (HeaderName::from_static("x-rate-limit-reset"), Some(X_RATE_LIMIT_REMAINING)),
    (HeaderName::from_static("x-ratelimit-retry-after"), None),
    (
        HeaderName::from_static("x-ratelimit-reset-requests"),
        Some(HeaderName::from_static("x-ratelimit-remaining-requests")),
    ),
    (
        HeaderName::from_static("x-ratelimit-reset-tokens"),
        Some(HeaderName::from_static("x-ratelimit-remaining-tokens")),
    ),
    (
        HeaderName::from_static("anthropic-ratelimit-requests-reset"),
        Some(HeaderName::from_static("anthropic-ratelimit-requests-remaining")),
    ),
    (
        HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
        Some(HeaderName::from_static("anthropic-ratelimit-tokens-remaining")),
    ),
];

#[cfg(test)]
pub(super) fn reset_fields() -> impl Iterator<Item = &'static HeaderName> {
    DIALECTS.iter().map(|(reset, _)| reset)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn reset(fields: &[(&'static str, &'static str)]) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        quota_reset(&headers, NOW)
    }

    #[test]
    fn the_shape_of_a_reset_tells_its_unit() {
        let table = [
            ("30", 30_000),
            ("0.75", 750),
            ("1790000030", 30_000),
            ("1790000030.5", 30_500),
            ("1790000030000", 30_000),
            ("1700000000", 0),
            ("6m0s", 360_000),
            ("12ms", 12),
            ("1h2m3.5s", 3_723_500),
            ("2026-09-21T14:13:50Z", 30_000),
            ("2026-09-21T14:13:50.000+00:00", 30_000),
            ("Mon, 21 Sep 2026 14:13:50 GMT", 30_000),
            ("Mon Sep 21 2026 15:13:50 GMT+0100 (Central European Standard Time)", 30_000),
        ];
        for (value, millis) in table {
            assert_eq!(reset_in(value, NOW), Some(Duration::from_millis(millis)), "{value}");
        }
    }

    #[test]
    fn the_time_of_day_is_never_taken_for_a_wait() {
        // Somebody's client once told its users to wait for 1792152901 seconds.
        let wait = reset(&[("x-ratelimit-reset", "1792152901"), ("x-ratelimit-remaining", "0")]);
        assert_eq!(wait, Some(Duration::from_secs(2_152_901)));
    }

    #[test]
    fn nonsense_is_unusable() {
        for value in ["", "-1", "soon", "NaN", "inf", "1e400", "5x", "s", "1.2.3s", "tomorrow"] {
            assert_eq!(reset_in(value, NOW), None, "{value}");
        }
    }

    #[test]
    fn a_quota_that_is_not_used_up_asks_for_nothing() {
        let field = ("x-ratelimit-reset", "30");
        assert_eq!(reset(&[field, ("x-ratelimit-remaining", "1")]), None);
        assert_eq!(reset(&[field]), Some(Duration::from_secs(30)));
        let both = [("x-ratelimit-reset-requests", "1s"), ("x-ratelimit-reset-tokens", "6m0s")];
        assert_eq!(reset(&both), Some(Duration::from_secs(360)));
        let tokens_left = [both[0], both[1], ("x-ratelimit-remaining-tokens", "500")];
        assert_eq!(reset(&tokens_left), Some(Duration::from_secs(1)));
    }
}
