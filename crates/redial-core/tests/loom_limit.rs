//! The count of what is in flight, and its moving limit, under every interleaving of two threads.
//!
//! Run with `cargo xtask loom`.
#![cfg(loom)]

use std::time::{Duration, Instant};

use loom::{sync::Arc, thread};
use redial_core::{AdaptiveLimit, AdaptivePolicy, Entry, Gate, Health, LimitPermit};

#[test]
fn the_last_place_is_taken_once() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(1));
        let other = Arc::clone(&gate);
        let thread = thread::spawn(move || other.try_enter());
        let here = gate.try_enter();
        let there = thread.join().unwrap();
        assert!(here.is_ok() ^ there.is_ok(), "one of the two gets it");
        assert_eq!(gate.in_flight(), 1);
    });
}

#[test]
fn nobody_enters_above_the_limit_that_holds() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(2));
        gate.try_enter().unwrap();
        let other = Arc::clone(&gate);
        let thread = thread::spawn(move || other.try_enter());
        assert_eq!(gate.set_limit(1), 2);
        // The limit is 1 and one is in flight: whoever enters from here on enters above it.
        let late = gate.try_enter();
        assert_eq!(late, Err(1));
        let early = thread.join().unwrap();
        assert!(early == Ok(2) || early == Err(1), "by the limit that held: {early:?}");
        assert_eq!(gate.in_flight(), 1 + u32::from(early.is_ok()));
    });
}

#[test]
fn what_enters_and_leaves_adds_up_while_the_limit_moves() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(1));
        let pass = |gate: &Gate| {
            if gate.try_enter().is_ok() {
                gate.leave();
            }
        };
        let other = Arc::clone(&gate);
        let thread = thread::spawn(move || pass(&other));
        gate.set_limit(3);
        pass(&gate);
        thread.join().unwrap();
        assert_eq!((gate.in_flight(), gate.waiting(), gate.limit()), (0, 0, 3));
    });
}

#[test]
fn whoever_waits_is_seen_by_whoever_leaves() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(1));
        gate.try_enter().unwrap();
        let other = Arc::clone(&gate);
        let thread = thread::spawn(move || other.leave());
        let entry = gate.enter_or_wait(1);
        let must_admit = thread.join().unwrap();
        match entry {
            Entry::Entered => assert!(!must_admit),
            Entry::Waits => assert!(must_admit && gate.admit_waiting(), "or it waits for ever"),
            Entry::Full => panic!("there is room to wait"),
        }
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
    });
}

#[test]
fn a_window_that_closes_loses_no_place_and_keeps_its_limits() {
    // Without a bound it runs for minutes.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    let now = epoch();
    model.check(move || {
        let policy = AdaptivePolicy::default().with_limits(1, 2, 3).unwrap();
        let policy = policy.with_window(Duration::ZERO, 1).unwrap();
        let limit = Arc::new(AdaptiveLimit::new(&policy, now));
        let work = move |limit: &AdaptiveLimit| {
            if let Ok(permit) = LimitPermit::try_acquire(limit, now) {
                permit.record(Health::Overloaded, false, now + Duration::from_millis(10));
            }
        };
        let other = Arc::clone(&limit);
        let thread = thread::spawn(move || work(&other));
        work(&limit);
        thread.join().unwrap();
        assert_eq!(limit.in_flight(), 0);
        assert!((1..=3).contains(&limit.limit()));
    });
}

#[test]
fn a_policy_that_takes_over_while_a_window_closes_has_the_last_word() {
    let now = epoch();
    loom::model(move || {
        let policy = AdaptivePolicy::default().with_limits(1, 2, 3).unwrap();
        let policy = policy.with_window(Duration::ZERO, 1).unwrap();
        let limit = Arc::new(AdaptiveLimit::new(&policy, now));
        let other = Arc::clone(&limit);
        let thread = thread::spawn(move || {
            let permit = LimitPermit::try_acquire(&*other, now).unwrap();
            permit.record(Health::Overloaded, false, now);
        });
        let next = limit.succeeded_by(&policy.with_limits(5, 5, 9).unwrap(), now);
        thread.join().unwrap();
        assert!((5..=9).contains(&next.limit()), "{}", next.limit());
        assert_eq!(next.in_flight(), 0);
    });
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
fn epoch() -> Instant {
    Instant::now()
}
