//! What a cache may keep, and for how long after it went stale.
//!
//! Only figures: the rules of HTTP (RFC 9111, RFC 5861) are applied where heads of messages are known,
//! and they are stricter than anything that stands here. What a server forbids stays forbidden.

use std::{fmt, time::Duration};

/// What a cache may do: keep answers, and let calls that ask for the same share one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::CachePolicy;
///
/// let policy = CachePolicy::default().with_stale_if_error(Duration::from_secs(600))?;
/// assert_eq!(policy.stale_if_error(), Duration::from_secs(600));
/// assert!(policy.is_coalescing() && policy.is_storing());
/// # Ok::<(), redial_core::InvalidCache>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CachePolicy {
    bytes_max: u64,
    body_bytes_max: u32,
    stale_if_error: Duration,
    stale_while_revalidate: Duration,
    is_storing: bool,
    is_coalescing: bool,
    wait_max: Duration,
}

/// What a cache had to do with an answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CacheOutcome {
    /// It was stored and fresh; nothing was sent.
    Hit,
    /// It was not stored, and has now been fetched.
    Miss,
    /// It was stored, and the upstream has just said that it is still right.
    Revalidated,
    /// It was stored and stale, and the request or the server accepts that; nothing was sent.
    Stale,
    /// It was stored and stale; it is fetched anew in the background.
    StaleWhileRevalidate,
    /// It was stored and stale, and the call that should have renewed it failed.
    StaleIfError,
    /// Another call that asked for the same at the same time brought it.
    Coalesced,
    /// Nothing usable was stored, and the request forbade to ask the upstream: a 504 of ours.
    OnlyIfCached,
}

/// The values given contradict each other, or are out of range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidCache {
    /// The cache's size is not within 64 KiB to 1 TiB.
    Bytes(u64),
    /// The longest body that is kept is not within 1 byte to 256 MiB.
    BodyBytes(u32),
    /// The longest body that is kept does not fit into the cache.
    BodyAboveCache {
        /// The longest body.
        body_bytes_max: u32,
        /// The cache's size.
        bytes_max: u64,
    },
    /// Stale answers would have to be kept by a cache that keeps nothing.
    StaleWithoutStoring,
    /// The cache neither keeps answers nor lets calls share them.
    Idle,
    /// A span is longer than 68 years, which is what HTTP can say.
    Span(Duration),
    /// The longest wait for another call is not within 1 ms to 1 h.
    Wait(Duration),
}

impl CachePolicy {
    /// Creates a policy that keeps nothing: calls that ask for the same at the same time share one.
    #[must_use]
    pub const fn coalesce_only() -> Self {
        Self { is_storing: false, ..Self::DEFAULT }
    }

    /// Bounds what is stored, in bytes: bodies, heads, keys, and what it takes to manage them.
    ///
    /// Within 64 KiB to 1 TiB. 64 MiB unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidCache`] when it is out of range or below the longest body.
    pub const fn with_bytes_max(self, bytes_max: u64) -> Result<Self, InvalidCache> {
        if bytes_max < 64 * KIB || 1_024 * 1_024 * 1_024 * KIB < bytes_max {
            return Err(InvalidCache::Bytes(bytes_max));
        }
        Self { bytes_max, ..self }.checked()
    }

    /// Bounds the body of an answer that is stored or shared; longer ones pass through untouched.
    ///
    /// Within 1 byte to 256 MiB. 1 MiB unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidCache`] when it is out of range or above the cache's size.
    pub const fn with_body_bytes_max(self, body_bytes_max: u32) -> Result<Self, InvalidCache> {
        if body_bytes_max == 0 || 256 * 1_024 * 1_024 < body_bytes_max {
            return Err(InvalidCache::BodyBytes(body_bytes_max));
        }
        Self { body_bytes_max, ..self }.checked()
    }

    /// Lets answers whose server says nothing about it (`stale-if-error`, RFC 5861 §4) stand in for
    /// failures for this long after they went stale.
    ///
    /// Zero, the default, means not at all. Answers that say nothing about their freshness either are
    /// stale from the start, and are kept for this purpose alone.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidCache`] above 68 years, or where nothing is stored.
    pub const fn with_stale_if_error(self, span: Duration) -> Result<Self, InvalidCache> {
        if SPAN_MAX.as_secs() < span.as_secs() {
            return Err(InvalidCache::Span(span));
        }
        Self { stale_if_error: span, ..self }.checked()
    }

    /// Lets answers whose server says nothing about it (`stale-while-revalidate`, RFC 5861 §3) be given
    /// out for this long after they went stale, while they are fetched anew in the background.
    ///
    /// Zero, the default, means not at all.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidCache`] above 68 years, or where nothing is stored.
    pub const fn with_stale_while_revalidate(self, span: Duration) -> Result<Self, InvalidCache> {
        if SPAN_MAX.as_secs() < span.as_secs() {
            return Err(InvalidCache::Span(span));
        }
        Self { stale_while_revalidate: span, ..self }.checked()
    }

    /// Sets whether answers are kept. They are unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidCache`] when nothing is left to do, or stale answers were asked for.
    pub const fn with_storing(self, is_storing: bool) -> Result<Self, InvalidCache> {
        Self { is_storing, ..self }.checked()
    }

