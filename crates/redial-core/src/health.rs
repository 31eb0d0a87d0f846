//! What an outcome says about the upstream, as breakers, limits and throttles see it.

use std::time::Duration;

/// What one attempt says about the upstream's health.
///
/// Narrower than a [`Verdict`](crate::Verdict): a 404 is a failure for the caller and says that the
/// upstream is well.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Health {
    /// It did its work: any answer that is the caller's business, errors of the caller included.
    Well,
    /// It failed: 5xx, a reset, an answer that breaks off.
    Failed,
    /// It cannot keep up: 429, 503, no answer in time.
    Overloaded,
    /// Nothing can be told: we refused it ourselves, the caller left or sent what cannot be sent.
    Unknown,
}

/// What one attempt says about the upstream, and what the upstream asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Assessment {
    /// What it says about the upstream's health.
    pub health: Health,
    /// How long the upstream asked to be left alone, where it did.
    pub pushback: Option<Duration>,
}

impl Health {
    /// Returns whether the upstream failed, or could not keep up.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Overloaded)
    }

    /// Returns the name used in reports and events: `well`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Failed => "failed",
            Self::Overloaded => "overloaded",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Health> for Assessment {
    fn from(health: Health) -> Self {
        Self { health, pushback: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_and_falling_behind_count_as_failures_and_nothing_else_does() {
        let all = [Health::Well, Health::Failed, Health::Overloaded, Health::Unknown];
        assert_eq!(all.map(Health::is_failure), [false, true, true, false]);
        assert_eq!(all.map(Health::name), ["well", "failed", "overloaded", "unknown"]);
        assert_eq!(Assessment::from(Health::Well).pushback, None);
    }
}
