//! Which failures a policy retries at all.

use std::fmt;

use crate::fault::{Fault, FaultSet};

/// The statuses and faults that are worth another attempt.
///
/// Being in here is necessary, never sufficient: evidence, idempotency, limits, budget and deadline
/// are asked as well.
///
/// # Examples
///
/// ```
/// use redial_core::{Fault, Triggers};
///
/// let triggers = Triggers::parse("connect, 429, gateway-error")?;
/// assert!(triggers.statuses.contains(503) && !triggers.statuses.contains(500));
/// assert!(triggers.faults.contains(Fault::ConnectionRefused));
/// assert!(!triggers.faults.contains(Fault::ConnectionReset));
/// # Ok::<(), redial_core::UnknownTrigger>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Triggers {
    /// The statuses.
    pub statuses: StatusSet,
    /// The faults.
    pub faults: FaultSet,
}

/// A set of HTTP statuses from 100 to 599.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct StatusSet {
    bits: [u64; 8],
}

/// A word that names no trigger.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownTrigger {
    /// The word.
    pub name: String,
}

impl Triggers {
    /// Nothing is retried.
    pub const NONE: Self = Self { statuses: StatusSet::EMPTY, faults: FaultSet::of(&[]) };

    /// What is retried unless a policy says otherwise: 408, 425, 429, every 5xx that is not
    /// lasting by definition, and [`FaultSet::TRANSIENT`].
    pub const DEFAULT: Self = Self {
        statuses: StatusSet::SERVER_ERRORS.with(408).with(425).with(429),
        faults: FaultSet::TRANSIENT,
    };

    /// The words that [`parse`](Self::parse) knows beside statuses and faults.
    pub const WORDS: [&'static str; 10] = [
        "default",
        "none",
        "connect",
        "reset",
        "timeout",
        "refused-stream",
        "truncated",
        "5xx",
        "gateway-error",
        "retriable-4xx",
    ];

    /// Reads a list of triggers, separated by commas: three-digit statuses, names of faults, and
    /// [`WORDS`](Self::WORDS). The list replaces the default; `default` in it brings the default
    /// back.
    ///
    /// # Errors
    ///
    /// Returns [`UnknownTrigger`] for the first word that is none of these.
    pub fn parse(list: &str) -> Result<Self, UnknownTrigger> {
        let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(Self::named).try_fold(Self::NONE, |sum, part| Ok(sum.union(part?)))
    }

    /// Returns what one word stands for.
    ///
    /// # Errors
    ///
    /// Returns [`UnknownTrigger`] when it stands for nothing.
    pub fn named(word: &str) -> Result<Self, UnknownTrigger> {
        let faults = |faults: &[Fault]| Ok(Self { faults: FaultSet::of(faults), ..Self::NONE });
        let statuses = |statuses| Ok(Self { statuses, ..Self::NONE });
        match word {
            "default" => Ok(Self::DEFAULT),
            "none" => Ok(Self::NONE),
            "connect" | "connect-failure" => faults(&[
                Fault::Dns,
                Fault::ConnectionRefused,
                Fault::ConnectFailed,
                Fault::ConnectTimeout,
                Fault::Tls,
                Fault::StaleConnection,
            ]),
            "reset" => faults(&[
                Fault::ConnectionReset,
                Fault::ConnectionClosed,
                Fault::StreamReset,
                Fault::StaleConnection,
                Fault::Protocol,
            ]),
            "timeout" => faults(&[Fault::AttemptTimeout, Fault::ConnectTimeout]),
            "refused-stream" => faults(&[Fault::RefusedStream, Fault::Goaway]),
            "truncated" => faults(&[Fault::ResponseTruncated]),
            "5xx" => statuses(StatusSet::SERVER_ERRORS),
            "gateway-error" => statuses(StatusSet::EMPTY.with(502).with(503).with(504)),
            "retriable-4xx" => statuses(StatusSet::EMPTY.with(409)),
            word => match (Fault::named(word), StatusSet::single(word)) {
                (Some(fault), _) => faults(&[fault]),
                (None, Some(status)) => statuses(status),
                (None, None) => Err(UnknownTrigger { name: word.to_owned() }),
            },
        }
    }

    const fn union(self, other: Self) -> Self {
        Self {
            statuses: self.statuses.union(other.statuses),
            faults: self.faults.union(other.faults),
        }
    }
}

impl Default for Triggers {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl StatusSet {
    /// No status.
    pub const EMPTY: Self = Self { bits: [0; 8] };

    /// Every 5xx but those that no repetition mends: 501 and 505 (RFC 9110 §15.6), 506 (RFC 2295),
    /// 507 and 508 (RFC 4918, RFC 5842), 510 (RFC 2774) and 511 (RFC 6585).
    pub const SERVER_ERRORS: Self = {
        let (mut set, mut status) = (Self::EMPTY, 500);
        while status < 600 {
            if !matches!(status, 501 | 505 | 506 | 507 | 508 | 510 | 511) {
                set = set.with(status);
            }
            status += 1;
        }
        set
    };

