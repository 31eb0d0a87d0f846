//! What is known of the thing that is being downloaded, and whether an answer is the rest of it.
//!
//! Whoever keeps what came somewhere else than in a body, as a download to a file does, decides by the same
//! rules as [`Resume`](super::Resume).

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG,
        LAST_MODIFIED,
    },
};

use crate::{clock, http::parse_http_date};

/// What the head of an answer says about its body, which is what a download that broke off goes on by.
///
/// It is for those who download to somewhere that outlives the answer, a file for example; for a body that
/// goes on by itself there is [`ResumeLayer`](crate::ResumeLayer).
///
/// # Examples
///
/// ```
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use redial::{Continuation, Representation};
///
/// let text = HeaderValue::from_static;
/// let first = HeaderMap::from_iter([
///     (http::header::ETAG, text("\"v1\"")),
///     (http::header::CONTENT_LENGTH, text("10")),
/// ]);
/// let representation = Representation::of(&first);
/// // What goes into `If-Range`, beside `Range: bytes=4-`.
/// assert_eq!(representation.if_range(), Some(&text("\"v1\"")));
///
/// let mut rest = HeaderMap::from_iter([
///     (http::header::ETAG, text("\"v1\"")),
///     (http::header::CONTENT_RANGE, text("bytes 4-9/10")),
/// ]);
/// let judge = |rest: &_| representation.judge(4, StatusCode::PARTIAL_CONTENT, rest);
/// assert_eq!(judge(&rest), Continuation::GoesOn { end: Some(10) });
/// rest.insert(http::header::ETAG, text("\"v2\""));
/// assert_eq!(judge(&rest), Continuation::Changed);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Representation {
    /// The fields by which an answer to the same request is told to be the same.
    described: [Option<HeaderValue>; FIELDS],
    length: Option<u64>,
    /// What goes into `If-Range`; `None` if the rest cannot be asked for.
    validator: Option<Validator>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Validator {
    Tag,
    Date,
}

/// What an answer to a request for the rest is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Continuation {
    /// The rest, or a part of it that ends before this byte.
    GoesOn {
        /// `None` if nobody knows.
        end: Option<u64>,
    },
    /// A failure that may pass.
    Failed,
    /// Of something else than what was begun.
    Changed,
    /// No help.
    Useless,
}

