//! What came of a request with a key, as data for an event.

/// What a server did with a request that brought an idempotency key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeyOutcome {
    /// It was carried out, and its answer is stored.
    Executed,
    /// It was carried out, and the key is free again: its answer is not one that is kept.
    Released,
    /// It got the stored answer of the first.
    Replayed,
    /// The first is still being carried out.
    InProgress,
    /// The key was used for another request.
    Mismatch,
    /// The key is missing where one is required, or is none.
    Unusable,
    /// It was carried out, but somebody else held its key by then: its answer is not stored.
    LeaseLost,
    /// It was carried out, but the store did not take its answer.
    NotStored,
    /// The store could not be asked, and it was refused.
    Refused,
    /// The store could not be asked, and it was carried out all the same, protected by nothing.
    Unprotected,
}

impl KeyOutcome {
    /// Returns the name used in reports and events: `executed`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Released => "released",
            Self::Replayed => "replayed",
            Self::InProgress => "in_progress",
            Self::Mismatch => "mismatch",
            Self::Unusable => "unusable",
            Self::LeaseLost => "lease_lost",
            Self::NotStored => "not_stored",
            Self::Refused => "refused",
            Self::Unprotected => "unprotected",
        }
    }

    /// Returns whether the store or a lease failed, which an operator should see.
    #[must_use]
    pub const fn is_trouble(self) -> bool {
        matches!(self, Self::LeaseLost | Self::NotStored | Self::Refused | Self::Unprotected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_should_see_is_told_apart_from_the_daily_run() {
        for outcome in [KeyOutcome::LeaseLost, KeyOutcome::NotStored, KeyOutcome::Unprotected] {
            assert!(outcome.is_trouble(), "{}", outcome.name());
        }
        for outcome in [KeyOutcome::Executed, KeyOutcome::Replayed, KeyOutcome::InProgress] {
            assert!(!outcome.is_trouble(), "{}", outcome.name());
        }
    }
}
