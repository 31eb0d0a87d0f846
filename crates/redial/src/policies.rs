//! The policy that rules now, and a switch to another while calls are running.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use redial_core::Policy;

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
