//! The limiter's word and the throttle's window under every interleaving that two threads can have.
//!
//! Run with `cargo xtask loom`.
#![cfg(loom)]
#![expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]

use std::time::{Duration, Instant};

use loom::{sync::Arc, thread};
use redial_core::{AdaptiveThrottle, Health, RateLimitPolicy, RateLimiter, ThrottlePolicy};

const SECOND: Duration = Duration::from_secs(1);

/// One call a second.
fn limiter(burst: u32, now: Instant) -> Arc<RateLimiter> {
    let policy = RateLimitPolicy::new(1, SECOND).and_then(|policy| policy.burst(burst)).unwrap();
    Arc::new(RateLimiter::new(&policy, now))
}

#[test]
fn one_permit_is_taken_once() {
    let now = Instant::now();
    loom::model(move || {
        let limiter = limiter(1, now);
        let other = Arc::clone(&limiter);
        let thread = thread::spawn(move || other.try_acquire(now).is_ok());
        let here = limiter.try_acquire(now).is_ok();
        assert!(here ^ thread.join().unwrap());
        assert_eq!(limiter.wait(now), SECOND);
    });
}

#[test]
fn two_who_wait_get_two_slots() {
    let now = Instant::now();
    loom::model(move || {
        let limiter = limiter(1, now);
        assert!(limiter.try_acquire(now).is_ok());
        let other = Arc::clone(&limiter);
        let thread = thread::spawn(move || other.reserve(now, SECOND * 9).unwrap().wait());
        let here = limiter.reserve(now, SECOND * 9).unwrap().wait();
        let mut waits = [here, thread.join().unwrap()];
        waits.sort();
        assert_eq!(waits, [SECOND, SECOND * 2]);
    });
}

#[test]
fn what_is_given_back_while_another_comes_is_either_free_again_or_lost_alone() {
    let now = Instant::now();
    loom::model(move || {
        let limiter = limiter(1, now);
        let slot = limiter.reserve(now, Duration::ZERO).unwrap();
        let other = Arc::clone(&limiter);
        let thread = thread::spawn(move || other.reserve(now, SECOND * 9).unwrap().wait());
        let is_back = limiter.give_back(slot);
        let there = thread.join().unwrap();
        // The other came either after it was back, or before, and then it is lost.
        assert_eq!(there, if is_back { Duration::ZERO } else { SECOND });
        assert_eq!(limiter.wait(now), there + SECOND);
    });
}

#[test]
fn outcomes_counted_at_once_are_all_counted_and_an_old_slice_is_cleared_once() {
    let start = Instant::now();
    loom::model(move || {
        let policy = ThrottlePolicy::book().window(SECOND).unwrap();
        let throttle = Arc::new(AdaptiveThrottle::new(&policy, start));
        throttle.record(Health::Failed, start);
        // The same place of the ring, one turn later.
        let now = start + SECOND;
        let other = Arc::clone(&throttle);
        let thread = thread::spawn(move || other.record(Health::Failed, now));
        throttle.record(Health::Well, now);
        thread.join().unwrap();
        assert_eq!(throttle.refusal(&policy, now), policy.refusal(2, 1));
    });
}

#[test]
fn a_failure_that_is_counted_is_seen() {
    let now = Instant::now();
    loom::model(move || {
        let policy = ThrottlePolicy::book();
        let throttle = Arc::new(AdaptiveThrottle::new(&policy, now));
        let other = Arc::clone(&throttle);
        let thread = thread::spawn(move || other.record(Health::Failed, now));
        let _ = throttle.try_acquire(&policy, now, || u64::MAX);
        thread.join().unwrap();
        assert!(!throttle.is_quiet());
        assert!(!throttle.try_acquire(&policy, now, || 0));
    });
}

#[test]
fn an_old_failure_is_forgotten_only_while_there_is_no_new_one() {
    let start = Instant::now();
    loom::model(move || {
        let policy = ThrottlePolicy::book().window(SECOND).unwrap();
        let throttle = Arc::new(AdaptiveThrottle::new(&policy, start));
        throttle.record(Health::Failed, start);
        let now = start + SECOND * 2;
        let other = Arc::clone(&throttle);
        let thread = thread::spawn(move || other.record(Health::Failed, now));
        let _ = throttle.try_acquire(&policy, now, || u64::MAX);
        thread.join().unwrap();
        assert!(!throttle.is_quiet(), "the new failure is in the window");
    });
}
