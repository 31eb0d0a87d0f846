//! How the parts of a record are written down, the same in every store.
//!
//! Fields are kept as lines `name:value`, which an operator can read: neither a name nor a value can hold
//! the end of a line, and a name cannot hold a colon.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use redial::idempotency::StoredAnswer;
use redial_core::FencingToken;
use thiserror::Error;

/// What a store holds makes no sense.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error("the record holds {what} {number}, which cannot be")]
    Number { what: &'static str, number: i64 },
    #[error("the record's answer holds a field line that is none")]
    Field,
    #[error("the record is completed and has no {0}")]
    Missing(&'static str),
    #[error("the store replied with something else than a record")]
    Reply,
}

/// Writes all fields down, repeated ones and their order included.
pub(crate) fn write_fields(headers: &HeaderMap) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.push(b':');
        text.extend_from_slice(value.as_bytes());
        text.push(b'\n');
    }
    text
}

/// Puts an answer together from its parts.
pub(crate) fn read_answer(
    status: i64,
    fields: &[u8],
    body: Option<Vec<u8>>,
) -> Result<StoredAnswer, Unreadable> {
    let code = u16::try_from(status).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let status = code.ok_or(Unreadable::Number { what: "status", number: status })?;
    let mut headers = HeaderMap::new();
    for line in fields.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let (name, value) = read_field(line).ok_or(Unreadable::Field)?;
        headers.append(name, value);
    }
    Ok(StoredAnswer { status, headers, body: body.map(Bytes::from) })
}

fn read_field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_bytes(&line[colon + 1..]).ok()?;
    Some((name, value))
}

/// Returns `span` in whole microseconds, rounded up, at most [`MICROS_MAX`].
pub(crate) fn micros(span: Duration) -> i64 {
    let whole = i64::try_from(span.as_nanos().div_ceil(1_000)).unwrap_or(MICROS_MAX);
    whole.min(MICROS_MAX)
}

/// Returns a token that a store kept as a signed number.
pub(crate) fn read_token(number: i64) -> Result<FencingToken, Unreadable> {
    let known = u64::try_from(number).map_err(|_| Unreadable::Number { what: "token", number });
    known.map(FencingToken::new)
}

/// Returns the number of a token; one too high for any store to have given out becomes -1, which no
/// record has.
pub(crate) fn write_token(token: FencingToken) -> i64 {
    i64::try_from(token.number()).unwrap_or(-1)
}

/// A hundred years: added to a point in time of our days, it still is a whole number in Lua, whose numbers
/// are whole up to 2^53.
pub(crate) const MICROS_MAX: i64 = 100 * 365 * 86_400 * 1_000_000;

/// How long the record of a key that nobody holds stays, for its token: the next holder's is then higher
/// even if the store's clock goes back by that much. Also how long a holder may be late, if nobody took
/// over.
pub(crate) const AFTERMATH: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were_written() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", HeaderValue::from_static("a=1; path=/"));
        headers.append("x-odd", HeaderValue::from_bytes(b" :\tcaf\xe9: ").unwrap());
        headers.append("set-cookie", HeaderValue::from_static("b=2"));
        headers.append("x-empty", HeaderValue::from_static(""));
        let answer = read_answer(201, &write_fields(&headers), Some(vec![0, 10, 255])).unwrap();
        assert_eq!(answer.headers, headers);
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1; path=/", "b=2"]);
        assert_eq!(answer.body.unwrap().as_ref(), [0, 10, 255]);
    }

    #[test]
    fn what_makes_no_sense_is_an_error_and_says_which_part() {
        let error = |status, fields: &[u8]| read_answer(status, fields, None).unwrap_err();
        assert_eq!(error(99, b"").to_string(), "the record holds status 99, which cannot be");
        assert!(error(70_000, b"").to_string().contains("status 70000"));
        for fields in [&b"no colon\n"[..], b"bad name:x\n", b"name:a\0b\n"] {
            assert!(matches!(error(200, fields), Unreadable::Field));
        }
        assert_eq!(
            read_token(-5).unwrap_err().to_string(),
            "the record holds token -5, which cannot be"
        );
    }

    #[test]
    fn spans_are_rounded_up_and_bounded() {
        assert_eq!(micros(Duration::from_nanos(1)), 1);
        assert_eq!(micros(Duration::from_millis(2)), 2_000);
        assert_eq!(micros(Duration::MAX), MICROS_MAX);
        assert_eq!(write_token(FencingToken::new(u64::MAX)), -1);
    }
}
