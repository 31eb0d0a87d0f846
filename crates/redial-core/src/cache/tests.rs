use super::*;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn by_default_answers_are_kept_and_shared_and_nothing_stale_is_given_out() {
    let policy = CachePolicy::default();
    assert_eq!((policy.bytes_max(), policy.body_bytes_max()), (67_108_864, 1_048_576));
    assert!(policy.is_storing() && policy.is_coalescing());
    assert!(policy.stale_if_error().is_zero() && policy.stale_while_revalidate().is_zero());
    assert_eq!(policy.wait_max(), Duration::from_secs(5));
}

#[test]
fn what_is_set_is_what_is_got() {
    let policy = CachePolicy::default()
        .with_bytes_max(1 << 20)
        .and_then(|policy| policy.with_body_bytes_max(1 << 20))
        .and_then(|policy| policy.with_stale_if_error(MINUTE))
        .and_then(|policy| policy.with_stale_while_revalidate(MINUTE / 2))
        .and_then(|policy| policy.with_coalescing(false))
        .and_then(|policy| policy.with_wait_max(MINUTE * 2))
        .unwrap();
    assert_eq!((policy.bytes_max(), policy.body_bytes_max()), (1 << 20, 1 << 20));
    assert_eq!(policy.stale_if_error(), MINUTE);
    assert_eq!(policy.stale_while_revalidate(), MINUTE / 2);
    assert_eq!(policy.wait_max(), MINUTE * 2);
    assert!(policy.is_storing() && !policy.is_coalescing());
}

#[test]
fn values_out_of_range_are_refused_with_the_rule() {
    let policy = CachePolicy::default();
    let table = [
        (policy.with_bytes_max(65_535), "cache of 65535 bytes is not within 64KiB to 1TiB"),
        (
            policy.with_bytes_max(1 << 41),
            "cache of 2199023255552 bytes is not within 64KiB to 1TiB",
        ),
        (
            policy.with_body_bytes_max(0),
            "longest cached body of 0 bytes is not within 1B to 256MiB",
        ),
        (
            policy.with_body_bytes_max(1 << 29),
            "longest cached body of 536870912 bytes is not within 1B to 256MiB",
        ),
        (policy.with_stale_if_error(Duration::MAX), "span"),
        (policy.with_stale_while_revalidate(Duration::MAX), "span"),
        (policy.with_wait_max(Duration::ZERO), "wait 0ns is not within 1ms to 1h"),
        (policy.with_wait_max(Duration::from_micros(999)), "wait 999µs is not within 1ms to 1h"),
        (
            policy.with_wait_max(MINUTE * 60 + Duration::from_nanos(1)),
            "wait 3600.000000001s is not within 1ms to 1h",
        ),
    ];
    for (result, text) in table {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    assert!(policy.with_bytes_max(1 << 40).is_ok());
    assert!(policy.with_wait_max(Duration::from_millis(1)).is_ok());
    assert!(policy.with_wait_max(MINUTE * 60).is_ok());
    let largest = policy.with_bytes_max(1 << 40).unwrap().with_body_bytes_max(1 << 28);
    assert!(largest.is_ok() && largest.unwrap().with_body_bytes_max((1 << 28) + 1).is_err());
    assert!(policy.with_body_bytes_max(1).unwrap().with_bytes_max(1 << 16).is_ok());
    assert!(policy.with_stale_if_error(SPAN_MAX).is_ok());
}

#[test]
fn fields_that_contradict_each_other_are_refused_by_whichever_comes_second() {
    let policy = CachePolicy::default();
    let too_small = policy.with_bytes_max(1 << 16).unwrap_err();
    assert_eq!(too_small.to_string(), "a body of 1048576 bytes does not fit a cache of 65536");
    let small = policy.with_body_bytes_max(1 << 10).unwrap().with_bytes_max(1 << 16).unwrap();
    assert_eq!(small.with_body_bytes_max(1 << 20).unwrap_err(), too_small);

    let stale = policy.with_stale_if_error(MINUTE).unwrap();
    assert_eq!(stale.with_storing(false), Err(InvalidCache::StaleWithoutStoring));
    let coalesce_only = CachePolicy::coalesce_only();
    assert_eq!(coalesce_only.with_stale_if_error(MINUTE), Err(InvalidCache::StaleWithoutStoring));
    assert_eq!(
        coalesce_only.with_stale_while_revalidate(MINUTE).unwrap_err().to_string(),
        "stale answers need a cache that stores, and this one does not"
    );

    assert_eq!(coalesce_only.with_coalescing(false), Err(InvalidCache::Idle));
    let alone = policy.with_coalescing(false).unwrap();
    let idle = alone.with_storing(false).unwrap_err();
    assert_eq!(idle.to_string(), "a cache must store answers or let calls share them");
    assert_eq!(policy.with_storing(false), Ok(coalesce_only));
}

#[test]
fn outcomes_have_names_of_their_own_and_one_hides_a_failure() {
    let names = CacheOutcome::ALL.map(CacheOutcome::name);
    let mut unique = names.to_vec();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    let hiding = CacheOutcome::ALL.into_iter().filter(|outcome| outcome.hides_failure());
    assert!(hiding.eq([CacheOutcome::StaleIfError]));
    assert_eq!(CacheOutcome::Hit.to_string(), "hit");
}
