//! What is remembered of a request that must not be carried out twice.
//!
//! A key is absent, in progress under a lease, or completed with its answer. Whoever finds it absent, or
//! its lease over, becomes its holder and gets a token that is higher than any before; only the holder of
//! the highest token may complete or release it. Stores keep records; what follows from one is decided
//! here, by the store's own clock, so that it does not matter how far the clocks of two holders differ.

mod outcome;

use std::{fmt, time::Duration};

pub use self::outcome::KeyOutcome;

/// The record of a key, with an answer of type `A`.
///
/// Points in time are those of the store's clock, since 1970.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::{Begun, Fingerprint, IdempotencyRecord};
///
/// let (second, payload) = (Duration::from_secs, Fingerprint::new([7; 32]));
/// let (lease, keep) = (second(30), second(86_400));
///
/// // Nobody has it: the caller becomes the holder.
/// let (first, _) = IdempotencyRecord::<u16>::start(None, payload, second(100), lease);
/// // A second one meanwhile has to wait, or to come back.
/// let begun = first.begin(payload, second(110));
/// assert_eq!(begun, Begun::InProgress { left: second(20) });
///
/// // The holder went silent: after the lease another one takes over, with a higher token.
/// assert_eq!(first.begin(payload, second(130)), Begun::Free);
/// let (second_holder, token) =
///     IdempotencyRecord::start(Some(&first), payload, second(130), lease);
/// assert!(first.token() < token);
///
/// // Too late for the first.
/// assert!(second_holder.complete(first.token(), 201, second(140), keep).is_none());
/// let done = second_holder.complete(token, 201, second(140), keep).unwrap();
/// assert_eq!(done.begin(payload, second(150)), Begun::Completed(&201));
/// assert_eq!(done.begin(Fingerprint::new([8; 32]), second(150)), Begun::Mismatch);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdempotencyRecord<A> {
    fingerprint: Fingerprint,
    token: FencingToken,
    state: RecordState<A>,
}

/// How far a key has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecordState<A> {
    /// Somebody holds it, until then.
    InProgress {
        /// When the lease is over.
        until: Duration,
    },
    /// It was carried out.
    Completed {
        /// What came of it.
        answer: A,
        /// When it is forgotten.
        until: Duration,
    },
}

/// What a record means for a request that brings its key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Begun<A> {
    /// Nobody holds it, any more: [`start`](IdempotencyRecord::start).
    Free,
    /// Somebody holds it, for no longer than that unless the lease is renewed.
    InProgress {
        /// How much of the lease is left.
        left: Duration,
    },
    /// It was carried out, and this came of it.
    Completed(A),
    /// The key was used for another request.
    Mismatch,
}

/// A hash of what a key was used for: two requests with one key must have the same.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Fingerprint {
    bytes: [u8; 32],
}

/// Which holder of a key: each has a higher one than those before.
///
/// A resource that the holder writes to can refuse tokens below the highest that it has seen.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FencingToken(u64);

impl<A> IdempotencyRecord<A> {
    /// Puts a record together from what a store kept.
    pub const fn new(fingerprint: Fingerprint, token: FencingToken, state: RecordState<A>) -> Self {
        Self { fingerprint, token, state }
    }

    /// Begins to carry a request out: after `previous`, the record of the same key, if the store still has
    /// one.
    #[must_use]
    pub fn start(
        previous: Option<&Self>,
        fingerprint: Fingerprint,
        now: Duration,
        lease: Duration,
    ) -> (Self, FencingToken) {
        let token = FencingToken::next(previous.map(|record| record.token), now);
        let state = RecordState::InProgress { until: now.saturating_add(lease) };
        (Self { fingerprint, token, state }, token)
    }

    /// Returns what this record means for a request with that fingerprint at `now`.
    #[must_use]
    pub fn begin(&self, fingerprint: Fingerprint, now: Duration) -> Begun<&A> {
        match &self.state {
            RecordState::InProgress { until } | RecordState::Completed { until, .. }
                if *until <= now =>
            {
                Begun::Free
            }
            _ if self.fingerprint != fingerprint => Begun::Mismatch,
            RecordState::InProgress { until } => Begun::InProgress { left: *until - now },
            RecordState::Completed { answer, .. } => Begun::Completed(answer),
        }
    }

    /// Returns the record with a lease that begins anew at `now`; `None` if `token` does not hold it.
    ///
    /// A lease that is over can be renewed as long as nobody has taken over.
    #[must_use]
    pub fn renew(&self, token: FencingToken, now: Duration, lease: Duration) -> Option<Self>
    where
        A: Clone,
    {
        let until = now.saturating_add(lease);
        self.is_held_by(token)
            .then(|| Self { state: RecordState::InProgress { until }, ..self.clone() })
    }

    /// Returns the record with its answer, to be kept for `keep`; `None` if `token` does not hold it: it
    /// was taken over, completed or released.
    #[must_use]
    pub fn complete(
        &self,
        token: FencingToken,
        answer: A,
        now: Duration,
        keep: Duration,
    ) -> Option<Self> {
        let Self { fingerprint, .. } = *self;
        let until = now.saturating_add(keep);
        let state = RecordState::Completed { answer, until };
        self.is_held_by(token).then_some(Self { fingerprint, token, state })
    }

    /// Returns whether `token` is that of its holder, who may complete it or release it. What is completed
    /// is held by nobody.
    #[must_use]
    pub fn is_held_by(&self, token: FencingToken) -> bool {
        matches!(self.state, RecordState::InProgress { .. }) && self.token == token
    }

    /// Returns the fingerprint of the request that it began with.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the token of its last holder.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.token
    }

    /// Returns how far it has come.
    #[must_use]
    pub const fn state(&self) -> &RecordState<A> {
        &self.state
    }
}

impl<A> Begun<A> {
    /// Turns the answer into another.
    #[must_use]
    pub fn map<B>(self, change: impl FnOnce(A) -> B) -> Begun<B> {
        match self {
            Self::Free => Begun::Free,
            Self::InProgress { left } => Begun::InProgress { left },
            Self::Completed(answer) => Begun::Completed(change(answer)),
            Self::Mismatch => Begun::Mismatch,
        }
    }
}

impl Fingerprint {
    /// Creates a fingerprint from a hash.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self { bytes }
    }

    /// Returns the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl FencingToken {
    /// Returns the token of the holder after one with `previous`, at `now`: microseconds since 1970, or one
    /// more than the previous, whichever is higher. So tokens of one key grow even when its record was
    /// deleted meanwhile, as long as the store's clock does not go back by more than the record was gone.
    #[must_use]
    pub fn next(previous: Option<Self>, now: Duration) -> Self {
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        Self(previous.map_or(micros, |previous| micros.max(previous.0.saturating_add(1))))
    }

    /// Creates a token from a number that a store kept.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(")?;
        self.bytes[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
