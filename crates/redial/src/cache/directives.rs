//! `Cache-Control`, as a request and as a response carry it (RFC 9111 §5.2, RFC 5861).
//!
//! Names are compared without regard to case, arguments may be quoted, a span too long for anybody
//! counts as 2^31 s (§1.2.2), and one that cannot be read as none at all: stale.

use std::time::Duration;

use http::{HeaderMap, header};

/// What a request says about the answers that it accepts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asks {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) min_fresh: Option<Duration>,
    pub(super) max_stale: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
}

/// What a response says about its use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) is_private: bool,
    pub(super) is_public: bool,
    /// `must-revalidate` or `proxy-revalidate`.
    pub(super) must_revalidate: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) s_maxage: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
    pub(super) stale_while_revalidate: Option<Duration>,
}

impl Asks {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut asks = Self::default();
        for (name, argument) in directives(headers) {
            let span = argument.and_then(span);
            match () {
                () if is(name, "no-store") => asks.no_store = true,
                () if is(name, "no-cache") => asks.no_cache = true,
                () if is(name, "only-if-cached") => asks.only_if_cached = true,
                () if is(name, "max-age") => once(&mut asks.max_age, span),
                () if is(name, "min-fresh") => asks.min_fresh = span,
                () if is(name, "max-stale") && argument.is_none() => {
                    asks.max_stale = Some(Duration::MAX);
                }
                () if is(name, "max-stale") => asks.max_stale = span,
                () if is(name, "stale-if-error") => asks.stale_if_error = span,
                () => {}
            }
        }
        asks.no_cache |= is_pragma_no_cache(headers);
        asks
    }

    /// Returns whether the request wants an answer of its own choosing, not any that is fresh.
    pub(super) const fn demands(&self) -> bool {
        self.no_cache || self.max_age.is_some() || self.min_fresh.is_some()
    }
}

impl Terms {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut terms = Self::default();
        for (name, argument) in directives(headers) {
            let span = argument.and_then(span);
            match () {
                () if is(name, "no-store") => terms.no_store = true,
                () if is(name, "no-cache") => terms.no_cache = true,
                () if is(name, "private") => terms.is_private = true,
                () if is(name, "public") => terms.is_public = true,
                () if is(name, "must-revalidate") || is(name, "proxy-revalidate") => {
                    terms.must_revalidate = true;
                }
                () if is(name, "max-age") => once(&mut terms.max_age, span),
                () if is(name, "s-maxage") => once(&mut terms.s_maxage, span),
                () if is(name, "stale-if-error") => once(&mut terms.stale_if_error, span),
                () if is(name, "stale-while-revalidate") => {
                    once(&mut terms.stale_while_revalidate, span);
                }
                () => {}
            }
        }
        terms.no_cache |= is_pragma_no_cache(headers);
        terms
    }

    /// Returns whether the server takes it upon itself that anybody may have the answer.
    pub(super) const fn is_for_everybody(&self) -> bool {
        !self.is_private && (self.is_public || self.s_maxage.is_some())
    }

    /// Returns whether a stale answer must not be given out, whatever others allow (§4.2.4).
    pub(super) const fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.no_cache || self.s_maxage.is_some()
    }
}

/// Reads a span of whole seconds, quoted or not.
pub(super) fn span(argument: &[u8]) -> Option<Duration> {
    let digits = argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let digits = digits.unwrap_or(argument);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let step = |sum: u64, digit: &u8| {
        sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')).min(SPAN_SECONDS_MAX)
    };
    Some(Duration::from_secs(digits.iter().fold(0, step)))
}

/// Takes a directive's span. What cannot be read, or contradicts an earlier one, makes for no
/// freshness at all (§4.2.1).
fn once(slot: &mut Option<Duration>, span: Option<Duration>) {
    let span = span.unwrap_or_default();
    let is_same = slot.is_none_or(|before| before == span);
    *slot = Some(if is_same { span } else { Duration::ZERO });
}

fn is(name: &[u8], wanted: &str) -> bool {
    name.eq_ignore_ascii_case(wanted.as_bytes())
}

/// `Pragma` counts where there is no `Cache-Control`: for requests by RFC 9111 §5.4, for responses out
/// of caution.
fn is_pragma_no_cache(headers: &HeaderMap) -> bool {
    let contains = |value: &[u8]| split(value, b',').any(|part| is(part, "no-cache"));
    !headers.contains_key(header::CACHE_CONTROL)
        && headers.get_all(header::PRAGMA).iter().any(|value| contains(value.as_bytes()))
}

