//! What can go wrong when no status tells: the names that errors have everywhere.

use std::fmt;

use crate::{class::Class, evidence::Proof};

/// How an attempt failed, where it did not end in a response's status.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The host's name could not be resolved.
    Dns,
    /// The server's host refused the connection.
    ConnectionRefused,
    /// No connection could be made for another reason: no route, no free port.
    ConnectFailed,
    /// No connection was made in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// The server's certificate is not trusted.
    TlsCertificate,
    /// A pooled connection turned out to be dead before anything was written to it.
    StaleConnection,
    /// The server reset the connection.
    ConnectionReset,
    /// The server closed the connection before it answered.
    ConnectionClosed,
    /// The server refused the HTTP/2 stream without processing it.
    RefusedStream,
    /// The server went away without processing the HTTP/2 stream.
    Goaway,
    /// The server reset the HTTP/2 stream for another reason.
    StreamReset,
    /// No answer came in the time that an attempt has.
    AttemptTimeout,
    /// The answer's body ended too early.
    ResponseTruncated,
    /// The answer was not HTTP.
    Protocol,
    /// The caller's own body failed while it was being sent.
    RequestBody,
    /// The request cannot be sent: no host, a scheme that is not spoken.
    InvalidRequest,
    /// We refused the call ourselves.
    Rejected,
    /// The caller went away.
    Cancelled,
    /// Nothing of the above.
    Other,
}

/// A set of [`Fault`]s.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FaultSet {
    bits: u32,
}

impl Fault {
    /// Every fault, in the order of its index.
    pub const ALL: [Self; 20] = [
        Self::Dns,
        Self::ConnectionRefused,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::Tls,
        Self::TlsCertificate,
        Self::StaleConnection,
        Self::ConnectionReset,
        Self::ConnectionClosed,
        Self::RefusedStream,
        Self::Goaway,
        Self::StreamReset,
        Self::AttemptTimeout,
        Self::ResponseTruncated,
        Self::Protocol,
        Self::RequestBody,
        Self::InvalidRequest,
        Self::Rejected,
        Self::Cancelled,
        Self::Other,
    ];

