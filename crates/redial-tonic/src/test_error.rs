//! An error around an error, for tests.

/// What a transport puts around a cause.
#[derive(Debug, thiserror::Error)]
#[error("outer")]
pub(crate) struct Outer(#[source] redial::BoxError);

/// Wraps `error`.
pub(crate) fn outer(error: impl Into<redial::BoxError>) -> Outer {
    Outer(error.into())
}
