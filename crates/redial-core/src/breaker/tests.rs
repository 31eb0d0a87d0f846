#![expect(clippy::unwrap_used, reason = "policies that are known to be valid")]
#![expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]

mod properties;

use std::time::{Duration, Instant};

use super::*;
use crate::{Assessment, Backoff, Counts, Health, Jitter, Window};

const SECOND: Duration = Duration::from_secs(1);

/// Two in a row, or half of at least four within 10 s; open for 5 s, then 10 s, then 20 s.
fn policy() -> BreakerPolicy {
    BreakerPolicy::default()
        .with_consecutive_failures(2)
        .with_min_calls(4)
        .and_then(|policy| policy.with_open(doubling(60)))
        .unwrap()
}

fn doubling(max: u64) -> Backoff {
    let backoff = Backoff::exponential(SECOND * 5, 2.0, SECOND * u32::try_from(max).unwrap());
    backoff.unwrap().jitter(Jitter::None).unwrap()
}

fn never() -> u64 {
    panic!("nothing is drawn here")
}

const REASONS: [TripReason; 6] = [
    TripReason::ConsecutiveFailures { failures: 5 },
    TripReason::FailureRatio { failures: 12, calls: 20 },
    TripReason::SlowRatio { slow: 18, calls: 20 },
    TripReason::ProbeFailed,
    TripReason::HalfOpenExpired,
    TripReason::Manual,
];

struct Bench {
    breaker: Breaker,
    policy: BreakerPolicy,
    now: Instant,
}

impl Bench {
    fn new(policy: BreakerPolicy) -> Self {
        let now = Instant::now();
        Self { breaker: Breaker::new(&policy, now), policy, now }
    }

    fn wait(&mut self, span: Duration) -> &mut Self {
        self.now += span;
        self
    }

    fn acquire(&self) -> Result<Ticket<'_>, BreakerRefusal> {
        self.breaker.try_acquire(&self.policy, self.now, || 0)
    }

    fn ends(&self, end: impl Into<Assessment>) -> Option<BreakerChange> {
        self.acquire().unwrap().record(end, self.now, || 0)
    }

    /// A call that takes a while.
    fn takes(&mut self, span: Duration, end: Health) -> Option<BreakerChange> {
        let admission = self.breaker.admit(&self.policy, self.now, never).unwrap();
        self.now += span;
        self.breaker.record(&self.policy, admission, end.into(), self.now, || 0)
    }

    fn is_refused_for(&self, span: Duration) -> bool {
        let refusal = self.acquire().expect_err("refused");
        refusal.retry_after == Some(span)
    }

    fn trip(&self) {
        while self.breaker.state() != BreakerState::Open {
            self.ends(Health::Failed);
        }
    }
}

#[test]
fn failures_in_a_row_open_at_the_stated_number_and_a_success_starts_over() {
    let bench = Bench::new(policy().with_failure_ratio(0.0).unwrap().with_consecutive_failures(3));
    for end in [Health::Failed, Health::Overloaded, Health::Well, Health::Failed, Health::Failed] {
        assert_eq!(bench.ends(end), None);
    }
    bench.ends(Health::Well);
    bench.ends(Health::Failed);
    bench.ends(Health::Overloaded);
    let reason = Some(TripReason::ConsecutiveFailures { failures: 3 });
    let opened = BreakerChange { from: BreakerState::Closed, to: BreakerState::Open, reason };
    assert_eq!(bench.ends(Health::Failed), Some(opened));
    assert_eq!(bench.breaker.snapshot(bench.now).last_trip, reason);
}

#[test]
fn a_share_of_failures_opens_once_there_are_enough_calls() {
    let mut bench = Bench::new(policy().with_consecutive_failures(0));
    for end in [Health::Failed, Health::Failed, Health::Well] {
        assert_eq!(bench.wait(SECOND).ends(end), None);
    }
    let reason = TripReason::FailureRatio { failures: 3, calls: 4 };
    assert_eq!(bench.ends(Health::Failed).unwrap().reason, Some(reason));
}

#[test]
fn a_share_below_the_stated_one_leaves_it_closed() {
    let bench = Bench::new(policy().with_consecutive_failures(0));
    for end in [[Health::Well; 4].as_slice(), &[Health::Failed; 3]].concat() {
        assert_eq!(bench.ends(end), None, "three of seven at most");
    }
    assert_eq!(bench.ends(Health::Failed).unwrap().to, BreakerState::Open, "a half");
}

