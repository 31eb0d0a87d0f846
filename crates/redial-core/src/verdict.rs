//! What an attempt's outcome means.

use std::fmt;

use crate::{class::Class, evidence::Evidence, evidence::Proof, pushback::Pushback};

/// What one attempt's outcome means for the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The attempt did what was asked.
    Success,
    /// Another attempt may succeed.
    Transient(Class),
    /// The server asked for fewer requests; another attempt may succeed later.
    Throttled,
    /// Another attempt would fail alike, or could do harm.
    Permanent(Class),
}

/// Why repeating a request is harmless even when the server may have acted, if it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Idempotency {
    /// It is not: acting twice is not the same as acting once.
    #[default]
    None,
    /// The method is safe: it asks for nothing to change (RFC 9110 §9.2.1).
    Safe,
    /// The method is idempotent: once and twice are the same (RFC 9110 §9.2.2).
    Method,
    /// The request carries an idempotency key, the same on every attempt.
    Key,
    /// The policy declares requests of this route to be idempotent.
    Declared,
}

/// All that was read from one attempt's outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reading {
    /// What the outcome means.
    pub verdict: Verdict,
    /// What is known about the server having acted; `None` when nothing failed.
    pub proof: Option<Proof>,
    /// The wait that the server asked for, if it named one.
    pub pushback: Option<Pushback>,
    /// One immediate repetition is called for, once a call, whatever the verdict: a refused
    /// stream, a misdirected request, a refused expectation.
    pub at_once: bool,
}

impl Verdict {
    /// Returns the class of the failure; `None` for a success.
    #[must_use]
    pub const fn class(self) -> Option<Class> {
        match self {
            Self::Success => None,
            Self::Transient(class) | Self::Permanent(class) => Some(class),
            Self::Throttled => Some(Class::Throttled),
        }
    }

    /// Returns the name used in reports and events: `success`, `transient`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Transient(_) => "transient",
            Self::Throttled => "throttled",
            Self::Permanent(_) => "permanent",
        }
    }

    /// Returns the verdict on a failure of `class`: throttled, or transient.
    #[must_use]
    pub const fn transient(class: Class) -> Self {
        match class {
            Class::Throttled => Self::Throttled,
            class => Self::Transient(class),
        }
    }
}

impl Idempotency {
    /// Returns whether acting twice is as good as acting once.
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Self::None)
    }
}

impl Reading {
    /// A success.
    pub const SUCCESS: Self = Self::new(Verdict::Success);

    /// Creates a reading of `verdict` alone: without proof, pushback or immediate repetition.
    #[must_use]
    pub const fn new(verdict: Verdict) -> Self {
        Self { verdict, proof: None, pushback: None, at_once: false }
    }

    /// Sets how it is known what the server did.
    #[must_use]
    pub const fn proof(self, proof: Proof) -> Self {
        Self { proof: Some(proof), ..self }
    }

    /// Sets what the server asked for.
    #[must_use]
    pub const fn pushback(self, pushback: Option<Pushback>) -> Self {
        Self { pushback, ..self }
    }

    /// Calls for one immediate repetition.
    #[must_use]
    pub const fn at_once(self) -> Self {
        Self { at_once: true, ..self }
    }

    /// Returns what is known about the server having acted: by the proof, and without one
    /// [`Evidence::MaybeApplied`], because ignorance is no proof.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        self.proof.map_or(Evidence::MaybeApplied, Proof::evidence)
    }
}

impl fmt::Display for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "the request is not idempotent",
            Self::Safe => "the method is safe",
            Self::Method => "the method is idempotent",
            Self::Key => "the request carries an idempotency key",
            Self::Declared => "the policy declares the request idempotent",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_proof_a_failure_may_have_been_applied() {
        assert_eq!(Reading::new(Verdict::Throttled).evidence(), Evidence::MaybeApplied);
        let sent = Reading::new(Verdict::Throttled).proof(Proof::NothingWritten);
        assert_eq!(sent.evidence(), Evidence::NeverSent);
    }

    #[test]
    fn verdicts_name_themselves_and_their_class() {
        let table = [
            (Verdict::Success, "success", None),
            (Verdict::Transient(Class::Server), "transient", Some(Class::Server)),
            (Verdict::Throttled, "throttled", Some(Class::Throttled)),
            (Verdict::Permanent(Class::Other), "permanent", Some(Class::Other)),
        ];
        for (verdict, name, class) in table {
            assert_eq!((verdict.name(), verdict.class()), (name, class));
        }
        assert_eq!(Verdict::transient(Class::Throttled), Verdict::Throttled);
        assert_eq!(Verdict::transient(Class::Server), Verdict::Transient(Class::Server));
    }

    #[test]
    fn idempotency_of_any_kind_says_why() {
        let table = [
            (Idempotency::None, false, "not idempotent"),
            (Idempotency::Safe, true, "safe"),
            (Idempotency::Method, true, "method is idempotent"),
            (Idempotency::Key, true, "key"),
            (Idempotency::Declared, true, "declares"),
        ];
        for (idempotency, is_idempotent, words) in table {
            assert_eq!(idempotency.is_idempotent(), is_idempotent);
            assert!(idempotency.to_string().contains(words));
        }
    }
}
