//! Refusing calls that would be refused anyway.

/// When to refuse calls locally, because most of them are refused at the upstream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThrottlePolicy {}