#[test]
fn a_share_of_slow_calls_opens_and_a_slow_probe_has_failed() {
    let slow = policy().with_slow_calls(SECOND, 0.5).unwrap();
    let mut bench = Bench::new(slow);
    bench.takes(SECOND - Duration::from_nanos(1), Health::Well);
    bench.takes(SECOND / 2, Health::Well);
    bench.takes(SECOND, Health::Well);
    let reason = TripReason::SlowRatio { slow: 2, calls: 4 };
    assert_eq!(bench.takes(SECOND, Health::Well).unwrap().reason, Some(reason));
    bench.wait(SECOND * 5);
    let probe = bench.takes(SECOND, Health::Well).unwrap();
    assert_eq!((probe.to, probe.reason), (BreakerState::Open, Some(TripReason::ProbeFailed)));
}

#[test]
fn the_short_way_counts_what_went_well_and_nothing_else() {
    let mut bench = Bench::new(policy().with_slow_calls(SECOND, 1.0).unwrap());
    let admit = |bench: &Bench| bench.breaker.admit(&bench.policy, bench.now, || 0).unwrap();
    bench.ends(Health::Failed);
    let (well, slow) = (admit(&bench), admit(&bench));
    assert!(bench.breaker.record_well(&well, bench.now));
    assert!(!bench.breaker.record_well(&slow, bench.now + SECOND), "slow");
    let snapshot = bench.breaker.snapshot(bench.now);
    assert_eq!((snapshot.counts.calls, snapshot.consecutive_failures), (2, 0));
    let stale = admit(&bench);
    bench.trip();
    assert!(bench.breaker.record_well(&stale, bench.now), "nothing is left to do");
    bench.wait(SECOND * 5);
    let probe = admit(&bench);
    assert!(!bench.breaker.record_well(&probe, bench.now), "a probe");
    assert_eq!(bench.breaker.snapshot(bench.now).probes_out, 1);
}

#[test]
fn triggers_that_are_off_never_open() {
    let off = policy().with_consecutive_failures(0).with_failure_ratio(0.0).unwrap();
    let bench = Bench::new(off.with_slow_calls(Duration::ZERO, 0.0).unwrap());
    assert!((0..1_000).all(|_| bench.ends(Health::Failed).is_none()));
}

#[test]
fn it_stays_open_longer_from_trip_to_trip_and_starts_over_once_closed() {
    let mut bench = Bench::new(policy().with_probe_successes(1).unwrap());
    bench.trip();
    for span in [5, 10, 20, 40, 60, 60].map(Duration::from_secs) {
        assert!(bench.is_refused_for(span));
        bench.wait(span - Duration::from_nanos(1));
        assert!(bench.is_refused_for(Duration::from_nanos(1)));
        bench.wait(Duration::from_nanos(1));
        assert_eq!(bench.ends(Health::Failed).unwrap().reason, Some(TripReason::ProbeFailed));
    }
    assert_eq!(bench.breaker.snapshot(bench.now).trips, 7);
    bench.wait(SECOND * 60);
    assert_eq!(bench.ends(Health::Well).unwrap().to, BreakerState::Closed);
    bench.trip();
    assert!(bench.is_refused_for(SECOND * 5));
}

#[test]
fn jitter_spreads_the_open_time_as_the_draw_says() {
    let policy = BreakerPolicy::default().with_consecutive_failures(1);
    for (draw, span) in [(0, 4), (u64::MAX, 6)] {
        let bench = Bench::new(policy);
        let ticket = bench.acquire().unwrap();
        ticket.record(Health::Failed, bench.now, || draw);
        assert!(bench.is_refused_for(SECOND * span));
    }
}

#[test]
fn the_upstreams_wish_keeps_it_open_longer_up_to_a_bound() {
    let bench = Bench::new(policy().with_consecutive_failures(1));
    for (wish, span) in [(1, 5), (30, 30), (1_000, 120)].map(|(w, s)| (SECOND * w, SECOND * s)) {
        bench.breaker.reset(bench.now);
        bench.ends(Assessment { health: Health::Overloaded, pushback: Some(wish) });
        assert!(bench.is_refused_for(span), "{wish:?}");
    }
    let eternal = bench.policy.with_pushback_max(Duration::MAX);
    let bench = Bench::new(eternal);
    bench.ends(Assessment { health: Health::Failed, pushback: Some(Duration::MAX) });
    assert!(bench.acquire().unwrap_err().retry_after.is_some(), "no overflow");
    assert_eq!(bench.breaker.snapshot(bench.now).state, BreakerState::Open);
}

