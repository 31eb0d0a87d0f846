//! Bulkheads.

use redial_core::{BulkheadPolicy, BulkheadScope};

use super::{Walker, part::Part};
use crate::{keys, tree::Node};

impl Walker {
    pub(super) fn bulkhead(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<BulkheadPolicy>,
    ) -> Option<Option<BulkheadPolicy>> {
        self.part(node, path, keys::BULKHEAD, base.unwrap_or_default(), |part| {
            part.set("max_in_flight", Self::whole, |policy, calls| {
                let (queue, max_wait) = (policy.queue_max(), policy.max_wait());
                let policy = BulkheadPolicy::new(calls)?.with_scope(policy.scope());
                policy.with_queue(queue, max_wait)
            });
            queue(part);
            part.put("per", Self::scope, BulkheadPolicy::with_scope);
        })
    }

    fn scope(&mut self, node: &Node, path: &str) -> Option<BulkheadScope> {
        let choices = [("origin", BulkheadScope::Origin), ("all", BulkheadScope::All)];
        self.choice(node, path, &choices)
    }
}

fn queue(part: &mut Part<'_, '_, BulkheadPolicy>) {
    let queue = part.get("queue", Walker::whole::<u32>);
    let max_wait = part.get("max_wait", Walker::duration);
    if queue.is_none() && max_wait.is_none() {
        return;
    }
    let queue = queue.unwrap_or(part.policy.queue_max());
    let max_wait = max_wait.unwrap_or(part.policy.max_wait());
    part.settle(&["queue", "max_wait"], |policy| policy.with_queue(queue, max_wait));
}
