//! Kinds of failure that may carry retry rules of their own.

use std::fmt;

/// The kind of a failure, as far as retrying is concerned.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// The server does not know the caller, or does not let it: 401, 403, 407.
    Authentication,
    /// The connection failed: refused, reset, closed, DNS, TLS, a refused stream.
    Connection,
    /// The request itself is wrong, or asks for what is not there: 4xx without a better class.
    InvalidRequest,
    /// Nothing of the above.
    Other,
    /// The server failed: 5xx.
    Server,
    /// The server asked for fewer requests: 429.
    Throttled,
    /// A connection or an answer did not come in time.
    Timeout,
}

impl Class {
    /// Every class, in the order of its index.
    pub const ALL: [Self; 7] = [
        Self::Authentication,
        Self::Connection,
        Self::InvalidRequest,
        Self::Other,
        Self::Server,
        Self::Throttled,
        Self::Timeout,
    ];

    /// Returns whether failures of this class are worth repeating unless a policy says otherwise.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        !matches!(self, Self::Authentication | Self::InvalidRequest)
    }

    /// Returns the name used in reports, events and files: `timeout`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Connection => "connection",
            Self::InvalidRequest => "invalid_request",
            Self::Other => "other",
            Self::Server => "server",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
        }
    }

    /// Returns the class called `name`, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_stand_at_their_index_and_answer_to_their_name() {
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), index);
            assert_eq!(Class::named(class.name()), Some(class));
            assert_eq!(class.to_string(), class.name());
        }
        assert_eq!(Class::named("Timeout"), None);
    }

    #[test]
    fn only_authentication_and_invalid_requests_stay_as_they_are() {
        let lasting = Class::ALL.into_iter().filter(|class| !class.is_transient());
        assert!(lasting.eq([Class::Authentication, Class::InvalidRequest]));
    }
}