#[test]
fn as_many_probes_go_out_as_stated_and_others_are_refused_meanwhile() {
    let mut bench = Bench::new(policy().with_probe_successes(5).unwrap());
    bench.trip();
    bench.wait(SECOND * 5);
    let [first, second, third] = [(); 3].map(|()| bench.acquire().unwrap());
    let opened = first.admission().unwrap().change().unwrap();
    assert_eq!((opened.from, opened.to), (BreakerState::Open, BreakerState::HalfOpen));
    assert!(second.admission().unwrap().is_probe());
    let refusal = bench.acquire().unwrap_err();
    assert_eq!(refusal, BreakerRefusal { retry_after: None, change: None });
    assert_eq!(refusal.to_string(), "the breaker is open");
    first.record(Health::Well, bench.now, never);
    second.record(Health::Unknown, bench.now, never);
    drop(third);
    let snapshot = bench.breaker.snapshot(bench.now);
    assert_eq!((snapshot.probes_out, snapshot.probe_successes), (0, 1));
    for _ in 0..3 {
        assert_eq!(bench.ends(Health::Well), None);
    }
    assert_eq!(bench.ends(Health::Well).unwrap().to, BreakerState::Closed);
}

#[test]
fn no_more_probes_succeed_than_are_needed() {
    let mut bench = Bench::new(policy().with_probe_successes(3).unwrap());
    bench.trip();
    bench.wait(SECOND * 5);
    bench.ends(Health::Well);
    bench.ends(Health::Well);
    let _last = bench.acquire().unwrap();
    assert!(bench.acquire().is_err(), "two are there, one is out, three are needed");
}

#[test]
fn a_hung_probe_wedges_nothing() {
    let mut bench = Bench::new(policy().with_probes(1).unwrap());
    bench.trip();
    bench.wait(SECOND * 5);
    let admission = bench.breaker.admit(&bench.policy, bench.now, never).unwrap();
    bench.wait(SECOND * 60 - Duration::from_nanos(1));
    assert_eq!(bench.acquire().unwrap_err().change, None);
    bench.wait(Duration::from_nanos(1));
    let refusal = bench.acquire().unwrap_err();
    assert_eq!(refusal.retry_after, Some(SECOND * 10), "the second trip in succession");
    assert_eq!(refusal.change.unwrap().reason, Some(TripReason::HalfOpenExpired));
    // Its late success says nothing about now.
    let late =
        bench.breaker.record(&bench.policy, admission, Health::Well.into(), bench.now, never);
    assert_eq!((late, bench.breaker.state()), (None, BreakerState::Open));
}

#[test]
fn probes_that_are_far_apart_still_close_it() {
    let mut bench = Bench::new(policy().with_probe_successes(3).unwrap());
    bench.trip();
    for _ in 0..3 {
        bench.wait(SECOND * 3_600).ends(Health::Well);
    }
    assert_eq!(bench.breaker.state(), BreakerState::Closed);
}

#[test]
fn results_from_before_a_change_do_not_count_after_it() {
    let mut bench = Bench::new(policy());
    let [well, failed, dropped] =
        [(); 3].map(|()| bench.breaker.admit(&bench.policy, bench.now, never).unwrap());
    bench.trip();
    bench.wait(SECOND * 5);
    let probe = bench.breaker.admit(&bench.policy, bench.now, never).unwrap();
    let record = |admission, end: Health| {
        bench.breaker.record(&bench.policy, admission, end.into(), bench.now, never)
    };
    assert_eq!([record(well, Health::Well), record(failed, Health::Failed)], [None, None]);
    bench.breaker.abandon(&bench.policy, dropped, bench.now, never);
    let snapshot = bench.breaker.snapshot(bench.now);
    assert_eq!((snapshot.state, snapshot.probes_out), (BreakerState::HalfOpen, 1));
    assert_eq!(snapshot.probe_successes, 0);
    record(probe, Health::Well);
    assert_eq!(bench.breaker.snapshot(bench.now).probe_successes, 1);
}

#[test]
fn an_unknown_end_counts_as_nothing() {
    let bench = Bench::new(policy().with_consecutive_failures(1));
    bench.ends(Health::Unknown);
    assert_eq!(bench.breaker.snapshot(bench.now).counts, Counts::default());
}

#[test]
fn abandoned_calls_count_as_the_policy_says() {
    let bench = Bench::new(policy());
    (0..9).for_each(|_| drop(bench.acquire().unwrap()));
    assert_eq!(bench.breaker.snapshot(bench.now).counts.calls, 0);
    let mut bench = Bench::new(policy().with_abandoned(Abandoned::Failure));
    drop(bench.acquire().unwrap());
    let change = bench.acquire().unwrap().abandon(bench.now, || 0).unwrap();
    assert_eq!(change.reason, Some(TripReason::ConsecutiveFailures { failures: 2 }));
    bench.wait(SECOND * 5);
    drop(bench.acquire().unwrap());
    assert_eq!(bench.breaker.snapshot(bench.now).last_trip, Some(TripReason::ProbeFailed));
}

