//! The breaker and its window under every interleaving that two threads can have.
//!
//! Run with `cargo xtask loom`.
#![cfg(loom)]

use std::time::{Duration, Instant};

use loom::{sync::Arc, thread};
use redial_core::{
    Admission, Backoff, Breaker, BreakerChange, BreakerPolicy, BreakerState, Counts, Health,
    Jitter, Sample, SlidingCounts, TripReason, Window,
};

const SECOND: Duration = Duration::from_secs(1);
const FAILED: Sample = Sample { is_failure: true, is_slow: false };
const WELL: Sample = Sample { is_failure: false, is_slow: false };

/// Opens on one failure for a second, and closes on one success.
fn policy() -> BreakerPolicy {
    BreakerPolicy::default()
        .with_consecutive_failures(1)
        .with_open(Backoff::fixed(SECOND).jitter(Jitter::None).unwrap())
        .and_then(|policy| policy.with_failure_ratio(0.0))
        .and_then(|policy| policy.with_min_calls(2))
        .and_then(|policy| policy.with_window(Window::calls(2).unwrap()))
        .and_then(|policy| policy.with_probes(1))
        .and_then(|policy| policy.with_probe_successes(1))
        .unwrap()
}

struct Bench {
    breaker: Breaker,
    policy: BreakerPolicy,
    now: Instant,
}

impl Bench {
    fn new(policy: BreakerPolicy) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self { breaker: Breaker::new(&policy, now), policy, now })
    }

    fn admit(&self, at: Duration) -> Option<Admission> {
        self.breaker.admit(&self.policy, self.now + at, || 0).ok()
    }

    fn record(&self, admission: Admission, end: Health, at: Duration) -> Option<BreakerChange> {
        self.breaker.record(&self.policy, admission, end.into(), self.now + at, || 0)
    }

    fn trip(&self) {
        let admission = self.admit(Duration::ZERO).unwrap();
        self.record(admission, Health::Failed, Duration::ZERO).unwrap();
    }
}

/// Runs `one` and `other` on the same bench at the same time.
fn both<T: 'static>(
    bench: &Arc<Bench>,
    one: impl FnOnce(&Bench) -> T,
    other: impl FnOnce(&Bench) -> T + 'static,
) -> [T; 2] {
    let there = Arc::clone(bench);
    let thread = thread::spawn(move || other(&there));
    let here = one(bench);
    [here, thread.join().unwrap()]
}

#[test]
fn half_open_admits_one_probe_where_one_is_stated() {
    loom::model(|| {
        let bench = Bench::new(policy());
        bench.trip();
        let admitted = both(&bench, |b| b.admit(SECOND), |b| b.admit(SECOND));
        assert_eq!(admitted.iter().flatten().count(), 1);
        assert_eq!(bench.breaker.snapshot(bench.now).probes_out, 1);
    });
}

#[test]
fn half_open_admits_no_third_probe_where_two_are_stated() {
    loom::model(|| {
        let bench = Bench::new(policy().with_probes(2).unwrap());
        bench.trip();
        let first = bench.admit(SECOND);
        assert!(first.is_some());
        let admitted = both(&bench, |b| b.admit(SECOND), |b| b.admit(SECOND));
        assert_eq!(admitted.iter().flatten().count(), 1);
        assert_eq!(bench.breaker.snapshot(bench.now).probes_out, 2);
    });
}

#[test]
fn a_dropped_ticket_gives_its_place_back_once() {
    loom::model(|| {
        let bench = Bench::new(policy().with_probes(3).unwrap());
        bench.trip();
        let [first, second] = [(); 2].map(|()| bench.admit(SECOND).unwrap());
        let _third = bench.admit(SECOND).unwrap();
        let abandon = |bench: &Bench, probe| {
            bench.breaker.abandon(&bench.policy, probe, bench.now + SECOND, || 0)
        };
        both(&bench, |b| abandon(b, first), move |b| abandon(b, second));
        assert_eq!(bench.breaker.snapshot(bench.now).probes_out, 1);
    });
}

