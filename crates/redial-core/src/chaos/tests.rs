use proptest::prelude::*;

use super::*;
use crate::Entropy;

const MS: Duration = Duration::from_millis(1);

fn head<'a>(authority: &'a str, path: &'a str, method: &'a str) -> ChaosHead<'a> {
    ChaosHead { authority, path, method }
}

const ANY: ChaosHead<'_> = ChaosHead { authority: "a.example", path: "/", method: "GET" };

fn policy(rule: ChaosRule) -> ChaosPolicy {
    ChaosPolicy::default().rule(rule).unwrap()
}

fn failing() -> ChaosRule {
    ChaosRule::new().status(503).unwrap()
}

/// Which of `count` requests are hit.
fn hits(policy: &ChaosPolicy, seed: u64, count: usize) -> Vec<bool> {
    let state = ChaosState::new(policy, seed);
    (0..count).map(|_| !policy.plan(&ANY, &state).is_nothing()).collect()
}

#[test]
fn patterns_have_holes() {
    let table = [
        ("*", "", true),
        ("/a", "/a", true),
        ("/a", "/ab", false),
        ("/a/*", "/a/", true),
        ("/a/*", "/a", false),
        ("/*/items/*", "/orders/items/items/7", true),
        ("*b*b", "abcb", true),
        ("*b*b", "ab", false),
        ("a*", "A", false),
        ("**a**", "a", true),
    ];
    for (pattern, name, expected) in table {
        let pattern = Pattern::new(pattern).unwrap();
        assert_eq!(pattern.matches(name), expected, "{pattern:?} {name}");
    }
}

#[test]
fn rules_look_at_host_path_and_method() {
    let hosts = [
        ("shop.example", "shop.example", true),
        ("shop.example", "SHOP.example:8080", true),
        ("*.example", "shop.example:80", true),
        ("*:8080", "shop.example:8080", true),
        ("*:8080", "shop.example", false),
        ("[::1]", "[::1]:80", true),
        ("[::1]", "[::1]", true),
        ("shop.example", "", false),
    ];
    for (pattern, authority, expected) in hosts {
        let rule = failing().host(pattern).unwrap();
        assert_eq!(rule.matches(&head(authority, "/", "GET")), expected, "{pattern} {authority}");
    }
    let rule = failing().path("/pay*").unwrap().method("POST").unwrap().method("PUT").unwrap();
    assert!(rule.matches(&head("", "/payments", "POST")));
    assert!(rule.matches(&head("", "/pay", "PUT")));
    assert!(!rule.matches(&head("", "/pay", "post")), "methods have a case");
    assert!(!rule.matches(&head("", "/Pay", "PUT")), "and so have paths");
}

#[test]
fn the_first_few_are_exactly_as_many_whoever_else_comes() {
    let policy = policy(failing().path("/a").unwrap().first(3).unwrap());
    let state = ChaosState::new(&policy, 1);
    let hit = |path| policy.plan(&head("", path, "GET"), &state).answer.is_some();
    assert_eq!(
        ["/a", "/b", "/a", "/b", "/a", "/a", "/a"].map(hit),
        [true, false, true, false, true, false, false]
    );
    assert_eq!((state.injected(0), state.injected(1)), (3, 0));
}

#[test]
fn a_total_ends_what_a_rate_began() {
    let policy = policy(failing().rate(0.5).unwrap().at_most(7).unwrap());
    assert_eq!(hits(&policy, 3, 1_000).into_iter().filter(|hit| *hit).count(), 7);
}

#[test]
fn rates_of_none_and_all_are_exact() {
    for (rate, draw, expected) in
        [(0.0, 0, false), (1.0, u64::MAX, true), (0.5, 1 << 63, false), (0.5, (1 << 63) - 1, true)]
    {
        assert_eq!(failing().rate(rate).unwrap().hits(0, draw), expected, "{rate} {draw}");
    }
}

#[test]
fn the_same_seed_is_the_same_fate_whatever_other_rules_do() {
    let alone = policy(failing().rate(0.3).unwrap());
    assert_eq!(hits(&alone, 7, 200), hits(&alone, 7, 200));
    assert_ne!(hits(&alone, 7, 200), hits(&alone, 8, 200));
    assert_eq!(hits(&alone.clone().seed(7), 99, 200), hits(&alone, 7, 200));
    let beside = ChaosRule::new().rate(0.5).unwrap().truncate(Cut::after(1)).unwrap();
    let both = alone.clone().rule(beside).unwrap();
    let state = ChaosState::new(&both, 7);
    let first: Vec<_> = (0..200).map(|_| both.plan(&ANY, &state).answer.is_some()).collect();
    assert_eq!(first, hits(&alone, 7, 200));
}

