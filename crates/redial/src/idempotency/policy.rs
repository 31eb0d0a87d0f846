//! What a server does with keys.

use std::{fmt, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use thiserror::Error;

/// How a server treats requests with an idempotency key.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial::idempotency::{IdempotencyPolicy, Outage, Remember};
///
/// # fn main() -> Result<(), redial::idempotency::InvalidIdempotency> {
/// let policy = IdempotencyPolicy::default()
///     .lease(Duration::from_secs(10))?
///     .require_key()
///     .remember(Remember::Successes)
///     .outage(Outage::FailOpen);
/// assert!(policy.is_key_required() && policy.lease_span() == Duration::from_secs(10));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct IdempotencyPolicy {
    pub(super) methods: Arc<[Method]>,
    pub(super) is_required: bool,
    pub(super) lease: Duration,
    pub(super) keep: Duration,
    pub(super) wait: Duration,
    pub(super) store_timeout: Duration,
    pub(super) body_bytes_max: usize,
    pub(super) answer_bytes_max: usize,
    pub(super) remember: Remember,
    pub(super) outage: Outage,
    pub(super) abandoned: Abandoned,
}

/// Which answers are kept. After any other the key is free, and a repetition is carried out.
#[derive(Clone, Default)]
pub enum Remember {
    /// Every answer, whatever it says.
    Everything,
    /// Every answer but those that say that nothing was carried out and that it may be asked for again:
    /// 401, 403, 407, 408, 425, 429 and 503.
    #[default]
    Final,
    /// 2xx.
    Successes,
    /// Those whose status a function picks.
    When(Arc<dyn Fn(StatusCode) -> bool + Send + Sync>),
}

/// What becomes of a request while the store cannot be asked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Outage {
    /// It is refused with 503: better not at all than twice.
    #[default]
    FailClosed,
    /// It is carried out, protected by nothing: better twice than not at all. An event says so.
    FailOpen,
}

/// What becomes of an execution that nobody waits for any more: the client went away, or a timeout above
/// gave up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Abandoned {
    /// It goes on to its end, and its answer is kept for the repetition that will come.
    #[default]
    RunOn,
    /// It is dropped where it is, and the key is free. For work that takes itself back when it is dropped, as
    /// a transaction does.
    Cancel,
}

/// Why a policy cannot be.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidIdempotency {
    /// It could not be renewed in time, or would lock a key for too long.
    #[error("lease {0:?} is not between 100 ms and 1 h")]
    Lease(Duration),
    /// A duplicate would come too late at once.
    #[error("answers have to be kept for at least 1 s, not {0:?}")]
    Keep(Duration),
    /// No store answers in no time.
    #[error("the store needs more time than 0 s")]
    StoreTimeout,
}

impl IdempotencyPolicy {
    /// Sets for which methods a key counts; on others it is not looked at. `POST` and `PATCH` unless set.
    #[must_use]
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        Self { methods: methods.into_iter().collect(), ..self }
    }

    /// Answers requests of these methods that have no key with 400. Without this they pass, unprotected.
    #[must_use]
    pub fn require_key(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// Sets how long a holder that went silent keeps others out. It is renewed at each third of its length
    /// while the request is carried out. 30 s unless set.
    ///
    /// # Errors
    ///
    /// If it is not between 100 ms and 1 h.
    pub fn lease(self, lease: Duration) -> Result<Self, InvalidIdempotency> {
        if !(LEASE_MIN..=LEASE_MAX).contains(&lease) {
            return Err(InvalidIdempotency::Lease(lease));
        }
        Ok(Self { lease, ..self })
    }

    /// Sets how long answers are kept. 24 h unless set.
    ///
    /// # Errors
    ///
    /// If it is shorter than 1 s.
    pub fn keep(self, keep: Duration) -> Result<Self, InvalidIdempotency> {
        if keep < KEEP_MIN {
            return Err(InvalidIdempotency::Keep(keep));
        }
        Ok(Self { keep, ..self })
    }

    /// Sets how long a duplicate waits for the first to end before it gets 409; zero for not at all. 2 s
    /// unless set.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Sets how long the store may take for one operation. 2 s unless set.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn store_timeout(self, store_timeout: Duration) -> Result<Self, InvalidIdempotency> {
        if store_timeout.is_zero() {
            return Err(InvalidIdempotency::StoreTimeout);
        }
        Ok(Self { store_timeout, ..self })
    }

    /// Sets how many bytes the body of a request with a key may have; a longer one gets 413. It is held in
    /// memory to be compared. 1 MiB unless set.
    #[must_use]
    pub fn body_bytes_max(self, body_bytes_max: usize) -> Self {
        Self { body_bytes_max, ..self }
    }

    /// Sets how many bytes of an answer's body are kept. What is longer goes to the first, and duplicates
    /// learn that the request was carried out. 256 KiB unless set.
    #[must_use]
    pub fn answer_bytes_max(self, answer_bytes_max: usize) -> Self {
        Self { answer_bytes_max, ..self }
    }

    /// Sets which answers are kept. [`Remember::Final`] unless set.
    #[must_use]
    pub fn remember(self, remember: Remember) -> Self {
        Self { remember, ..self }
    }

    /// Sets what is done while the store cannot be asked. [`Outage::FailClosed`] unless set.
    #[must_use]
    pub fn outage(self, outage: Outage) -> Self {
        Self { outage, ..self }
    }

    /// Sets what becomes of executions that nobody waits for. [`Abandoned::RunOn`] unless set.
    #[must_use]
    pub fn abandoned(self, abandoned: Abandoned) -> Self {
        Self { abandoned, ..self }
    }

    /// Returns whether a key has to be there.
    #[must_use]
    pub const fn is_key_required(&self) -> bool {
        self.is_required
    }

    /// Returns how long a lease is.
    #[must_use]
    pub const fn lease_span(&self) -> Duration {
        self.lease
    }
}

