//! How long an injected delay is.

use std::time::Duration;

use super::{
    invalid::InvalidChaos,
    normal::{cumulative, quantile},
};

/// How long injected delays are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Uniform {
        from: Duration,
        to: Duration,
    },
    /// `below` is the share of all values that are not above the longest one.
    LogNormal {
        median: Duration,
        sigma: f64,
        max: Option<Duration>,
        below: f64,
    },
}

impl Latency {
    /// Delays each request by the same time.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self { shape: Shape::Uniform { from: delay, to: delay } }
    }

    /// Delays by any time from `from` to `to`, each as likely as the other.
    ///
    /// # Errors
    ///
    /// If `from` is above `to`.
    pub fn uniform(from: Duration, to: Duration) -> Result<Self, InvalidChaos> {
        if to < from {
            return Err(InvalidChaos::Uniform { from, to });
        }
        Ok(Self { shape: Shape::Uniform { from, to } })
    }

    /// Delays as real servers do: half of the requests by less than `median`, and few by very much
    /// more. `sigma` is the standard deviation of the delay's logarithm; 0.4 makes one in a hundred
    /// 2.5 times as long as the median, as in WireMock's documentation.
    ///
    /// # Errors
    ///
    /// If `median` is zero, or `sigma` is not between 0 and 10.
    pub fn log_normal(median: Duration, sigma: f64) -> Result<Self, InvalidChaos> {
        if median.is_zero() || !(0.0..=10.0).contains(&sigma) {
            return Err(InvalidChaos::LogNormal { median, sigma });
        }
        Ok(Self { shape: Shape::LogNormal { median, sigma, max: None, below: 1.0 } })
    }

    /// Draws values above `max` again: they are not cut down to it, so that it is not the most
    /// frequent one.
    ///
    /// # Errors
    ///
    /// If fewer than one value in a billion would be below `max`; and for delays that are not
    /// log-normal, if `max` is below the longest one.
    pub fn max(self, max: Duration) -> Result<Self, InvalidChaos> {
        match self.shape {
            Shape::Uniform { to, .. } if to <= max => Ok(self),
            Shape::Uniform { .. } => Err(InvalidChaos::Max { max }),
            Shape::LogNormal { median, sigma, .. } => {
                let distance = (max.as_secs_f64() / median.as_secs_f64()).ln();
                // Without a spread all values are the median.
                let below = match distance {
                    _ if median <= max && sigma == 0.0 => 1.0,
                    _ if sigma == 0.0 => 0.0,
                    distance => cumulative(distance / sigma),
                };
                if below.is_nan() || below < SHARE_MIN {
                    return Err(InvalidChaos::Max { max });
                }
                Ok(Self { shape: Shape::LogNormal { median, sigma, max: Some(max), below } })
            }
        }
    }

    /// Returns the delay that 64 uniformly random bits stand for. Every draw is valid.
    #[must_use]
    pub fn delay(&self, draw: u64) -> Duration {
        match self.shape {
            Shape::Uniform { from, to } => {
                let nanos = u64::try_from((to - from).as_nanos()).unwrap_or(u64::MAX);
                let part = ((u128::from(nanos) + 1) * u128::from(draw)) >> 64;
                from.saturating_add(Duration::from_nanos(u64::try_from(part).unwrap_or(nanos)))
            }
            Shape::LogNormal { median, sigma, max, below } => {
                // A share of the values that are not above the longest one: drawing again until one
                // fits has the same distribution and no bound.
                let z = quantile(between_zero_and_one(draw) * below);
                let seconds = median.as_secs_f64() * (sigma * z).exp();
                let delay = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
                delay.min(max.unwrap_or(Duration::MAX))
            }
        }
    }
}

/// The middle of one of 2⁵² steps: never 0 and never 1, where the quantiles are infinite.
#[expect(clippy::cast_precision_loss, reason = "52 bits are exact")]
fn between_zero_and_one(draw: u64) -> f64 {
    ((draw >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// About six standard deviations below the median.
const SHARE_MIN: f64 = 1e-9;
