use proptest::prelude::*;

use super::*;

const ZERO: Duration = Duration::ZERO;

proptest! {
    #[test]
    fn a_wait_stays_within_its_bounds(backoff in any_backoff(), retry: u32, draw: u64) {
        let previous = backoff.bounds(retry.saturating_sub(1)).1;
        let (low, high) = backoff.bounds(retry);
        let delay = backoff.delay(retry, previous, draw);
        prop_assert!(low <= delay && delay <= high, "{low:?} <= {delay:?} <= {high:?}");
        prop_assert!(backoff.ceiling(retry) <= backoff.max);
    }

    #[test]
    fn both_bounds_are_reached(backoff in any_backoff(), retry in 1_u32..64) {
        if backoff.growth != Growth::Decorrelated {
            let (low, high) = backoff.bounds(retry);
            prop_assert_eq!(backoff.delay(retry, ZERO, 0), low);
            prop_assert_eq!(backoff.delay(retry, ZERO, u64::MAX), high);
        }
    }

    #[test]
    fn ceilings_never_shrink(backoff in any_backoff(), retry in 0_u32..5_000) {
        prop_assert!(backoff.ceiling(retry) <= backoff.ceiling(retry + 1));
    }

    #[test]
    fn doubling_is_exact(initial in 0_u64..1 << 40, max in 0_u64..1 << 50, retry in 1_u32..200) {
        let (initial, max) = (initial.min(max), max);
        let nanos = Duration::from_nanos;
        let backoff = Backoff::exponential(nanos(initial), 2.0, nanos(max)).unwrap();
        let exact = u128::from(initial).checked_shl(retry - 1).filter(|_| retry <= 64);
        let exact = exact.unwrap_or(if initial == 0 { 0 } else { u128::MAX });
        prop_assert_eq!(backoff.ceiling(retry).as_nanos(), exact.min(u128::from(max)));
    }

    #[test]
    fn any_factor_is_exact_to_the_nanosecond(
        initial in 1_u64..1_000_000_000,
        millionths in 1_000_001_u32..4_000_000,
        retry in 1_u32..5,
    ) {
        let factor = f64::from(millionths) / 1e6;
        let max = Duration::from_secs(1 << 33);
        let backoff = Backoff::exponential(Duration::from_nanos(initial), factor, max).unwrap();
        let power = u128::from(millionths).pow(retry - 1);
        let scale = MILLION.pow(retry - 1);
        let exact = (u128::from(initial) * power + scale / 2) / scale;
        prop_assert!(backoff.ceiling(retry).as_nanos().abs_diff(exact) <= 1);
    }

    #[test]
    fn no_input_overflows(
        growth in any_growth(),
        initial: Duration,
        max: Duration,
        retry: u32,
        previous: Duration,
        draw: u64,
    ) {
        let backoff = Backoff::new(growth, initial.min(max), max).unwrap();
        for backoff in [Ok(backoff), backoff.jitter(Jitter::Additive)].into_iter().flatten() {
            prop_assert!(backoff.ceiling(retry) <= max);
            let _ = (backoff.delay(retry, previous, draw), backoff.bounds(retry));
        }
    }

    #[test]
    fn full_jitter_is_spread_evenly(seed: u64) {
        let backoff = Backoff::fixed(Duration::from_micros(99));
        let entropy = crate::Entropy::seeded(seed);
        let draws = (0..4_000).map(|_| backoff.delay(1, ZERO, entropy.draw()).as_nanos());
        let mean = draws.sum::<u128>() / 4_000;
        // Five standard errors of the mean of 4,000 uniform draws.
        prop_assert!(mean.abs_diff(49_500) < 2_300, "{}", mean);
    }
}

#[test]
fn additive_jitter_waits_one_to_two_two_to_four_four_to_eight_seconds() {
    let seconds = Duration::from_secs;
    let backoff = Backoff::exponential(seconds(1), 2.0, seconds(60)).unwrap();
    let backoff = backoff.jitter(Jitter::Additive).unwrap();
    let bounds = [1, 2, 3].map(|retry| backoff.bounds(retry));
    assert_eq!(bounds, [(1, 2), (2, 4), (4, 8)].map(|(a, b)| (seconds(a), seconds(b))));
}

#[test]
fn the_cap_comes_before_the_jitter() {
    let ms = Duration::from_millis;
    let backoff = Backoff::exponential(ms(500), 2.0, ms(5_000)).unwrap();
    let backoff = backoff.jitter(Jitter::Proportional(0.1)).unwrap();
    assert_eq!(backoff.bounds(6), (ms(4_500), ms(5_500)));
    assert_eq!(backoff.bounds(1), (ms(450), ms(550)));
}

#[test]
fn linear_and_fixed_waits_grow_as_they_say() {
    let ms = Duration::from_millis;
    let linear = Backoff::new(Growth::Linear, ms(100), ms(250)).unwrap();
    assert_eq!([0, 1, 2, 3, 9].map(|n| linear.ceiling(n)), [100, 100, 200, 250, 250].map(ms));
    assert_eq!(linear.ceiling(u32::MAX), ms(250));
    assert_eq!(Backoff::fixed(ms(70)).ceiling(1_000), ms(70));
}

