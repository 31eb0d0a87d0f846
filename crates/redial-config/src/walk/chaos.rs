//! Failures on purpose.

use std::sync::Arc;

use redial_core::{ChaosPolicy, ChaosRule, Cut, InvalidChaos, Latency, Pace};

use super::{Walker, join, part::Part};
use crate::{
    keys,
    tree::{Node, Value},
};

impl Walker {
    pub(super) fn chaos(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<&ChaosPolicy>,
    ) -> Option<Option<Arc<ChaosPolicy>>> {
        let base = base.cloned().unwrap_or_default();
        let part = self.part(node, path, keys::CHAOS, base, |part| {
            part.put("enabled", Self::truth, ChaosPolicy::enabled);
            part.put("seed", Self::whole::<u64>, ChaosPolicy::seed);
            part.set("rules", Self::rules, |policy, rules| {
                let none = ChaosPolicy::default().enabled(policy.is_enabled());
                let none = none.seed(policy.fixed_seed());
                rules.into_iter().try_fold(none, ChaosPolicy::rule)
            });
        });
        part.map(|policy| policy.map(Arc::new))
    }

    /// Reads a list of rules; only those that do something are in it.
    fn rules(&mut self, node: &Node, path: &str) -> Option<Vec<ChaosRule>> {
        let Value::List(items) = &node.value else {
            self.wrong(&node.place, path, format!("expected a list, found {}", node.kind()));
            return None;
        };
        if RULES_MAX < items.len() {
            self.wrong(&node.place, path, format!("more than {RULES_MAX} rules"));
            return None;
        }
        let rules =
            (0..).zip(items).filter_map(|(n, node)| self.rule(node, &format!("{path}.{n}")));
        Some(rules.collect())
    }

    fn rule(&mut self, node: &Node, path: &str) -> Option<ChaosRule> {
        self.table(node, path)?;
        let before = self.problems.len();
        let rule = self.build(node, path, keys::CHAOS_RULE, ChaosRule::new(), |part| {
            which(part);
            part.put("latency", Self::latency, ChaosRule::latency);
            part.set("status", Self::whole, ChaosRule::status);
            part.headers(ChaosRule::header);
            part.set("reset", Self::truth, |rule, resets| match resets {
                true => rule.reset(),
                false => Ok(rule),
            });
            part.put("after", Self::truth, ChaosRule::after);
            part.set("truncate", Self::truncate, ChaosRule::truncate);
            part.set("slow_body", Self::slow_body, ChaosRule::slow_body);
            // What a rule lacks is seen when it joins a policy.
            part.settle(&[], |rule| ChaosPolicy::default().rule(rule.clone()).map(|_| rule));
        });
        (self.problems.len() == before).then_some(rule)
    }

    fn methods(&mut self, node: &Node, path: &str) -> Option<Vec<String>> {
        let methods = self.words(node, path);
        if METHODS_MAX < methods.len() {
            self.wrong(&node.place, path, format!("more than {METHODS_MAX} methods"));
            return None;
        }
        Some(methods)
    }

    fn chaos_pattern(&mut self, node: &Node, path: &str) -> Option<String> {
        self.text(node, path, PATTERN_BYTES_MAX)
    }

    fn latency(&mut self, node: &Node, path: &str) -> Option<Latency> {
        let entries = self.table(node, path)?;
        self.known(entries, path, keys::LATENCY);
        let forms = [
            ("fixed", ["fixed"].as_slice()),
            ("a range", &["from", "to"]),
            ("a median", &["median", "sigma", "max"]),
        ];
        let what = "a latency";
        let made = match self.form(node, path, what, &forms, None)? {
            "fixed" => {
                Ok(Latency::fixed(self.need(node, path, (what, "fixed"), Self::duration)?))
            }
            "a range" => {
                let from = self.need(node, path, ("a range", "from"), Self::duration);
                let to = self.need(node, path, ("a range", "to"), Self::duration);
                Latency::uniform(from?, to?)
            }
            _ => {
                let median = self.need(node, path, ("a median", "median"), Self::duration);
                let sigma = self.need(node, path, ("a median", "sigma"), Self::number);
                let made = Latency::log_normal(median?, sigma?);
                match node.get("max") {
                    Some(max) => {
                        let max = self.duration(max, &join(path, "max"))?;
                        made.and_then(|latency| latency.max(max))
                    }
                    None => made,
                }
            }
        };
        self.made(node, path, made)
    }

    fn truncate(&mut self, node: &Node, path: &str) -> Option<Cut> {
        let entries = self.table(node, path)?;
        self.known(entries, path, keys::TRUNCATE);
        let (what, forms) =
            ("a truncation", [("bytes", ["bytes"].as_slice()), ("a share", &["share"])]);
        let made = match self.form(node, path, what, &forms, None)? {
            "bytes" => Ok(Cut::after(self.need(node, path, (what, "bytes"), Self::size)?)),
            _ => Cut::share(self.need(node, path, (what, "share"), Self::number)?),
        };
        self.made(node, path, made)
    }

    fn slow_body(&mut self, node: &Node, path: &str) -> Option<Pace> {
        let entries = self.table(node, path)?;
        self.known(entries, path, keys::SLOW_BODY);
        let forms = [("a speed", ["bytes_per_second"].as_slice()), ("a pause", &["pause"])];
        let what = "a slow body";
        let made = match self.form(node, path, what, &forms, None)? {
            "a speed" => {
                let speed = self.need(node, path, (what, "bytes_per_second"), Self::size)?;
                Pace::bytes_per_second(speed)
            }
            _ => Pace::pause(self.need(node, path, (what, "pause"), Self::duration)?),
        };
        self.made(node, path, made)
    }

    fn made<T>(&mut self, node: &Node, path: &str, made: Result<T, InvalidChaos>) -> Option<T> {
        made.map_err(|error| self.wrong(&node.place, path, error.to_string())).ok()
    }
}

/// Which requests, and how many of them.
fn which(part: &mut Part<'_, '_, ChaosRule>) {
    part.set("host", Walker::chaos_pattern, |rule, host| rule.host(&host));
    part.set("path", Walker::chaos_pattern, |rule, path| rule.path(&path));
    part.set("method", Walker::methods, |rule, methods| {
        methods.iter().try_fold(rule, |rule, method| rule.method(method))
    });
    part.set("rate", Walker::number, ChaosRule::rate);
    part.set("at_most", Walker::whole, ChaosRule::at_most);
    part.set("first", Walker::whole, ChaosRule::first);
}

/// Each rule is looked at for each request.
const RULES_MAX: usize = 256;
const METHODS_MAX: usize = 32;
const PATTERN_BYTES_MAX: usize = 1_024;