    /// Returns the set with `status` in it; one outside 100 to 599 changes nothing.
    #[must_use]
    pub const fn with(mut self, status: u16) -> Self {
        if let Some((word, bit)) = position(status) {
            self.bits[word] |= bit;
        }
        self
    }

    /// Returns whether `status` is in the set.
    #[must_use]
    pub const fn contains(&self, status: u16) -> bool {
        match position(status) {
            Some((word, bit)) => self.bits[word] & bit != 0,
            None => false,
        }
    }

    /// Returns the statuses, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        let set = *self;
        (LOWEST..HIGHEST).filter(move |status| set.contains(*status))
    }

    const fn union(mut self, other: Self) -> Self {
        let mut i = 0;
        while i < self.bits.len() {
            self.bits[i] |= other.bits[i];
            i += 1;
        }
        self
    }

    fn single(word: &str) -> Option<Self> {
        let is_status = word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit());
        let status = word.parse().ok().filter(|_| is_status)?;
        position(status).map(|_| Self::EMPTY.with(status))
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for UnknownTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = Triggers::WORDS.join(", ");
        write!(
            f,
            "`{}` is no trigger: give statuses from 100 to 599, names of errors, or {words}",
            self.name
        )
    }
}

impl std::error::Error for UnknownTrigger {}

const fn position(status: u16) -> Option<(usize, u64)> {
    if status < LOWEST || HIGHEST <= status {
        return None;
    }
    let offset = status - LOWEST;
    Some(((offset / 64) as usize, 1 << (offset % 64)))
}

const LOWEST: u16 = 100;
const HIGHEST: u16 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_retries_what_may_pass_and_nothing_else() {
        let statuses = Triggers::DEFAULT.statuses;
        for status in [408, 425, 429, 500, 502, 503, 504, 520, 529, 599] {
            assert!(statuses.contains(status), "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 409, 422, 501, 505, 507, 508, 511] {
            assert!(!statuses.contains(status), "{status}");
        }
        assert_eq!(Triggers::default(), Triggers::DEFAULT);
    }

    #[test]
    fn lists_add_up_and_replace_the_default() {
        let triggers = Triggers::parse(" 5xx , 429,timeout ").unwrap();
        assert!(triggers.statuses.contains(500) && triggers.statuses.contains(429));
        assert!(!triggers.statuses.contains(501) && !triggers.statuses.contains(408));
        assert!(triggers.faults.contains(Fault::AttemptTimeout));
        assert!(!triggers.faults.contains(Fault::Dns));

        let more = Triggers::parse("default,409").unwrap();
        assert!(more.statuses.contains(409) && more.statuses.contains(503));
        assert_eq!(Triggers::parse("").unwrap(), Triggers::NONE);
        assert_eq!(Triggers::parse("none").unwrap(), Triggers::NONE);
        assert_eq!(Triggers::parse("501").unwrap().statuses.iter().collect::<Vec<_>>(), [501]);
    }

    #[test]
    fn every_word_stands_for_something() {
        for word in Triggers::WORDS {
            let triggers = Triggers::named(word).unwrap();
            assert_eq!(triggers == Triggers::NONE, word == "none", "{word}");
        }
        let statuses = |word| Triggers::named(word).unwrap().statuses.iter().collect::<Vec<_>>();
        assert_eq!(statuses("gateway-error"), [502, 503, 504]);
        assert_eq!(statuses("retriable-4xx"), [409]);
        let faults = |word| Triggers::named(word).unwrap().faults;
        assert!(faults("connect").contains(Fault::Tls));
        assert_eq!(faults("connect"), faults("connect-failure"));
        assert!(faults("reset").contains(Fault::ConnectionClosed));
        assert!(faults("refused-stream").contains(Fault::Goaway));
        assert_eq!(faults("truncated"), FaultSet::of(&[Fault::ResponseTruncated]));
        assert_eq!(faults("dns_error"), FaultSet::of(&[Fault::Dns]));
    }

    #[test]
    fn words_that_stand_for_nothing_are_named() {
        for word in ["5 xx", "xxx", "99", "600", "0429", "+50", "default,4xx"] {
            let unknown = Triggers::parse(word).unwrap_err();
            let expected = word.split(',').next_back().unwrap();
            assert_eq!(unknown.name, expected);
            assert!(unknown.to_string().starts_with(&format!("`{expected}` is no trigger")));
        }
    }

    #[test]
    fn statuses_outside_the_range_are_never_in_a_set() {
        let set = StatusSet::EMPTY.with(99).with(600).with(100).with(599);
        assert_eq!(set.iter().collect::<Vec<_>>(), [100, 599]);
        assert_eq!(format!("{set:?}"), "{100, 599}");
        assert!(!set.contains(99) && !set.contains(600) && !set.contains(u16::MAX));
    }
}