    /// Returns the name used in reports, events and flags: `connection_refused`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns_error",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls_error",
            Self::TlsCertificate => "tls_certificate_error",
            Self::StaleConnection => "stale_connection",
            Self::ConnectionReset => "connection_reset",
            Self::ConnectionClosed => "connection_closed",
            Self::RefusedStream => "refused_stream",
            Self::Goaway => "goaway",
            Self::StreamReset => "stream_reset",
            Self::AttemptTimeout => "attempt_timeout",
            Self::ResponseTruncated => "response_truncated",
            Self::Protocol => "protocol_error",
            Self::RequestBody => "request_body_error",
            Self::InvalidRequest => "invalid_request",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }

    /// Returns the fault called `name`: by its own name, by a common short form, or by the name that
    /// RFC 9209 §2.3 gives to the same error.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let own = Self::ALL.into_iter().find(|fault| fault.name() == name);
        own.or(match name {
            "dns" | "dns_timeout" | "dns_failure" => Some(Self::Dns),
            "refused" | "connect_refused" | "connect_error" => Some(Self::ConnectionRefused),
            "connection_timeout" => Some(Self::ConnectTimeout),
            "destination_ip_unroutable" | "connect_failure" => Some(Self::ConnectFailed),
            "tls" | "tls_handshake" | "tls_protocol_error" | "tls_alert_received" => {
                Some(Self::Tls)
            }
            "certificate" | "tls_certificate" => Some(Self::TlsCertificate),
            "stale" => Some(Self::StaleConnection),
            "reset" | "connection_terminated" => Some(Self::ConnectionReset),
            "closed" | "eof" => Some(Self::ConnectionClosed),
            "timeout"
            | "connection_read_timeout"
            | "connection_write_timeout"
            | "http_response_timeout" => Some(Self::AttemptTimeout),
            "truncated" | "http_response_incomplete" => Some(Self::ResponseTruncated),
            "protocol" | "http_protocol_error" => Some(Self::Protocol),
            "canceled" => Some(Self::Cancelled),
            _ => None,
        })
    }

    /// Returns the class of the failure.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::ConnectTimeout | Self::AttemptTimeout => Class::Timeout,
            Self::TlsCertificate => Class::Authentication,
            Self::RequestBody | Self::InvalidRequest => Class::InvalidRequest,
            Self::Rejected | Self::Cancelled | Self::Other => Class::Other,
            Self::Dns
            | Self::ConnectionRefused
            | Self::ConnectFailed
            | Self::Tls
            | Self::StaleConnection
            | Self::ConnectionReset
            | Self::ConnectionClosed
            | Self::RefusedStream
            | Self::Goaway
            | Self::StreamReset
            | Self::ResponseTruncated
            | Self::Protocol => Class::Connection,
        }
    }

    /// Returns what the fault proves by itself, where a transport knows no more.
    #[must_use]
    pub const fn proof(self) -> Proof {
        match self {
            Self::Dns
            | Self::ConnectionRefused
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::Tls
            | Self::TlsCertificate => Proof::NoConnection,
            Self::StaleConnection | Self::InvalidRequest | Self::Rejected => Proof::NothingWritten,
            Self::RefusedStream => Proof::RefusedStream,
            Self::Goaway => Proof::Goaway,
            Self::ResponseTruncated => Proof::Answered,
            Self::ConnectionReset
            | Self::ConnectionClosed
            | Self::StreamReset
            | Self::AttemptTimeout
            | Self::Protocol
            | Self::RequestBody
            | Self::Cancelled
            | Self::Other => Proof::Sent,
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl FaultSet {
    /// What is worth another attempt unless a policy says otherwise: everything that happens to a
    /// connection. A certificate that is not trusted, a request that cannot be sent and the
    /// caller's own failures stay as they are.
    pub const TRANSIENT: Self = Self::of(&[
        Fault::Dns,
        Fault::ConnectionRefused,
        Fault::ConnectFailed,
        Fault::ConnectTimeout,
        Fault::Tls,
        Fault::StaleConnection,
        Fault::ConnectionReset,
        Fault::ConnectionClosed,
        Fault::RefusedStream,
        Fault::Goaway,
        Fault::StreamReset,
        Fault::AttemptTimeout,
        Fault::ResponseTruncated,
        Fault::Protocol,
    ]);

    /// Creates a set of `faults`.
    #[must_use]
    pub const fn of(faults: &[Fault]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < faults.len() {
            bits |= faults[i].bit();
            i += 1;
        }
        Self { bits }
    }

    /// Returns whether `fault` is in the set.
    #[must_use]
    pub const fn contains(self, fault: Fault) -> bool {
        self.bits & fault.bit() != 0
    }

    /// Returns both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Evidence;

    #[test]
    fn names_lead_back_to_the_fault() {
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, index);
            assert_eq!(Fault::named(fault.name()), Some(fault));
            assert_eq!(fault.to_string(), fault.name());
        }
        assert_eq!(Fault::named("nonsense"), None);
    }

    #[test]
    fn other_peoples_names_are_understood() {
        let table = [
            ("timeout", Fault::AttemptTimeout),
            ("dns", Fault::Dns),
            ("reset", Fault::ConnectionReset),
            ("connection_terminated", Fault::ConnectionReset),
            ("connection_timeout", Fault::ConnectTimeout),
            ("destination_ip_unroutable", Fault::ConnectFailed),
            ("tls", Fault::Tls),
            ("certificate", Fault::TlsCertificate),
            ("stale", Fault::StaleConnection),
            ("refused", Fault::ConnectionRefused),
            ("eof", Fault::ConnectionClosed),
            ("http_response_incomplete", Fault::ResponseTruncated),
            ("http_protocol_error", Fault::Protocol),
            ("canceled", Fault::Cancelled),
        ];
        for (name, fault) in table {
            assert_eq!(Fault::named(name), Some(fault), "{name}");
        }
    }

    #[test]
    fn what_never_left_is_known_and_what_may_have_arrived_is_too() {
        let evidence = |fault: Fault| fault.proof().evidence();
        assert_eq!(evidence(Fault::ConnectionRefused), Evidence::NeverSent);
        assert_eq!(evidence(Fault::Tls), Evidence::NeverSent);
        assert_eq!(evidence(Fault::StaleConnection), Evidence::NeverSent);
        assert_eq!(evidence(Fault::RefusedStream), Evidence::RejectedUnprocessed);
        assert_eq!(evidence(Fault::Goaway), Evidence::RejectedUnprocessed);
        assert_eq!(evidence(Fault::ConnectionReset), Evidence::MaybeApplied);
        assert_eq!(evidence(Fault::AttemptTimeout), Evidence::MaybeApplied);
        assert_eq!(evidence(Fault::ResponseTruncated), Evidence::Applied);
    }

    #[test]
    fn lasting_faults_are_not_in_the_transient_set() {
        let lasting = Fault::ALL.into_iter().filter(|fault| !FaultSet::TRANSIENT.contains(*fault));
        assert!(lasting.eq([
            Fault::TlsCertificate,
            Fault::RequestBody,
            Fault::InvalidRequest,
            Fault::Rejected,
            Fault::Cancelled,
            Fault::Other,
        ]));
        assert_eq!(Fault::AttemptTimeout.class(), Class::Timeout);
        assert_eq!(Fault::TlsCertificate.class(), Class::Authentication);
        assert_eq!(Fault::InvalidRequest.class(), Class::InvalidRequest);
        assert_eq!(Fault::Other.class(), Class::Other);
        assert_eq!(Fault::Dns.class(), Class::Connection);
    }

    #[test]
    fn sets_join() {
        let (dns, tls) = (FaultSet::of(&[Fault::Dns]), FaultSet::of(&[Fault::Tls]));
        let both = dns.union(tls);
        assert!(both.contains(Fault::Dns) && both.contains(Fault::Tls));
        assert!(!both.contains(Fault::Goaway) && !dns.contains(Fault::Tls));
        assert_eq!(both.union(dns), both);
    }
}