#[test]
fn a_ticket_that_is_dropped_while_another_call_comes_leaves_it_a_place() {
    loom::model(|| {
        let bench = Bench::new(policy());
        bench.trip();
        let there = Arc::clone(&bench);
        let thread = thread::spawn(move || {
            let now = there.now + SECOND;
            drop(there.breaker.try_acquire(&there.policy, now, || 0));
        });
        let here = bench.admit(SECOND);
        thread.join().unwrap();
        let out = bench.breaker.snapshot(bench.now).probes_out;
        assert_eq!(out, u32::from(here.is_some()));
        assert!(here.is_some() || bench.admit(SECOND).is_some(), "nothing is wedged");
    });
}

#[test]
fn a_trip_happens_once() {
    loom::model(|| {
        let bench = Bench::new(policy());
        let [one, other] = [(); 2].map(|()| bench.admit(Duration::ZERO).unwrap());
        let changes = both(
            &bench,
            |b| b.record(one, Health::Failed, Duration::ZERO),
            move |b| b.record(other, Health::Failed, Duration::ZERO),
        );
        assert_eq!(changes.iter().flatten().count(), 1);
        let snapshot = bench.breaker.snapshot(bench.now);
        assert_eq!((snapshot.state, snapshot.trips), (BreakerState::Open, 1));
        assert_eq!(bench.breaker.generation(), 1);
    });
}

#[test]
fn failures_in_a_row_are_counted_one_by_one() {
    loom::model(|| {
        let bench = Bench::new(policy().with_consecutive_failures(2));
        let [one, other] = [(); 2].map(|()| bench.admit(Duration::ZERO).unwrap());
        let changes = both(
            &bench,
            |b| b.record(one, Health::Failed, Duration::ZERO),
            move |b| b.record(other, Health::Failed, Duration::ZERO),
        );
        let reason = Some(TripReason::ConsecutiveFailures { failures: 2 });
        let reasons = changes.iter().flatten().map(|change| change.reason);
        assert_eq!(reasons.collect::<Vec<_>>(), [reason]);
    });
}

#[test]
fn a_share_of_failures_is_not_missed_when_two_meet_it() {
    loom::model(|| {
        let ratio = policy().with_consecutive_failures(0).with_failure_ratio(1.0).unwrap();
        let bench = Bench::new(ratio);
        let [one, other] = [(); 2].map(|()| bench.admit(Duration::ZERO).unwrap());
        let changes = both(
            &bench,
            |b| b.record(one, Health::Failed, Duration::ZERO),
            move |b| b.record(other, Health::Failed, Duration::ZERO),
        );
        assert_eq!(changes.iter().flatten().count(), 1);
    });
}

#[test]
fn results_from_before_a_trip_do_not_move_what_comes_after_it() {
    loom::model(|| {
        let bench = Bench::new(policy());
        let stale = bench.admit(Duration::ZERO).unwrap();
        bench.trip();
        // A success from before meets the first probe.
        let there = Arc::clone(&bench);
        let thread = thread::spawn(move || there.record(stale, Health::Well, SECOND));
        let probe = bench.admit(SECOND).unwrap();
        assert_eq!(thread.join().unwrap(), None);
        let snapshot = bench.breaker.snapshot(bench.now);
        assert_eq!((snapshot.state, snapshot.probes_out), (BreakerState::HalfOpen, 1));
        assert_eq!(bench.record(probe, Health::Well, SECOND).unwrap().to, BreakerState::Closed);
        assert_eq!(bench.breaker.snapshot(bench.now).counts, Counts::default());
    });
}

#[test]
fn a_success_that_meets_the_trip_leaves_nothing_behind() {
    loom::model(|| {
        let bench = Bench::new(policy());
        let [well, failed] = [(); 2].map(|()| bench.admit(Duration::ZERO).unwrap());
        both(
            &bench,
            |b| b.record(failed, Health::Failed, Duration::ZERO),
            move |b| b.record(well, Health::Well, Duration::ZERO),
        );
        let snapshot = bench.breaker.snapshot(bench.now);
        assert_eq!((snapshot.state, snapshot.counts), (BreakerState::Open, Counts::default()));
        assert_eq!(snapshot.until, Some(bench.now + SECOND));
    });
}

