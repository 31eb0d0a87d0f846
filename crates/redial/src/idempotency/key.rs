//! The key itself, and the two ways in which it is written.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Item, Parser};
use thiserror::Error;
use uuid::Uuid;

/// A client's name for one operation: the same for every attempt at it, another for any other operation.
///
/// 1 to 255 characters of visible ASCII (255 is Stripe's limit, the tightest of those published), and
/// spaces between them. It does not show itself in logs: whoever knows a key can ask for its answer.
///
/// # Examples
///
/// ```
/// use redial::idempotency::{IdempotencyKey, KeyDialect};
///
/// let key: IdempotencyKey = "order-7".parse()?;
/// assert_eq!(key.to_field(KeyDialect::Quoted), "\"order-7\"");
/// assert_eq!(key.to_field(KeyDialect::Raw), "order-7");
/// assert_eq!(IdempotencyKey::read(&"\"order-7\"".parse().unwrap())?, key);
/// assert_ne!(IdempotencyKey::generate(), IdempotencyKey::generate());
/// # Ok::<(), redial::idempotency::InvalidKey>(())
/// ```
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct IdempotencyKey {
    text: Arc<str>,
}

/// How a key stands in its field. Both are read everywhere.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KeyDialect {
    /// As a string in quotes (RFC 9651 §3.3.3), which draft-ietf-httpapi-idempotency-key-header-07 §2.1
    /// asks for.
    #[default]
    Quoted,
    /// As it is, which most of today's servers expect.
    Raw,
}

/// What is not a key.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidKey {
    /// Nothing, or too much.
    #[error("an idempotency key has 1 to 255 characters, not {0}")]
    Length(usize),
    /// Control characters, others than ASCII, or spaces around it.
    #[error("an idempotency key is visible ASCII, with spaces only between its characters")]
    Characters,
    /// It begins like a string in quotes and is none.
    #[error(
        "an idempotency key that begins with a quote is one string in quotes (RFC 9651 §3.3.3)"
    )]
    Quotes,
    /// More than one.
    #[error("a request has one idempotency key, not {0}")]
    Many(usize),
}

impl IdempotencyKey {
    /// Creates a new key that nobody else has: a UUIDv7 (RFC 9562 §5.7), which begins with the time and so
    /// keeps the indexes of whoever stores it short.
    #[must_use]
    pub fn generate() -> Self {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        Self { text: (&*Uuid::now_v7().hyphenated().encode_lower(&mut text)).into() }
    }

    /// Reads a field's value, in quotes or without.
    ///
    /// # Errors
    ///
    /// If it is no key.
    pub fn read(value: &HeaderValue) -> Result<Self, InvalidKey> {
        let bytes = value.as_bytes().trim_ascii();
        if !bytes.starts_with(b"\"") {
            return std::str::from_utf8(bytes).map_err(|_| InvalidKey::Characters)?.parse();
        }
        let item: Item = Parser::new(bytes).parse().map_err(|_| InvalidKey::Quotes)?;
        match item.bare_item {
            BareItem::String(text) => text.as_str().parse(),
            _ => Err(InvalidKey::Quotes),
        }
    }

    /// Reads the key of a request's head, if it has the field.
    ///
    /// # Errors
    ///
    /// If what stands there is no key, or more than one.
    pub fn of(headers: &HeaderMap, field: &HeaderName) -> Result<Option<Self>, InvalidKey> {
        let mut values = headers.get_all(field).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match values.count() {
            0 => Self::read(value).map(Some),
            more => Err(InvalidKey::Many(more + 1)),
        }
    }

    /// Returns the value that a field with this key has.
    #[must_use]
    pub fn to_field(&self, dialect: KeyDialect) -> HeaderValue {
        let text = match dialect {
            KeyDialect::Raw => HeaderValue::from_str(&self.text),
            KeyDialect::Quoted => {
                let escaped = self.text.replace('\\', "\\\\").replace('"', "\\\"");
                HeaderValue::from_str(&format!("\"{escaped}\""))
            }
        };
        // Visible ASCII is a value of any field.
        text.unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// Returns the key, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::str::FromStr for IdempotencyKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        if !(1..=LENGTH_MAX).contains(&text.len()) {
            return Err(InvalidKey::Length(text.len()));
        }
        let is_visible = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_visible || text.trim().len() < text.len() {
            return Err(InvalidKey::Characters);
        }
        Ok(Self { text: text.into() })
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({} bytes)", self.text.len())
    }
}

const LENGTH_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, InvalidKey> {
        IdempotencyKey::read(&HeaderValue::from_str(text).unwrap()).map(|key| key.text.to_string())
    }

    #[test]
    fn quoted_and_raw_keys_are_read_and_what_is_neither_is_not() {
        let uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324";
        assert_eq!(read(&format!("\"{uuid}\"")).as_deref(), Ok(uuid));
        assert_eq!(read(uuid).as_deref(), Ok(uuid));
        assert_eq!(read(" a b ").as_deref(), Ok("a b"));
        assert_eq!(read(r#""a\"b\\c""#).as_deref(), Ok(r#"a"b\c"#));
        assert_eq!(read("\"a\";p=1").as_deref(), Ok("a"), "parameters are ignored");
        assert_eq!(read("\"a"), Err(InvalidKey::Quotes));
        assert_eq!(read("\"a\", \"b\""), Err(InvalidKey::Quotes));
        assert_eq!(read("\"\""), Err(InvalidKey::Length(0)));
        assert_eq!(read(""), Err(InvalidKey::Length(0)));
        assert_eq!(read(&"k".repeat(256)), Err(InvalidKey::Length(256)));
        assert_eq!(read("a\tb"), Err(InvalidKey::Characters));
        let foreign = HeaderValue::from_bytes(b"caf\xc3\xa9").unwrap();
        assert_eq!(IdempotencyKey::read(&foreign), Err(InvalidKey::Characters));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["k", "a b", r#"a"b\c"#, "~!*'()", "8e03978e"] {
            let key: IdempotencyKey = text.parse().unwrap();
            assert_eq!(IdempotencyKey::read(&key.to_field(KeyDialect::Quoted)).unwrap(), key);
        }
    }

    #[test]
    fn generated_keys_are_uuids_of_version_seven_and_do_not_show_themselves() {
        let key = IdempotencyKey::generate();
        let uuid = Uuid::parse_str(key.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert!(!format!("{key:?}").contains(key.as_str()));
    }

    #[test]
    fn a_request_has_one_key() {
        let field = HeaderName::from_static("idempotency-key");
        let mut headers = HeaderMap::new();
        assert_eq!(IdempotencyKey::of(&headers, &field), Ok(None));
        headers.append(&field, HeaderValue::from_static("a"));
        assert!(IdempotencyKey::of(&headers, &field).unwrap().is_some());
        headers.append(&field, HeaderValue::from_static("a"));
        assert_eq!(IdempotencyKey::of(&headers, &field), Err(InvalidKey::Many(2)));
    }
}
