//! What is believed about the upstream: the limit, the latency without load, and when to measure it
//! again.
//!
//! A latency-based limit is only as good as its idea of the latency without load. Under sustained load
//! every latency that is seen contains waiting. A long-term average takes that for the normal state
//! after a while, allows more, and sees more waiting: it drifts upward without bound. A minimum does
//! not drift, but one lucky sample pins it, and it never learns that the upstream has become slower.
//!
//! So the baseline is *measured*: from attempts that found at most half of what the upstream works on
//! at once in flight, and so nobody waiting. Where calls come in bursts there are enough of those. Where
//! there are none for a while, a *probe* lowers the limit that far for a few round trips. If the baseline
//! is too high by a factor, so is the limit of the probe; but it is halved, and with it the error: it is
//! gone after a few probes, whatever it was.
//!
//! One client's probe drains one client's share of the queue. Probes therefore begin at whole multiples
//! of the interval: clients whose time is counted from the same moment probe together, and all see the
//! upstream without load.

use std::time::Duration;

use super::{
    average::MovingAverage,
    policy::{AdaptivePolicy, LimitAlgorithm, LimitRound},
    samples::{Plan, Sum, Window},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    limit: f64,
    /// Microseconds; what the algorithm compares with.
    baseline: MovingAverage,
    /// Microseconds; the latency that was measured without load, where it was.
    measured: Option<f64>,
    /// Microseconds; the latency of the last window.
    latency: f64,
    quiet: Sum,
    quiet_limit: u32,
    phase: Phase,
    next_probe: Duration,
    failed_probes: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Steady,
    /// The limit is low; what was sent before ends.
    Draining,
    /// What is sent now is measured.
    Probing,
    /// The limit is back, and the slower ones of what was measured end.
    Settling,
}

impl Estimate {
    pub(super) fn new(policy: &AdaptivePolicy, now: Duration) -> Self {
        Self {
            limit: f64::from(policy.initial()),
            baseline: MovingAverage::new(LONG_WINDOW, LONG_WARMUP),
            measured: None,
            latency: 0.0,
            quiet: Sum::default(),
            quiet_limit: (policy.initial() / 2).max(policy.min()),
            phase: Phase::Steady,
            next_probe: next_multiple(now, policy.probe_interval() / FIRST_PROBE),
            failed_probes: 0,
        }
    }

    /// Begins with `limit`, as far as `policy` allows it.
    pub(super) fn beginning_at(limit: u32, policy: &AdaptivePolicy, now: Duration) -> Self {
        Self { limit: policy.clamp(f64::from(limit)), ..Self::new(policy, now) }
    }

    /// Returns what is believed under `policy`, after another one ruled.
    pub(super) fn under(&self, policy: &AdaptivePolicy, now: Duration) -> Self {
        Self {
            limit: policy.clamp(self.limit),
            quiet_limit: self.quiet_limit.max(policy.min()),
            phase: Phase::Steady,
            next_probe: next_multiple(now, self.interval(policy)),
            ..*self
        }
    }

    /// Draws the conclusions from a window that closes at `now`.
    pub(super) fn close(&mut self, policy: &AdaptivePolicy, window: &Window, now: Duration) {
        let is_overloaded = window.overloaded != 0
            && policy.overload_ratio() <= share(window.overloaded, window.count());
        if is_overloaded {
            self.limit = policy.cut_limit(self.limit);
        }
        if self.phase == Phase::Draining {
            self.quiet = Sum::default();
            self.phase = Phase::Probing;
            return;
        }
        self.quiet = self.quiet.plus(window.quiet);
        if self.phase == Phase::Probing {
            // What a probe shows is for the baseline only. It is looked at when the next window closes:
            // without the slower attempts, which end until then, the mean would be too low.
            self.phase = Phase::Settling;
            return;
        }
        self.measure(policy, now);
        if let Some(latency) = window.latency() {
            self.learn(policy, window.in_flight_max, latency, is_overloaded);
        }
        if self.next_probe <= now {
            self.next_probe = next_multiple(now, self.interval(policy));
            if self.needs_probe(policy, window.in_flight_max) {
                self.phase = Phase::Draining;
            }
        }
    }

    /// Returns the limit that holds now.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 2,097,151")]
    pub(super) fn limit(&self) -> u32 {
        let limit = self.limit as u32;
        match self.phase {
            Phase::Steady | Phase::Settling => limit,
            Phase::Draining | Phase::Probing => limit.min(self.quiet_limit),
        }
    }

    /// Returns the baseline, where there is one.
    pub(super) fn baseline(&self) -> Option<Duration> {
        self.baseline.value().map(micros)
    }

    pub(super) fn latency(&self) -> Duration {
        micros(self.latency)
    }

