//! How many connections there may be, and for how long.

use std::time::Duration;

/// What the builder settled about the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) connect_timeout: Duration,
    /// As long as `connect_timeout` if there is none.
    pub(crate) acquire_timeout: Option<Duration>,
    /// How long a call waits for a connection to come back before one is made for it.
    pub(crate) patience: Duration,
    pub(crate) idle_timeout: Duration,
    /// 0 for none.
    pub(crate) max_lifetime: Duration,
    pub(crate) max_open: usize,
    pub(crate) max_open_per_host: usize,
    pub(crate) max_idle: usize,
    pub(crate) max_idle_per_host: usize,
    pub(crate) max_waiting_per_host: usize,
    /// 0 for never.
    pub(crate) leak_after: Duration,
}

impl Limits {
    pub(crate) fn acquire_timeout(&self) -> Duration {
        self.acquire_timeout.unwrap_or(self.connect_timeout)
    }

    pub(crate) fn keeps_any(&self) -> bool {
        0 < self.max_idle && 0 < self.max_idle_per_host && !self.idle_timeout.is_zero()
    }

    /// Returns how old a connection may become. `draw` is anything that differs from connection to
    /// connection: those of one burst do not all end in one instant.
    pub(crate) fn lifetime(&self, draw: u64) -> Option<Duration> {
        let less = self.max_lifetime / LIFETIME_SPREAD;
        let part = u32::try_from(draw % 1024).unwrap_or(0);
        (!self.max_lifetime.is_zero()).then(|| self.max_lifetime - less * part / 1024)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            acquire_timeout: None,
            patience: Duration::from_millis(10),
            idle_timeout: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(30 * 60),
            max_open: 4096,
            max_open_per_host: 512,
            max_idle: 1024,
            max_idle_per_host: 512,
            max_waiting_per_host: 8192,
            leak_after: Duration::from_secs(5 * 60),
        }
    }
}

/// Lifetimes are up to this part of themselves shorter.
const LIFETIME_SPREAD: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_spread_over_the_last_tenth() {
        let limits = Limits { max_lifetime: Duration::from_secs(100), ..Limits::default() };
        for draw in (0..5000).chain([u64::MAX]) {
            let lifetime = limits.lifetime(draw).unwrap();
            assert!(Duration::from_secs(90) <= lifetime && lifetime <= limits.max_lifetime);
        }
        assert_ne!(limits.lifetime(1), limits.lifetime(2));
        let endless = Limits { max_lifetime: Duration::ZERO, ..limits };
        assert_eq!(endless.lifetime(7), None);
    }
}
