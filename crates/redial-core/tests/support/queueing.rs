//! An upstream with a number of workers and a queue, and clients that call it: a deterministic
//! simulation in virtual time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use redial_core::{AdaptiveLimit, AdaptivePolicy, Entropy, Health, LimitPermit};

/// How the upstream works, and how it is called.
#[derive(Clone, Copy)]
pub(crate) struct Upstream {
    pub(crate) workers: usize,
    /// How long the work on one call takes, by the time since the start and a draw within 0 to 1.
    pub(crate) service: fn(Duration, f64) -> Duration,
    /// Calls a second, at random, by the time since the start.
    pub(crate) arrivals: fn(Duration) -> f64,
    /// How many clients share the load, each with a limit of its own.
    pub(crate) clients: usize,
}

/// What came of it, from `from` on.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) limits: Vec<u32>,
    pub(crate) baselines: Vec<Duration>,
    pub(crate) latencies: Vec<Duration>,
    pub(crate) refused: usize,
    /// A second each.
    pub(crate) mean_limit: f64,
    pub(crate) per_second: f64,
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum Step {
    Done { job: usize },
    Arrival,
    Second,
}

/// Runs `upstream` for `length` behind limits by `policy`; what is before `from` is not reported.
pub(crate) fn run(
    upstream: &Upstream,
    policy: &AdaptivePolicy,
    from: Duration,
    length: Duration,
) -> Report {
    let epoch = epoch();
    let entropy = Entropy::seeded(7);
    let clients = vec![(); upstream.clients];
    let clients: Vec<_> = clients.iter().map(|()| AdaptiveLimit::new(policy, epoch)).collect();
    let mut jobs: Vec<Option<(LimitPermit<&AdaptiveLimit>, Duration)>> = Vec::new();
    let mut waiting = VecDeque::new();
    let (mut busy, mut report) = (0, Report::default());
    let mut steps = BinaryHeap::from([
        Reverse((Duration::ZERO, Step::Arrival)),
        Reverse((Duration::from_secs(1), Step::Second)),
    ]);
    while let Some(Reverse((now, step))) = steps.pop() {
        if length < now {
            break;
        }
        let begin = |job, steps: &mut BinaryHeap<_>| {
            let took = (upstream.service)(now, uniform(&entropy));
            steps.push(Reverse((now + took, Step::Done { job })));
        };
        match step {
            Step::Arrival => {
                let gap = -uniform(&entropy).ln() / (upstream.arrivals)(now);
                steps.push(Reverse((now + Duration::from_secs_f64(gap), Step::Arrival)));
                let client = &clients[jobs.len() % clients.len()];
                match LimitPermit::try_acquire(client, epoch + now) {
                    Ok(permit) if busy < upstream.workers => {
                        busy += 1;
                        begin(jobs.len(), &mut steps);
                        jobs.push(Some((permit, now)));
                    }
                    Ok(permit) => {
                        waiting.push_back(jobs.len());
                        jobs.push(Some((permit, now)));
                    }
                    Err(_) => {
                        report.refused += usize::from(from <= now);
                        jobs.push(None);
                    }
                }
            }
            Step::Done { job } => {
                let Some((permit, started)) = jobs[job].take() else { continue };
                permit.record(Health::Well, false, epoch + now);
                if from <= now {
                    report.latencies.push(now - started);
                }
                match waiting.pop_front() {
                    Some(job) => begin(job, &mut steps),
                    None => busy -= 1,
                }
            }
            Step::Second => {
                steps.push(Reverse((now + Duration::from_secs(1), Step::Second)));
                if from <= now {
                    report.look_at(&clients[0]);
                }
            }
        }
    }
    report.conclude(length - from)
}

impl Report {
    fn look_at(&mut self, client: &AdaptiveLimit) {
        self.limits.push(client.limit());
        self.baselines.extend(client.baseline());
    }

    fn conclude(mut self, span: Duration) -> Self {
        let sum: u32 = self.limits.iter().sum();
        self.mean_limit = f64::from(sum) / self.limits.len() as f64;
        self.per_second = self.latencies.len() as f64 / span.as_secs_f64();
        self.latencies.sort_unstable();
        self
    }

    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.latencies[self.latencies.len() * percent / 100]
    }

    pub(crate) fn refused_share(&self) -> f64 {
        self.refused as f64 / (self.refused + self.latencies.len()) as f64
    }
}

/// Within 0 to 1, both excluded.
fn uniform(entropy: &Entropy) -> f64 {
    ((entropy.draw() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}