#[test]
fn delays_add_up_and_of_the_rest_the_first_counts() {
    let slow = |millis| ChaosRule::new().latency(Latency::fixed(MS * millis));
    let policy = ChaosPolicy::default()
        .rule(slow(100))
        .and_then(|policy| policy.rule(slow(20).status(503)?.header("Retry-After", "1")?))
        .and_then(|policy| policy.rule(slow(3).reset()?.after(true)))
        .and_then(|policy| policy.rule(ChaosRule::new().truncate(Cut::after(9))?))
        .unwrap();
    let plan = policy.plan(&ANY, &ChaosState::new(&policy, 1));
    assert_eq!(plan.delay, MS * 123);
    let fields = [(String::from("Retry-After"), String::from("1"))];
    let answer = Injected { status: Some((503, fields.as_slice())), is_after: false };
    assert_eq!((plan.answer, plan.cut, plan.pace), (Some(answer), Some(Cut::after(9)), None));
    assert!(!plan.is_nothing());
}

#[test]
fn what_is_switched_off_does_and_counts_nothing() {
    let policy = policy(failing()).enabled(false);
    let state = ChaosState::new(&policy, 1);
    assert!(policy.plan(&ANY, &state).is_nothing() && !policy.is_active());
    assert_eq!(state.injected(0), 0);
    let policy = policy.enabled(true);
    assert!(!policy.plan(&ANY, &state).is_nothing() && policy.is_active());
    assert!(!ChaosPolicy::default().is_active(), "without a rule nothing happens");
}

#[test]
fn contradictions_are_refused_whichever_comes_second() {
    let cut = || ChaosRule::new().truncate(Cut::after(1)).unwrap();
    let slow = || ChaosRule::new().slow_body(Pace::bytes_per_second(1).unwrap()).unwrap();
    let reset = || ChaosRule::new().reset().unwrap();
    let field = || ChaosRule::new().header("a", "b").unwrap();
    for (refused, text) in [
        (reset().status(503), "a rule with a reset cannot have a status as well"),
        (failing().reset(), "a rule with a status cannot have a reset as well"),
        (reset().truncate(Cut::after(1)), "a rule with a reset cannot have a truncated body"),
        (cut().reset(), "a rule with a truncated body cannot have a reset as well"),
        (slow().status(500), "a rule with a slow body cannot have a status as well"),
        (failing().slow_body(Pace::pause(MS).unwrap()), "a rule with a status cannot have a slow"),
        (field().reset(), "a rule with header fields cannot have a reset as well"),
        (reset().header("a", "b"), "a rule with a reset cannot have header fields as well"),
        (failing().rate(0.1).unwrap().first(1), "a rule with a rate cannot have first as well"),
        (failing().first(1).unwrap().rate(0.1), "a rule with first cannot have a rate as well"),
        (failing().first(1).unwrap().at_most(1), "a rule with first cannot have a total as well"),
        (failing().at_most(1).unwrap().first(1), "a rule with a total cannot have first as well"),
    ] {
        let told = refused.unwrap_err().to_string();
        assert!(told.starts_with(text), "{told}");
    }
    assert!(failing().status(500).is_ok(), "the same thing again is a change of mind");
}

#[test]
fn nonsense_is_refused_and_named() {
    let told = |refused: Result<ChaosRule, InvalidChaos>| refused.unwrap_err().to_string();
    assert_eq!(told(failing().rate(1.5)), "a share of 1.5 is not between 0 and 1");
    assert_eq!(told(failing().rate(f64::NAN)), "a share of NaN is not between 0 and 1");
    assert_eq!(
        told(ChaosRule::new().status(101)),
        "status 101 is not that of a final answer, between 200 and 599"
    );
    assert_eq!(told(failing().method("G T")), "\"G T\" is not a method");
    assert_eq!(told(failing().header("a b", "c")), "\"a b\" and its value are not a header field");
    assert_eq!(told(failing().header("a", "b\n")), "\"a\" and its value are not a header field");
    assert_eq!(told(failing().host("")), "an empty pattern matches nothing; `*` matches all");
    let refuse = |rule| ChaosPolicy::default().rule(rule).unwrap_err().to_string();
    assert_eq!(refuse(ChaosRule::new()), "a rule must do something");
    let late = ChaosRule::new().latency(Latency::fixed(MS)).after(true);
    assert_eq!(refuse(late), "`after` needs a status or a reset that it belongs to");
    let field = ChaosRule::new().latency(Latency::fixed(MS)).header("a", "b").unwrap();
    assert_eq!(refuse(field), "a header field needs a status or a reset that it belongs to");
    let told = |refused: Result<Latency, InvalidChaos>| refused.unwrap_err().to_string();
    assert_eq!(
        told(Latency::uniform(MS * 2, MS)),
        "the shortest delay 2ms is above the longest one 1ms"
    );
    assert_eq!(
        told(Latency::log_normal(MS, -1.0)),
        "a median of 1ms with sigma -1 is not possible: the median must be above 0, and sigma \
         between 0 and 10"
    );
    assert!(Latency::log_normal(Duration::ZERO, 1.0).is_err());
    let narrow = Latency::log_normal(MS * 90, 0.1).unwrap();
    assert_eq!(told(narrow.max(MS)), "a longest delay of 1ms is below almost every value");
    assert!(narrow.max(Duration::ZERO).is_err());
    assert!(Latency::fixed(MS).max(Duration::ZERO).is_err());
    assert_eq!(Pace::pause(Duration::ZERO), Err(InvalidChaos::Pace));
    assert_eq!(Pace::bytes_per_second(0), Err(InvalidChaos::Pace));
    assert!(Cut::share(-0.1).is_err());
}

