//! What to do when gRPC calls fail: Redial's policy, and the terms that only gRPC has.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use redial::{PolicyCell, RetryLayer};
use redial_core::{Class, Policy, RetryPolicy, Rule};
use tonic::Code;

use crate::{classify::GrpcClassifier, codes::CodeSet, methods::MethodSet};

/// What to do when gRPC calls fail.
///
/// gRPC's methods are all POST, so that HTTP tells nothing about which of them may be repeated. As in
/// gRFC A6, the list of retryable status codes is the declaration: what it lists is repeated, for
/// every method that [`with_idempotent`](Self::with_idempotent) leaves in. For other methods only
/// what provably was not processed is.
///
/// # Examples
///
/// ```
/// use redial_core::Policy;
/// use redial_tonic::{CodeSet, GrpcPolicy, MethodSet};
/// use tonic::Code;
///
/// let policy = GrpcPolicy::new(Policy::default())
///     .with_codes(CodeSet::of(&[Code::Unavailable, Code::Aborted]))
///     .with_idempotent(MethodSet::of(["/shop.Orders/Get*"])?);
/// assert!(policy.codes().contains(Code::Aborted));
/// # Ok::<(), redial_tonic::InvalidMethod>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcPolicy {
    policy: Policy,
    terms: Terms,
}

/// What a policy has that only gRPC has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terms {
    pub(crate) codes: CodeSet,
    pub(crate) idempotent: MethodSet,
    pub(crate) retries_exhausted: bool,
    pub(crate) peeks: bool,
}

/// A [`GrpcPolicy`] that can be switched while calls are running. Clones share it.
///
/// What [`PolicyCell`] says about switching holds here. A call that fails during a switch may be read
/// by the new terms under the old policy.
#[derive(Clone, Debug)]
pub struct GrpcPolicyCell {
    policy: PolicyCell,
    terms: Arc<ArcSwap<Terms>>,
}

impl GrpcPolicy {
    /// Creates a policy from what is not particular to gRPC: retries, budget, deadline, timeouts.
    ///
    /// Two things of `policy` change. Requests under it count as idempotent, because it is the codes
    /// that say what may be repeated; and no class of failures has more than four retries, because
    /// five attempts are the most that gRFC A6 allows ("treated as 5"). `policy.triggers` is not
    /// read: codes take its place.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let retry = capped(policy.retry);
        let terms = Terms {
            codes: CodeSet::UNAVAILABLE,
            idempotent: MethodSet::ALL,
            retries_exhausted: true,
            peeks: false,
        };
        Self { policy: Policy { retry, is_idempotent: true, ..policy }, terms }
    }

    /// Sets the status codes that are retried: `UNAVAILABLE` alone unless set, the one code of which
    /// gRPC says that the call should be retried with a backoff.
    #[must_use]
    pub fn with_codes(mut self, codes: CodeSet) -> Self {
        self.terms.codes = codes;
        self
    }

    /// Sets the methods that may be repeated although the server may have acted: all of them unless
    /// set, as in gRFC A6. Others are repeated only when they provably were not processed.
    #[must_use]
    pub fn with_idempotent(mut self, methods: MethodSet) -> Self {
        self.terms.idempotent = methods;
        self
    }

    /// Sets whether `RESOURCE_EXHAUSTED` is retried where the server names the wait, even if the
    /// codes do not list it. It is unless set: a server that says when to come back means it. gRFC A6
    /// itself retries listed codes only.
    #[must_use]
    pub fn with_exhausted_pushback(mut self, is_retried: bool) -> Self {
        self.terms.retries_exhausted = is_retried;
        self
    }

    /// Sets whether to look at the first frame of an answer's body before the call is committed:
    /// [`EarlyStatus`](crate::EarlyStatus). Off unless set: in gRFC A6, headers commit a call.
    #[must_use]
    pub fn with_peek(mut self, peeks: bool) -> Self {
        self.terms.peeks = peeks;
        self
    }

    /// Returns what is not particular to gRPC.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the status codes that are retried.
    #[must_use]
    pub const fn codes(&self) -> CodeSet {
        self.terms.codes
    }

    /// Returns the methods that may be repeated although the server may have acted.
    #[must_use]
    pub const fn idempotent(&self) -> &MethodSet {
        &self.terms.idempotent
    }

    /// Returns whether `RESOURCE_EXHAUSTED` is retried where the server names the wait.
    #[must_use]
    pub const fn retries_exhausted_pushback(&self) -> bool {
        self.terms.retries_exhausted
    }

    /// Returns whether the first frame of an answer's body is looked at.
    #[must_use]
    pub const fn peeks(&self) -> bool {
        self.terms.peeks
    }
}