#[test]
fn decorrelated_waits_are_drawn_between_the_first_and_three_times_the_last() {
    let ms = Duration::from_millis;
    let backoff = Backoff::new(Growth::Decorrelated, ms(10), ms(100)).unwrap();
    assert_eq!(backoff.delay(1, ZERO, 0), ms(10));
    assert_eq!(backoff.delay(1, ZERO, u64::MAX), ms(30));
    assert_eq!(backoff.delay(2, ms(30), u64::MAX), ms(90));
    assert_eq!(backoff.delay(3, ms(90), u64::MAX), ms(100));
    assert_eq!(backoff.delay(9, ms(100), 0), ms(10));
    let bounds = [1, 2, 3].map(|retry| backoff.bounds(retry).1);
    assert_eq!(bounds, [ms(30), ms(90), ms(100)]);
}

#[test]
fn an_odd_nanosecond_is_not_lost() {
    let nanos = Duration::from_nanos;
    let backoff = Backoff::fixed(nanos(7)).jitter(Jitter::Equal).unwrap();
    assert_eq!(backoff.bounds(1), (nanos(3), nanos(7)));
    let full = Backoff::fixed(nanos(1));
    assert_eq!(full.delay(1, ZERO, u64::MAX), nanos(1));
    assert_eq!(full.delay(1, ZERO, u64::MAX / 2), nanos(0));
}

#[test]
fn values_that_form_no_schedule_are_refused_with_the_rule() {
    let (one, two) = (Duration::from_secs(1), Duration::from_secs(2));
    let refused = [
        (Backoff::exponential(two, 2.0, one), "initial delay 2s is above the longest delay 1s"),
        (Backoff::exponential(one, 0.99, two), "factor 0.99 is not within 1 to 1000"),
        (Backoff::exponential(one, f64::NAN, two), "factor NaN is not within 1 to 1000"),
        (Backoff::exponential(one, 1_000.1, two), "factor 1000.1 is not within 1 to 1000"),
        (
            Backoff::fixed(one).jitter(Jitter::Proportional(1.1)),
            "proportional jitter 1.1 is not within 0 to 1",
        ),
        (
            Backoff::new(Growth::Decorrelated, one, two).and_then(|b| b.jitter(Jitter::Equal)),
            "decorrelated backoff is random by itself and takes no equal jitter",
        ),
    ];
    for (outcome, rule) in refused {
        assert_eq!(outcome.unwrap_err().to_string(), rule);
    }
    assert!(Backoff::exponential(ZERO, 1.0, ZERO).is_ok());
    assert!(Backoff::exponential(one, 1_000.0, one).is_ok());
    let decorrelated = Backoff::new(Growth::Decorrelated, one, two).unwrap();
    assert!(decorrelated.jitter(Jitter::None).is_ok());
}

#[test]
fn a_schedule_tells_what_it_was_made_of() {
    let (one, two) = (Duration::from_secs(1), Duration::from_secs(2));
    let backoff = Backoff::exponential(one, 1.5, two).unwrap();
    assert_eq!((backoff.initial(), backoff.max()), (one, two));
    assert_eq!((backoff.growth(), backoff.spread()), (Growth::Exponential(1.5), Jitter::Full));
    let growths = [Growth::Fixed, Growth::Linear, Growth::Exponential(2.0), Growth::Decorrelated];
    assert_eq!(growths.map(Growth::name), ["fixed", "linear", "exponential", "decorrelated"]);
    let jitters =
        [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Proportional(0.5), Jitter::Additive];
    assert_eq!(jitters.map(Jitter::name), ["none", "full", "equal", "proportional", "additive"]);
}

#[test]
fn half_a_nanosecond_is_rounded_up() {
    let nanos = Duration::from_nanos;
    let backoff = Backoff::exponential(nanos(3), 1.5, nanos(1_000)).unwrap();
    assert_eq!([1, 2, 3].map(|retry| backoff.ceiling(retry)), [3, 5, 7].map(nanos));
}

#[test]
fn growth_of_a_hair_ends_level_instead_of_for_ever() {
    let max = Duration::from_secs(3_600);
    let backoff = Backoff::exponential(Duration::from_secs(1), 1.000_001, max).unwrap();
    assert_eq!(backoff.ceiling(4_096), backoff.ceiling(u32::MAX));
    assert!(backoff.ceiling(4_095) < backoff.ceiling(4_096));
}

#[test]
fn schedules_of_ages_do_without_guard_bits() {
    let ages = Duration::from_secs(u64::MAX / 4);
    let backoff = Backoff::exponential(Duration::from_secs(1), 2.0, ages).unwrap();
    assert_eq!(backoff.ceiling(41), Duration::from_secs(1 << 40));
    assert_eq!(backoff.ceiling(u32::MAX), ages);
    assert_eq!(duration(u128::MAX), Duration::MAX);
}

fn any_growth() -> impl Strategy<Value = Growth> {
    prop_oneof![
        Just(Growth::Fixed),
        Just(Growth::Linear),
        (1.0..=1_000.0).prop_map(Growth::Exponential),
        Just(Growth::Decorrelated),
    ]
}

fn any_backoff() -> impl Strategy<Value = Backoff> {
    let jitter = prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        (0.0..=1.0).prop_map(Jitter::Proportional),
        Just(Jitter::Additive),
    ];
    let max = 0..=3_600_000_000_000_u64;
    (any_growth(), max.clone(), max, jitter).prop_map(|(growth, a, b, jitter)| {
        let (initial, max) = (Duration::from_nanos(a.min(b)), Duration::from_nanos(a.max(b)));
        let backoff = Backoff::new(growth, initial, max).unwrap();
        backoff.jitter(jitter).unwrap_or(backoff)
    })
}
