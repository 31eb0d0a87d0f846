//! The upstream's own wish: `Retry-After`, `grpc-retry-pushback-ms`, `RateLimit` fields.
//!
//! It replaces our own backoff and is never undercut: jitter only adds (R36), because clients that
//! were told the same moment would otherwise all return at it. A wish beyond the cap is not
//! shortened either; the call ends and shows it to the caller.

use std::{fmt, time::Duration};

/// How long the upstream asked us to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pushback {
    /// At least this long; some jitter is added.
    AtLeast(Duration),
    /// Exactly this long, then the backoff starts over (gRFC A6).
    Exactly(Duration),
}

/// What is made of the upstream's wishes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PushbackPolicy {
    is_honored: bool,
    max: Duration,
    jitter: f64,
}

/// The share given for the jitter is not within `0 <= share <= 1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvalidPushback {
    jitter: f64,
}

impl Pushback {
    /// Returns the wait asked for.
    #[must_use]
    pub const fn wait(self) -> Duration {
        match self {
            Self::AtLeast(wait) | Self::Exactly(wait) => wait,
        }
    }
}

impl PushbackPolicy {
    /// Creates a policy that gives up on wishes above `max`, and adds uniform jitter of up to
    /// `jitter` times the wish.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidPushback`] unless `0 <= jitter <= 1`.
    pub fn new(max: Duration, jitter: f64) -> Result<Self, InvalidPushback> {
        if !(0.0..=1.0).contains(&jitter) {
            return Err(InvalidPushback { jitter });
        }
        Ok(Self { is_honored: true, max, jitter })
    }

    /// Creates a policy that does not look at wishes: own backoff always.
    #[must_use]
    pub fn ignored() -> Self {
        Self { is_honored: false, ..Self::default() }
    }

    /// Returns whether wishes count at all.
    #[must_use]
    pub const fn is_honored(&self) -> bool {
        self.is_honored
    }

    /// Returns the longest wish that is waited for.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// Returns the share of a wish that jitter may add.
    #[must_use]
    pub const fn jitter(&self) -> f64 {
        self.jitter
    }

    /// Returns the wish, where there is one that counts. A wish for no wait at all is no wish.
    #[must_use]
    pub fn wish(&self, pushback: Option<Pushback>) -> Option<Pushback> {
        let counts = |wish: &Pushback| match wish {
            Pushback::AtLeast(wait) => !wait.is_zero(),
            Pushback::Exactly(_) => true,
        };
        pushback.filter(|_| self.is_honored).filter(counts)
    }

    /// Returns how long to wait for a wish within the cap, given 64 uniformly random bits: the wish,
    /// and up to [`jitter`](Self::jitter) of it on top.
    #[must_use]
    pub fn delay(&self, wish: Pushback, draw: u64) -> Duration {
        match wish {
            Pushback::Exactly(wait) => wait,
            Pushback::AtLeast(wait) => {
                wait.saturating_add(crate::backoff::share(wait, self.jitter, draw))
            }
        }
    }
}

impl Default for PushbackPolicy {
    /// A cap of 120 s (R38), and jitter of a quarter: between the 0.1 and 0.5 that R36 measured.
    fn default() -> Self {
        Self { is_honored: true, max: Duration::from_secs(120), jitter: 0.25 }
    }
}

impl fmt::Display for InvalidPushback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pushback jitter {} is not within 0 to 1", self.jitter)
    }
}

impl std::error::Error for InvalidPushback {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wish_is_never_undercut(wait: Duration, jitter in 0.0..=1.0, draw: u64) {
            let policy = PushbackPolicy::new(Duration::MAX, jitter).unwrap();
            let delay = policy.delay(Pushback::AtLeast(wait), draw);
            prop_assert!(wait <= delay && delay <= wait.saturating_mul(2));
            prop_assert_eq!(policy.delay(Pushback::Exactly(wait), draw), wait);
        }
    }

    #[test]
    fn jitter_adds_up_to_a_quarter() {
        let (policy, wish) = (PushbackPolicy::default(), Pushback::AtLeast(Duration::from_secs(2)));
        assert_eq!(policy.delay(wish, 0), Duration::from_secs(2));
        assert_eq!(policy.delay(wish, u64::MAX), Duration::from_millis(2_500));
    }

    #[test]
    fn a_wish_for_nothing_is_none_and_so_is_one_that_is_ignored() {
        let (honored, ignored) = (PushbackPolicy::default(), PushbackPolicy::ignored());
        let wish = Some(Pushback::AtLeast(Duration::from_secs(1)));
        let nothing = Some(Pushback::AtLeast(Duration::ZERO));
        let exactly_nothing = Some(Pushback::Exactly(Duration::ZERO));
        assert_eq!(honored.wish(wish), wish);
        assert_eq!(honored.wish(nothing), None);
        assert_eq!(honored.wish(exactly_nothing), exactly_nothing);
        assert_eq!(honored.wish(None), None);
        assert_eq!(ignored.wish(wish), None);
        assert!(honored.is_honored() && !ignored.is_honored());
    }

    #[test]
    fn a_jitter_outside_its_range_is_refused() {
        for jitter in [-0.1, 1.1, f64::NAN] {
            let refused = PushbackPolicy::new(Duration::MAX, jitter).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("pushback jitter {jitter} is not within 0 to 1")
            );
        }
        let policy = PushbackPolicy::new(Duration::from_secs(9), 1.0).unwrap();
        assert_eq!((policy.max(), policy.jitter()), (Duration::from_secs(9), 1.0));
        assert_eq!(PushbackPolicy::default().jitter().to_string(), "0.25");
        assert_eq!(Pushback::Exactly(Duration::MAX).wait(), Duration::MAX);
    }
}
