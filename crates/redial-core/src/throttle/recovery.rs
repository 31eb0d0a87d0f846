//! How long a throttle takes to let go: the mean of what it does, run through in small steps.

use std::time::Duration;

use super::{
    counts::{SLICES, Seen},
    policy::ThrottlePolicy,
};

/// A throttle's window in small steps, and the load on it.
struct Run<'a> {
    policy: &'a ThrottlePolicy,
    calls_per_step: f64,
    probes_per_step: f64,
    steps: [Step; STEPS],
    oldest: usize,
    sum: Step,
}

#[derive(Clone, Copy, Default)]
struct Step {
    requests: f64,
    accepts: f64,
}

/// Returns the recovery from an outage that fills the window, at a constant load.
pub(super) fn after_outage(policy: &ThrottlePolicy, calls_per_second: f64) -> Duration {
    let per_window = calls_per_second * policy.span().as_secs_f64();
    if !calls_per_second.is_finite() || calls_per_second < CALLS_PER_SECOND_MIN {
        return Duration::ZERO;
    }
    let mut run = Run::new(policy, per_window);
    let requests = if policy.does_count_refused() { per_window } else { run.sent_in_outage() };
    run.fill(|_| Step { requests: requests / AS_MANY, accepts: 0.0 });
    run.finish()
}

/// Returns the recovery from what was counted, slice by slice, the current one first.
#[expect(clippy::cast_precision_loss, reason = "22 bits a slice")]
pub(super) fn from(policy: &ThrottlePolicy, by_age: [Seen; SLICES]) -> Duration {
    let total = |count: fn(&Seen) -> u64| by_age.iter().map(count).sum::<u64>();
    let requests = total(|seen| seen.requests);
    let refusal = policy.refusal(requests, total(|seen| seen.accepts));
    // Where only what was sent is counted, the load is what would leave that after refusing.
    let let_through = if policy.does_count_refused() { 1.0 } else { 1.0 - refusal };
    let mut run = Run::new(policy, requests as f64 / let_through.max(f64::EPSILON));
    run.fill(|age| {
        let Seen { requests, accepts } = by_age[age];
        Step { requests: requests as f64 / PER_SLICE, accepts: accepts as f64 / PER_SLICE }
    });
    run.finish()
}

impl<'a> Run<'a> {
    fn new(policy: &'a ThrottlePolicy, per_window: f64) -> Self {
        let probes = policy.probe_rate() * policy.span().as_secs_f64();
        Self {
            policy,
            calls_per_step: per_window / AS_MANY,
            probes_per_step: probes / AS_MANY,
            steps: [Step::default(); STEPS],
            oldest: 0,
            sum: Step::default(),
        }
    }

    /// Fills the window with `of` the age in slices.
    fn fill(&mut self, of: impl Fn(usize) -> Step) {
        for (n, step) in self.steps.iter_mut().rev().enumerate() {
            *step = of(n * SLICES / STEPS);
            self.sum.requests += step.requests;
            self.sum.accepts += step.accepts;
        }
    }

    /// Lets the upstream take everything, until nearly all goes through.
    fn finish(mut self) -> Duration {
        let step = self.policy.span().as_secs_f64() / AS_MANY;
        let mut passed = 0.0;
        for _ in 0..WINDOWS_MAX * STEPS {
            let sent = self.sent(self.refusal(self.sum));
            if LET_GO * self.calls_per_step <= sent {
                break;
            }
            let counts_refused = self.policy.does_count_refused();
            let requests = if counts_refused { self.calls_per_step } else { sent };
            self.push(Step { requests, accepts: sent });
            passed += step;
        }
        Duration::from_secs_f64(passed)
    }

    fn push(&mut self, step: Step) {
        let left = std::mem::replace(&mut self.steps[self.oldest], step);
        self.oldest = (self.oldest + 1) % STEPS;
        self.sum.requests += step.requests - left.requests;
        self.sum.accepts += step.accepts - left.accepts;
    }

    /// Returns how many calls of a step are sent: those that go by chance, and a probe after each gap
    /// between them that is long enough.
    fn sent(&self, refusal: f64) -> f64 {
        let by_chance = self.calls_per_step * (1.0 - refusal);
        if self.probes_per_step == 0.0 {
            return by_chance;
        }
        let gaps_closed = -(-by_chance / self.probes_per_step).exp_m1();
        let with_probes =
            if gaps_closed == 0.0 { self.probes_per_step } else { by_chance / gaps_closed };
        with_probes.min(self.calls_per_step)
    }

    /// Returns how many calls of a window are sent while none is accepted: as many as leave a
    /// refusal that lets as many through.
    fn sent_in_outage(&self) -> f64 {
        let (mut low, mut high) = (0.0, self.calls_per_step * AS_MANY);
        for _ in 0..HALVINGS {
            let requests = f64::midpoint(low, high);
            let refusal = self.refusal(Step { requests, accepts: 0.0 });
            if requests < self.sent(refusal) * AS_MANY {
                low = requests;
            } else {
                high = requests;
            }
        }
        high
    }

    fn refusal(&self, Step { requests, accepts }: Step) -> f64 {
        let refused = requests - self.policy.accepted_ratio() * accepts;
        let share = refused / (requests + f64::from(self.policy.request_padding()));
        share.clamp(0.0, self.policy.most_refused())
    }
}

/// Steps in a window, twenty a slice.
const STEPS: usize = 20 * SLICES;
#[expect(clippy::cast_precision_loss, reason = "two hundred")]
const AS_MANY: f64 = STEPS as f64;
#[expect(clippy::cast_precision_loss, reason = "twenty")]
const PER_SLICE: f64 = (STEPS / SLICES) as f64;
/// When a throttle has let go: 99 % of the calls go through.
const LET_GO: f64 = 0.99;
/// The book's figures at their worst, a ratio of 1.1 and 10,000 calls a second, take 60.
const WINDOWS_MAX: usize = 200;
/// More than a double has digits.
const HALVINGS: u32 = 64;
const CALLS_PER_SECOND_MIN: f64 = 1.0 / 3_600.0;
