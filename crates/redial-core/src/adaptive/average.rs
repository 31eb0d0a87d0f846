//! An average that forgets.

/// An average of about the last `window` values: the plain mean of the first few, then exponential.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MovingAverage {
    value: f64,
    weight: f64,
    warmup: u32,
    count: u32,
}

impl MovingAverage {
    /// Creates an average without a value. The first `warmup` values count alike, and at least the
    /// first one is taken as it is.
    pub(crate) fn new(window: u32, warmup: u32) -> Self {
        let weight = 2.0 / (f64::from(window) + 1.0);
        Self { value: 0.0, weight, warmup: warmup.max(1), count: 0 }
    }

    pub(crate) fn add(&mut self, value: f64) {
        let weight = if self.count < self.warmup {
            self.count += 1;
            1.0 / f64::from(self.count)
        } else {
            self.weight
        };
        self.value += (value - self.value) * weight;
    }

    /// Goes on from `value`.
    pub(crate) fn set(&mut self, value: f64) {
        self.value = value;
        self.count = self.count.max(1);
    }

    /// Returns the average, where there is one.
    pub(crate) fn value(&self) -> Option<f64> {
        (self.count != 0).then_some(self.value)
    }
}
