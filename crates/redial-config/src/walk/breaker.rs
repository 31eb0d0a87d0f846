//! Breakers.

use redial_core::{Abandoned, BreakerPolicy, Window};

use super::{
    Walker,
    part::{Part, Refused},
};
use crate::{
    keys,
    tree::{Node, Value},
};

impl Walker {
    pub(super) fn breaker(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<BreakerPolicy>,
    ) -> Option<Option<BreakerPolicy>> {
        self.part(node, path, keys::BREAKER, base.unwrap_or_default(), |part| {
            part.put("consecutive_failures", Self::whole, BreakerPolicy::with_consecutive_failures);
            part.set("failure_ratio", Self::number, BreakerPolicy::with_failure_ratio);
            slow_calls(part);
            window(part);
            let open = *part.policy.open();
            part.backoff("open", &open, |policy, open| Ok(policy.with_open(open)?));
            part.put("pushback_max", Self::duration, BreakerPolicy::with_pushback_max);
            part.set("probes", Self::whole, BreakerPolicy::with_probes);
            part.set("probe_successes", Self::whole, BreakerPolicy::with_probe_successes);
            part.set("half_open_max", Self::duration, BreakerPolicy::with_half_open_max);
            part.put("abandoned", Self::abandoned, BreakerPolicy::with_abandoned);
            part.put("observe_only", Self::truth, BreakerPolicy::with_observe_only);
        })
    }

    fn abandoned(&mut self, node: &Node, path: &str) -> Option<Abandoned> {
        let choices = [Abandoned::Ignore, Abandoned::Failure].map(|choice| (choice.name(), choice));
        self.choice(node, path, &choices)
    }

    /// A length of time, or a number of calls.
    fn calls_or_time(&mut self, node: &Node, path: &str) -> Option<Window> {
        let window = match node.value {
            Value::Number(..) => Window::calls(self.whole(node, path)?),
            _ => Window::time(self.duration(node, path)?),
        };
        window.map_err(|error| self.wrong(&node.place, path, error.to_string())).ok()
    }
}

fn slow_calls(part: &mut Part<'_, '_, BreakerPolicy>) {
    let (after, ratio) =
        (part.get("slow_call", Walker::duration), part.get("slow_ratio", Walker::number));
    if after.is_none() && ratio.is_none() {
        return;
    }
    let is_said = ratio.is_some();
    let ratio = ratio.unwrap_or(part.policy.slow_ratio());
    match after.or(part.policy.slow_after()) {
        _ if !part.is_sound() => {}
        None if ratio == 0.0 => {}
        None => part.missing("slow_ratio", "a `slow_ratio` needs a `slow_call`"),
        Some(_) if ratio == 0.0 && !is_said => {
            part.missing("slow_call", "a `slow_call` needs a `slow_ratio`");
        }
        Some(after) => {
            // Which of the two it is that the setter may refuse.
            let key = if (0.0..=1.0).contains(&ratio) { "slow_call" } else { "slow_ratio" };
            part.settle(&[key], |policy| policy.with_slow_calls(after, ratio));
        }
    }
}

/// Both are set before either is looked at, so that the order of the keys does not matter.
fn window(part: &mut Part<'_, '_, BreakerPolicy>) {
    let window = part.get("window", Walker::calls_or_time);
    let min_calls = part.get("min_calls", Walker::whole::<u32>);
    let window = window.unwrap_or(part.policy.window());
    let is_said = min_calls.is_some();
    let min_calls = min_calls.unwrap_or(part.policy.min_calls());
    part.settle(&["min_calls", "window"], |policy| {
        let policy = policy.with_min_calls(0)?.with_window(window)?.with_min_calls(min_calls);
        policy.map_err(|error| {
            let refused = Refused::from(error);
            if is_said { refused } else { refused.suggest("set min_calls as well") }
        })
    });
}
