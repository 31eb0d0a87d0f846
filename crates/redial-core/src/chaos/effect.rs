//! What happens to the body of an answer.

use std::time::Duration;

use super::invalid::InvalidChaos;

/// Where a body ends in an error.
///
/// All bytes before it are handed on. A body that is shorter ends as it would have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    After(u64),
    Share(f64),
}

/// How slowly a body comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    measure: Measure,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Measure {
    BytesPerSecond(u64),
    Pause(Duration),
}

impl Cut {
    /// Cuts after `bytes` bytes.
    #[must_use]
    pub const fn after(bytes: u64) -> Self {
        Self { place: Place::After(bytes) }
    }

    /// Cuts after a share of the whole length, rounded down. With 1 every byte comes, and then the
    /// error in the place of the end.
    ///
    /// A body that does not tell its length is cut within its first piece.
    ///
    /// # Errors
    ///
    /// If `share` is not between 0 and 1.
    pub fn share(share: f64) -> Result<Self, InvalidChaos> {
        if !(0.0..=1.0).contains(&share) {
            return Err(InvalidChaos::Share { share });
        }
        Ok(Self { place: Place::Share(share) })
    }

    /// Returns after how many bytes a body of `length` bytes ends.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of a length is between 0 and that length"
    )]
    pub fn at(&self, length: u64) -> u64 {
        match self.place {
            Place::After(bytes) => bytes,
            Place::Share(share) => ((length as f64 * share) as u64).min(length),
        }
    }

    /// Returns the number of bytes, where it does not depend on the body's length.
    #[must_use]
    pub const fn fixed(&self) -> Option<u64> {
        match self.place {
            Place::After(bytes) => Some(bytes),
            Place::Share(_) => None,
        }
    }
}

impl Pace {
    /// Lets `bytes` bytes pass each second: in pieces of a tenth of that, or single ones.
    ///
    /// # Errors
    ///
    /// If it is 0: that is a body which never comes, which a long [`pause`](Self::pause) is.
    pub const fn bytes_per_second(bytes: u64) -> Result<Self, InvalidChaos> {
        if bytes == 0 {
            return Err(InvalidChaos::Pace);
        }
        Ok(Self { measure: Measure::BytesPerSecond(bytes) })
    }

    /// Waits before each piece, in whatever pieces the body comes.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub const fn pause(pause: Duration) -> Result<Self, InvalidChaos> {
        if pause.is_zero() {
            return Err(InvalidChaos::Pace);
        }
        Ok(Self { measure: Measure::Pause(pause) })
    }

    /// Returns how many bytes a piece has at most.
    #[must_use]
    pub const fn piece_bytes_max(&self) -> u64 {
        match self.measure {
            Measure::BytesPerSecond(bytes) if bytes < PIECES_PER_SECOND => 1,
            Measure::BytesPerSecond(bytes) => bytes / PIECES_PER_SECOND,
            Measure::Pause(_) => u64::MAX,
        }
    }

    /// Returns how long a piece of `bytes` bytes waits before it is handed on.
    #[must_use]
    pub fn wait(&self, bytes: u64) -> Duration {
        match self.measure {
            Measure::BytesPerSecond(speed) => {
                let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(speed);
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
            Measure::Pause(pause) => pause,
        }
    }
}

/// Often enough to look like a stream, and seldom enough to cost nothing.
const PIECES_PER_SECOND: u64 = 10;