fn directives(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    values.flat_map(|value| split(value.as_bytes(), b',')).map(|part| {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        (name, halves.next().map(<[u8]>::trim_ascii))
    })
}

/// Splits at `at`, but not within quotes; parts are trimmed.
pub(super) fn split(text: &[u8], at: u8) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let cut = move |byte: &u8| {
        let was_escaped = std::mem::replace(&mut is_escaped, false);
        match byte {
            b'"' if !was_escaped => is_quoted = !is_quoted,
            b'\\' if is_quoted && !was_escaped => is_escaped = true,
            byte => return *byte == at && !is_quoted,
        }
        false
    };
    text.split(cut).map(<[u8]>::trim_ascii).filter(|part| !part.is_empty())
}

/// 2^31 (§1.2.2).
const SPAN_SECONDS_MAX: u64 = 1 << 31;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let pair = |value: &&str| (header::CACHE_CONTROL, HeaderValue::from_str(value).unwrap());
        let mut headers = HeaderMap::new();
        headers.extend(values.iter().map(pair).map(|(name, value)| (Some(name), value)));
        let mut all = HeaderMap::new();
        for value in values {
            all.append(header::CACHE_CONTROL, HeaderValue::from_str(value).unwrap());
        }
        all
    }

    fn terms(values: &[&str]) -> Terms {
        Terms::of(&headers(values))
    }

    const fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    proptest! {
        #[test]
        fn no_value_is_too_strange(bytes in prop::collection::vec(32_u8..=255, 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(header::CACHE_CONTROL, value);
                let (_, _) = (Asks::of(&headers), Terms::of(&headers));
            }
        }

        #[test]
        fn whole_seconds_are_read_exactly(n in 0_u64..=1 << 31) {
            prop_assert_eq!(span(n.to_string().as_bytes()), seconds(n));
            prop_assert_eq!(span(format!("\"{n}\"").as_bytes()), seconds(n));
        }
    }

    #[test]
    fn case_does_not_count_and_fields_add_up() {
        let terms = terms(&["No-Store, MAX-AGE=5", "Public , stale-if-error = 7"]);
        assert!(terms.no_store && terms.is_public && !terms.is_private);
        assert_eq!((terms.max_age, terms.stale_if_error), (seconds(5), seconds(7)));
    }

    #[test]
    fn a_comma_within_quotes_ends_nothing() {
        let terms = terms(&["private=\"x, no-store, \\\", no-store\", max-age=\"60\""]);
        assert!(terms.is_private && !terms.no_store);
        assert_eq!(terms.max_age, seconds(60));
    }

    #[test]
    fn spans_that_overflow_are_long_and_those_that_cannot_be_read_are_none() {
        for digits in ["2147483648", "9223372036854775808", "99999999999999999999999999"] {
            assert_eq!(terms(&[&format!("max-age={digits}")]).max_age, seconds(1 << 31));
        }
        for text in ["", "-1", "1.5", "1s", "\"5", "0x10"] {
            assert_eq!(terms(&[&format!("max-age={text}")]).max_age, seconds(0), "{text}");
        }
        assert_eq!(terms(&["max-age"]).max_age, seconds(0));
    }

    #[test]
    fn contradictions_make_stale_and_repetitions_do_not() {
        assert_eq!(terms(&["max-age=5, max-age=5"]).max_age, seconds(5));
        assert_eq!(terms(&["max-age=5", "max-age=6"]).max_age, seconds(0));
    }

    #[test]
    fn requests_say_how_old_an_answer_may_be() {
        let asks = Asks::of(&headers(&["max-age=1, min-fresh=2, max-stale=3, stale-if-error=4"]));
        assert_eq!((asks.max_age, asks.min_fresh), (seconds(1), seconds(2)));
        assert_eq!((asks.max_stale, asks.stale_if_error), (seconds(3), seconds(4)));
        assert!(asks.demands());
        let any = Asks::of(&headers(&["max-stale"]));
        assert_eq!(any.max_stale, Some(Duration::MAX));
        assert!(!any.demands());
        assert_eq!(Asks::of(&headers(&["max-stale=x"])).max_stale, None);
    }

    #[test]
    fn pragma_counts_where_there_is_nothing_better() {
        let mut only = HeaderMap::new();
        only.insert(header::PRAGMA, HeaderValue::from_static("foo, No-Cache"));
        assert!(Asks::of(&only).no_cache && Terms::of(&only).no_cache);
        only.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
        assert!(!Asks::of(&only).no_cache && !Terms::of(&only).no_cache);
    }
}
