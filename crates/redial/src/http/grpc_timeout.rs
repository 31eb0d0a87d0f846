//! The `grpc-timeout` field: at most eight digits and a unit (gRPC over HTTP/2, "Requests").

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

/// A `grpc-timeout` that is not one to eight digits, more than zero, and one of `H M S m u n`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed grpc-timeout: it takes 1 to 8 digits above zero, then one of H M S m u n")]
pub struct InvalidTimeout;

/// Reads a `grpc-timeout`.
///
/// # Errors
///
/// Returns [`InvalidTimeout`] for anything but one to eight digits above zero and a unit.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use http::HeaderValue;
/// use redial::http::parse_grpc_timeout;
///
/// let quarter = parse_grpc_timeout(&HeaderValue::from_static("250m"));
/// assert_eq!(quarter, Ok(Duration::from_millis(250)));
/// assert!(parse_grpc_timeout(&HeaderValue::from_static("1.5S")).is_err());
/// ```
pub fn parse_grpc_timeout(value: &HeaderValue) -> Result<Duration, InvalidTimeout> {
    let (unit, digits) = value.as_bytes().split_last().ok_or(InvalidTimeout)?;
    if digits.is_empty() || DIGITS_MAX < digits.len() {
        return Err(InvalidTimeout);
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    });
    let number = number.filter(|number| 0 < *number).ok_or(InvalidTimeout)?;
    match unit {
        b'H' => Ok(Duration::from_secs(number * 3_600)),
        b'M' => Ok(Duration::from_secs(number * 60)),
        b'S' => Ok(Duration::from_secs(number)),
        b'm' => Ok(Duration::from_millis(number)),
        b'u' => Ok(Duration::from_micros(number)),
        b'n' => Ok(Duration::from_nanos(number)),
        _ => Err(InvalidTimeout),
    }
}

/// Writes `timeout` in the finest unit that eight digits can hold, rounded down so that nobody below
/// takes longer than is left. No time at all is written as `1n`, because zero is no timeout.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial::http::format_grpc_timeout;
///
/// assert_eq!(format_grpc_timeout(Duration::from_micros(1_234_500)), "1234500u");
/// assert_eq!(format_grpc_timeout(Duration::from_secs(3_600)), "3600000m");
/// ```
#[must_use]
pub fn format_grpc_timeout(timeout: Duration) -> HeaderValue {
    let seconds = u128::from(timeout.as_secs());
    let units = [
        (timeout.as_nanos(), b'n'),
        (timeout.as_micros(), b'u'),
        (timeout.as_millis(), b'm'),
        (seconds, b'S'),
        (seconds / 60, b'M'),
        (seconds / 3_600, b'H'),
    ];
    let fits = units.into_iter().find(|(number, _)| *number <= NUMBER_MAX);
    let (number, unit) = fits.unwrap_or((NUMBER_MAX, b'H'));
    let mut rest = u32::try_from(number.max(1)).unwrap_or(u32::MAX);
    let mut text = [unit; DIGITS_MAX + 1];
    let mut start = DIGITS_MAX;
    while 0 < rest && 0 < start {
        start -= 1;
        text[start] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    // Digits and a letter are a value.
    HeaderValue::from_bytes(&text[start..]).unwrap_or_else(|_| HeaderValue::from_static("1n"))
}

/// Writes what is left of a call's time as `grpc-timeout`, or leaves what the request asks for where that
/// is less. What is there and malformed is replaced.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use http::HeaderMap;
/// use redial::http::tell_grpc_timeout;
///
/// let mut headers = HeaderMap::new();
/// tell_grpc_timeout(&mut headers, Duration::from_millis(80));
/// tell_grpc_timeout(&mut headers, Duration::from_secs(1));
/// assert_eq!(headers["grpc-timeout"], "80000000n");
/// ```
pub fn tell_grpc_timeout(headers: &mut HeaderMap, left: Duration) {
    let asked = headers.get(&GRPC_TIMEOUT).and_then(|value| parse_grpc_timeout(value).ok());
    let timeout = asked.map_or(left, |asked| asked.min(left));
    headers.insert(GRPC_TIMEOUT.clone(), format_grpc_timeout(timeout));
}

/// Returns whether these are the fields of a gRPC call. `application/grpc-web` is another protocol, whose
/// trailers are part of the body.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// The name of the field.
pub static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

const DIGITS_MAX: usize = 8;
const NUMBER_MAX: u128 = 99_999_999;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Duration, InvalidTimeout> {
        parse_grpc_timeout(&HeaderValue::from_str(text).unwrap())
    }

    #[test]
    fn one_to_eight_digits_and_a_unit_are_read() {
        let table = [
            ("1S", Duration::from_secs(1)),
            ("100m", Duration::from_millis(100)),
            ("250u", Duration::from_micros(250)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("2H", Duration::from_secs(7_200)),
            ("03M", Duration::from_secs(180)),
            ("99999999H", Duration::from_secs(359_999_996_400)),
        ];
        for (text, timeout) in table {
            assert_eq!(parse(text), Ok(timeout), "{text}");
        }
    }

    #[test]
    fn all_else_is_malformed() {
        let malformed = [
            "",
            "S",
            "1",
            "100000000m",
            "1.5S",
            "-1S",
            "+1S",
            "1s",
            "0m",
            "00000000S",
            " 1S",
            "1 S",
            "1S ",
            "1h",
            "1mm",
            "x1S",
            "0x1S",
        ];
        for text in malformed {
            assert_eq!(parse(text), Err(InvalidTimeout), "{text:?}");
        }
        assert!(parse_grpc_timeout(&HeaderValue::from_bytes(b"1\xff").unwrap()).is_err());
    }

    #[test]
    fn grpc_is_told_from_its_web_dialect() {
        let table = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ];
        for (content_type, expected) in table {
            let value = HeaderValue::from_static(content_type);
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
            assert_eq!(is_grpc(&headers), expected, "{content_type}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn the_finest_unit_that_fits_is_written() {
        let table = [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_nanos(1_234_567_899), "1234567u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::from_secs(6_000_000_000), "1666666H"),
            (Duration::MAX, "99999999H"),
        ];
        for (timeout, text) in table {
            assert_eq!(format_grpc_timeout(timeout), text, "{timeout:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_never_longer(timeout: Duration) {
            let read = parse_grpc_timeout(&format_grpc_timeout(timeout)).unwrap();
            prop_assert!(read <= timeout.max(Duration::from_nanos(1)));
            // Six digits are kept of all that is not too short or too long for them.
            let range = Duration::from_millis(1)..Duration::from_secs(359_999_996_400);
            if range.contains(&timeout) {
                prop_assert!(timeout - read <= timeout / 100_000);
            }
        }

        #[test]
        fn nothing_that_a_field_can_hold_is_a_trap(bytes in "\\PC{0,12}") {
            if let Ok(value) = HeaderValue::from_str(&bytes)
                && let Ok(timeout) = parse_grpc_timeout(&value)
            {
                prop_assert!(!timeout.is_zero());
            }
        }
    }
}
