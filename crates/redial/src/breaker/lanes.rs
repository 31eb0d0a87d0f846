//! Handles that threads hold without meeting.

use std::{array, fmt, sync::Arc};

use redial_core::{Admission, Breaker};

/// Several handles to one `T`, each with a count of holders on a cache line of its own: threads that
/// hold different ones do not meet, as they would at the count of a single `Arc`.
pub(super) struct Lanes<T> {
    lanes: [Arc<Lane<T>>; Breaker::LANES],
}

/// One of the handles.
#[repr(align(128))]
pub(super) struct Lane<T> {
    shared: Arc<T>,
}

impl<T> Lanes<T> {
    pub(super) fn of(shared: &Arc<T>) -> Self {
        Self { lanes: array::from_fn(|_| Arc::new(Lane { shared: Arc::clone(shared) })) }
    }

    /// Returns a handle for whoever holds `admission`.
    #[inline]
    pub(super) fn get(&self, admission: &Admission) -> Arc<Lane<T>> {
        Arc::clone(&self.lanes[admission.lane() % Breaker::LANES])
    }
}

impl<T> Lane<T> {
    #[inline]
    pub(super) fn get(&self) -> &T {
        &self.shared
    }
}

impl<T> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}
