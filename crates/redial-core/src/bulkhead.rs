//! How many calls at once, by a fixed number.

/// How many calls may be in flight, and how many may wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BulkheadPolicy {}