    /// Returns when the window that opens at `now` may close.
    pub(super) fn plan(&self, policy: &AdaptivePolicy, now: Duration) -> Plan {
        let (quiet_limit, latencies) = (self.quiet_limit, |times| micros(self.latency * times));
        match self.phase {
            Phase::Steady | Phase::Settling => {
                // An answer to what was sent under the new limit is what the next window is about.
                let due = now + policy.window().max(latencies(2.0));
                let due = if now < self.next_probe { due.min(self.next_probe) } else { due };
                let samples = u64::from(policy.samples_min());
                Plan { due, late: None, quiet_limit, samples }
            }
            Phase::Draining => {
                let due = now + latencies(2.0);
                Plan { due, late: Some(due), quiet_limit, samples: 0 }
            }
            Phase::Probing => {
                let due = now + PROBE_MIN.max(latencies(4.0));
                let late = Some(now + PROBE_MIN.max(latencies(PROBE_LATENCIES_MAX)));
                Plan { due, late, quiet_limit, samples: quiet_samples(quiet_limit) }
            }
        }
    }

    /// Measures the latency without load, if enough attempts found little in flight.
    fn measure(&mut self, policy: &AdaptivePolicy, now: Duration) {
        let is_enough = quiet_samples(self.quiet_limit) <= self.quiet.count;
        if is_enough && let Some(seen) = self.quiet.mean() {
            self.quiet = Sum::default();
            let measured = match self.measured {
                // A small difference is as likely chance as change.
                Some(before) if seen < 2.0 * before && before < 2.0 * seen => (seen + before) / 2.0,
                _ => seen,
            };
            self.measured = Some(measured);
            self.baseline.set(measured);
            self.failed_probes = 0;
        } else if self.phase == Phase::Settling {
            self.failed_probes += 1;
        } else {
            return;
        }
        self.phase = Phase::Steady;
        self.next_probe = next_multiple(now, self.interval(policy));
    }