#[test]
fn a_hand_opens_and_closes_it() {
    let mut bench = Bench::new(policy());
    bench.ends(Health::Failed);
    let opened = bench.breaker.open(None, bench.now).unwrap();
    assert_eq!(opened.reason, Some(TripReason::Manual));
    bench.wait(SECOND * 86_400);
    let refusal = bench.acquire().unwrap_err();
    assert_eq!(refusal.retry_after, None);
    assert_eq!(bench.breaker.snapshot(bench.now).until, None);
    assert_eq!(bench.breaker.open(Some(SECOND), bench.now), None, "it was open already");
    assert!(bench.is_refused_for(SECOND));
    assert_eq!(bench.breaker.close(bench.now).unwrap().to, BreakerState::Closed);
    assert_eq!(bench.breaker.close(bench.now), None);
    let snapshot = bench.breaker.snapshot(bench.now);
    assert_eq!((snapshot.consecutive_failures, snapshot.trips), (0, 0), "and forgets");
    bench.breaker.open(Some(SECOND), bench.now);
    bench.wait(SECOND);
    assert!(bench.acquire().unwrap().admission().unwrap().is_probe());
    bench.breaker.reset(bench.now).unwrap();
    assert_eq!(bench.breaker.snapshot(bench.now).last_trip, None);
}

#[test]
fn one_that_only_observes_changes_state_and_refuses_nothing() {
    let mut bench = Bench::new(policy().with_observe_only(true).with_probes(1).unwrap());
    bench.trip();
    let ticket = bench.acquire().unwrap();
    assert!(ticket.admission().unwrap().would_be_refused());
    assert_eq!(ticket.record(Health::Well, bench.now, never), None);
    bench.wait(SECOND * 5);
    let probe = bench.breaker.admit(&bench.policy, bench.now, never).unwrap();
    assert!(probe.is_probe() && !probe.would_be_refused());
    assert!(bench.acquire().unwrap().admission().unwrap().would_be_refused());
    bench.wait(SECOND * 60);
    let expired = bench.acquire().unwrap().admission().unwrap().change().unwrap();
    assert_eq!(expired.reason, Some(TripReason::HalfOpenExpired));
}

#[test]
fn a_switched_policy_finds_the_state_as_it_was() {
    let mut bench = Bench::new(policy().with_consecutive_failures(5));
    bench.ends(Health::Failed);
    bench.policy = bench.policy.with_consecutive_failures(2);
    assert!(bench.breaker.serves(&bench.policy), "the window is the same");
    assert_eq!(bench.ends(Health::Failed).unwrap().to, BreakerState::Open);
    let window = Window::time(SECOND * 30).unwrap();
    bench.policy = bench.policy.with_window(window).unwrap();
    assert!(!bench.breaker.serves(&bench.policy));
    bench.wait(SECOND);
    let (before, old) = (bench.breaker.snapshot(bench.now), bench.breaker);
    bench.breaker = old.succeeded_by(&bench.policy);
    assert!(bench.breaker.serves(&bench.policy));
    assert_eq!(bench.breaker.snapshot(bench.now), before);
    assert!(bench.is_refused_for(SECOND * 4));
    bench.wait(SECOND * 4);
    bench.ends(Health::Failed);
    assert!(bench.is_refused_for(SECOND * 10), "trips go on being counted");
}

#[test]
fn under_another_window_failures_in_a_row_and_probes_that_went_well_still_count() {
    let mut bench = Bench::new(policy().with_probe_successes(2).unwrap());
    bench.ends(Health::Failed);
    bench.policy = bench.policy.with_window(Window::calls(9).unwrap()).unwrap();
    bench.breaker = bench.breaker.succeeded_by(&bench.policy);
    assert_eq!(bench.breaker.snapshot(bench.now).counts, Counts::default());
    assert!(bench.ends(Health::Failed).is_some());
    bench.wait(SECOND * 5).ends(Health::Well);
    let hung = bench.breaker.admit(&bench.policy, bench.now, never).unwrap();
    bench.policy = policy().with_probes(1).unwrap();
    bench.breaker = bench.breaker.succeeded_by(&bench.policy);
    assert_eq!(bench.ends(Health::Well).unwrap().to, BreakerState::Closed);
    let _stays_with_the_old_one = hung;
}

