//! Rate limits.

use redial_core::{FieldName, RateKey, RateLimitPolicy};

use super::{Walker, part::Part};
use crate::{keys, tree::Node};

impl Walker {
    pub(super) fn rate_limit(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<RateLimitPolicy>,
    ) -> Option<Option<RateLimitPolicy>> {
        let part = self.part(node, path, keys::RATE_LIMIT, base, |part| {
            rate(part);
            // Without a rate there is nothing to set, and nothing to say but what was said.
            part.set("burst", Self::whole, |policy, burst| {
                policy.map(|policy| policy.burst(burst)).transpose()
            });
            part.set("max_wait", Self::duration, |policy, max_wait| {
                policy.map(|policy| policy.max_wait(max_wait)).transpose()
            });
            part.put("key", Self::rate_key, |policy, key| policy.map(|policy| policy.key(key)));
        });
        part.map(Option::flatten)
    }

    /// `origin`, `all`, or `header:` and a name.
    fn rate_key(&mut self, node: &Node, path: &str) -> Option<RateKey> {
        let word = self.word(node, path)?;
        let Some(name) = word.strip_prefix("header:") else {
            let (origin, all) = (Some(RateKey::Origin), Some(RateKey::All));
            let choices = [("origin", origin), ("all", all), ("header:NAME", None)];
            return self.choice(node, path, &choices).flatten();
        };
        let name = FieldName::new(name);
        let name = name.map_err(|error| self.wrong(&node.place, path, error.to_string()));
        name.ok().map(RateKey::Field)
    }
}

fn rate(part: &mut Part<'_, '_, Option<RateLimitPolicy>>) {
    let before = part.policy;
    let permits = part.get("permits", Walker::whole).or(before.map(|before| before.permits()));
    let per = part.get("per", Walker::duration).or(before.map(|before| before.period()));
    match (permits, per) {
        (Some(permits), Some(per)) => {
            let is_same = before.is_some_and(|b| (b.permits(), b.period()) == (permits, per));
            if is_same {
                return;
            }
            part.settle(&["permits", "per"], |before| {
                let policy = RateLimitPolicy::new(permits, per)?;
                let Some(before) = before else { return Ok(Some(policy)) };
                policy.max_wait(before.longest_wait()).map(|p| Some(p.key(*before.rate_key())))
            });
        }
        _ if !part.is_sound() => {}
        (None, None) => part.missing("", "a rate limit has `permits` and `per`"),
        (None, _) => part.missing("", "a rate limit has `permits`"),
        (_, None) => part.missing("", "a rate limit has `per`"),
    }
}
