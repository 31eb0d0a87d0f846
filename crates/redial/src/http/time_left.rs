//! How much of a call's time is left, as requests say it to the server.
//!
//! Lengths travel, not moments: the clocks of two machines differ, often by more than a call may take. What
//! the network takes is not known to the receiver and lost to it; hence everything is rounded down.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::grpc_timeout::{GRPC_TIMEOUT, parse_grpc_timeout};

/// The name of our field: the milliseconds that the sender will wait from now on, as 1 to 15 digits (an
/// integer of RFC 9651). Zero says that nobody waits any more.
pub static TIMEOUT_MS: HeaderName = HeaderName::from_static("redial-timeout-ms");

/// The name of Envoy's field, in milliseconds as well. Zero is how Envoy writes "no timeout", and says
/// nothing.
pub static ENVOY_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// Returns the shortest of all times that a request's fields give; `None` where they give none.
///
/// `malformed` is told the name of each field that makes no sense, and says nothing.
pub(crate) fn read_time_left(
    headers: &HeaderMap,
    mut malformed: impl FnMut(&HeaderName),
) -> Option<Duration> {
    let mut left: Option<Duration> = None;
    for (name, parse) in FIELDS {
        for value in headers.get_all(name) {
            match parse(value) {
                Ok(Some(time)) => left = Some(left.map_or(time, |left| left.min(time))),
                Ok(None) => {}
                Err(Malformed) => malformed(name),
            }
        }
    }
    left
}

/// Writes what is left as `name`, in whole milliseconds, or leaves what the request asks for where that is
/// less.
pub(crate) fn tell_time_left(headers: &mut HeaderMap, name: &HeaderName, left: Duration) {
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).min(NUMBER_MAX);
    let asked = headers.get(name).and_then(|value| parse_millis(value).ok());
    let told = asked.map_or(left, |asked| asked.min(left));
    headers.insert(name, HeaderValue::from(told));
}

type Parse = fn(&HeaderValue) -> Result<Option<Duration>, Malformed>;

struct Malformed;

fn ours(value: &HeaderValue) -> Result<Option<Duration>, Malformed> {
    parse_millis(value).map(|millis| Some(Duration::from_millis(millis)))
}

fn envoys(value: &HeaderValue) -> Result<Option<Duration>, Malformed> {
    parse_millis(value).map(|millis| (0 < millis).then(|| Duration::from_millis(millis)))
}

fn grpcs(value: &HeaderValue) -> Result<Option<Duration>, Malformed> {
    parse_grpc_timeout(value).map(Some).map_err(|_| Malformed)
}

fn parse_millis(value: &HeaderValue) -> Result<u64, Malformed> {
    let digits = value.as_bytes();
    if digits.is_empty() || DIGITS_MAX < digits.len() {
        return Err(Malformed);
    }
    let add = |number: u64, digit: &u8| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    };
    digits.iter().try_fold(0, add).ok_or(Malformed)
}

static FIELDS: [(&HeaderName, Parse); 3] =
    [(&TIMEOUT_MS, ours), (&GRPC_TIMEOUT, grpcs), (&ENVOY_TIMEOUT_MS, envoys)];

const DIGITS_MAX: usize = 15;
const NUMBER_MAX: u64 = 999_999_999_999_999;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        headers.extend(fields.iter().map(field).map(|(name, value)| (Some(name), value)));
        headers
    }

    fn read(fields: &[(&'static str, &'static str)]) -> (Option<Duration>, Vec<String>) {
        let mut malformed = Vec::new();
        let left =
            read_time_left(&headers(fields), |name| malformed.push(name.as_str().to_owned()));
        (left, malformed)
    }

    #[test]
    fn the_shortest_of_all_fields_holds() {
        let table: [(&[_], Option<Duration>); 7] = [
            (&[], None),
            (&[("redial-timeout-ms", "250")], Some(MS * 250)),
            (&[("grpc-timeout", "2S"), ("redial-timeout-ms", "2500")], Some(MS * 2_000)),
            (&[("grpc-timeout", "2S"), ("x-envoy-expected-rq-timeout-ms", "15")], Some(MS * 15)),
            (&[("redial-timeout-ms", "9"), ("redial-timeout-ms", "7")], Some(MS * 7)),
            (&[("redial-timeout-ms", "0")], Some(Duration::ZERO)),
            (&[("x-envoy-expected-rq-timeout-ms", "0")], None),
        ];
        for (fields, left) in table {
            assert_eq!(read(fields), (left, Vec::new()), "{fields:?}");
        }
    }

    #[test]
    fn what_is_malformed_says_nothing_and_is_told() {
        for value in ["", "-1", "+1", "1.5", "1e3", " 1", "0x1", "1s", "1000000000000000"] {
            for name in ["redial-timeout-ms", "x-envoy-expected-rq-timeout-ms"] {
                let (left, malformed) = read(&[(name, value), ("grpc-timeout", "1S")]);
                assert_eq!((left, malformed), (Some(MS * 1_000), vec![name.to_owned()]), "{value}");
            }
        }
        let (left, malformed) = read(&[("grpc-timeout", "0m"), ("redial-timeout-ms", "8")]);
        assert_eq!((left, malformed), (Some(MS * 8), vec!["grpc-timeout".to_owned()]));
    }

    #[test]
    fn what_the_request_asks_for_holds_where_it_is_less() {
        for (asked, told) in [("20", "20"), ("2000", "80"), ("nonsense", "80"), ("0", "0")] {
            let mut headers = headers(&[("redial-timeout-ms", asked)]);
            tell_time_left(&mut headers, &TIMEOUT_MS, MS * 80 + MS / 2);
            assert_eq!(headers["redial-timeout-ms"], told);
        }
    }

    proptest! {
        #[test]
        fn what_is_told_is_read_back_and_never_longer(left: Duration) {
            let mut headers = HeaderMap::new();
            tell_time_left(&mut headers, &TIMEOUT_MS, left);
            let read = read_time_left(&headers, |_| {}).unwrap();
            prop_assert!(read <= left);
            prop_assert!(left - read < MS || Duration::from_millis(NUMBER_MAX) <= left);
        }

        #[test]
        fn nothing_that_a_field_can_hold_is_a_trap(bytes: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let names = FIELDS.map(|(name, _)| name.clone());
                let headers = HeaderMap::from_iter(names.map(|name| (name, value.clone())));
                let _ = read_time_left(&headers, |_| {});
            }
        }
    }
}