impl Representation {
    /// Reads the head of a 200 that begins with the first byte.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(number);
        let has_no_ranges = headers.get(ACCEPT_RANGES).is_some_and(|units| units == "none");
        // A body without a length may have been decoded on its way here, and ranges are of what the
        // server sends.
        let validator = length.filter(|_| !has_no_ranges).and_then(|_| Validator::of(headers));
        Self { described: DESCRIBING.map(|name| headers.get(name).cloned()), length, validator }
    }

    /// Returns how many bytes there are, where that was announced.
    #[must_use]
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns what goes into `If-Range`, where the rest can be asked for: the length is known, the server
    /// does not say `Accept-Ranges: none`, and there is a strong `ETag`, or, without any `ETag` and
    /// `Content-Encoding`, a `Last-Modified` at least one second older than `Date` (RFC 9110 §13.1.5).
    #[must_use]
    pub fn if_range(&self) -> Option<&HeaderValue> {
        self.described(match self.validator? {
            Validator::Tag => &ETAG,
            Validator::Date => &LAST_MODIFIED,
        })
    }

    /// Judges an answer to a request for everything from byte `at` on; 0 for a request without a range.
    #[must_use]
    pub fn judge(&self, at: u64, status: StatusCode, headers: &HeaderMap) -> Continuation {
        match status.as_u16() {
            200 if at == 0 && self.describes(headers) => Continuation::GoesOn { end: self.length },
            200 if 0 < at && self.is_same(headers) => Continuation::Useless,
            200 | 304 | 412 | 416 => Continuation::Changed,
            206 if 0 < at => self.judge_part(at, headers),
            408 | 425 | 429 | 500.. => Continuation::Failed,
            _ => Continuation::Useless,
        }
    }

    /// RFC 9110 §15.3.7.
    fn judge_part(&self, at: u64, headers: &HeaderMap) -> Continuation {
        let Some(part) = headers.get(CONTENT_RANGE).and_then(ContentRange::of) else {
            return Continuation::Useless;
        };
        if headers.get(CONTENT_TYPE).is_some_and(is_multipart) {
            return Continuation::Useless;
        }
        let is_tagged = self.validator == Some(Validator::Tag);
        // A part repeats the tag, if it has one, but not the date.
        if is_tagged && !headers.contains_key(ETAG) {
            return Continuation::Useless;
        }
        let has_same = |name: HeaderName| headers.get(&name) == self.described(&name);
        let is_other = (headers.contains_key(ETAG) && !has_same(ETAG))
            || (headers.contains_key(LAST_MODIFIED) && !has_same(LAST_MODIFIED))
            || !has_same(CONTENT_ENCODING)
            || part.first != at
            || part.complete.is_some_and(|complete| Some(complete) != self.length)
            || self.length.is_some_and(|length| length <= part.last);
        if is_other {
            return Continuation::Changed;
        }
        Continuation::GoesOn { end: Some(part.last + 1) }
    }

    /// Whether all that an answer says about its body is the same.
    fn describes(&self, headers: &HeaderMap) -> bool {
        DESCRIBING.into_iter().all(|name| headers.get(&name) == self.described(&name))
    }

    /// Whether it is the same by what was in `If-Range`.
    fn is_same(&self, headers: &HeaderMap) -> bool {
        let name = if self.validator == Some(Validator::Date) { LAST_MODIFIED } else { ETAG };
        headers.get(&name) == self.described(&name)
    }

    fn described(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let index = DESCRIBING.into_iter().position(|other| other == *name)?;
        self.described[index].as_ref()
    }
}

impl Validator {
    /// Returns what is strong enough for putting parts together.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut tags = headers.get_all(ETAG).iter();
        match (tags.next(), tags.next()) {
            (Some(tag), None) => is_strong_tag(tag.as_bytes()).then_some(Self::Tag),
            // With a tag that is weak, or with two, a date must not be used (RFC 9110 §13.1.5).
            (Some(_), Some(_)) => None,
            (None, _) => is_strong_date(headers).then_some(Self::Date),
        }
    }
}

/// RFC 9110 §8.8.3.
fn is_strong_tag(tag: &[u8]) -> bool {
    let inner = tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\""));
    inner.is_some_and(|inner| inner.iter().all(|byte| b' ' < *byte && *byte != b'"'))
}

/// RFC 9110 §8.8.2.2: one second before the answer, nothing can have changed within it. Of encoded
/// bytes a date does not tell which coding they have.
fn is_strong_date(headers: &HeaderMap) -> bool {
    let date = |name| {
        let text = headers.get(name)?.to_str().ok()?;
        parse_http_date(text, clock::unix_now())
    };
    let (Some(modified), Some(sent)) = (date(LAST_MODIFIED), date(DATE)) else { return false };
    modified < sent && !headers.contains_key(CONTENT_ENCODING)
}

/// `bytes 200-999/1000`; RFC 9110 §14.4.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct ContentRange {
    first: u64,
    last: u64,
    complete: Option<u64>,
}

impl ContentRange {
    fn of(field: &HeaderValue) -> Option<Self> {
        let (unit, range) = field.to_str().ok()?.split_once(' ')?;
        let (range, complete) = range.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let complete = if complete == "*" { None } else { Some(digits(complete)?) };
        let range = Self { first: digits(first)?, last: digits(last)?, complete };
        let is_valid = unit.eq_ignore_ascii_case("bytes")
            && range.first <= range.last
            && range.last < range.complete.unwrap_or(u64::MAX);
        is_valid.then_some(range)
    }
}

