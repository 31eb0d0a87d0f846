//! What to answer when a call has failed for good.

/// An answer that stands in for one that could not be had.
#[derive(Clone, Debug, PartialEq)]
pub struct FallbackPolicy {}
