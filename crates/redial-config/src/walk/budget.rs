//! Budgets, in their three forms.

use redial_core::{BudgetPolicy, InvalidBudget, Throttle, TokenBudget, Tokens, WindowBudget};

use super::{Walker, join};
use crate::{
    keys,
    tree::{Node, Value},
    units,
};

impl Walker {
    pub(super) fn budget(&mut self, node: &Node, path: &str) -> Option<BudgetPolicy> {
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
        let of = |names: &[&str]| names.iter().any(|name| node.get(name).is_some());
        let meant: Vec<_> =
            forms.iter().filter(|(_, names)| of(names)).map(|(form, _)| *form).collect();
        match meant[..] {
            [] | ["tokens"] => self.tokens(node, path),
            ["a window"] => self.window(node, path),
            ["a throttle"] => self.throttle(node, path),
            _ => {
                let rule =
                    format!("a budget has one form; this has keys of {}", meant.join(" and "));
                self.wrong(&node.place, path, rule);
                None
            }
        }
    }

    fn tokens(&mut self, node: &Node, path: &str) -> Option<BudgetPolicy> {
        let default = TokenBudget::default();
        let deposit = self.amount(node, path, "deposit")?.unwrap_or(default.deposit);
        let max = self.amount(node, path, "max")?.unwrap_or(default.max);
        let initial = self.amount(node, path, "initial")?;
        let floor_per_second =
            self.amount(node, path, "floor")?.unwrap_or(default.floor_per_second);
        let cost = self.amount(node, path, "cost")?.unwrap_or(default.cost);
        // One that is not said costs as much as any other.
        let throttled_cost = self.amount(node, path, "throttled_cost")?.unwrap_or(cost);
        Some(BudgetPolicy::Tokens(TokenBudget {
            deposit,
            max,
            initial,
            floor_per_second,
            cost,
            throttled_cost,
        }))
    }

    fn window(&mut self, node: &Node, path: &str) -> Option<BudgetPolicy> {
        let default = WindowBudget::default();
        let ratio = self.amount(node, path, "ratio")?.unwrap_or(default.ratio);
        let floor = self.amount(node, path, "floor")?.unwrap_or(default.floor_per_second);
        let window = match node.get("window") {
            Some(window) => self.read(window, &join(path, "window"), units::parse_duration)?,
            None => default.window,
        };
        let window = WindowBudget::new(ratio.as_f64(), floor.as_f64(), window);
        self.valid(node, path, window).map(BudgetPolicy::Window)
    }

    fn throttle(&mut self, node: &Node, path: &str) -> Option<BudgetPolicy> {
        let throttle = node.get("throttle")?;
        let path = join(path, "throttle");
        let entries = self.table(throttle, &path)?;
        self.known(entries, &path, keys::THROTTLE);
        let mut number = |key: &str| {
            let node = throttle.get(key);
            if node.is_none() {
                self.wrong(&throttle.place, &path, format!("a throttle has `{key}`"));
            }
            node.and_then(|node| self.number(node, &join(&path, key)))
        };
        let (max, ratio) = (number("max_tokens"), number("token_ratio"));
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
