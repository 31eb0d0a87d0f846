//! What a policy for chaos cannot mean.

use std::{error::Error, fmt, time::Duration};

/// Why a policy for chaos cannot be.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum InvalidChaos {
    /// A share is not a number between 0 and 1.
    Share {
        /// The share.
        share: f64,
    },
    /// A rule has two measures of how often it hits.
    Frequencies {
        /// The one that was there.
        first: &'static str,
        /// The one that came second.
        second: &'static str,
    },
    /// A rule would do two things of which only one can happen.
    Effects {
        /// The one that was there.
        first: &'static str,
        /// The one that came second.
        second: &'static str,
    },
    /// A pattern is empty and would never match.
    EmptyPattern,
    /// This is no method.
    Method {
        /// What was given.
        method: String,
    },
    /// This is no status of a final answer.
    Status {
        /// What was given.
        status: u16,
    },
    /// This is no header field.
    Header {
        /// The field's name.
        name: String,
    },
    /// A shortest delay is above the longest one.
    Uniform {
        /// The shortest delay.
        from: Duration,
        /// The longest delay.
        to: Duration,
    },
    /// A log-normal delay has no median, or a spread that is not a number from 0 to 10.
    LogNormal {
        /// The median.
        median: Duration,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
    /// Hardly any value would be below the longest delay.
    Max {
        /// The longest delay.
        max: Duration,
    },
    /// A body that is slowed to nothing at all, or not at all.
    Pace,
    /// A rule that does nothing.
    NoEffect,
    /// Header fields, or the moment after the answer, without a status or a reset.
    WithoutAnswer {
        /// What was set.
        what: &'static str,
    },
}

impl fmt::Display for InvalidChaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share { share } => write!(f, "a share of {share} is not between 0 and 1"),
            Self::Frequencies { first, second } => {
                write!(f, "a rule with {first} cannot have {second} as well")
            }
            Self::Effects { first, second } => {
                write!(f, "a rule with {first} cannot have {second} as well: only one can happen")
            }
            Self::EmptyPattern => f.write_str("an empty pattern matches nothing; `*` matches all"),
            Self::Method { method } => write!(f, "{method:?} is not a method"),
            Self::Status { status } => {
                write!(f, "status {status} is not that of a final answer, between 200 and 599")
            }
            Self::Header { name } => write!(f, "{name:?} and its value are not a header field"),
            Self::Uniform { from, to } => {
                write!(f, "the shortest delay {from:?} is above the longest one {to:?}")
            }
            Self::LogNormal { median, sigma } => write!(
                f,
                "a median of {median:?} with sigma {sigma} is not possible: the median must be \
                 above 0, and sigma between 0 and 10"
            ),
            Self::Max { max } => {
                write!(f, "a longest delay of {max:?} is below almost every value")
            }
            Self::Pace => f.write_str("a slow body needs a speed, or a pause, above 0"),
            Self::NoEffect => f.write_str("a rule must do something"),
            Self::WithoutAnswer { what } => {
                write!(f, "{what} needs a status or a reset that it belongs to")
            }
        }
    }
}

impl Error for InvalidChaos {}