impl Terms {
    /// Returns whether a failure with `code` is retried; `has_wait` says that the server named a wait.
    pub(crate) fn lists(&self, code: Code, has_wait: bool) -> bool {
        let is_invited = self.retries_exhausted && code == Code::ResourceExhausted && has_wait;
        self.codes.contains(code) || is_invited
    }
}

impl GrpcPolicyCell {
    /// Creates a cell in which `policy` rules.
    #[must_use]
    pub fn new(policy: GrpcPolicy) -> Self {
        let GrpcPolicy { policy, terms } = policy;
        Self { policy: PolicyCell::new(policy), terms: Arc::new(ArcSwap::from_pointee(terms)) }
    }

    /// Returns the policy that rules now.
    #[must_use]
    pub fn load(&self) -> GrpcPolicy {
        let terms = Terms::clone(&self.terms.load());
        GrpcPolicy { policy: Policy::clone(&self.policy.load()), terms }
    }

    /// Lets another policy rule.
    pub fn switch(&self, policy: GrpcPolicy) {
        let GrpcPolicy { policy, terms } = policy;
        self.terms.store(Arc::new(terms));
        self.policy.switch(policy);
    }

    /// Returns the cell with what is not particular to gRPC: what layers of `redial` take.
    #[must_use]
    pub fn policy_cell(&self) -> PolicyCell {
        self.policy.clone()
    }

    /// Creates a layer that retries by this policy and reads outcomes as gRPC means them. Budgets,
    /// observers and seeds can be set on it.
    #[must_use]
    pub fn retry_layer(&self) -> RetryLayer<GrpcClassifier> {
        RetryLayer::new(self.policy_cell()).mark().classifier(GrpcClassifier::new(self.clone()))
    }

    pub(crate) fn terms(&self) -> Guard<Arc<Terms>> {
        self.terms.load()
    }
}

impl Default for GrpcPolicy {
    /// [`Policy::default`] with `UNAVAILABLE` retried, for every method, without peeking.
    fn default() -> Self {
        Self::new(Policy::default())
    }
}

impl From<Policy> for GrpcPolicy {
    fn from(policy: Policy) -> Self {
        Self::new(policy)
    }
}

impl From<GrpcPolicy> for GrpcPolicyCell {
    fn from(policy: GrpcPolicy) -> Self {
        Self::new(policy)
    }
}

impl From<Policy> for GrpcPolicyCell {
    fn from(policy: Policy) -> Self {
        Self::new(policy.into())
    }
}

fn capped(policy: RetryPolicy) -> RetryPolicy {
    Class::ALL.into_iter().fold(policy, |policy, class| {
        let rule = *policy.rule(class);
        policy.with_rule(class, Rule { max_retries: rule.max_retries.min(RETRIES_MAX), ..rule })
    })
}

/// gRFC A6, "Maximum Number of Retries": `maxAttempts` above 5 is treated as 5.
const RETRIES_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_five_attempts_are_treated_as_five() {
        let attempts = |retries| {
            let retry = RetryPolicy::default().max_retries(retries);
            let policy = GrpcPolicy::new(Policy { retry, ..Policy::default() });
            policy.policy().retry.most_retries() + 1
        };
        assert_eq!([0, 1, 4, 5, 100].map(attempts), [1, 2, 5, 5, 5]);
    }

    #[test]
    fn the_codes_are_the_declaration_and_unavailable_is_the_default() {
        let policy = GrpcPolicy::default();
        assert!(
            policy.policy().is_idempotent && policy.idempotent().contains("/any.Service/Method")
        );
        assert_eq!((policy.codes(), policy.peeks()), (CodeSet::UNAVAILABLE, false));
        assert!(policy.retries_exhausted_pushback());
    }

    #[test]
    fn a_switched_policy_rules_for_every_clone_of_its_cell() {
        let cell = GrpcPolicyCell::from(Policy::default());
        let (clone, layers) = (cell.clone(), cell.policy_cell());
        let other = GrpcPolicy::new(Policy { replay_bytes_max: 7, ..Policy::default() })
            .with_codes(CodeSet::EMPTY)
            .with_exhausted_pushback(false)
            .with_peek(true);
        cell.switch(other.clone());
        assert_eq!(clone.load(), other);
        assert_eq!(layers.load().replay_bytes_max, 7);
    }

    #[test]
    fn a_named_wait_makes_exhaustion_worth_a_retry_unless_switched_off() {
        let terms = GrpcPolicy::default().terms;
        assert!(terms.lists(Code::ResourceExhausted, true));
        assert!(!terms.lists(Code::ResourceExhausted, false) && !terms.lists(Code::Aborted, true));
        let strict = GrpcPolicy::default().with_exhausted_pushback(false).terms;
        assert!(!strict.lists(Code::ResourceExhausted, true));
    }
}