#[test]
fn a_probe_that_fails_and_one_that_goes_well_make_one_change() {
    loom::model(|| {
        let bench = Bench::new(policy().with_probes(2).unwrap());
        bench.trip();
        let [one, other] = [(); 2].map(|()| bench.admit(SECOND).unwrap());
        let changes = both(
            &bench,
            |b| b.record(one, Health::Failed, SECOND),
            move |b| b.record(other, Health::Well, SECOND),
        );
        assert_eq!(changes.iter().flatten().count(), 1);
        let to = changes.iter().flatten().next().unwrap().to;
        assert_eq!(bench.breaker.state(), to);
    });
}

#[test]
fn a_snapshot_taken_during_a_trip_shows_one_state() {
    loom::model(|| {
        let bench = Bench::new(policy());
        let failed = bench.admit(Duration::ZERO).unwrap();
        let there = Arc::clone(&bench);
        let thread = thread::spawn(move || there.record(failed, Health::Failed, Duration::ZERO));
        let seen = bench.breaker.snapshot(bench.now);
        thread.join().unwrap();
        let reason = TripReason::ConsecutiveFailures { failures: 1 };
        match seen.state {
            BreakerState::Closed => assert_eq!((seen.until, seen.trips), (None, 0)),
            BreakerState::Open => {
                assert_eq!((seen.until, seen.trips), (Some(bench.now + SECOND), 1));
                assert_eq!(seen.last_trip, Some(reason));
            }
            BreakerState::HalfOpen => panic!("nobody came after the trip"),
        }
    });
}

#[test]
fn a_hand_and_a_trip_make_one_state() {
    loom::model(|| {
        let bench = Bench::new(policy());
        let failed = bench.admit(Duration::ZERO).unwrap();
        both(
            &bench,
            |b| b.record(failed, Health::Failed, Duration::ZERO),
            |b| b.breaker.open(None, b.now),
        );
        // Either the hand came last, and it is open until it is closed, or the failure came too late.
        let snapshot = bench.breaker.snapshot(bench.now);
        assert_eq!((snapshot.state, snapshot.until), (BreakerState::Open, None));
        assert_eq!(snapshot.last_trip, Some(TripReason::Manual));
    });
}

#[test]
fn no_call_is_lost_in_a_window_of_calls() {
    loom::model(|| {
        let counts = Arc::new(SlidingCounts::new(Window::calls(2).unwrap()));
        counts.enter(FAILED, 0, Duration::ZERO);
        let other = Arc::clone(&counts);
        let thread = thread::spawn(move || other.enter(FAILED, 0, Duration::ZERO));
        counts.enter(WELL, 0, Duration::ZERO);
        thread.join().unwrap();
        let read = counts.read(0, Duration::ZERO);
        assert_eq!(read, Counts { calls: 2, failures: 1, slow: 0 });
    });
}

#[test]
fn no_call_is_lost_in_a_window_of_time() {
    loom::model(|| {
        let counts = Arc::new(SlidingCounts::new(Window::time(SECOND).unwrap()));
        // The slice that both enter holds what has expired.
        counts.enter(FAILED, 0, Duration::ZERO);
        let other = Arc::clone(&counts);
        let thread = thread::spawn(move || other.enter(FAILED, 0, SECOND));
        counts.enter(FAILED, 0, SECOND);
        thread.join().unwrap();
        let read = counts.read(0, SECOND);
        assert_eq!(read, Counts { calls: 2, failures: 2, slow: 0 });
    });
}

#[test]
fn what_a_cleared_window_gets_late_is_dropped() {
    loom::model(|| {
        for window in [Window::calls(2).unwrap(), Window::time(SECOND).unwrap()] {
            let counts = Arc::new(SlidingCounts::new(window));
            let other = Arc::clone(&counts);
            let thread = thread::spawn(move || other.enter(FAILED, 0, Duration::ZERO));
            counts.enter(WELL, 1, Duration::ZERO);
            thread.join().unwrap();
            let read = counts.read(1, Duration::ZERO);
            assert_eq!(read, Counts { calls: 1, failures: 0, slow: 0 });
        }
    });
}