/// Several ranges at once, which nobody asked for (RFC 9110 §14.6).
fn is_multipart(content_type: &HeaderValue) -> bool {
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next();
    essence
        .is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(b"multipart/byteranges"))
}

fn number(field: &HeaderValue) -> Option<u64> {
    digits(field.to_str().ok()?)
}

fn digits(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

const FIELDS: usize = 5;

const DESCRIBING: [HeaderName; FIELDS] =
    [ETAG, LAST_MODIFIED, CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &Fields) -> HeaderMap {
        let fields = fields.iter().cloned();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    type Fields = [(HeaderName, &'static str)];

    const LATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn only_what_is_strong_goes_into_if_range() {
        let table: [(&Fields, Option<&'static str>); 12] = [
            (&[(ETAG, "\"v1\"")], Some("\"v1\"")),
            (&[(ETAG, "\"\"")], Some("\"\"")),
            (&[(ETAG, "W/\"v1\"")], None),
            (&[(ETAG, "v1")], None),
            (&[(ETAG, "\"")], None),
            (&[(ETAG, "\"v1\""), (ETAG, "\"v2\"")], None),
            (&[(ETAG, "\"v1\""), (ACCEPT_RANGES, "none")], None),
            (&[(LAST_MODIFIED, EARLY), (DATE, LATE)], Some(EARLY)),
            (&[(LAST_MODIFIED, EARLY), (DATE, EARLY)], None),
            (&[(LAST_MODIFIED, EARLY)], None),
            (&[(LAST_MODIFIED, EARLY), (DATE, LATE), (ETAG, "W/\"v1\"")], None),
            (&[(LAST_MODIFIED, EARLY), (DATE, LATE), (CONTENT_ENCODING, "gzip")], None),
        ];
        for (fields, expected) in table {
            let mut fields = headers(fields);
            assert_eq!(Representation::of(&fields).if_range(), None, "no length: {fields:?}");
            fields.insert(CONTENT_LENGTH, HeaderValue::from_static("10"));
            let known = Representation::of(&fields);
            let expected = expected.map(HeaderValue::from_static);
            assert_eq!(known.if_range(), expected.as_ref(), "{fields:?}");
            assert_eq!(known.length(), Some(10));
        }
    }

    #[test]
    fn a_content_range_is_read_to_the_letter() {
        let read = |text| ContentRange::of(&HeaderValue::from_str(text).unwrap());
        let range = |first, last, complete| Some(ContentRange { first, last, complete });
        assert_eq!(read("bytes 5-9/10"), range(5, 9, Some(10)));
        assert_eq!(read("Bytes 5-9/*"), range(5, 9, None));
        assert_eq!(read("bytes 0-0/1"), range(0, 0, Some(1)));
        for text in [
            "bytes */10",
            "bytes 5-/10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes 5-9/x",
            "bytes +5-9/10",
            "bytes=5-9/10",
            "items 5-9/10",
            "bytes 5-18446744073709551615/*",
            "bytes 5-99999999999999999999/*",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn answers_are_the_rest_or_not() {
        let known = Representation::of(&headers(&[(ETAG, "\"a\""), (CONTENT_LENGTH, "10")]));
        let part = |range: &'static str, tag: Option<&'static str>| {
            let mut fields = headers(&[(CONTENT_RANGE, range)]);
            if let Some(tag) = tag {
                fields.insert(ETAG, HeaderValue::from_static(tag));
            }
            known.judge(4, StatusCode::PARTIAL_CONTENT, &fields)
        };
        let (a, b) = (Some("\"a\""), Some("\"b\""));
        assert_eq!(part("bytes 4-9/10", a), Continuation::GoesOn { end: Some(10) });
        assert_eq!(part("bytes 4-6/10", a), Continuation::GoesOn { end: Some(7) });
        assert_eq!(part("bytes 4-9/*", a), Continuation::GoesOn { end: Some(10) });
        assert_eq!(part("bytes 4-9/10", b), Continuation::Changed);
        assert_eq!(part("bytes 4-9/10", Some("W/\"a\"")), Continuation::Changed);
        assert_eq!(part("bytes 3-9/10", a), Continuation::Changed);
        assert_eq!(part("bytes 5-9/10", a), Continuation::Changed);
        assert_eq!(part("bytes 4-10/11", a), Continuation::Changed);
        assert_eq!(part("bytes 4-10/*", a), Continuation::Changed);
        assert_eq!(part("bytes 4-9/10", None), Continuation::Useless);
        assert_eq!(part("nonsense", a), Continuation::Useless);
        let several = "Multipart/byteranges; boundary=x";
        let several = [(CONTENT_RANGE, "bytes 4-9/10"), (ETAG, "\"a\""), (CONTENT_TYPE, several)];
        let several = known.judge(4, StatusCode::PARTIAL_CONTENT, &headers(&several));
        assert_eq!(several, Continuation::Useless, "in parts that nobody asked for");
        let bare = HeaderMap::new();
        for (status, expected) in [
            (200, Continuation::Changed),
            (304, Continuation::Changed),
            (412, Continuation::Changed),
            (416, Continuation::Changed),
            (206, Continuation::Useless),
            (204, Continuation::Useless),
            (302, Continuation::Useless),
            (401, Continuation::Useless),
            (404, Continuation::Useless),
            (408, Continuation::Failed),
            (429, Continuation::Failed),
            (503, Continuation::Failed),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(known.judge(4, status, &bare), expected, "{status}");
        }
        let whole = headers(&[(ETAG, "\"a\""), (CONTENT_LENGTH, "10")]);
        assert_eq!(
            known.judge(4, StatusCode::OK, &whole),
            Continuation::Useless,
            "no ranges there"
        );
        assert_eq!(known.judge(0, StatusCode::OK, &whole), Continuation::GoesOn { end: Some(10) });
        assert_eq!(known.judge(0, StatusCode::PARTIAL_CONTENT, &whole), Continuation::Useless);
        let other = headers(&[(ETAG, "\"a\""), (CONTENT_LENGTH, "11")]);
        assert_eq!(known.judge(0, StatusCode::OK, &other), Continuation::Changed);
    }

    #[test]
    fn encoded_bytes_go_on_with_bytes_of_the_same_coding() {
        let first = [(ETAG, "\"a\""), (CONTENT_LENGTH, "10"), (CONTENT_ENCODING, "gzip")];
        let known = Representation::of(&headers(&first));
        let part = [(ETAG, "\"a\""), (CONTENT_RANGE, "bytes 4-9/10"), (CONTENT_ENCODING, "gzip")];
        let judge = |fields| known.judge(4, StatusCode::PARTIAL_CONTENT, &headers(fields));
        assert_eq!(judge(&part), Continuation::GoesOn { end: Some(10) });
        assert_eq!(judge(&part[..2]), Continuation::Changed);
    }

    #[test]
    fn a_date_holds_where_the_part_repeats_it_and_where_it_does_not() {
        let first = [(LAST_MODIFIED, EARLY), (DATE, LATE), (CONTENT_LENGTH, "10")];
        let known = Representation::of(&headers(&first));
        let judge = |fields: &[_]| known.judge(4, StatusCode::PARTIAL_CONTENT, &headers(fields));
        let range = (CONTENT_RANGE, "bytes 4-9/10");
        let goes_on = Continuation::GoesOn { end: Some(10) };
        assert_eq!(judge(std::slice::from_ref(&range)), goes_on);
        assert_eq!(judge(&[range.clone(), (LAST_MODIFIED, EARLY)]), goes_on);
        assert_eq!(judge(&[range.clone(), (LAST_MODIFIED, LATE)]), Continuation::Changed);
        assert_eq!(judge(&[range, (ETAG, "\"a\"")]), Continuation::Changed, "a tag from nowhere");
        let whole = headers(&first);
        assert_eq!(known.judge(4, StatusCode::OK, &whole), Continuation::Useless);
    }
}
