//! Fallbacks.

use std::sync::Arc;

use redial_core::{FallbackPolicy, InvalidFallback};

use super::{
    Walker,
    part::{Part, Refused},
};
use crate::{keys, tree::Node};

impl Walker {
    pub(super) fn fallback(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<&FallbackPolicy>,
    ) -> Option<Option<Arc<FallbackPolicy>>> {
        let base = base.cloned().unwrap_or_default();
        let part = self.part(node, path, keys::FALLBACK, base, |part| {
            answer(part);
            part.headers(FallbackPolicy::with_header);
            part.set("on", Self::list, |policy, words| {
                let made = policy.with_trigger_words(words.iter().map(String::as_str));
                made.map_err(|error| {
                    let meant = match &error {
                        InvalidFallback::Trigger(word) => keys::meant(word, TRIGGERS),
                        _ => None,
                    };
                    let refused = Refused::from(error);
                    match meant {
                        Some(meant) => refused.suggest(format!("did you mean `{meant}`?")),
                        None => refused,
                    }
                })
            });
        });
        part.map(|policy| policy.map(Arc::new))
    }
}

/// The body goes first, and comes back last, so that only the two final values are compared.
fn answer(part: &mut Part<'_, '_, FallbackPolicy>) {
    let status = part.get("status", Walker::whole).unwrap_or(part.policy.status());
    let read = |walker: &mut Walker, node: &Node, path: &str| {
        walker.text(node, path, usize::MAX).map(String::into_bytes)
    };
    let body = part.get("body", read).unwrap_or_else(|| part.policy.body().to_vec());
    part.settle(&["status"], |policy| policy.with_body("")?.with_status(status));
    part.settle(&["body", "status"], |policy| policy.with_body(body));
}

/// The words of [`FallbackPolicy::with_trigger_words`].
const TRIGGERS: [&str; 4] = ["error", "refusal", "5xx", "4xx"];
