//! One retry budget for each origin.

use std::{fmt, time::Instant};

use http::Uri;
use redial_core::{Budget, BudgetPolicy, Policy, TokenBudget, Tokens};

use crate::origins::{Origins, PerOrigin};

/// The retry budgets of all origins that calls go to. Clones share them.
///
/// Two clients that are given the same budgets spend from the same accounts. At most 1,024 origins
/// are remembered; then those that were not used for long make room.
#[derive(Clone)]
pub struct Budgets {
    accounts: Origins<Account>,
}

struct Account {
    budget: Budget,
    policy: BudgetPolicy,
    most_retries: u32,
}

impl Budgets {
    /// Creates budgets without any origin in them.
    #[must_use]
    pub fn new() -> Self {
        Self { accounts: Origins::new() }
    }

    /// Returns how many origins are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Returns whether no origin is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs `work` with the budget of `uri`'s origin, opening it at first sight.
    pub(crate) fn with<T>(&self, uri: &Uri, policy: &Policy, work: impl FnOnce(&Budget) -> T) -> T {
        self.accounts.with(uri, policy, |account| work(&account.budget))
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::new()
    }
}

impl Account {
    fn with(budget: Budget, policy: &Policy) -> Self {
        Self { budget, policy: policy.budget, most_retries: policy.retry.most_retries() }
    }
}

impl PerOrigin for Account {
    type Policy = Policy;

    fn open(policy: &Policy, now: Instant) -> Self {
        Self::with(Budget::new(&policy.budget, policy.retry.most_retries(), now), policy)
    }

    fn serves(&self, policy: &Policy) -> bool {
        self.policy == policy.budget && policy.retry.most_retries() <= self.most_retries
    }

    /// Opens the account that takes over when a policy with the same budget allows more retries: what
    /// is left stays, and the first call's credit grows by the difference. Switching back and forth
    /// therefore creates no tokens.
    fn succeeded_by(&self, policy: &Policy, now: Instant) -> Self {
        let most = policy.retry.most_retries();
        let left = self.budget.available(now).unwrap_or_default();
        match policy.budget {
            BudgetPolicy::Tokens(tokens) if self.policy == policy.budget => {
                let more = if tokens.initial.is_none() { most - self.most_retries } else { 0 };
                let initial = Some(left.saturating_add(Tokens::whole(more)));
                let max = tokens.max.max(Tokens::whole(most));
                let carried = BudgetPolicy::Tokens(TokenBudget { initial, max, ..tokens });
                Self::with(Budget::new(&carried, most, now), policy)
            }
            _ => Self::open(policy, now),
        }
    }
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn uri(n: usize) -> Uri {
        format!("http://host-{n}.example/").parse().unwrap()
    }

    fn withdraw(budgets: &Budgets, uri: &Uri, policy: &Policy) -> bool {
        budgets.with(uri, policy, |budget| budget.withdraw(clock::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn each_origin_has_its_own_and_clones_share_it() {
        let (budgets, policy) = (Budgets::new(), Policy::default());
        let clone = budgets.clone();
        let granted = (0..10).filter(|_| withdraw(&clone, &uri(1), &policy)).count();
        assert_eq!(granted, 5, "the most retries of any class");
        assert!(!withdraw(&budgets, &uri(1), &policy));
        assert!(withdraw(&budgets, &uri(2), &policy));
        assert_eq!(budgets.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_million_origins_do_not_fill_the_memory() {
        let (budgets, policy) = (Budgets::new(), Policy::default());
        assert!(budgets.is_empty());
        while withdraw(&budgets, &uri(0), &policy) {}
        for n in 1..3_000 {
            assert!(withdraw(&budgets, &uri(n), &policy));
            assert!(!withdraw(&budgets, &uri(0), &policy), "what is in use stays");
        }
        assert!((896..=1_024).contains(&budgets.len()), "{}", budgets.len());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_without_an_origin_share_one() {
        let (budgets, policy) = (Budgets::new(), Policy::default());
        let path = Uri::from_static("/a");
        let granted = (0..10).filter(|_| withdraw(&budgets, &path, &policy)).count();
        assert_eq!(granted, 5);
        assert!(!withdraw(&budgets, &Uri::from_static("/b"), &policy));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_kind_of_budget_opens_a_new_account_and_the_same_keeps_its_state() {
        let (budgets, policy) = (Budgets::new(), Policy::default());
        while withdraw(&budgets, &uri(1), &policy) {}
        let same = Policy { is_idempotent: true, ..policy.clone() };
        assert!(!withdraw(&budgets, &uri(1), &same));
        let more = Policy { retry: policy.retry.max_retries(7), ..policy.clone() };
        let granted = (0..10).filter(|_| withdraw(&budgets, &uri(1), &more)).count();
        assert_eq!(granted, 2, "7 retries instead of 5");
        assert!(!withdraw(&budgets, &uri(1), &policy) && !withdraw(&budgets, &uri(1), &more));
        let free = Policy { budget: BudgetPolicy::Unlimited, ..policy };
        assert!(withdraw(&budgets, &uri(1), &free));
        let left = budgets.with(&uri(1), &free, |budget| budget.available(clock::now()));
        assert_eq!(left.map(Tokens::as_f64), None);
    }
}
