//! The policy that rules now, and a switch to another while calls are running.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use http::Extensions;
use redial_core::{
    AdaptivePolicy, BreakerPolicy, BulkheadPolicy, CachePolicy, ChaosPolicy, FallbackPolicy,
    HedgePolicy, Policy, RateLimitPolicy, ResumePolicy, StallPolicy, ThrottlePolicy,
};

/// A policy that can be switched while calls are running. Clones share it.
///
/// Calls that have failed once go on under the policy that they failed under; all else follows the
/// new one at once. Budgets and everything else that counts keep their state.
///
/// # Examples
///
/// ```
/// use redial::{PolicyCell, core::Policy};
///
/// let cell = PolicyCell::new(Policy::default());
/// let handle = cell.clone();
/// handle.switch(Policy { is_idempotent: true, ..Policy::default() });
/// assert!(cell.load().is_idempotent);
/// ```
#[derive(Clone)]
pub struct PolicyCell {
    current: Arc<ArcSwap<Policy>>,
}

/// How long something may take: fixed, or as the policy that rules at the moment says.
#[derive(Clone, Debug)]
pub struct Span {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Fixed(Option<Duration>),
    Policy(PolicyCell),
}

/// A part of a policy: fixed, or what the policy that rules at the moment says. What a request brings
/// as its own, an `Arc<Policy>` in its extensions, rules before a cell.
#[derive(Clone, Debug)]
pub struct Ruling<T> {
    rule: Rule<T>,
}

#[derive(Clone, Debug)]
enum Rule<T> {
    Fixed(Option<T>),
    Policy(PolicyCell),
}

/// A part of a [`Policy`] that a layer carries out; `None` where it is switched off.
pub trait Part: Clone {
    /// Returns this part of `policy`.
    fn of(policy: &Policy) -> Option<&Self>;
}

impl PolicyCell {
    /// Creates a cell in which `policy` rules.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(policy)) }
    }

    /// Returns the policy that rules now.
    #[must_use]
    pub fn load(&self) -> Arc<Policy> {
        self.current.load_full()
    }

    /// Lets another policy rule.
    pub fn switch(&self, policy: Policy) {
        self.current.store(Arc::new(policy));
    }

    pub(crate) fn peek(&self) -> Guard<Arc<Policy>> {
        self.current.load()
    }
}

impl Span {
    pub(crate) fn get(&self, of: impl FnOnce(&Policy) -> Option<Duration>) -> Option<Duration> {
        match &self.source {
            Source::Fixed(span) => *span,
            Source::Policy(cell) => of(&cell.peek()),
        }
    }
}

impl<T: Part> Ruling<T> {
    /// Runs `work` with the part that rules for a request with `extensions`.
    pub(crate) fn with<R>(&self, extensions: &Extensions, work: impl FnOnce(Option<&T>) -> R) -> R {
        match &self.rule {
            Rule::Fixed(part) => work(part.as_ref()),
            Rule::Policy(cell) => match extensions.get::<Arc<Policy>>() {
                Some(own) => work(T::of(own)),
                None => work(T::of(&cell.peek())),
            },
        }
    }
}

impl<T> Ruling<T> {
    /// Returns whether another part may come to rule.
    pub(crate) const fn is_switchable(&self) -> bool {
        matches!(self.rule, Rule::Policy(_))
    }
}

impl<T: Part> From<T> for Ruling<T> {
    fn from(part: T) -> Self {
        Self { rule: Rule::Fixed(Some(part)) }
    }
}

impl<T: Part> From<Option<T>> for Ruling<T> {
    fn from(part: Option<T>) -> Self {
        Self { rule: Rule::Fixed(part) }
    }
}

impl<T> From<PolicyCell> for Ruling<T> {
    fn from(cell: PolicyCell) -> Self {
        Self { rule: Rule::Policy(cell) }
    }
}

macro_rules! parts {
    ($($part:ty: $field:ident,)*) => {$(
        impl Part for $part {
            fn of(policy: &Policy) -> Option<&Self> {
                policy.$field.as_ref()
            }
        }
    )*};
}

parts! {
    BreakerPolicy: breaker,
    HedgePolicy: hedge,
    RateLimitPolicy: rate_limit,
    ThrottlePolicy: throttle,
    BulkheadPolicy: bulkhead,
    AdaptivePolicy: adaptive_limit,
    CachePolicy: cache,
    Arc<FallbackPolicy>: fallback,
    ResumePolicy: resume,
    StallPolicy: stall,
    Arc<ChaosPolicy>: chaos,
}

impl From<Policy> for PolicyCell {
    fn from(policy: Policy) -> Self {
        Self::new(policy)
    }
}

impl From<Duration> for Span {
    fn from(span: Duration) -> Self {
        Self { source: Source::Fixed(Some(span)) }
    }
}

impl From<Option<Duration>> for Span {
    fn from(span: Option<Duration>) -> Self {
        Self { source: Source::Fixed(span) }
    }
}

impl From<PolicyCell> for Span {
    fn from(cell: PolicyCell) -> Self {
        Self { source: Source::Policy(cell) }
    }
}

impl fmt::Debug for PolicyCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicyCell").field(&*self.peek()).finish()
    }
}
