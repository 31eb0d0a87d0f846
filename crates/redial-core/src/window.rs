//! Exact counts over a sliding window: the last calls, or the last span of time.
//!
//! Entering a call and reading the counts cost the same however many calls there were. Nothing locks,
//! and a call that went well writes to one word.

mod calls;
mod span;
mod stamped;

use std::{fmt, time::Duration};

pub(crate) use self::stamped::Stamped;
use self::{calls::LastCalls, span::LastSpan};
use crate::sync::lane;

/// Which calls count: the last so many, or those of the last span of time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::Window;
///
/// let window = Window::calls(100)?;
/// assert_eq!((window.call_count(), window.span()), (Some(100), None));
/// assert_eq!(Window::calls(0).unwrap_err().to_string(), "window of 0 calls is not within 1 to 10000");
/// assert_eq!(Window::time(Duration::from_secs(10))?.to_string(), "10s");
/// # Ok::<(), redial_core::InvalidWindow>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Window {
    shape: Shape,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Shape {
    Calls(u32),
    /// In nanoseconds, which are compared and divided by as they are.
    Time(u64),
}

/// The size given for a window is out of range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidWindow {
    /// The number of calls is not within 1 to 10,000.
    Calls(u32),
    /// The span is not within 100 ms to 1 h.
    Time(Duration),
}

/// What is counted of one call.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sample {
    /// Whether it failed.
    pub is_failure: bool,
    /// Whether it was slow; a failed one may be both.
    pub is_slow: bool,
}

/// What is in a window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// All calls.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that were slow.
    pub slow: u64,
}

/// Counts of calls over a sliding window. Lock-free; exact whenever no thread is in the middle of
/// entering a call.
///
/// Calls are entered and counted under a *generation*; those of another one do not count. Going on to
/// the next generation therefore clears the window at once, for everybody, and what comes late from the
/// one before is dropped.
///
/// A window of time is cut into ten slices that begin with multiples of a tenth of it, so a call
/// counts for nine to ten tenths of the window.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_core::{Counts, Sample, SlidingCounts, Window};
///
/// let at = Duration::from_secs;
/// let counts = SlidingCounts::new(Window::time(at(10))?);
/// let failure = Sample { is_failure: true, is_slow: false };
/// counts.enter(failure, 0, at(0));
/// counts.enter(Sample::default(), 0, at(4));
/// assert_eq!(counts.read(0, at(9)), Counts { calls: 2, failures: 1, slow: 0 });
/// assert_eq!(counts.read(0, at(10)), Counts { calls: 1, failures: 0, slow: 0 });
/// assert_eq!(counts.read(1, at(10)), Counts::default(), "cleared");
/// # Ok::<(), redial_core::InvalidWindow>(())
/// ```
pub struct SlidingCounts {
    window: Window,
    kind: Kind,
}

enum Kind {
    Calls(LastCalls),
    Time(LastSpan),
}

impl Window {
    /// Creates a window of the last `calls` calls. A call costs two bits.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidWindow::Calls`] unless `1 <= calls <= 10,000`.
    pub const fn calls(calls: u32) -> Result<Self, InvalidWindow> {
        if calls < 1 || CALLS_MAX < calls {
            return Err(InvalidWindow::Calls(calls));
        }
        Ok(Self { shape: Shape::Calls(calls) })
    }

    /// Creates a window of the last `span`.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidWindow::Time`] unless the span is within 100 ms to 1 h.
    pub fn time(span: Duration) -> Result<Self, InvalidWindow> {
        if span < SPAN_MIN || SPAN_MAX < span {
            return Err(InvalidWindow::Time(span));
        }
        Ok(Self { shape: Shape::Time(nanos(span)) })
    }

    /// Returns how many calls it holds, if that is what bounds it.
    #[must_use]
    pub const fn call_count(&self) -> Option<u32> {
        match self.shape {
            Shape::Calls(calls) => Some(calls),
            Shape::Time(_) => None,
        }
    }

    /// Returns how long it is, if that is what bounds it.
    #[must_use]
    pub const fn span(&self) -> Option<Duration> {
        match self.shape {
            Shape::Calls(_) => None,
            Shape::Time(nanos) => Some(Duration::from_nanos(nanos)),
        }
    }

    /// Returns a window of `seconds`, which are in range.
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self { shape: Shape::Time(seconds * NANOS_A_SECOND) }
    }
}

impl SlidingCounts {
    /// Creates an empty window. This is the only time that it allocates: about 1 KiB for a window of
    /// time, a quarter of a byte a call for one of calls.
    #[must_use]
    pub fn new(window: Window) -> Self {
        let kind = match window.shape {
            Shape::Calls(calls) => Kind::Calls(LastCalls::new(calls)),
            Shape::Time(nanos) => Kind::Time(LastSpan::new(nanos)),
        };
        Self { window, kind }
    }

    /// Returns which calls count.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// Enters a call that ended at `elapsed` since whenever time is counted from.
    pub fn enter(&self, sample: Sample, generation: u32, elapsed: Duration) {
        self.enter_at(lane(), sample, generation, nanos(elapsed));
    }

    /// Returns what is in the window at `elapsed`.
    #[must_use]
    pub fn read(&self, generation: u32, elapsed: Duration) -> Counts {
        self.read_at(generation, nanos(elapsed))
    }

    /// Returns whether it matters when a call ends.
    #[inline]
    pub(crate) const fn has_clock(&self) -> bool {
        matches!(self.kind, Kind::Time(_))
    }

    #[inline]
    pub(crate) fn enter_at(&self, lane: u8, sample: Sample, generation: u32, nanos: u64) {
        match &self.kind {
            Kind::Calls(calls) => calls.enter(sample, generation),
            Kind::Time(span) => span.enter(lane, sample, generation, nanos),
        }
    }

    pub(crate) fn read_at(&self, generation: u32, nanos: u64) -> Counts {
        match &self.kind {
            Kind::Calls(calls) => calls.counts(generation),
            Kind::Time(span) => span.counts(generation, nanos),
        }
    }
}

/// Returns `span` in whole nanoseconds; what is longer than five centuries is as long as that.
#[inline]
pub(crate) const fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(NANOS_A_SECOND).saturating_add(span.subsec_nanos() as u64)
}

impl fmt::Debug for SlidingCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlidingCounts").field("window", &self.window).finish_non_exhaustive()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::Calls(calls) => write!(f, "{calls} calls"),
            Shape::Time(nanos) => write!(f, "{:?}", Duration::from_nanos(nanos)),
        }
    }
}

impl fmt::Display for InvalidWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls(calls) => {
                write!(f, "window of {calls} calls is not within 1 to {CALLS_MAX}")
            }
            Self::Time(span) => {
                write!(f, "window {span:?} is not within {SPAN_MIN:?} to 1h")
            }
        }
    }
}

impl std::error::Error for InvalidWindow {}

const CALLS_MAX: u32 = 10_000;
const SPAN_MIN: Duration = Duration::from_millis(100);
const SPAN_MAX: Duration = Duration::from_secs(3_600);
const NANOS_A_SECOND: u64 = 1_000_000_000;

#[cfg(all(test, not(loom)))]
mod tests;
