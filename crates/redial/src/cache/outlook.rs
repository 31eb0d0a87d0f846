//! How old an answer is, and to whom it may be given: what its head says, and nothing of what it holds.

use std::time::{Duration, Instant};

use http::HeaderMap;
use redial_core::{CacheOutcome, CachePolicy};

use super::{
    directives::{Asks, Terms},
    rules,
};

/// A moment by both clocks: the runtime's, which no one sets back, and the wall's, which goes on while
/// a machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) unix: i64,
}

/// What an answer's head says about its use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    pub(super) terms: Terms,
    /// How long it is fresh, where it says so.
    pub(super) lifetime: Option<Duration>,
    initial_age: Duration,
    pub(super) received: Moment,
}

/// Whether a stored answer serves a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Serves {
    /// As it is.
    Now(CacheOutcome),
    /// Only once the upstream has said so.
    OnceRevalidated,
}

impl Serves {
    pub(super) const fn is_now(self) -> bool {
        matches!(self, Self::Now(_))
    }
}

impl Outlook {
    /// Reads the head of an answer that came at `received`, `delay` after it was asked for.
    pub(super) fn new(headers: &HeaderMap, delay: Duration, received: Moment) -> Self {
        let terms = Terms::of(headers);
        let lifetime = rules::lifetime(&terms, headers, received.unix);
        let initial_age = rules::initial_age(headers, delay, received.unix);
        Self { terms, lifetime, initial_age, received }
    }

    /// Returns how old the answer is (§4.2.3). Never less than at an earlier `now` of the same clocks.
    pub(super) fn age(&self, now: Moment) -> Duration {
        let resident = now.at.saturating_duration_since(self.received.at);
        let slept = u64::try_from(now.unix.saturating_sub(self.received.unix)).unwrap_or(0);
        // A whole second may have just begun when the answer came: it does not count.
        let slept = Duration::from_secs(slept.saturating_sub(1));
        self.initial_age.saturating_add(resident.max(slept))
    }

    /// Returns whether the answer was stale when it came, by its own word.
    pub(super) fn came_stale(&self) -> bool {
        self.lifetime.is_some_and(|lifetime| lifetime <= self.initial_age)
    }

    /// Returns whether there is anything to gain from keeping the answer: it is fresh for a while, can
    /// be validated, or may be given out stale.
    pub(super) fn is_worth_keeping(&self, has_validator: bool, policy: &CachePolicy) -> bool {
        let is_of_use_stale = !self.terms.forbids_stale()
            && (!self.stale_if_error(policy).is_zero() || !self.while_revalidate(policy).is_zero());
        let is_fresh = self.lifetime.is_some() && !self.came_stale();
        is_fresh || has_validator || is_of_use_stale
    }

    /// Returns whether the answer serves a request that `asks`.
    pub(super) fn serves(&self, asks: &Asks, policy: &CachePolicy, now: Moment) -> Serves {
        let (age, lifetime) = (self.age(now), self.lifetime.unwrap_or_default());
        let is_too_old = asks.max_age.is_some_and(|max_age| max_age < age);
        let stays_fresh = asks.min_fresh.unwrap_or_default();
        let is_fresh = age.saturating_add(stays_fresh) < lifetime;
        if asks.no_cache || is_too_old || self.terms.no_cache {
            return Serves::OnceRevalidated;
        }
        if is_fresh {
            return Serves::Now(CacheOutcome::Hit);
        }
        if self.terms.forbids_stale() || asks.min_fresh.is_some() {
            return Serves::OnceRevalidated;
        }
        let staleness = age.saturating_sub(lifetime);
        if asks.max_stale.is_some_and(|max_stale| staleness <= max_stale) {
            return Serves::Now(CacheOutcome::Stale);
        }
        let window = self.while_revalidate(policy);
        if !window.is_zero() && staleness <= window {
            return Serves::Now(CacheOutcome::StaleWhileRevalidate);
        }
        Serves::OnceRevalidated
    }

    /// Returns whether the answer may cover up a failure from a request that `asks` (R81, R82).
    pub(super) fn covers_failure(&self, asks: &Asks, policy: &CachePolicy, now: Moment) -> bool {
        if self.terms.forbids_stale() {
            return false;
        }
        // Who demands a validated or a young answer gets none that is neither, but by its own word.
        let told = if asks.demands() { Duration::ZERO } else { self.stale_if_error(policy) };
        let window = told.max(asks.stale_if_error.unwrap_or_default());
        let staleness = self.age(now).saturating_sub(self.lifetime.unwrap_or_default());
        !window.is_zero() && staleness <= window
    }

    fn stale_if_error(&self, policy: &CachePolicy) -> Duration {
        self.terms.stale_if_error.unwrap_or_else(|| policy.stale_if_error())
    }

    fn while_revalidate(&self, policy: &CachePolicy) -> Duration {
        self.terms.stale_while_revalidate.unwrap_or_else(|| policy.stale_while_revalidate())
    }
}
