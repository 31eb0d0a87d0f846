//! How many calls a second.

/// How many calls a second, and what becomes of those above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimitPolicy {}