    /// Moves the baseline and the limit by the latency of a window.
    fn learn(&mut self, policy: &AdaptivePolicy, in_flight_max: u32, latency: f64, is_cut: bool) {
        self.latency = latency;
        let can_compare =
            policy.algorithm() == LimitAlgorithm::Aimd || self.baseline.value().is_some();
        match policy.algorithm() {
            LimitAlgorithm::Aimd => {}
            LimitAlgorithm::Vegas => {
                if self.baseline.value().is_none_or(|least| latency < least) {
                    self.baseline.set(latency);
                }
            }
            LimitAlgorithm::Gradient2 => self.lengthen(latency),
        }
        let baseline = self.baseline.value().unwrap_or(latency);
        let (base, seen) = (micros(baseline), micros(latency));
        if can_compare && !is_cut {
            let round = LimitRound { in_flight_max, baseline: base, latency: seen };
            self.limit = policy.next_limit(self.limit, &round);
        }
        // Little's law: what it works on at once is what it finishes in a baseline.
        let works_on = f64::from(in_flight_max) * (baseline / latency.max(1.0)).min(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction")]
        let half = (works_on / 2.0) as u32;
        self.quiet_limit = half.max(policy.min());
    }

    fn lengthen(&mut self, latency: f64) {
        self.baseline.add(latency);
        let Some(long) = self.baseline.value() else { return };
        // As Netflix does, so that the end of a slow time is believed sooner.
        let long = if 2.0 * latency < long { long * 0.95 } else { long };
        let highest = self.measured.map_or(f64::INFINITY, |measured| measured * UNMEASURED_MAX);
        self.baseline.set(long.min(highest));
    }

    /// Returns whether something is to be learned from a probe: the limit is near to what is in flight,
    /// and too little of that is quiet.
    fn needs_probe(&self, policy: &AdaptivePolicy, in_flight_max: u32) -> bool {
        policy.algorithm() != LimitAlgorithm::Aimd
            && self.limit <= 2.0 * f64::from(in_flight_max)
            && self.quiet_limit < in_flight_max
    }

    /// Returns how far apart probes are: the policy's interval, doubled while it is short beside the
    /// latency and for each probe that failed, at most four times each. Doubled, so that clients with
    /// different intervals still probe together now and then.
    fn interval(&self, policy: &AdaptivePolicy) -> Duration {
        let interval = policy.probe_interval();
        let least = self.latency() * INTERVAL_LATENCIES;
        let doubled = (0..4).take_while(|n| interval * (1 << n) < least).count();
        let failed = self.failed_probes.min(4);
        interval * (1 << doubled) * (1 << failed)
    }
}

/// How many samples measure the latency without load: at least 10, and up to four round trips of what
/// may be in flight.
fn quiet_samples(quiet_limit: u32) -> u64 {
    u64::from(quiet_limit).saturating_mul(4).clamp(10, 40)
}

/// Returns the first multiple of `step` after `now`.
fn next_multiple(now: Duration, step: Duration) -> Duration {
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let (now, step) = (nanos(now), nanos(step).max(1));
    Duration::from_nanos((now / step + 1).saturating_mul(step))
}

fn micros(micros: f64) -> Duration {
    Duration::from_secs_f64(micros.clamp(0.0, 1e12) / 1e6)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a window")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Netflix's `longWindow`, and the values that its average takes as they come.
const LONG_WINDOW: u32 = 600;
const LONG_WARMUP: u32 = 10;

/// The first baseline comes from connections that were just opened, so it is looked at sooner: after a
/// tenth of the interval.
const FIRST_PROBE: u32 = 10;

/// A probe lasts so long at least, for clients whose clocks differ a little; and at most so many times
/// the latency, if answers do not come: what is in flight may be bodies that are read for hours.
const PROBE_MIN: Duration = Duration::from_millis(100);
const PROBE_LATENCIES_MAX: f64 = 16.0;

/// Probes take about six round trips, so they are at least a hundred apart.
const INTERVAL_LATENCIES: u32 = 100;

/// How far the long-term latency may rise above what was measured without load.
const UNMEASURED_MAX: f64 = 1.5;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(algorithm: LimitAlgorithm) -> AdaptivePolicy {
        let policy = AdaptivePolicy::default().with_algorithm(algorithm);
        policy.with_window(SECOND * 60, 1).unwrap_or_default()
    }

    fn sum(millis: u64) -> Sum {
        Sum { count: 40, micros: 40 * millis * 1_000 }
    }

    /// A window of attempts that found little in flight, all of which took so long.
    fn quiet(millis: u64) -> Window {
        Window { quiet: sum(millis), in_flight_max: 1, ..Window::default() }
    }

    /// The same under load.
    fn loaded(millis: u64, in_flight_max: u32) -> Window {
        Window { loaded: sum(millis), in_flight_max, ..Window::default() }
    }

    fn baseline_micros(estimate: &Estimate) -> Option<u128> {
        estimate.baseline().map(|baseline| baseline.as_micros())
    }

    #[test]
    fn a_measurement_counts_half_unless_it_differs_by_a_factor_of_two() {
        let policy = policy(LimitAlgorithm::Aimd);
        let mut estimate = Estimate::new(&policy, Duration::ZERO);
        assert_eq!(baseline_micros(&estimate), None);
        for (millis, baseline) in
            [(12, 12_000), (10, 11_000), (13, 12_000), (24, 24_000), (12, 12_000), (30, 30_000)]
        {
            estimate.close(&policy, &quiet(millis), SECOND);
            assert_eq!(baseline_micros(&estimate), Some(baseline), "after {millis} ms");
        }
    }

    #[test]
    fn what_the_upstream_works_on_at_once_is_halved_for_what_counts_as_quiet() {
        let policy = policy(LimitAlgorithm::Aimd);
        let mut estimate = Estimate::new(&policy, Duration::ZERO);
        estimate.close(&policy, &quiet(10), SECOND);
        estimate.close(&policy, &loaded(20, 20), SECOND);
        assert_eq!(estimate.plan(&policy, SECOND).quiet_limit, 5, "20 of which half wait");
        estimate.close(&policy, &loaded(10, 1), SECOND);
        assert_eq!(estimate.plan(&policy, SECOND).quiet_limit, 1, "the lowest limit");
    }

    #[test]
    fn the_long_term_latency_falls_faster_from_more_than_twice_what_is_seen() {
        let policy = policy(LimitAlgorithm::Gradient2);
        let after = |latencies: &[u64]| {
            let mut estimate = Estimate::new(&policy, Duration::ZERO);
            for millis in latencies {
                estimate.close(&policy, &loaded(*millis, 1), SECOND);
            }
            baseline_micros(&estimate)
        };
        assert_eq!(after(&[100, 100]), Some(100_000));
        assert_eq!(after(&[300, 100]), Some(200_000), "just twice");
        assert_eq!(after(&[400, 100]), Some(237_500), "250 ms, and a twentieth less");
    }

    #[test]
    fn probes_are_at_least_a_hundred_latencies_apart_and_further_after_each_that_failed() {
        let policy = policy(LimitAlgorithm::Aimd);
        let due = |millis: u64, failed_probes: u32| {
            let mut estimate = Estimate::new(&policy, Duration::ZERO);
            estimate.close(&policy, &loaded(millis, 1), SECOND);
            // A failed probe keeps the latency; a measurement sets when the next one is.
            estimate.phase = Phase::Settling;
            estimate.failed_probes = failed_probes;
            estimate.close(&policy, &Window::default(), SECOND);
            estimate.next_probe.as_secs()
        };
        assert_eq!([due(300, 0), due(300, 1), due(300, 9)], [60, 120, 480]);
        assert_eq!([due(301, 0), due(1_200, 0), due(1_201, 0)], [120, 240, 480]);
        assert_eq!(due(60_000, 0), 960, "sixteen times");
    }
}
