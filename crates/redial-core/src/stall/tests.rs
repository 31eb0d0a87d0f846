use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn limits_of_nothing_are_refused() {
    let policy = StallPolicy::default();
    assert_eq!(policy.idle(Duration::ZERO), Err(InvalidStall::Zero));
    assert_eq!(policy.throughput(0, SECOND), Err(InvalidStall::Zero));
    assert_eq!(policy.throughput(1, Duration::ZERO), Err(InvalidStall::Zero));
    let nothing = policy.idle(None).unwrap_err();
    assert_eq!(nothing.to_string(), "without a longest silence there must be a least throughput");
    assert!(policy.throughput(1, SECOND).unwrap().idle(None).is_ok());
}

#[test]
fn silence_is_measured_from_the_moment_that_somebody_waits() {
    let (policy, start) = (StallPolicy::default(), Instant::now());
    let mut meter = StallMeter::new(&policy);
    let idle = Stall::Idle { after: SECOND * 20 };
    assert_eq!(meter.wait(&policy, start), (start + SECOND * 20, idle));
    assert_eq!(meter.wait(&policy, start + SECOND), (start + SECOND * 20, idle));
    meter.arrive(&policy, 1, || start + SECOND * 2);
    assert_eq!(meter.wait(&policy, start + SECOND * 90), (start + SECOND * 110, idle));
}

#[test]
fn what_comes_without_being_waited_for_reads_no_clock() {
    let policy = StallPolicy::default().throughput(10, SECOND).unwrap();
    StallMeter::new(&policy).arrive(&policy, 1, || unreachable!());
}

#[test]
fn grace_is_lost_by_waiting_and_earned_by_bytes() {
    let policy = StallPolicy::default().throughput(10, SECOND * 5).unwrap();
    let (mut meter, mut now) = (StallMeter::new(&policy), Instant::now());
    let slow = Stall::Slow { bytes_per_second_min: 10, grace: SECOND * 5 };
    // Five bytes every second, half of what is wanted: half a second of grace is lost each time.
    for round in 0..8 {
        let left = SECOND * 5 - SECOND / 2 * round;
        assert_eq!(meter.wait(&policy, now), (now + left, slow), "round {round}");
        now += SECOND;
        meter.arrive(&policy, 5, || now);
    }
    meter.arrive(&policy, 1_000_000, || unreachable!());
    assert_eq!(meter.wait(&policy, now), (now + SECOND * 5, slow), "never more than all of it");
}

#[test]
fn of_two_limits_the_one_that_is_met_first_is_told_and_silence_of_two_alike() {
    let (policy, start) = (StallPolicy::default(), Instant::now());
    let told = |grace: Duration| {
        let policy = policy.throughput(10, grace).unwrap();
        StallMeter::new(&policy).wait(&policy, start)
    };
    let idle = (start + SECOND * 20, Stall::Idle { after: SECOND * 20 });
    let slow = |grace| (start + grace, Stall::Slow { bytes_per_second_min: 10, grace });
    assert_eq!([told(SECOND * 19), told(SECOND * 20)], [slow(SECOND * 19), idle]);
    assert_eq!(told(SECOND * 21), idle);
}

#[test]
fn a_grace_beyond_any_clock_ends_in_the_far_future() {
    let policy = StallPolicy::default().throughput(1, Duration::MAX).unwrap().idle(None).unwrap();
    let start = Instant::now();
    let (at, _) = StallMeter::new(&policy).wait(&policy, start);
    assert!(start + SECOND * 86_400 * 365 < at);
}

proptest! {
    #[test]
    fn a_body_at_the_speed_that_is_wanted_never_stalls_and_a_slower_one_does(
        pieces in prop::collection::vec(1_u64..50, 1..60),
        is_slow: bool,
    ) {
        // Each piece takes as long as it may at 100 bytes a second, or a quarter longer.
        let policy = StallPolicy::default().throughput(100, SECOND / 2).unwrap();
        let (mut meter, mut now) = (StallMeter::new(&policy), Instant::now());
        let (mut is_stalled, mut lost) = (false, Duration::ZERO);
        for bytes in pieces {
            let (at, _) = meter.wait(&policy, now);
            let allowed = Duration::from_millis(bytes * 10);
            now += if is_slow { allowed * 5 / 4 } else { allowed };
            is_stalled |= at < now;
            lost += allowed / 4;
            meter.arrive(&policy, bytes, || now);
        }
        prop_assert!(is_slow || !is_stalled);
        prop_assert!(!is_slow || is_stalled || lost <= SECOND / 2);
    }
}
