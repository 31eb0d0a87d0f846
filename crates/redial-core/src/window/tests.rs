#![expect(clippy::unwrap_used, reason = "windows that are known to be in range")]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const WELL: Sample = Sample { is_failure: false, is_slow: false };
const FAILED: Sample = Sample { is_failure: true, is_slow: false };
const SLOW: Sample = Sample { is_failure: false, is_slow: true };
const FAILED_SLOW: Sample = Sample { is_failure: true, is_slow: true };
const KINDS: [Sample; 4] = [WELL, FAILED, SLOW, FAILED_SLOW];

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn last(calls: u32) -> SlidingCounts {
    SlidingCounts::new(Window::calls(calls).unwrap())
}

fn span(span: Duration) -> SlidingCounts {
    SlidingCounts::new(Window::time(span).unwrap())
}

/// Everything that was entered, one by one.
#[derive(Default)]
struct Naive {
    calls: VecDeque<(u64, Sample)>,
}

impl Naive {
    fn of(&self, is_counted: impl Fn(usize, u64) -> bool) -> Counts {
        let mut counts = Counts::default();
        for (age, (at, sample)) in self.calls.iter().rev().enumerate() {
            if is_counted(age, *at) {
                counts.calls += 1;
                counts.failures += u64::from(sample.is_failure);
                counts.slow += u64::from(sample.is_slow);
            }
        }
        counts
    }
}

proptest! {
    #[test]
    fn a_window_of_calls_counts_what_a_list_of_them_would(
        length in 1_u32..70,
        steps in proptest::collection::vec((0_usize..4, 0_u32..40), 0..400),
    ) {
        let counts = last(length);
        let (mut naive, mut generation) = (Naive::default(), 0);
        for (kind, turn) in steps {
            if turn == 0 {
                (naive, generation) = (Naive::default(), generation + 1);
            }
            counts.enter(KINDS[kind], generation, Duration::ZERO);
            naive.calls.push_back((0, KINDS[kind]));
            let expected = naive.of(|age, _| age < usize::try_from(length).unwrap());
            prop_assert_eq!(counts.read(generation, Duration::ZERO), expected);
        }
    }

    #[test]
    fn a_window_of_time_counts_what_a_list_of_calls_would(
        slice in 10_u64..500,
        steps in proptest::collection::vec((0_usize..4, 0_u64..2_000, 0_u32..40), 0..300),
    ) {
        let counts = span(millis(slice * 10));
        let (mut naive, mut generation, mut now) = (Naive::default(), 0, 0);
        for (kind, wait, turn) in steps {
            // Most calls follow at once, a few after a while.
            now += if wait < 1_500 { wait % 3 } else { wait };
            if turn == 0 {
                (naive, generation) = (Naive::default(), generation + 1);
            }
            counts.enter(KINDS[kind], generation, millis(now));
            naive.calls.push_back((now, KINDS[kind]));
            let expected = naive.of(|_, at| now / slice - at / slice < 10);
            prop_assert_eq!(counts.read(generation, millis(now)), expected);
        }
    }
}

#[test]
fn calls_from_many_threads_are_all_counted() {
    for counts in [last(10_000), span(Duration::from_secs(60))] {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for turn in 0..1_000 {
                        counts.enter(KINDS[turn % 4], 1, millis(1));
                    }
                });
            }
        });
        let expected = Counts { calls: 8_000, failures: 4_000, slow: 4_000 };
        assert_eq!(counts.read(1, millis(1)), expected, "{counts:?}");
    }
}

#[test]
fn a_full_ring_stays_exact_under_many_threads() {
    let counts = last(100);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5_000).for_each(|turn| counts.enter(KINDS[turn % 4], 0, millis(0))));
        }
    });
    (0..100).for_each(|_| counts.enter(WELL, 0, millis(0)));
    assert_eq!(counts.read(0, millis(0)), Counts { calls: 100, failures: 0, slow: 0 });
}

#[test]
fn what_comes_late_from_an_earlier_generation_is_dropped() {
    for counts in [last(4), span(millis(1_000))] {
        counts.enter(FAILED, 5, millis(10));
        counts.enter(WELL, 6, millis(10));
        counts.enter(FAILED, 5, millis(10));
        let expected = Counts { calls: 1, failures: 0, slow: 0 };
        assert_eq!(counts.read(6, millis(10)), expected, "{counts:?}");
    }
}

#[test]
fn a_thread_whose_clock_is_a_slice_behind_still_counts() {
    let counts = span(millis(1_000));
    counts.enter(FAILED, 0, millis(1_050));
    counts.enter(FAILED, 0, millis(950));
    assert_eq!(counts.read(0, millis(1_099)).failures, 2);
    counts.enter(FAILED, 0, millis(60));
    assert_eq!(counts.read(0, millis(1_099)).failures, 2, "that one has left the window");
}

#[test]
fn a_slice_is_right_on_its_edges() {
    let counts = span(millis(1_000));
    counts.enter(SLOW, 0, millis(99));
    assert_eq!(counts.read(0, millis(999)).calls, 1);
    assert_eq!(counts.read(0, millis(1_000)).calls, 0);
    counts.enter(SLOW, 0, millis(2_000));
    assert_eq!(counts.read(0, millis(2_999)).calls, 1);
    assert_eq!(counts.read(0, millis(3_000)).calls, 0);
}

#[test]
fn windows_out_of_range_are_refused() {
    assert_eq!(Window::calls(10_001), Err(InvalidWindow::Calls(10_001)));
    let tenth = millis(100);
    assert_eq!(Window::time(tenth).unwrap().span(), Some(tenth));
    let error = Window::time(millis(99)).unwrap_err();
    assert_eq!(error.to_string(), "window 99ms is not within 100ms to 1h");
    assert!(Window::time(Duration::from_secs(3_601)).is_err());
    assert_eq!(Window::calls(7).unwrap().to_string(), "7 calls");
    assert_eq!(last(7).window().call_count(), Some(7));
}

#[test]
fn the_end_of_time_is_not_beyond_counting() {
    let counts = span(Duration::from_secs(3_600));
    counts.enter(FAILED, u32::MAX, Duration::MAX);
    assert_eq!(counts.read(u32::MAX, Duration::MAX).failures, 1);
}
