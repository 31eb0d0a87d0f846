//! What to answer when a call has failed for good.

use std::fmt;

use crate::{fault::Fault, triggers::StatusSet};

/// An answer that stands in for one that could not be had, and the failures that it stands in for.
///
/// # Examples
///
/// ```
/// use redial_core::{FallbackPolicy, Fault};
///
/// let policy = FallbackPolicy::default()
///     .with_status(503)?
///     .with_header("retry-after", "30")?
///     .with_body("we are busy, please come back")?;
/// assert!(policy.stands_in_for_status(502) && !policy.stands_in_for_status(404));
/// assert!(policy.stands_in_for_fault(Fault::ConnectionRefused));
/// # Ok::<(), redial_core::InvalidFallback>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FallbackPolicy {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    errors: FallbackErrors,
    statuses: StatusSet,
}

/// Which errors a fallback stands in for, beside answers by their status.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FallbackErrors {
    /// Whatever kept an answer from coming, our own refusals among them.
    #[default]
    Any,
    /// Only our own refusals: an open breaker, a limit, the deadline.
    Refusals,
    /// None: errors go to the caller.
    None,
}

/// The values given do not form a fallback.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum InvalidFallback {
    /// The status is not within 200 to 599.
    Status(u16),
    /// The status allows no body, and there is one.
    BodyForbidden {
        /// The status.
        status: u16,
    },
    /// The name of a header field is none.
    HeaderName(String),
    /// A field's name is one that we set ourselves, because it frames the body or the connection.
    FramingHeader(String),
    /// The value of a header field is none.
    HeaderValue {
        /// The field's name.
        name: String,
        /// The value.
        value: String,
    },
    /// There are more than 64 header fields.
    Headers,
    /// The body is longer than 1 MiB.
    Body(usize),
    /// A word that names no failure.
    Trigger(String),
    /// It would stand in for nothing.
    Idle,
}

impl FallbackPolicy {
    /// Sets the status of the answer, within 200 to 599. 200 unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidFallback`] when it is out of range, or allows no body and there is one.
    pub fn with_status(self, status: u16) -> Result<Self, InvalidFallback> {
        if !(200..600).contains(&status) {
            return Err(InvalidFallback::Status(status));
        }
        Self { status, ..self }.checked()
    }

