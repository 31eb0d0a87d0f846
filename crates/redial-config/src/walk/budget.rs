//! Budgets, in their three forms.

use redial_core::{BudgetPolicy, InvalidBudget, Throttle, TokenBudget, Tokens, WindowBudget};

use super::{Walker, join};
use crate::{
    keys,
    tree::{Node, Value},
};

impl Walker {
    /// Reads a budget. What is not said of its form is as in `base`, where that has the same form.
    pub(super) fn budget(
        &mut self,
        node: &Node,
        path: &str,
        base: BudgetPolicy,
    ) -> Option<BudgetPolicy> {
        if matches!(&node.value, Value::Text(text) if text == "unlimited") {
            return Some(BudgetPolicy::Unlimited);
        }
        let entries = self.table(node, path)?;
        self.known(entries, path, keys::BUDGET);
        let forms = [
            ("tokens", ["deposit", "max", "initial", "cost", "throttled_cost"].as_slice()),
            ("a window", &["ratio", "window"]),
            ("a throttle", &["throttle"]),
        ];
        let unsaid = match base {
            BudgetPolicy::Window(_) => "a window",
            _ => "tokens",
        };
        match self.form(node, path, "a budget", &forms, Some(unsaid))? {
            "a window" => self.window(node, path, base),
            "a throttle" => self.budget_throttle(node, path, base),
            _ => self.tokens(node, path, base),
        }
    }

    fn tokens(&mut self, node: &Node, path: &str, base: BudgetPolicy) -> Option<BudgetPolicy> {
        let base = match base {
            BudgetPolicy::Tokens(base) => base,
            _ => TokenBudget::default(),
        };
        let deposit = self.amount(node, path, "deposit")?.unwrap_or(base.deposit);
        let max = self.amount(node, path, "max")?.unwrap_or(base.max);
        let initial = self.amount(node, path, "initial")?.or(base.initial);
        let floor_per_second = self.amount(node, path, "floor")?.unwrap_or(base.floor_per_second);
        let cost = self.amount(node, path, "cost")?.unwrap_or(base.cost);
        // One that is not said costs as much as any other, unless it did not before.
        let is_same = base.cost == base.throttled_cost;
        let unsaid = if is_same { cost } else { base.throttled_cost };
        let throttled_cost = self.amount(node, path, "throttled_cost")?.unwrap_or(unsaid);
        Some(BudgetPolicy::Tokens(TokenBudget {
            deposit,
            max,
            initial,
            floor_per_second,
            cost,
            throttled_cost,
        }))
    }

    fn window(&mut self, node: &Node, path: &str, base: BudgetPolicy) -> Option<BudgetPolicy> {
        let base = match base {
            BudgetPolicy::Window(base) => base,
            _ => WindowBudget::default(),
        };
        let ratio = self.amount(node, path, "ratio")?.unwrap_or(base.ratio);
        let floor = self.amount(node, path, "floor")?.unwrap_or(base.floor_per_second);
        let window = match node.get("window") {
            Some(window) => self.duration(window, &join(path, "window"))?,
            None => base.window,
        };
        let window = WindowBudget::new(ratio.as_f64(), floor.as_f64(), window);
        let place = node.get("window").unwrap_or(node);
        self.valid(place, &join(path, "window"), window).map(BudgetPolicy::Window)
    }

    fn budget_throttle(
        &mut self,
        node: &Node,
        path: &str,
        base: BudgetPolicy,
    ) -> Option<BudgetPolicy> {
        let throttle = node.get("throttle")?;
        let path = join(path, "throttle");
        let entries = self.table(throttle, &path)?;
        self.known(entries, &path, keys::BUDGET_THROTTLE);
        let mut number = |key: &str, base: Option<f64>| match base {
            Some(base) if throttle.get(key).is_none() => Some(base),
            _ => self.need(throttle, &path, ("a throttle", key), Self::number),
        };
        let (max, ratio) = match base {
            BudgetPolicy::Throttle(base) => (Some(base.max.as_f64()), Some(base.ratio.as_f64())),
            _ => (None, None),
        };
        let (max, ratio) = (number("max_tokens", max), number("token_ratio", ratio));
        let throttle_policy = Throttle::new(max?, ratio?);
        self.valid(throttle, &path, throttle_policy).map(BudgetPolicy::Throttle)
    }

    /// Returns a number of tokens, where there is one; nothing where it is wrong.
    #[expect(clippy::option_option, reason = "absent and wrong are not the same")]
    fn amount(&mut self, node: &Node, path: &str, key: &str) -> Option<Option<Tokens>> {
        let Some(node) = node.get(key) else { return Some(None) };
        let path = join(path, key);
        let number = self.number(node, &path)?;
        self.valid(node, &path, Tokens::try_from(number)).map(Some)
    }

    fn valid<T>(&mut self, node: &Node, path: &str, made: Result<T, InvalidBudget>) -> Option<T> {
        made.map_err(|error| self.wrong(&node.place, path, error.to_string())).ok()
    }
}
