//! How many calls at once, learned from how long they take.

/// How a limit on calls in flight is learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptivePolicy {}
