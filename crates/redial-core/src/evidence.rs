//! What is known about the server having acted on a request that failed.
//!
//! Whether repeating a request can do harm depends on this alone: a `POST` that never left may be
//! sent again, one that was read in full and then lost may not. A [`Proof`] says *how* it is known;
//! the [`Evidence`] follows from it.

use std::fmt;

/// What is known about the server having acted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Evidence {
    /// Not one byte of the request reached the server.
    NeverSent,
    /// The server got the request, or a part of it, and said that it did not process it.
    RejectedUnprocessed,
    /// Nobody on this side can tell.
    MaybeApplied,
    /// The server processed the request: its answer had begun to arrive.
    Applied,
}

/// How the evidence is known.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Proof {
    /// No connection came to be: name resolution, connecting or the TLS handshake failed.
    NoConnection,
    /// A connection was there, and zero bytes of this request were written to it.
    NothingWritten,
    /// The server reset the stream with `REFUSED_STREAM` (RFC 9113 §8.7).
    RefusedStream,
    /// The server's `GOAWAY` named a last stream below this one (RFC 9113 §6.8).
    Goaway,
    /// The status says by definition, or the policy takes it to say, that nothing was processed.
    RejectedByStatus(u16),
    /// A trusted proxy says that the origin never saw the request (RFC 9209).
    ProxyStatus,
    /// The status does not tell whether the request was processed.
    UnclearStatus(u16),
    /// Bytes of the request were written and no answer came.
    Sent,
    /// An answer had begun to arrive.
    Answered,
    /// Somebody said so: a flag, a test, a caller.
    Stated(Evidence),
}

impl Evidence {
    /// Every kind of evidence, from harmless to certain.
    pub const ALL: [Self; 4] =
        [Self::NeverSent, Self::RejectedUnprocessed, Self::MaybeApplied, Self::Applied];

    /// Returns whether the server provably did not act, so that any request may be repeated.
    #[must_use]
    pub const fn is_unapplied(self) -> bool {
        matches!(self, Self::NeverSent | Self::RejectedUnprocessed)
    }

    /// Returns the name used in reports, events and files: `never_sent`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverSent => "never_sent",
            Self::RejectedUnprocessed => "rejected_unprocessed",
            Self::MaybeApplied => "maybe_applied",
            Self::Applied => "applied",
        }
    }

    /// Returns the evidence called `name`, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|evidence| evidence.name() == name)
    }
}

impl Proof {
    /// Returns what follows from this proof.
    #[must_use]
    pub const fn evidence(self) -> Evidence {
        match self {
            Self::NoConnection | Self::NothingWritten => Evidence::NeverSent,
            Self::RefusedStream | Self::Goaway | Self::RejectedByStatus(_) | Self::ProxyStatus => {
                Evidence::RejectedUnprocessed
            }
            Self::UnclearStatus(_) | Self::Sent => Evidence::MaybeApplied,
            Self::Answered => Evidence::Applied,
            Self::Stated(evidence) => evidence,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection => f.write_str("no connection was made, so nothing was sent"),
            Self::NothingWritten => f.write_str("no byte of the request was written"),
            Self::RefusedStream => {
                f.write_str("REFUSED_STREAM: the server did not process it (RFC 9113 §8.7)")
            }
            Self::Goaway => {
                f.write_str("GOAWAY below this stream: it was not processed (RFC 9113 §6.8)")
            }
            Self::RejectedByStatus(status) => {
                write!(f, "status {status} is taken to mean refused before processing")
            }
            Self::ProxyStatus => {
                f.write_str("a trusted Proxy-Status says the origin never saw it (RFC 9209 §2.3)")
            }
            Self::UnclearStatus(status) => {
                write!(f, "status {status} does not tell whether the request was processed")
            }
            Self::Sent => f.write_str("bytes were sent and no answer came"),
            Self::Answered => f.write_str("the answer had begun to arrive"),
            Self::Stated(evidence) => write!(f, "stated to be {evidence}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_two_kinds_prove_that_nothing_happened() {
        let unapplied = Evidence::ALL.map(Evidence::is_unapplied);
        assert_eq!(unapplied, [true, true, false, false]);
    }

    #[test]
    fn names_lead_back_to_the_evidence() {
        for evidence in Evidence::ALL {
            assert_eq!(Evidence::named(evidence.name()), Some(evidence));
            assert_eq!(evidence.to_string(), evidence.name());
            assert_eq!(Proof::Stated(evidence).evidence(), evidence);
        }
        assert_eq!(Evidence::named("NeverSent"), None);
    }

    #[test]
    fn every_proof_has_its_evidence_and_its_words() {
        let table = [
            (Proof::NoConnection, Evidence::NeverSent, "no connection was made"),
            (Proof::NothingWritten, Evidence::NeverSent, "no byte"),
            (Proof::RefusedStream, Evidence::RejectedUnprocessed, "REFUSED_STREAM"),
            (Proof::Goaway, Evidence::RejectedUnprocessed, "GOAWAY"),
            (Proof::RejectedByStatus(429), Evidence::RejectedUnprocessed, "status 429"),
            (Proof::ProxyStatus, Evidence::RejectedUnprocessed, "Proxy-Status"),
            (Proof::UnclearStatus(503), Evidence::MaybeApplied, "status 503 does not tell"),
            (Proof::Sent, Evidence::MaybeApplied, "no answer came"),
            (Proof::Answered, Evidence::Applied, "begun to arrive"),
            (Proof::Stated(Evidence::NeverSent), Evidence::NeverSent, "stated to be never_sent"),
        ];
        for (proof, evidence, words) in table {
            assert_eq!(proof.evidence(), evidence, "{proof}");
            assert!(proof.to_string().contains(words), "{proof}");
        }
    }
}
