//! Throttles of calls.

use redial_core::ThrottlePolicy;

use super::Walker;
use crate::{keys, tree::Node};

impl Walker {
    pub(super) fn throttle(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<ThrottlePolicy>,
    ) -> Option<Option<ThrottlePolicy>> {
        self.part(node, path, keys::THROTTLE, base.unwrap_or_default(), |part| {
            part.set("ratio", Self::number, ThrottlePolicy::ratio);
            part.set("window", Self::duration, ThrottlePolicy::window);
            part.set("padding", Self::whole, ThrottlePolicy::padding);
            part.set("probes_per_second", Self::number, ThrottlePolicy::probes_per_second);
            part.set("refused_max", Self::number, ThrottlePolicy::refused_max);
            part.put("count_refused", Self::truth, ThrottlePolicy::count_refused);
        })
    }
}
