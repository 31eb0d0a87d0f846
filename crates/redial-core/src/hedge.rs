//! When to send a second copy of a request while the first is still out.

/// When to hedge, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgePolicy {}
