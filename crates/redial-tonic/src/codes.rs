//! gRPC's status codes: sets of them, their names, and what HTTP's statuses are in their words.

use std::fmt;

use http::StatusCode;
use redial_core::Class;
use tonic::Code;

/// A set of gRPC status codes. `OK` is never in one: it is no failure.
///
/// # Examples
///
/// ```
/// use redial_tonic::CodeSet;
/// use tonic::Code;
///
/// let codes = CodeSet::parse("UNAVAILABLE, deadline-exceeded, 10")?;
/// assert!(codes.contains(Code::Aborted) && !codes.contains(Code::Internal));
/// assert_eq!(codes.to_string(), "DEADLINE_EXCEEDED, ABORTED, UNAVAILABLE");
/// # Ok::<(), redial_tonic::UnknownCode>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CodeSet {
    bits: u32,
}

/// A word that names no failure's status code.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{name}` is no gRPC status of a failure; use a name such as UNAVAILABLE, or 1 to 16")]
pub struct UnknownCode {
    /// The word.
    pub name: String,
}

impl CodeSet {
    /// No code.
    pub const EMPTY: Self = Self { bits: 0 };

    /// `UNAVAILABLE` alone: what gRPC means for a failure that a retry is likely to mend.
    pub const UNAVAILABLE: Self = Self::of(&[Code::Unavailable]);

    /// Creates a set of `codes`; `OK` among them is passed over.
    #[must_use]
    pub const fn of(codes: &[Code]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < codes.len() {
            bits |= bit(codes[i]);
            i += 1;
        }
        Self { bits: bits & !bit(Code::Ok) }
    }

    /// Reads a list of codes, separated by commas: names in any case with `_` or `-`, and numbers.
    /// An empty list is the empty set.
    ///
    /// # Errors
    ///
    /// Returns [`UnknownCode`] for the first word that is neither, and for `OK`.
    pub fn parse(list: &str) -> Result<Self, UnknownCode> {
        let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(named).try_fold(Self::EMPTY, |set, code| Ok(set.union(Self::of(&[code?]))))
    }

    /// Returns whether `code` is in the set.
    #[must_use]
    pub const fn contains(self, code: Code) -> bool {
        self.bits & bit(code) != 0
    }

    /// Returns both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits }
    }

    /// Returns the codes, from the smallest.
    pub fn iter(self) -> impl Iterator<Item = Code> {
        (1..=CODE_MAX).map(Code::from_i32).filter(move |code| self.contains(*code))
    }
}

impl fmt::Display for CodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, code) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", code_name(code))?;
        }
        Ok(())
    }
}

const fn bit(code: Code) -> u32 {
    1 << code as u32
}

fn named(word: &str) -> Result<Code, UnknownCode> {
    let name = word.to_ascii_uppercase().replace('-', "_");
    let is_named = |code: &Code| code_name(*code) == name || (*code as i32).to_string() == name;
    let code = (1..=CODE_MAX).map(Code::from_i32).find(is_named);
    code.ok_or_else(|| UnknownCode { name: word.to_owned() })
}

/// Returns the name that gRPC's specification gives to `code`: `UNAVAILABLE`, …
#[must_use]
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Returns the code that an answer without a gRPC status stands for
/// (`http-grpc-status-mapping.md` of the gRPC project).
///
/// # Examples
///
/// ```
/// use redial_tonic::code_of_http;
/// use tonic::Code;
///
/// assert_eq!(code_of_http(http::StatusCode::BAD_GATEWAY), Code::Unavailable);
/// assert_eq!(code_of_http(http::StatusCode::INTERNAL_SERVER_ERROR), Code::Unknown);
/// ```
#[must_use]
pub const fn code_of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Returns the class of failures that `code` belongs to.
pub(crate) const fn class_of(code: Code) -> Class {
    match code {
        Code::DeadlineExceeded => Class::Timeout,
        Code::ResourceExhausted => Class::Throttled,
        Code::PermissionDenied | Code::Unauthenticated => Class::Authentication,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => Class::InvalidRequest,
        Code::Internal | Code::Unavailable | Code::DataLoss => Class::Server,
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Aborted => Class::Other,
    }
}

const CODE_MAX: i32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_dashes_lead_to_the_code() {
        for code in (1..=CODE_MAX).map(Code::from_i32) {
            let name = code_name(code);
            let words =
                [name.to_owned(), name.to_lowercase().replace('_', "-"), (code as i32).to_string()];
            for word in words {
                assert_eq!(CodeSet::parse(&word), Ok(CodeSet::of(&[code])), "{word}");
            }
        }
        assert_eq!(CodeSet::parse("[14]".trim_matches(['[', ']'])), Ok(CodeSet::UNAVAILABLE));
        assert_eq!(CodeSet::parse(" , "), Ok(CodeSet::EMPTY));
    }

    #[test]
    fn what_is_no_failures_code_is_named_and_refused() {
        for word in ["OK", "0", "17", "-1", "UNAVAILABLE14", "014"] {
            let unknown = CodeSet::parse(&format!("internal,{word}")).unwrap_err();
            assert_eq!(unknown.name, word);
            assert!(unknown.to_string().starts_with(&format!("`{word}` is no gRPC status")));
        }
        assert!(!CodeSet::of(&[Code::Ok]).contains(Code::Ok));
    }

    #[test]
    fn sets_join_and_list_themselves() {
        let both = CodeSet::UNAVAILABLE.union(CodeSet::of(&[Code::Cancelled]));
        assert!(both.iter().eq([Code::Cancelled, Code::Unavailable]));
        assert_eq!(both.to_string(), "CANCELLED, UNAVAILABLE");
        assert_eq!(CodeSet::EMPTY.to_string(), "");
        assert_eq!(CodeSet::default(), CodeSet::EMPTY);
    }

    #[test]
    fn http_statuses_are_mapped_as_the_grpc_project_maps_them() {
        let table = [
            (400, Code::Internal),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::Unimplemented),
            (429, Code::Unavailable),
            (502, Code::Unavailable),
            (503, Code::Unavailable),
            (504, Code::Unavailable),
            (500, Code::Unknown),
            (204, Code::Unknown),
            (302, Code::Unknown),
            (418, Code::Unknown),
        ];
        for (status, code) in table {
            assert_eq!(code_of_http(StatusCode::from_u16(status).unwrap()), code, "{status}");
        }
    }
}
