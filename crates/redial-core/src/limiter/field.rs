//! The name of a header field, held in place.

use std::fmt;

/// The name of a header field, of up to 63 characters, in lower case.
///
/// Held in place, so that a policy that names one is still copied as it is.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct FieldName {
    bytes: [u8; Self::LENGTH_MAX],
    length: u8,
}

/// The text given is not a header field's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidFieldName {
    /// It is empty, or longer than 63 characters.
    Length(usize),
    /// A byte of it must not occur in a name.
    Byte(u8),
}

impl FieldName {
    const LENGTH_MAX: usize = 63;

    /// Takes a name in any case.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidFieldName`] unless `name` consists of 1 to 63 of the characters that RFC 9110
    /// §5.6.2 has for a token.
    pub fn new(name: &str) -> Result<Self, InvalidFieldName> {
        let length = name.len();
        let mut bytes = [0; Self::LENGTH_MAX];
        let (1.., Some(place)) = (length, bytes.get_mut(..length)) else {
            return Err(InvalidFieldName::Length(length));
        };
        for (to, byte) in place.iter_mut().zip(name.bytes()) {
            if !is_token(byte) {
                return Err(InvalidFieldName::Byte(byte));
            }
            *to = byte.to_ascii_lowercase();
        }
        // 63 at most.
        Ok(Self { bytes, length: u8::try_from(length).unwrap_or_default() })
    }

    /// Returns the name, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        // Tokens are ASCII.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for InvalidFieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => {
                write!(f, "a header field's name of {length} bytes is not within 1 to 63")
            }
            Self::Byte(byte) => {
                let shown = byte.escape_ascii();
                write!(f, "`{shown}` must not occur in a header field's name")
            }
        }
    }
}

impl std::error::Error for InvalidFieldName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_in_lower_case() {
        let name = FieldName::new("X-Tenant").unwrap();
        assert_eq!(name.as_str(), "x-tenant");
        assert_eq!(Ok(name), FieldName::new("x-tenant"));
        assert_eq!(format!("{name} {name:?}"), "x-tenant \"x-tenant\"");
        let longest = "a".repeat(63);
        assert_eq!(FieldName::new(&longest).unwrap().as_str(), longest);
        assert!(FieldName::new("!#$%&'*+-.^_`|~09azAZ").is_ok());
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        let refused = |name: &str| FieldName::new(name).unwrap_err().to_string();
        assert_eq!(refused(""), "a header field's name of 0 bytes is not within 1 to 63");
        assert_eq!(
            refused(&"a".repeat(64)),
            "a header field's name of 64 bytes is not within 1 to 63"
        );
        assert_eq!(refused("x tenant"), "` ` must not occur in a header field's name");
        assert_eq!(refused("x:"), "`:` must not occur in a header field's name");
        assert_eq!(refused("é"), "`\\xc3` must not occur in a header field's name");
        for byte in b"\"(),/:;<=>?@[\\]{}\x7f\0" {
            assert!(!is_token(*byte), "{}", byte.escape_ascii());
        }
    }
}
