//! Hedging.

use std::time::Duration;

use redial_core::{HedgePolicy, InvalidHedge, Quantile};

use super::{Walker, part::Part};
use crate::{
    keys,
    tree::{Node, Value},
};

/// After what a copy is sent.
#[derive(Clone, Copy)]
enum Delay {
    Fixed(Duration),
    Tracked(Quantile),
}

impl Walker {
    pub(super) fn hedge(
        &mut self,
        node: &Node,
        path: &str,
        base: Option<HedgePolicy>,
    ) -> Option<Option<HedgePolicy>> {
        self.part(node, path, keys::HEDGE, base.unwrap_or_default(), |part| {
            part.set("delay", Self::delay, with_delay);
            part.set("initial_delay", Self::duration, HedgePolicy::with_initial_delay);
            bounds(part);
            part.set("max_hedges", Self::whole, HedgePolicy::with_max_hedges);
        })
    }

    /// A quantile, like `p95`, or a length of time.
    fn delay(&mut self, node: &Node, path: &str) -> Option<Delay> {
        match &node.value {
            Value::Text(text) if text.starts_with('p') => {
                let quantile: Result<Quantile, InvalidHedge> = text.parse();
                let wrong = |error: InvalidHedge| {
                    self.wrong(&node.place, path, error.to_string());
                };
                quantile.map_err(wrong).ok().map(Delay::Tracked)
            }
            _ => self.duration(node, path).map(Delay::Fixed),
        }
    }
}

/// Keeps everything that is not the delay, as far as it goes with it.
fn with_delay(policy: HedgePolicy, delay: Delay) -> Result<HedgePolicy, InvalidHedge> {
    let mut made = match delay {
        Delay::Fixed(delay) => HedgePolicy::fixed(delay),
        Delay::Tracked(quantile) => HedgePolicy::tracked(quantile)?,
    };
    if let (Some(initial), Some((min, max)), Delay::Tracked(_)) =
        (policy.initial_delay(), policy.bounds(), delay)
    {
        made = made.with_initial_delay(initial)?.with_bounds(min, max)?;
    }
    made.with_max_hedges(policy.max_hedges())
}

fn bounds(part: &mut Part<'_, '_, HedgePolicy>) {
    let (min, max) =
        (part.get("min_delay", Walker::duration), part.get("max_delay", Walker::duration));
    if min.is_none() && max.is_none() {
        return;
    }
    let before = part.policy.bounds().unwrap_or((Duration::ZERO, Duration::MAX));
    let (min, max) = (min.unwrap_or(before.0), max.unwrap_or(before.1));
    part.settle(&["min_delay", "max_delay"], |policy| policy.with_bounds(min, max));
}
