//! Adaptive limits.

use redial_core::{AdaptivePolicy, LimitAlgorithm};

use super::{Walker, part::Part};
use crate::{keys, tree::Node};

impl Walker {
    pub(super) fn adaptive_limit(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<AdaptivePolicy>,
    ) -> Option<Option<AdaptivePolicy>> {
        self.part(node, path, keys::ADAPTIVE_LIMIT, base.unwrap_or_default(), |part| {
            part.put("algorithm", Self::algorithm, AdaptivePolicy::with_algorithm);
            limits(part);
            part.set("tolerance", Self::number, AdaptivePolicy::with_tolerance);
            part.set("slow_after", Self::duration, AdaptivePolicy::with_slow_after);
            part.set("overload_ratio", Self::number, AdaptivePolicy::with_overload_ratio);
            part.set("window", Self::duration, |policy, window| {
                policy.with_window(window, policy.samples_min())
            });
            part.set("samples", Self::whole, |policy, samples| {
                policy.with_window(policy.window(), samples)
            });
            part.set("probe_interval", Self::duration, AdaptivePolicy::with_probe_interval);
        })
    }

    fn algorithm(&mut self, node: &Node, path: &str) -> Option<LimitAlgorithm> {
        let all = [LimitAlgorithm::Aimd, LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2];
        self.choice(node, path, &all.map(|algorithm| (algorithm.name(), algorithm)))
    }
}

fn limits(part: &mut Part<'_, '_, AdaptivePolicy>) {
    let mut read = |key| part.get(key, Walker::whole::<u32>);
    let (min, initial, max) = (read("min"), read("initial"), read("max"));
    if min.is_none() && initial.is_none() && max.is_none() {
        return;
    }
    let (min, max) = (min.unwrap_or(part.policy.min()), max.unwrap_or(part.policy.max()));
    // A beginning that nobody has set gives way to bounds that somebody has.
    let initial = initial.unwrap_or(part.policy.initial().min(max).max(min));
    part.settle(&["initial", "min", "max"], |policy| policy.with_limits(min, initial, max));
}
