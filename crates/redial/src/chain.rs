//! Walking the causes of an error, for transports that say what theirs mean with
//! [`Diagnose`](crate::Diagnose).
//!
//! Errors are told apart by their types, never by their words. A standard [`io::Error`] hides the
//! error that it wraps from [`Error::source`] and shows that one's cause instead, so it is opened
//! here.

use std::{error::Error, io, iter};

/// Returns `error` and everything that caused it, outermost first.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| next(*error))
}

fn next<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// Returns the outermost cause of type `E`.
pub fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_io_error_wraps_is_found() {
        let inner = io::Error::other(std::fmt::Error);
        let outer = io::Error::new(io::ErrorKind::InvalidData, inner);
        assert!(find::<std::fmt::Error>(&outer).is_some());
        assert!(find::<std::num::ParseIntError>(&outer).is_none());
        assert_eq!(causes(&outer).count(), 3);
    }
}