#[test]
fn a_log_normal_delay_without_spread_is_its_median() {
    let median = Latency::log_normal(MS * 90, 0.0).unwrap();
    for draw in [0, u64::MAX / 2, u64::MAX] {
        assert_eq!(median.delay(draw), MS * 90);
        assert_eq!(median.max(MS * 90).unwrap().delay(draw), MS * 90);
    }
    assert!(median.max(MS * 89).is_err());
}

#[test]
fn cuts_and_paces_are_whole_numbers_of_bytes() {
    assert_eq!(Cut::after(7).at(3), 7);
    assert_eq!((Cut::after(7).fixed(), Cut::share(0.5).unwrap().fixed()), (Some(7), None));
    assert_eq!(Cut::share(0.5).unwrap().at(9), 4);
    assert_eq!(Cut::share(1.0).unwrap().at(u64::MAX), u64::MAX);
    let slow = Pace::bytes_per_second(3).unwrap();
    assert_eq!((slow.piece_bytes_max(), slow.wait(3)), (1, MS * 1_000));
    let fast = Pace::bytes_per_second(1_000).unwrap();
    assert_eq!((fast.piece_bytes_max(), fast.wait(100)), (100, MS * 100));
    let pause = Pace::pause(MS).unwrap();
    assert_eq!((pause.piece_bytes_max(), pause.wait(9)), (u64::MAX, MS));
}

proptest! {
    #[test]
    fn rates_are_within_binomial_bounds(rate in 0.0..=1.0_f64, seed: u64) {
        const COUNT: usize = 4_000;
        let policy = policy(failing().rate(rate).unwrap());
        let hit = hits(&policy, seed, COUNT).into_iter().filter(|hit| *hit).count();
        let (count, hit) = (4_000.0, f64::from(u32::try_from(hit).unwrap()));
        // Six standard deviations: once in 500 million, and 2 for rates next to 0 and 1.
        let bound = 6.0 * (count * rate * (1.0 - rate)).sqrt() + 2.0;
        prop_assert!((hit - count * rate).abs() <= bound, "{hit} of {count} at {rate}");
    }

    #[test]
    fn uniform_delays_stay_between_their_ends(from in 0_u64..1_000, more in 0_u64..1_000, draw: u64) {
        let (from, to) = (MS * u32::try_from(from).unwrap(), MS * u32::try_from(from + more).unwrap());
        let latency = Latency::uniform(from, to).unwrap();
        let delay = latency.delay(draw);
        prop_assert!(from <= delay && delay <= to);
        prop_assert_eq!((latency.delay(0), latency.delay(u64::MAX)), (from, to));
    }

    #[test]
    fn log_normal_delays_grow_with_the_draw_and_never_pass_the_longest(
        sigma in 0.01..5.0_f64,
        max in 90_u32..10_000,
        draws: (u64, u64),
    ) {
        let latency = Latency::log_normal(MS * 90, sigma).unwrap().max(MS * max).unwrap();
        let (low, high) = (draws.0.min(draws.1), draws.0.max(draws.1));
        let (low, high) = (latency.delay(low), latency.delay(high));
        prop_assert!(low <= high && high <= MS * max, "{low:?} {high:?}");
        let _ = Latency::log_normal(MS * 90, 10.0).unwrap().delay(draws.0);
    }
}

#[test]
fn half_of_all_log_normal_delays_are_below_the_median() {
    let (latency, entropy) = (Latency::log_normal(MS * 90, 1.5).unwrap(), Entropy::seeded(7));
    let below = (0..10_000).filter(|_| latency.delay(entropy.draw()) < MS * 90).count();
    assert!((4_850..5_150).contains(&below), "{below}");
}
