//! The budget's lock-free parts under every interleaving that two threads can have.
//!
//! Run with `cargo xtask loom`.
#![cfg(loom)]

use std::time::{Duration, Instant};

use loom::{sync::Arc, thread};
use redial_core::{
    Budget, BudgetPolicy, Class, Reading, Throttle, TokenBucket, Tokens, Verdict, WindowBucket,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_token_is_taken_once() {
    loom::model(|| {
        let bucket = Arc::new(TokenBucket::new(Tokens::ONE, Tokens::ONE, Tokens::ZERO));
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || other.take(Tokens::ONE, Duration::ZERO));
        let here = bucket.take(Tokens::ONE, Duration::ZERO);
        let there = thread.join().unwrap();
        assert!(here ^ there, "one of the two gets it");
        assert_eq!(bucket.available(Duration::ZERO), Tokens::ZERO);
    });
}

#[test]
fn a_stretch_of_time_is_credited_once() {
    loom::model(|| {
        let bucket = Arc::new(TokenBucket::new(Tokens::whole(9), Tokens::ZERO, Tokens::ONE));
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || other.take(Tokens::ONE, SECOND));
        let here = bucket.take(Tokens::ONE, SECOND);
        let there = thread.join().unwrap();
        assert!(!(here && there), "one second brings one token");
        let left = bucket.available(SECOND);
        let taken = Tokens::whole(u32::from(here) + u32::from(there));
        assert_eq!(left.nanos() + taken.nanos(), Tokens::ONE.nanos(), "nothing is lost");
    });
}

#[test]
fn deposits_and_withdrawals_add_up() {
    loom::model(|| {
        let bucket = Arc::new(TokenBucket::new(Tokens::whole(2), Tokens::ONE, Tokens::ZERO));
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || other.put(Tokens::ONE));
        let taken = bucket.take(Tokens::ONE, Duration::ZERO);
        thread.join().unwrap();
        assert!(taken);
        assert_eq!(bucket.available(Duration::ZERO), Tokens::ONE);
    });
}

#[test]
fn a_window_hands_out_its_reserve_once() {
    loom::model(|| {
        let bucket = Arc::new(WindowBucket::new(SECOND, Tokens::ONE));
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || other.take(Tokens::ONE, Duration::ZERO));
        let here = bucket.take(Tokens::ONE, Duration::ZERO);
        let there = thread.join().unwrap();
        assert!(here ^ there);
        assert_eq!(bucket.available(Duration::ZERO), Tokens::ZERO);
    });
}

#[test]
fn an_old_deposit_expires_once() {
    loom::model(|| {
        let bucket = Arc::new(WindowBucket::new(SECOND, Tokens::ZERO));
        bucket.put(Tokens::whole(5), Duration::ZERO);
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || other.put(Tokens::ONE, SECOND));
        let early = bucket.take(Tokens::whole(5), SECOND);
        thread.join().unwrap();
        assert!(!early, "what has expired cannot be taken");
        assert_eq!(bucket.available(SECOND), Tokens::ONE);
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
fn failures_and_successes_move_a_throttle_each_by_its_own() {
    let now = Instant::now();
    loom::model(move || {
        let policy = BudgetPolicy::Throttle(Throttle::new(4.0, 0.5).unwrap());
        let budget = Arc::new(Budget::new(&policy, 3, now));
        let failed = Reading::new(Verdict::Transient(Class::Server));
        budget.deposit(&failed);
        let other = Arc::clone(&budget);
        let thread = thread::spawn(move || other.deposit(&failed));
        budget.deposit(&Reading::SUCCESS);
        thread.join().unwrap();
        let left = budget.available(now).unwrap();
        assert_eq!(left, Tokens::try_from(2.5).unwrap());
        assert!(budget.withdraw(now), "more than half of four");
    });
}
