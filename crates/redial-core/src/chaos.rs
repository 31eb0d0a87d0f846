//! Failures on purpose, so that a client can be seen to survive them.

/// Which failures to inject, and where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChaosPolicy {}
