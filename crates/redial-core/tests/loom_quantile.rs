//! The latency window under every interleaving that two threads can have.
//!
//! Run with `cargo xtask loom`.
#![cfg(loom)]

use std::time::Duration;

use loom::{sync::Arc, thread};
use redial_core::LatencyWindow;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn two_samples_of_one_bucket_both_count() {
    loom::model(|| {
        let window = Arc::new(LatencyWindow::new(SECOND * 3));
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || other.record(SECOND, Duration::ZERO));
        window.record(SECOND, Duration::ZERO);
        thread.join().unwrap();
        assert_eq!(window.samples(Duration::ZERO), 2);
    });
}

#[test]
fn an_old_turn_is_dropped_once_whoever_begins_the_next() {
    loom::model(|| {
        let window = Arc::new(LatencyWindow::new(SECOND * 3));
        window.record(SECOND, Duration::ZERO);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || other.record(SECOND, SECOND * 3));
        window.record(SECOND, SECOND * 3);
        thread.join().unwrap();
        assert_eq!(window.samples(SECOND * 3), 2);
    });
}