#[test]
fn fewer_probes_than_went_well_already_do_not_wedge_it() {
    let mut bench = Bench::new(policy().with_probe_successes(9).unwrap());
    bench.trip();
    bench.wait(SECOND * 5);
    (0..8).for_each(|_| assert_eq!(bench.ends(Health::Well), None));
    bench.policy = policy().with_probes(1).unwrap().with_probe_successes(1).unwrap();
    assert_eq!(bench.ends(Health::Well).unwrap().to, BreakerState::Closed);
}

#[test]
fn what_cannot_work_is_refused_with_its_figures() {
    let policy = BreakerPolicy::default();
    let texts = [
        policy.with_failure_ratio(1.5).unwrap_err(),
        policy.with_slow_calls(SECOND, f64::NAN).unwrap_err(),
        policy.with_slow_calls(Duration::ZERO, 0.5).unwrap_err(),
        policy.with_window(Window::calls(99).unwrap()).unwrap_err(),
        policy.with_probes(0).unwrap_err(),
        policy.with_probe_successes(1_001).unwrap_err(),
        policy.with_half_open_max(Duration::ZERO).unwrap_err(),
        policy.with_half_open_max(SECOND * 86_401).unwrap_err(),
        policy.with_open(Backoff::fixed(Duration::ZERO)).unwrap_err(),
    ]
    .map(|error| error.to_string());
    let expected = [
        "ratio 1.5 is not within 0 to 1",
        "ratio NaN is not within 0 to 1",
        "a call that takes 0s cannot be called slow",
        "at least 100 calls are never within a window of 99 calls",
        "0 probes are not within 1 to 1000",
        "1001 probes are not within 1 to 1000",
        "0ns for probes are not above 0s and within a day",
        "86401s for probes are not above 0s and within a day",
        "a breaker that is open for 0s refuses nothing",
    ];
    assert_eq!(texts, expected);
    let small = policy.with_min_calls(20).unwrap().with_window(Window::calls(20).unwrap()).unwrap();
    assert!(small.with_min_calls(21).is_err(), "whichever comes second");
}

#[test]
fn the_ends_of_each_range_are_within_it() {
    let policy = BreakerPolicy::default();
    assert_eq!(policy.with_probes(1_000).unwrap().probes(), 1_000);
    assert_eq!(policy.with_probe_successes(1_000).unwrap().probe_successes(), 1_000);
    let day = SECOND * 86_400;
    assert_eq!(policy.with_half_open_max(day).unwrap().half_open_max(), day);
    assert!(policy.with_failure_ratio(1.0).is_ok() && policy.with_slow_calls(SECOND, 1.0).is_ok());
    let nanosecond = Duration::from_nanos(1);
    assert_eq!(policy.with_slow_calls(nanosecond, 1.0).unwrap().slow_after(), Some(nanosecond));
}

#[test]
fn a_policy_says_what_it_was_told() {
    let policy = BreakerPolicy::default();
    assert_eq!(policy.consecutive_failures(), 10);
    assert_eq!(policy.slow_after(), None);
    assert_eq!((policy.min_calls(), policy.window().span()), (100, Some(SECOND * 10)));
    assert_eq!(policy.open().bounds(1), (SECOND * 4, SECOND * 6));
    assert_eq!((policy.probes(), policy.probe_successes()), (3, 2));
    assert_eq!(policy.half_open_max(), SECOND * 60);
    assert_eq!((policy.abandoned().name(), policy.is_observing()), ("ignore", false));
    let policy = policy.with_slow_calls(SECOND, 0.25).unwrap().with_failure_ratio(1e-9).unwrap();
    let ratios = (policy.slow_ratio(), policy.failure_ratio());
    assert_eq!(ratios, (0.25, 1e-6), "small is not off");
    assert_eq!(policy.with_pushback_max(SECOND).pushback_max(), SECOND);
}

#[test]
fn every_reason_is_remembered_with_its_figures() {
    for reason in REASONS {
        let bench = Bench::new(policy());
        bench.breaker.reason.store(Some(reason));
        assert_eq!(bench.breaker.snapshot(bench.now).last_trip, Some(reason));
    }
}

#[test]
fn reasons_have_names_and_tell_their_figures() {
    let texts = REASONS.map(|reason| reason.to_string());
    assert_eq!(
        texts[..3],
        ["5 failures in a row", "12 of 20 calls failed", "18 of 20 calls were slow"]
    );
    let names = REASONS.map(TripReason::name);
    assert_eq!(names[3..], ["probe_failed", "half_open_expired", "manual"]);
    assert_eq!(BreakerState::HalfOpen.to_string(), "half_open");
}
