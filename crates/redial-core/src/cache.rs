//! What a cache may keep, and for how long after it went stale.

/// What a cache may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CachePolicy {}
