//! Bodies: when they are given up, and how often they go on.

use redial_core::{ResumePolicy, StallPolicy};

use super::Walker;
use crate::{keys, tree::Node};

impl Walker {
    pub(super) fn resume(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<ResumePolicy>,
    ) -> Option<Option<ResumePolicy>> {
        self.part(node, path, keys::RESUME, base.unwrap_or_default(), |part| {
            part.put("max_resumes", Self::whole, ResumePolicy::max_resumes);
            let schedule = *part.policy.schedule();
            part.backoff("backoff", &schedule, |policy, backoff| Ok(policy.backoff(backoff)));
        })
    }

    pub(super) fn stall(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<StallPolicy>,
    ) -> Option<Option<StallPolicy>> {
        self.part(node, path, keys::STALL, base.unwrap_or_default(), |part| {
            // First, for only beside it may silence last for ever.
            let read = |walker: &mut Self, node: &Node, path: &str| {
                let entries = walker.table(node, path)?;
                walker.known(entries, path, keys::THROUGHPUT);
                let what = "a least throughput";
                let bytes = walker.need(node, path, (what, "bytes_per_second"), Self::size);
                let grace = walker.need(node, path, (what, "grace"), Self::duration);
                Some((bytes?, grace?))
            };
            part.set("throughput", read, |policy, (bytes, grace)| policy.throughput(bytes, grace));
            part.set("idle", Self::limit, StallPolicy::idle);
        })
    }
}
