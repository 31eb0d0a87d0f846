//! A breaker, its policy and a clock that is set by hand.

use std::time::{Duration, Instant};

use redial_core::{
    Admission, Backoff, Breaker, BreakerPolicy, BreakerRefusal, BreakerState, Health, Jitter,
};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Bench {
    pub(crate) breaker: Breaker,
    pub(crate) policy: BreakerPolicy,
    pub(crate) now: Instant,
}

impl Bench {
    pub(crate) fn new(policy: BreakerPolicy) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
        let now = Instant::now();
        Self { breaker: Breaker::new(&policy, now), policy, now }
    }

    pub(crate) fn half_open(&mut self) {
        self.breaker.open(Some(SECOND), self.now);
        self.now += SECOND;
        self.ends(Health::Unknown);
        assert_eq!(self.breaker.state(), BreakerState::HalfOpen);
    }

    pub(crate) fn admit(&self) -> Result<Admission, BreakerRefusal> {
        self.breaker.admit(&self.policy, self.now, || 0)
    }

    pub(crate) fn record(&self, admission: Admission, end: Health) {
        self.breaker.record(&self.policy, admission, end.into(), self.now, || 0);
    }

    pub(crate) fn ends(&self, end: Health) {
        if let Ok(admission) = self.admit() {
            self.record(admission, end);
        }
    }

    pub(crate) fn step(&mut self, event: &str) {
        match event {
            "S" | "200" => self.ends(Health::Well),
            "F" | "502" => self.ends(Health::Failed),
            "429" => self.ends(Health::Overloaded),
            wait => {
                let seconds = wait.trim_matches(['+', 's']).parse().unwrap();
                self.now += Duration::from_secs_f64(seconds);
            }
        }
    }

    /// As `step`, for `502 x3` as well.
    pub(crate) fn steps(&mut self, event: &str) {
        let (event, times) = event.split_once(" x").unwrap_or((event, "1"));
        (0..times.parse().unwrap()).for_each(|_: u32| self.step(event));
    }

    pub(crate) fn shown(&self) -> String {
        self.breaker.state().name().replace('_', "-")
    }
}

/// A policy in which nothing opens, and one probe decides.
pub(crate) fn only() -> BreakerPolicy {
    BreakerPolicy::default()
        .with_consecutive_failures(0)
        .with_failure_ratio(0.0)
        .and_then(|policy| policy.with_min_calls(1))
        .and_then(|policy| policy.with_probes(1))
        .and_then(|policy| policy.with_probe_successes(1))
        .unwrap()
}

pub(crate) fn waits(first: u32, longest: u32) -> Backoff {
    let doubling = Backoff::exponential(SECOND * first, 2.0, SECOND * longest).unwrap();
    doubling.jitter(Jitter::None).unwrap()
}
