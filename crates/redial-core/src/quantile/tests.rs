use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn window() -> LatencyWindow {
    LatencyWindow::new(SECOND * 30)
}

proptest! {
    #[test]
    fn a_bucket_ends_at_most_a_32nd_above_what_is_in_it(nanos in 1_048_576_u64..137_000_000_000) {
        let (latency, told) = (Duration::from_nanos(nanos), top(bucket(Duration::from_nanos(nanos))));
        prop_assert!(latency < told, "{told:?}");
        prop_assert!((told - latency).as_nanos() * 32 <= u128::from(nanos), "{told:?}");
    }

    #[test]
    fn below_the_steps_it_ends_at_most_a_unit_above(nanos in 0_u64..1_048_576) {
        let (latency, told) = (Duration::from_nanos(nanos), top(bucket(Duration::from_nanos(nanos))));
        prop_assert!(latency < told && told - latency <= Duration::from_nanos(32_768));
    }

    #[test]
    fn a_longer_latency_is_in_no_earlier_bucket(a: Duration, b: Duration) {
        prop_assert_eq!(bucket(a.min(b)).min(bucket(a.max(b))), bucket(a.min(b)));
    }

    #[test]
    fn a_quantile_is_near_the_sample_of_its_rank(
        mut millis in prop::collection::vec(1_u64..100_000, 1..200),
        per_mille in 1_u16..1_000,
    ) {
        let window = window();
        for millis in &millis {
            window.record(Duration::from_millis(*millis), SECOND);
        }
        millis.sort_unstable();
        let rank = (millis.len() * usize::from(per_mille)).div_ceil(1_000);
        let wanted = Duration::from_millis(millis[rank - 1]);
        let told = window.quantile(Quantile { per_mille }, SECOND).unwrap();
        let unit = Duration::from_nanos(32_768);
        let error = told.saturating_sub(wanted).saturating_sub(unit);
        prop_assert!(wanted < told && error * 32 <= wanted, "{told:?} for {wanted:?}");
    }
}

#[test]
fn every_bucket_is_reached_and_nothing_lies_beyond_the_last() {
    for index in 0..BUCKETS {
        assert_eq!(bucket(top(index) - Duration::from_nanos(1)), index);
        assert_eq!(bucket(top(index)), (index + 1).min(BUCKETS - 1));
    }
    assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    assert_eq!(bucket(Duration::ZERO), 0);
    assert!(Duration::from_secs(137) < top(BUCKETS - 1));
    let bytes = SLICES * BUCKETS * size_of::<u64>();
    assert!(bytes <= 13_824, "{bytes}");
}

#[test]
fn a_latency_counts_for_two_to_three_slices_and_then_no_more() {
    let window = window();
    window.record(SECOND, SECOND * 9);
    for (at, samples) in [(9, 1), (19, 1), (29, 1), (30, 0), (40, 0)] {
        assert_eq!(window.samples(SECOND * at), samples, "{at} s");
    }
    window.record(SECOND, SECOND * 35);
    window.record(SECOND, SECOND * 35);
    assert_eq!(window.samples(SECOND * 35), 2, "the slice begins anew");
    window.record(SECOND * 2, SECOND * 36);
    assert_eq!(window.samples(SECOND * 36), 3);
    assert_eq!(window.samples(SECOND * 3_600), 0);
}

#[test]
fn slices_share_no_bucket() {
    let window = window();
    for at in [9, 19, 29] {
        window.record(SECOND, SECOND * at);
    }
    assert_eq!(window.samples(SECOND * 29), 3);
    let told = [1, 500, 999].map(|per_mille| window.quantile(Quantile { per_mille }, SECOND * 29));
    assert_eq!(told, [Some(top(bucket(SECOND))); 3], "the same latency, whatever the slice");
}

#[test]
fn who_comes_a_whole_window_late_is_not_counted() {
    let window = window();
    window.record(SECOND, SECOND * 35);
    window.record(SECOND, SECOND * 5);
    assert_eq!(window.samples(SECOND * 35), 1);
    assert_eq!(window.samples(SECOND * 5), 1, "a clock that is behind sees what is there");
}

#[test]
fn an_empty_window_has_no_quantile_and_too_few_samples_are_none() {
    let window = window();
    assert_eq!(window.quantile(Quantile::P95, SECOND), None);
    window.record(SECOND, SECOND);
    assert!(window.quantile(Quantile::P50, SECOND).is_some());
    assert_eq!(window.quantile_of(Quantile::P50, SECOND, 2), None);
    assert_eq!(Quantile::P95.samples_for(5), 100);
    assert_eq!(Quantile::P50.samples_for(5), 10);
}

#[test]
fn after_a_shift_the_quantile_follows() {
    let window = window();
    let fast = (0..100).map(|_| SECOND / 100);
    fast.for_each(|latency| window.record(latency, SECOND));
    (0..10).for_each(|_| window.record(SECOND, SECOND * 2));
    let told = window.quantile(Quantile::P95, SECOND * 2).unwrap();
    assert!(SECOND < told && told - SECOND < SECOND / 30, "{told:?}");
}

#[test]
fn threads_lose_no_sample() {
    let window = window();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|_| window.record(SECOND, SECOND)));
        }
    });
    assert_eq!(window.samples(SECOND), 40_000);
}

#[test]
fn quantiles_are_read_and_shown_alike() {
    for text in ["p50", "p95", "p99.9", "p0.1"] {
        assert_eq!(text.parse::<Quantile>().unwrap().to_string(), text);
    }
    for text in ["", "p", "95", "P95", "p95%", "p95.", "p.5", "p99.99", "p+9", "p1e1", "p-1"] {
        let refused = text.parse::<Quantile>().unwrap_err();
        assert_eq!(refused, InvalidHedge::NoQuantile, "{text}");
    }
    for percent in [0.0, -1.0, 100.0, 99.96, f64::NAN, f64::INFINITY] {
        assert!(Quantile::percent(percent).is_err(), "{percent}");
    }
    assert_eq!(
        "p100".parse::<Quantile>().unwrap_err().to_string(),
        "quantile p100 is not within p0.1 to p99.9"
    );
    assert_eq!(Quantile::percent(95.0).unwrap(), Quantile::P95);
}
