//! Failures on purpose, so that a client can be seen to survive them.
//!
//! A policy is a list of rules: which requests, how often, and what happens to them. What happens to a
//! request depends on the seed and on how many matching ones came before it, and on nothing else: the
//! same seed gives the n-th request of a rule the same fate in every run, whatever other rules do.

mod effect;
mod invalid;
mod latency;
#[expect(clippy::excessive_precision, reason = "coefficients as they were published")]
mod normal;
mod pattern;
mod rule;
#[cfg(all(test, not(loom)))]
#[expect(clippy::unwrap_used, reason = "a test that cannot be set up should stop")]
mod tests;

use std::{fmt, time::Duration};

pub use self::{
    effect::{Cut, Pace},
    invalid::InvalidChaos,
    latency::Latency,
    pattern::Pattern,
    rule::ChaosRule,
};
use crate::{
    entropy::nth_draw,
    sync::{AtomicU64, Ordering},
};

/// Which failures to inject, and where.
///
/// On, and without a rule, unless set: nothing happens then.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::{ChaosHead, ChaosPolicy, ChaosRule, ChaosState, Latency};
///
/// # fn main() -> Result<(), redial_core::InvalidChaos> {
/// let slow = ChaosRule::new().path("/orders/*")?.latency(Latency::fixed(Duration::from_secs(1)));
/// let down = ChaosRule::new().method("POST")?.first(2)?.status(503)?.header("retry-after", "1")?;
/// let policy = ChaosPolicy::default().rule(slow)?.rule(down)?;
///
/// let state = ChaosState::new(&policy, 7);
/// let head = ChaosHead { authority: "shop.example:8080", path: "/orders/7", method: "POST" };
/// let plans = [(); 3].map(|()| policy.plan(&head, &state));
/// assert_eq!(plans.map(|plan| plan.delay), [Duration::from_secs(1); 3]);
/// assert_eq!(plans.map(|plan| plan.answer.is_some()), [true, true, false]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ChaosPolicy {
    is_enabled: bool,
    seed: Option<u64>,
    rules: Vec<ChaosRule>,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChaosHead<'a> {
    /// The host, with its port where the request has one: `shop.example:8080`. Empty for none.
    pub authority: &'a str,
    /// The path, without its query.
    pub path: &'a str,
    /// The method.
    pub method: &'a str,
}

/// How many requests each rule of a policy has met so far. Lock-free.
pub struct ChaosState {
    seed: u64,
    counts: Box<[Counts]>,
}

#[derive(Default)]
struct Counts {
    matched: AtomicU64,
    injected: AtomicU64,
}

/// What happens to one request: nothing, by default.
///
/// Where several rules hit, their delays add up, and of everything else the first one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChaosPlan<'a> {
    /// How long it waits before it is sent, or before it fails without being sent.
    pub delay: Duration,
    /// What it gets in the place of an answer.
    pub answer: Option<Injected<'a>>,
    /// Where its answer's body ends in an error.
    pub cut: Option<Cut>,
    /// How slowly its answer's body comes.
    pub pace: Option<Pace>,
}

/// What a request gets in the place of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Injected<'a> {
    /// A status with header fields, or, without one, a reset connection.
    pub status: Option<(u16, &'a [(String, String)])>,
    /// Whether the request is sent first, and its answer lost: the server has acted then, and nobody
    /// knows. Requests without an idempotency key cannot be repeated after that.
    pub is_after: bool,
}

impl ChaosPolicy {
    /// Adds a rule, after those already there.
    ///
    /// # Errors
    ///
    /// If the rule does nothing, or has header fields or a moment but nothing that they belong to.
    pub fn rule(mut self, rule: ChaosRule) -> Result<Self, InvalidChaos> {
        rule.check()?;
        self.rules.push(rule);
        Ok(self)
    }

    /// Sets whether anything happens at all.
    #[must_use]
    pub fn enabled(self, is_enabled: bool) -> Self {
        Self { is_enabled, ..self }
    }

    /// Fixes what is drawn, so that a run can be repeated; `None`, as unless set, for draws that
    /// differ from run to run.
    #[must_use]
    pub fn seed(self, seed: impl Into<Option<u64>>) -> Self {
        Self { seed: seed.into(), ..self }
    }

    /// Returns whether anything happens at all: it is enabled, and there is a rule.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.is_enabled && !self.rules.is_empty()
    }

    /// Returns whether it is enabled.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Returns the seed, if there is a fixed one.
    #[must_use]
    pub const fn fixed_seed(&self) -> Option<u64> {
        self.seed
    }

    /// Returns the rules, in the order in which they are asked.
    #[must_use]
    pub fn rules(&self) -> &[ChaosRule] {
        &self.rules
    }

    /// Decides what happens to a request, and counts it in `state`, which must be this policy's.
    ///
    /// A policy that is not enabled counts nothing.
    #[must_use]
    pub fn plan(&self, head: &ChaosHead<'_>, state: &ChaosState) -> ChaosPlan<'_> {
        let mut plan = ChaosPlan::default();
        if !self.is_enabled {
            return plan;
        }
        for ((index, rule), counts) in (0..).zip(&self.rules).zip(&*state.counts) {
            if !rule.matches(head) {
                continue;
            }
            let nth = counts.matched.fetch_add(1, Ordering::Relaxed);
            // A stream of draws for each rule, and two of them for each request that it matches.
            let stream = nth_draw(state.seed, index);
            let draw = |n| nth_draw(stream, nth.wrapping_mul(2).wrapping_add(n));
            if rule.hits(nth, draw(0)) && counts.inject(rule.total_max()) {
                plan.add(rule, draw(1));
            }
        }
        plan
    }
}

impl Default for ChaosPolicy {
    fn default() -> Self {
        Self { is_enabled: true, seed: None, rules: Vec::new() }
    }
}

impl ChaosState {
    /// Begins to count for `policy`, with its own seed, or `seed` if it has none.
    #[must_use]
    pub fn new(policy: &ChaosPolicy, seed: u64) -> Self {
        let counts = policy.rules.iter().map(|_| Counts::default()).collect();
        Self { seed: policy.seed.unwrap_or(seed), counts }
    }

    /// Returns how many requests the `index`-th rule did something to; 0 for a rule that is not there.
    #[must_use]
    pub fn injected(&self, index: usize) -> u64 {
        self.counts.get(index).map_or(0, |counts| counts.injected.load(Ordering::Relaxed))
    }
}

impl Counts {
    fn inject(&self, max: Option<u64>) -> bool {
        let more = |count: u64| (max.is_none_or(|max| count < max)).then(|| count.wrapping_add(1));
        self.injected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

impl<'a> ChaosPlan<'a> {
    fn add(&mut self, rule: &'a ChaosRule, draw: u64) {
        let delay = rule.delays().map_or(Duration::ZERO, |latency| latency.delay(draw));
        self.delay = self.delay.saturating_add(delay);
        self.answer = self.answer.or_else(|| rule.answer());
        self.cut = self.cut.or_else(|| rule.cut());
        self.pace = self.pace.or_else(|| rule.pace());
    }

    /// Returns whether nothing happens.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl ChaosHead<'_> {
    /// The host without its port.
    fn host(&self) -> &str {
        let end = match self.authority.rfind(':') {
            // A colon within brackets belongs to an IPv6 address.
            Some(colon) if !self.authority[colon..].contains(']') => colon,
            _ => self.authority.len(),
        };
        &self.authority[..end]
    }
}

impl fmt::Debug for ChaosState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let injected = (0..self.counts.len()).map(|index| self.injected(index));
        f.debug_struct("ChaosState")
            .field("injected", &injected.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