    /// Sets whether calls that ask for the same at the same time share one. They do unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidCache`] when nothing is left to do.
    pub const fn with_coalescing(self, is_coalescing: bool) -> Result<Self, InvalidCache> {
        Self { is_coalescing, ..self }.checked()
    }

    /// Bounds how long a call waits for another that asks for the same. Then it goes its own way.
    ///
    /// Within 1 ms to 1 h. 5 s unless set.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidCache::Wait`] when it is out of range.
    pub const fn with_wait_max(self, wait_max: Duration) -> Result<Self, InvalidCache> {
        if wait_max.as_millis() == 0 || HOUR_NANOS < wait_max.as_nanos() {
            return Err(InvalidCache::Wait(wait_max));
        }
        Ok(Self { wait_max, ..self })
    }

    /// Returns how many bytes are stored at most.
    #[must_use]
    pub const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Returns the longest body that is stored or shared, in bytes.
    #[must_use]
    pub const fn body_bytes_max(&self) -> u32 {
        self.body_bytes_max
    }

    /// Returns for how long a stale answer stands in for failures, where its server says nothing.
    #[must_use]
    pub const fn stale_if_error(&self) -> Duration {
        self.stale_if_error
    }

    /// Returns for how long a stale answer is given out while it is fetched anew, where its server
    /// says nothing.
    #[must_use]
    pub const fn stale_while_revalidate(&self) -> Duration {
        self.stale_while_revalidate
    }

    /// Returns whether answers are kept.
    #[must_use]
    pub const fn is_storing(&self) -> bool {
        self.is_storing
    }

    /// Returns whether calls that ask for the same at the same time share one.
    #[must_use]
    pub const fn is_coalescing(&self) -> bool {
        self.is_coalescing
    }

    /// Returns how long a call waits for another that asks for the same.
    #[must_use]
    pub const fn wait_max(&self) -> Duration {
        self.wait_max
    }

    const fn checked(self) -> Result<Self, InvalidCache> {
        let Self { bytes_max, body_bytes_max, is_storing, is_coalescing, .. } = self;
        let needs_storing =
            !self.stale_if_error.is_zero() || !self.stale_while_revalidate.is_zero();
        if !is_storing && !is_coalescing {
            return Err(InvalidCache::Idle);
        }
        if !is_storing && needs_storing {
            return Err(InvalidCache::StaleWithoutStoring);
        }
        if bytes_max < body_bytes_max as u64 {
            return Err(InvalidCache::BodyAboveCache { body_bytes_max, bytes_max });
        }
        Ok(self)
    }

    const DEFAULT: Self = Self {
        bytes_max: 64 * 1_024 * KIB,
        body_bytes_max: 1_024 * 1_024,
        stale_if_error: Duration::ZERO,
        stale_while_revalidate: Duration::ZERO,
        is_storing: true,
        is_coalescing: true,
        wait_max: Duration::from_secs(5),
    };
}

impl Default for CachePolicy {
    /// 64 MiB in all and 1 MiB a body: small beside a service, and more than most API answers need (a
    /// judgment of ours); nothing stale without the server's word (RFC 9111 §4.2.4); calls share, and
    /// wait 5 s for one another (nginx's `proxy_cache_lock_timeout`).
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl CacheOutcome {
    /// Every outcome.
    pub const ALL: [Self; 8] = [
        Self::Hit,
        Self::Miss,
        Self::Revalidated,
        Self::Stale,
        Self::StaleWhileRevalidate,
        Self::StaleIfError,
        Self::Coalesced,
        Self::OnlyIfCached,
    ];

    /// Returns the name used in logs and counters: `hit`, `miss`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Revalidated => "revalidated",
            Self::Stale => "stale",
            Self::StaleWhileRevalidate => "stale_while_revalidate",
            Self::StaleIfError => "stale_if_error",
            Self::Coalesced => "coalesced",
            Self::OnlyIfCached => "only_if_cached",
        }
    }

    /// Returns whether the answer covered up a failure of the upstream.
    #[must_use]
    pub const fn hides_failure(self) -> bool {
        matches!(self, Self::StaleIfError)
    }
}

impl fmt::Display for CacheOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for InvalidCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "cache of {bytes} bytes is not within 64KiB to 1TiB"),
            Self::BodyBytes(bytes) => {
                write!(f, "longest cached body of {bytes} bytes is not within 1B to 256MiB")
            }
            Self::BodyAboveCache { body_bytes_max, bytes_max } => {
                write!(f, "a body of {body_bytes_max} bytes does not fit a cache of {bytes_max}")
            }
            Self::StaleWithoutStoring => {
                f.write_str("stale answers need a cache that stores, and this one does not")
            }
            Self::Idle => f.write_str("a cache must store answers or let calls share them"),
            Self::Span(span) => write!(f, "span {span:?} is above 2147483648s"),
            Self::Wait(wait) => write!(f, "wait {wait:?} is not within 1ms to 1h"),
        }
    }
}

impl std::error::Error for InvalidCache {}

const KIB: u64 = 1_024;

/// 2^31 s: what a cache takes for "as long as can be" (RFC 9111 §1.2.2).
const HOUR_NANOS: u128 = 3_600_000_000_000;
const SPAN_MAX: Duration = Duration::from_secs(1 << 31);

#[cfg(test)]
mod tests;
