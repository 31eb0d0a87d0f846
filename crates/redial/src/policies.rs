//! The policy that rules now, and a switch to another while calls are running.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use http::Extensions;
use redial_core::{
    AdaptivePolicy, BreakerPolicy, BudgetPolicy, BulkheadPolicy, CachePolicy, ChaosPolicy,
    FallbackPolicy, HedgePolicy, Policy, RateLimitPolicy, ResumePolicy, StallPolicy,
    ThrottlePolicy,
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
    current: Arc<Current>,
}

struct Current {
    policy: ArcSwap<Policy>,
    glance: Glance,
}

/// What of the policy is asked at every call, where it can be read in one load each. A switch changes
/// the policy first, so for a moment a call may see a part of the one before.
#[derive(Debug)]
struct Glance {
    parts: AtomicU32,
    deadline_nanos: AtomicU64,
    attempt_timeout_nanos: AtomicU64,
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
    /// The bit that tells at a glance whether this part is switched on.
    const BIT: u32;

    /// Returns this part of `policy`.
    fn of(policy: &Policy) -> Option<&Self>;
}

impl PolicyCell {
    /// Creates a cell in which `policy` rules.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let glance = Glance {
            parts: AtomicU32::new(0),
            deadline_nanos: AtomicU64::new(NONE),
            attempt_timeout_nanos: AtomicU64::new(NONE),
        };
        glance.set(&policy);
        let current = Current { policy: ArcSwap::from_pointee(policy), glance };
        Self { current: Arc::new(current) }
    }

    /// Returns the policy that rules now.
    #[must_use]
    pub fn load(&self) -> Arc<Policy> {
        self.current.policy.load_full()
    }

    /// Lets another policy rule.
    pub fn switch(&self, policy: Policy) {
        let policy = Arc::new(policy);
        self.current.policy.store(Arc::clone(&policy));
        self.current.glance.set(&policy);
    }

    pub(crate) fn peek(&self) -> Guard<Arc<Policy>> {
        self.current.policy.load()
    }

    /// Returns whether a part is switched on.
    #[inline]
    pub(crate) fn has<T: Part>(&self) -> bool {
        self.current.glance.parts.load(Ordering::Relaxed) & T::BIT != 0
    }

    /// Returns whether the budget counts calls that begin.
    pub(crate) fn counts_calls(&self) -> bool {
        self.current.glance.parts.load(Ordering::Relaxed) & COUNTS_CALLS != 0
    }

    /// Returns whether a call needs nothing of the retry policy before it fails: nothing is hedged, and
    /// the budget does not count calls that begin.
    pub(crate) fn is_plain(&self) -> bool {
        let asks = HedgePolicy::BIT | COUNTS_CALLS;
        self.current.glance.parts.load(Ordering::Relaxed) & asks == 0
    }
}

impl Glance {
    fn set(&self, policy: &Policy) {
        let nanos = |span: Option<Duration>| {
            let nanos = span.map(|span| u64::try_from(span.as_nanos()).unwrap_or(NONE - 1));
            nanos.unwrap_or(NONE)
        };
        self.deadline_nanos.store(nanos(policy.deadline), Ordering::Relaxed);
        self.attempt_timeout_nanos.store(nanos(policy.attempt_timeout), Ordering::Relaxed);
        self.parts.store(parts_of(policy), Ordering::Relaxed);
    }
}

impl Span {
    /// Returns a fixed span, or the deadline that rules now.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.get(|glance| &glance.deadline_nanos)
    }

    /// Returns a fixed span, or the attempt timeout that rules now.
    pub(crate) fn attempt_timeout(&self) -> Option<Duration> {
        self.get(|glance| &glance.attempt_timeout_nanos)
    }

    fn get(&self, of: impl FnOnce(&Glance) -> &AtomicU64) -> Option<Duration> {
        match &self.source {
            Source::Fixed(span) => *span,
            Source::Policy(cell) => match of(&cell.current.glance).load(Ordering::Relaxed) {
                NONE => None,
                nanos => Some(Duration::from_nanos(nanos)),
            },
        }
    }
}

impl<T: Part> Ruling<T> {
    /// Returns whether no part rules for a request with `extensions`: a look at one word, where nothing is
    /// switched on.
    #[inline]
    pub(crate) fn is_off(&self, extensions: &Extensions) -> bool {
        match &self.rule {
            Rule::Fixed(part) => part.is_none(),
            Rule::Policy(cell) => !cell.has::<T>() && extensions.get::<Arc<Policy>>().is_none(),
        }
    }

    /// Runs `work` with the part that rules for a request with `extensions`.
    #[inline]
    pub(crate) fn with<R>(&self, extensions: &Extensions, work: impl FnOnce(Option<&T>) -> R) -> R {
        // `work` stands in one place, and so becomes a part of whoever calls.
        let current;
        let part = match &self.rule {
            Rule::Fixed(part) => part.as_ref(),
            Rule::Policy(cell) => match extensions.get::<Arc<Policy>>() {
                Some(own) => T::of(own),
                None if cell.has::<T>() => {
                    current = cell.peek();
                    T::of(&current)
                }
                None => None,
            },
        };
        work(part)
    }

    /// Returns the policy that a request with `extensions` brings, where such a one rules.
    #[inline]
    pub(crate) fn own(&self, extensions: &Extensions) -> Option<Arc<Policy>> {
        match &self.rule {
            Rule::Fixed(_) => None,
            Rule::Policy(_) => extensions.get::<Arc<Policy>>().map(Arc::clone),
        }
    }
}

impl<T: Part + Copy> Ruling<T> {
    /// Returns the part that rules for a request with `extensions`.
    #[inline]
    pub(crate) fn copied(&self, extensions: &Extensions) -> Option<T> {
        if self.is_off(extensions) {
            return None;
        }
        self.with(extensions, |part| part.copied())
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
    ($($part:ty: $field:ident at $bit:literal,)*) => {
        $(impl Part for $part {
            const BIT: u32 = 1 << $bit;

            fn of(policy: &Policy) -> Option<&Self> {
                policy.$field.as_ref()
            }
        })*

        fn parts_of(policy: &Policy) -> u32 {
            let mut parts = 0;
            $(if policy.$field.is_some() {
                parts |= <$part>::BIT;
            })*
            if matches!(policy.budget, BudgetPolicy::Window(_)) {
                parts |= COUNTS_CALLS;
            }
            parts
        }
    };
}

parts! {
    BreakerPolicy: breaker at 0,
    HedgePolicy: hedge at 1,
    RateLimitPolicy: rate_limit at 2,
    ThrottlePolicy: throttle at 3,
    BulkheadPolicy: bulkhead at 4,
    AdaptivePolicy: adaptive_limit at 5,
    CachePolicy: cache at 6,
    Arc<FallbackPolicy>: fallback at 7,
    Arc<ChaosPolicy>: chaos at 8,
    ResumePolicy: resume at 9,
    StallPolicy: stall at 10,
}

const COUNTS_CALLS: u32 = 1 << 31;

/// No limit, where a number of nanoseconds is expected.
const NONE: u64 = u64::MAX;

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