    /// Adds a header field to the answer; at most 64. `content-length` is set by itself.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidFallback`] when the name is no token (RFC 9110 §5.6.2), the value has other
    /// characters than visible ASCII, spaces and tabs, the name is one that frames the body or the
    /// connection, or there are 64 already.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, InvalidFallback> {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(InvalidFallback::HeaderName(name.to_owned()));
        }
        let lower = name.to_ascii_lowercase();
        if FRAMING.contains(&lower.as_str()) {
            return Err(InvalidFallback::FramingHeader(lower));
        }
        if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            let value = value.to_owned();
            return Err(InvalidFallback::HeaderValue { name: lower, value });
        }
        if HEADERS_MAX <= self.headers.len() {
            return Err(InvalidFallback::Headers);
        }
        self.headers.push((lower, value.to_owned()));
        Ok(self)
    }

    /// Sets the body of the answer, at most 1 MiB. Empty unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidFallback`] when it is longer, or the status allows none.
    pub fn with_body(self, body: impl Into<Vec<u8>>) -> Result<Self, InvalidFallback> {
        let body = body.into();
        if BODY_BYTES_MAX < body.len() {
            return Err(InvalidFallback::Body(body.len()));
        }
        Self { body, ..self }.checked()
    }

    /// Sets which failures it stands in for. Every 5xx and every error unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidFallback::Idle`] when there are none.
    pub fn with_triggers(
        self,
        statuses: StatusSet,
        errors: FallbackErrors,
    ) -> Result<Self, InvalidFallback> {
        if errors == FallbackErrors::None && statuses == StatusSet::EMPTY {
            return Err(InvalidFallback::Idle);
        }
        Ok(Self { statuses, errors, ..self })
    }

    /// Sets which failures it stands in for, from words: `error` for any error, `refusal` for our own
    /// refusals only, `5xx`, `4xx`, and statuses from 400 to 599. They replace what was set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidFallback`] for the first word that is none of these, and for none at all.
    pub fn with_trigger_words<'a>(
        self,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidFallback> {
        let (mut statuses, mut errors) = (StatusSet::EMPTY, FallbackErrors::None);
        for word in words {
            match word {
                "error" => errors = FallbackErrors::Any,
                "refusal" if errors != FallbackErrors::Any => errors = FallbackErrors::Refusals,
                "refusal" => {}
                "5xx" => statuses = with_range(statuses, 500),
                "4xx" => statuses = with_range(statuses, 400),
                word => {
                    let status = word.parse().ok().filter(|status| (400..600).contains(status));
                    let status = status.filter(|_| word.bytes().all(|byte| byte.is_ascii_digit()));
                    let unknown = || InvalidFallback::Trigger(word.to_owned());
                    statuses = statuses.with(status.ok_or_else(unknown)?);
                }
            }
        }
        self.with_triggers(statuses, errors)
    }

    /// Returns the status of the answer.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Returns the header fields of the answer, names in lower case.
    #[must_use]
    pub const fn headers(&self) -> &[(String, String)] {
        self.headers.as_slice()
    }

    /// Returns the body of the answer.
    #[must_use]
    pub const fn body(&self) -> &[u8] {
        self.body.as_slice()
    }

    /// Returns whether it stands in for an answer with `status`.
    #[must_use]
    pub const fn stands_in_for_status(&self, status: u16) -> bool {
        self.statuses.contains(status)
    }

    /// Returns whether it stands in for a call that `fault` ended.
    #[must_use]
    pub const fn stands_in_for_fault(&self, fault: Fault) -> bool {
        match self.errors {
            FallbackErrors::Any => true,
            FallbackErrors::Refusals => matches!(fault, Fault::Rejected),
            FallbackErrors::None => false,
        }
    }

    fn checked(self) -> Result<Self, InvalidFallback> {
        if matches!(self.status, 204 | 205 | 304) && !self.body.is_empty() {
            return Err(InvalidFallback::BodyForbidden { status: self.status });
        }
        Ok(self)
    }
}

impl Default for FallbackPolicy {
    /// An empty 200 for every 5xx and every error: Polly's fallback takes every exception for a failure
    /// unless told otherwise, and RFC 9110 §15.6 makes a failure of the server of every 5xx.
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: Vec::new(),
            errors: FallbackErrors::Any,
            statuses: with_range(StatusSet::EMPTY, 500),
        }
    }
}

impl fmt::Display for InvalidFallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "fallback status {status} is not within 200 to 599"),
            Self::BodyForbidden { status } => {
                write!(f, "fallback status {status} allows no body, and there is one")
            }
            Self::HeaderName(name) => write!(f, "{name:?} is no name of a header field"),
            Self::FramingHeader(name) => {
                write!(f, "header field {name} frames the answer and is set by itself")
            }
            Self::HeaderValue { name, value } => {
                write!(f, "{value:?} is no value of a header field ({name})")
            }
            Self::Headers => write!(f, "a fallback has at most {HEADERS_MAX} header fields"),
            Self::Body(bytes) => {
                write!(f, "fallback body of {bytes} bytes is above {BODY_BYTES_MAX}")
            }
            Self::Trigger(word) => write!(
                f,
                "`{word}` is no failure: give error, refusal, 5xx, 4xx, or statuses from 400 to 599"
            ),
            Self::Idle => f.write_str("a fallback must stand in for something"),
        }
    }
}

impl std::error::Error for InvalidFallback {}

const fn with_range(mut set: StatusSet, first: u16) -> StatusSet {
    let mut status = first;
    while status < first + 100 {
        set = set.with(status);
        status += 1;
    }
    set
}

/// RFC 9110 §5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

const FRAMING: [&str; 6] =
    ["connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade"];

/// More than any answer needs, and few enough to be copied for each call that fails.
const HEADERS_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 1_024 * 1_024;

#[cfg(test)]
mod tests;