impl Default for IdempotencyPolicy {
    /// 24 h is what Stripe's API v1 promises at least; 2 s spare a client that retries at once its second
    /// round; a third of 30 s is a pause that a busy process does not exceed.
    fn default() -> Self {
        Self {
            methods: [Method::POST, Method::PATCH].into(),
            is_required: false,
            lease: Duration::from_secs(30),
            keep: Duration::from_secs(24 * 60 * 60),
            wait: Duration::from_secs(2),
            store_timeout: Duration::from_secs(2),
            body_bytes_max: 1024 * 1024,
            answer_bytes_max: 256 * 1024,
            remember: Remember::Final,
            outage: Outage::FailClosed,
            abandoned: Abandoned::RunOn,
        }
    }
}

impl Remember {
    /// Returns whether an answer with this status is kept.
    #[must_use]
    pub fn includes(&self, status: StatusCode) -> bool {
        match self {
            Self::Everything => true,
            Self::Final => !NOT_CARRIED_OUT.contains(&status.as_u16()),
            Self::Successes => status.is_success(),
            Self::When(pick) => pick(status),
        }
    }
}

impl fmt::Debug for Remember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Everything => "Everything",
            Self::Final => "Final",
            Self::Successes => "Successes",
            Self::When(_) => "When(..)",
        })
    }
}

const LEASE_MIN: Duration = Duration::from_millis(100);
const LEASE_MAX: Duration = Duration::from_secs(60 * 60);
const KEEP_MIN: Duration = Duration::from_secs(1);
/// Who may not, who is too early, who is too many, who was not served.
const NOT_CARRIED_OUT: [u16; 7] = [401, 403, 407, 408, 425, 429, 503];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_its_rule() {
        let (policy, millis) = (IdempotencyPolicy::default(), Duration::from_millis);
        let short = policy.clone().lease(millis(99)).unwrap_err();
        assert_eq!(short.to_string(), "lease 99ms is not between 100 ms and 1 h");
        assert!(policy.clone().lease(Duration::from_secs(3_601)).is_err());
        let keep = policy.clone().keep(millis(1)).unwrap_err();
        assert_eq!(keep.to_string(), "answers have to be kept for at least 1 s, not 1ms");
        assert!(policy.store_timeout(Duration::ZERO).is_err());
    }

    #[test]
    fn what_is_remembered() {
        let kept = |remember: &Remember| {
            let codes = [200, 201, 302, 400, 403, 404, 409, 429, 500, 503];
            let codes = codes
                .into_iter()
                .filter(|code| remember.includes(StatusCode::from_u16(*code).unwrap()));
            codes.collect::<Vec<u16>>()
        };
        assert_eq!(kept(&Remember::Everything).len(), 10);
        assert_eq!(kept(&Remember::Final), [200, 201, 302, 400, 404, 409, 500]);
        assert_eq!(kept(&Remember::Successes), [200, 201]);
        let only = Remember::When(Arc::new(|status| status == StatusCode::NOT_FOUND));
        assert_eq!(kept(&only), [404]);
    }
}
