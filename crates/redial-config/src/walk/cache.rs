//! Caches.

use redial_core::CachePolicy;

use super::{Walker, part::Part};
use crate::{keys, tree::Node};

impl Walker {
    pub(super) fn cache(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<CachePolicy>,
    ) -> Option<Option<CachePolicy>> {
        self.part(node, path, keys::CACHE, base.unwrap_or_default(), |part| {
            sizes(part);
            work(part);
            part.set("coalesce_wait", Self::duration, CachePolicy::with_wait_max);
        })
    }
}

/// The smallest of all bodies first, so that only the two final sizes are compared.
fn sizes(part: &mut Part<'_, '_, CachePolicy>) {
    let bytes = part.get("max_bytes", Walker::size).unwrap_or(part.policy.bytes_max());
    let body = part.get("max_body", Walker::size).unwrap_or(part.policy.body_bytes_max());
    part.settle(&["max_bytes"], |policy| policy.with_body_bytes_max(1)?.with_bytes_max(bytes));
    part.settle(&["max_body", "max_bytes"], |policy| policy.with_body_bytes_max(body));
}

/// All there is to do first, so that only what is finally left is looked at.
fn work(part: &mut Part<'_, '_, CachePolicy>) {
    let (stores, shares) = (part.get("store", Walker::truth), part.get("coalesce", Walker::truth));
    let if_error = part.get("stale_if_error", Walker::duration);
    let meanwhile = part.get("stale_while_revalidate", Walker::duration);
    let before = part.policy;
    let stores = stores.unwrap_or(before.is_storing());
    let shares = shares.unwrap_or(before.is_coalescing());
    part.settle(&["store", "coalesce"], |policy| {
        let policy = policy.with_coalescing(true)?;
        let policy = policy.with_stale_if_error(std::time::Duration::ZERO)?;
        let policy = policy.with_stale_while_revalidate(std::time::Duration::ZERO)?;
        policy.with_storing(stores)?.with_coalescing(shares)
    });
    let if_error = if_error.unwrap_or(before.stale_if_error());
    part.settle(&["stale_if_error", "store"], |policy| policy.with_stale_if_error(if_error));
    let meanwhile = meanwhile.unwrap_or(before.stale_while_revalidate());
    part.settle(&["stale_while_revalidate", "store"], |policy| {
        policy.with_stale_while_revalidate(meanwhile)
    });
}
