#![expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
#![expect(clippy::float_cmp, reason = "what is kept in millionths is shown exactly")]

use proptest::prelude::*;

use super::*;
use crate::Entropy;

const SECOND: Duration = Duration::from_secs(1);

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() < 5e-5
}

/// A load of `per_second` calls on an upstream that is `up` or down, in virtual time.
struct Scene {
    policy: ThrottlePolicy,
    throttle: AdaptiveThrottle,
    entropy: Entropy,
    now: Instant,
    gap: Duration,
}

impl Scene {
    fn new(policy: ThrottlePolicy, per_second: u32, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            policy,
            throttle: AdaptiveThrottle::new(&policy, now),
            entropy: Entropy::seeded(seed),
            now,
            gap: SECOND / per_second,
        }
    }

    fn call(&mut self, health: Health) -> bool {
        self.now += self.gap;
        let goes = self.throttle.try_acquire(&self.policy, self.now, || self.entropy.draw());
        if goes {
            self.throttle.record(health, self.now);
        }
        goes
    }

    /// Returns how many calls went through.
    fn run(&mut self, health: Health, span: Duration) -> u32 {
        let until = self.now + span;
        let mut sent = 0;
        while self.now < until {
            sent += u32::from(self.call(health));
        }
        sent
    }

    /// Returns how long it takes until 99 % of the calls go through.
    fn recovery(&mut self) -> Duration {
        let since = self.now;
        while 0.01 < self.throttle.refusal(&self.policy, self.now) {
            self.call(Health::Well);
        }
        self.now - since
    }
}

fn after_five_minutes_down(policy: ThrottlePolicy, per_second: u32, seed: u64) -> Scene {
    let mut scene = Scene::new(policy, per_second, seed);
    scene.run(Health::Well, SECOND * 60);
    scene.run(Health::Overloaded, SECOND * 300);
    scene
}

proptest! {
    #[test]
    fn nothing_is_refused_while_one_call_in_the_ratio_is_accepted(
        accepts in 0_u64..1_000,
        ratio in 1.0..4.0_f64,
        draw: u64,
    ) {
        let policy = ThrottlePolicy::default().ratio(ratio).unwrap();
        // The ratio is kept in whole millionths.
        let micros = (policy.accepted_ratio() * 1e6).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        let requests = accepts * micros as u64 / 1_000_000;
        prop_assert!(!policy.odds(requests, accepts).refuse(|| draw));
        prop_assert!(policy.odds(requests + 1, accepts).refuse(|| 0));
    }

    #[test]
    fn the_odds_are_met_by_the_draws(
        requests in 0_u64..5_000_000,
        share in 0.0..1.0_f64,
        most in 0.01..1.0_f64,
    ) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a share of it"
        )]
        let accepts = (requests as f64 * share) as u64;
        let policy = ThrottlePolicy::default().refused_max(most).unwrap();
        let refusal = policy.refusal(requests, accepts);
        prop_assert!((0.0..=policy.most_refused()).contains(&refusal) && refusal < 1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a share of all draws"
        )]
        let at = |share: f64| (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let odds = policy.odds(requests, accepts);
        prop_assert!(refusal < 1e-9 || odds.refuse(|| at(refusal - 1e-9)));
        prop_assert!(!odds.refuse(|| at(refusal + 1e-9)));
    }
}

#[test]
fn the_books_formula_gives_the_books_figures() {
    let book = ThrottlePolicy::book();
    let table = [((100, 50), 0.0), ((100, 49), 0.0198), ((100, 10), 0.7921), ((100, 0), 0.9901)];
    for ((requests, accepts), refusal) in table {
        assert!(close(book.refusal(requests, accepts), refusal), "{requests}, {accepts}");
    }
    assert_eq!(book.refusal(0, 0), 0.0);
    let strict = book.ratio(1.1).unwrap();
    assert!(close(strict.refusal(100, 90), 0.0099));
}

#[test]
fn a_few_failures_mean_little() {
    let policy = ThrottlePolicy::default();
    assert!(close(policy.refusal(1, 0), 1.0 / 9.0));
    assert!(close(policy.refusal(4, 1), 2.0 / 12.0));
    assert!(close(policy.refusal(100, 0), 100.0 / 108.0));
}

#[test]
fn all_calls_go_while_nothing_fails_and_no_draw_is_asked_for() {
    let (policy, now) = (ThrottlePolicy::default(), Instant::now());
    let throttle = AdaptiveThrottle::new(&policy, now);
    for n in 0..1_000 {
        let at = now + Duration::from_millis(n * 100);
        assert!(throttle.is_quiet());
        assert!(throttle.try_acquire(&policy, at, || unreachable!("nothing is left to chance")));
        throttle.record(Health::Well, at);
    }
}

#[test]
fn a_throttle_is_quiet_again_when_failures_have_left_the_window() {
    let (policy, now) = (ThrottlePolicy::default(), Instant::now());
    let throttle = AdaptiveThrottle::new(&policy, now);
    throttle.record(Health::Unknown, now);
    assert!(throttle.is_quiet(), "what tells nothing does not count");
    throttle.record(Health::Failed, now);
    assert!(!throttle.is_quiet());
    assert!(!throttle.try_acquire(&policy, now, || 0) || !throttle.try_acquire(&policy, now, || 0));
    assert!(throttle.try_acquire(&policy, now + SECOND * 30, || 0));
    assert!(throttle.is_quiet());
}

#[test]
fn failures_and_overload_count_as_refused_and_a_bound_holds() {
    let policy = ThrottlePolicy::default().refused_max(0.5).unwrap();
    let now = Instant::now();
    let throttle = AdaptiveThrottle::new(&policy, now);
    for health in [Health::Failed, Health::Overloaded].repeat(40) {
        throttle.record(health, now);
    }
    assert_eq!(throttle.refusal(&policy, now), 0.5);
    assert_eq!(throttle.refusal(&ThrottlePolicy::default(), now), 80.0 / 88.0, "one state, two");
}

#[test]
fn probes_go_through_at_their_rate_whatever_the_odds() {
    let policy = ThrottlePolicy::default().probes_per_second(2.0).unwrap();
    let now = Instant::now();
    let throttle = AdaptiveThrottle::new(&policy, now);
    let ask = |policy: &ThrottlePolicy, at| throttle.try_acquire(policy, at, || 0);
    let mut sent = 0;
    for n in 0..1_000 {
        let at = now + Duration::from_millis(n * 10);
        throttle.record(Health::Failed, at);
        sent += u32::from(ask(&policy, at));
    }
    assert_eq!(sent, 20, "of 1,000 in 10 s");
    let none = policy.probes_per_second(0.0).unwrap();
    assert!(!ask(&none, now + SECOND * 20));
    let at = now + SECOND * 25;
    assert!(throttle.try_acquire(&policy, at, || u64::MAX), "by chance");
    assert!(!ask(&policy, at + SECOND / 2 - Duration::from_nanos(1)));
    assert!(ask(&policy, at + SECOND / 2), "a probe after half a second without a call");
}

#[test]
fn refusals_of_ours_count_only_where_the_policy_says_so() {
    let now = Instant::now();
    for counts_refused in [false, true] {
        let policy = ThrottlePolicy::book().count_refused(counts_refused);
        let throttle = AdaptiveThrottle::new(&policy, now);
        throttle.record(Health::Failed, now);
        for _ in 0..9 {
            assert!(!throttle.try_acquire(&policy, now, || 0));
        }
        let requests = if counts_refused { 10.0 } else { 1.0 };
        assert_eq!(throttle.refusal(&policy, now), requests / (requests + 1.0));
    }
}

/// The promise: whatever the load, 99 % of the calls go through again within the `ratio`-th part of
/// the window.
#[test]
fn after_five_minutes_down_calls_go_through_again_within_fifteen_seconds() {
    for per_second in [2, 10, 100, 1_000] {
        for seed in 0..4 {
            let policy = ThrottlePolicy::default();
            let mut scene = after_five_minutes_down(policy, per_second, seed);
            let predicted = scene.throttle.predicted_recovery(&policy, scene.now);
            let took = scene.recovery();
            assert!(took <= SECOND * 15, "{per_second}/s: {took:?}");
            assert!(predicted <= SECOND * 15, "{per_second}/s: {predicted:?}");
        }
    }
}

#[test]
fn the_books_figures_take_minutes() {
    let mut took: Vec<_> = (0..5)
        .map(|seed| after_five_minutes_down(ThrottlePolicy::book(), 10, seed).recovery())
        .collect();
    took.sort_unstable();
    // The median within a factor of 1.6 of W·ln(λW)/x = 534 s.
    assert!(SECOND * 334 < took[2] && took[2] < SECOND * 854, "{took:?}");
}

#[test]
fn an_outage_costs_little_load() {
    let sent = |per_second| {
        let mut scene = Scene::new(ThrottlePolicy::default(), per_second, 3);
        scene.run(Health::Overloaded, SECOND * 60);
        f64::from(scene.run(Health::Overloaded, SECOND * 300)) / 300.0
    };
    // √(8·λ/30 s), and probes where that leaves gaps.
    for (per_second, by_chance) in [(10, 1.5), (100, 5.0), (1_000, 16.1)] {
        let ours = sent(per_second);
        assert!((0.8 * by_chance..1.2 * by_chance + 0.3).contains(&ours), "{per_second}: {ours}");
    }
    assert!((1.0..1.5).contains(&(sent(2) * 1.01)));
}

#[test]
fn an_upstream_that_takes_half_is_left_alone_and_one_that_takes_a_tenth_is_relieved() {
    let mut scene = Scene::new(ThrottlePolicy::default(), 100, 5);
    for _ in 0..60 {
        scene.run(Health::Well, SECOND / 2);
        scene.run(Health::Failed, SECOND / 2);
    }
    // Half of it is the very edge: only what chance puts below it is refused.
    assert!(scene.throttle.refusal(&scene.policy, scene.now) < 0.1);
    // A capacity of 10 in a load of 100 brings it down to √(2·100·10) = 45 a second.
    let mut sent = 0;
    for turn in 0..120 {
        let (mut this, until) = (0, scene.now + SECOND);
        while scene.now < until {
            let health = if this < 10 { Health::Well } else { Health::Overloaded };
            this += u32::from(scene.call(health));
        }
        sent += if 60 <= turn { this } else { 0 };
    }
    assert!((35..55).contains(&(sent / 60)), "{sent}");
}

#[test]
fn another_window_takes_over_what_is_known() {
    let (policy, now) = (ThrottlePolicy::default(), Instant::now());
    let throttle = AdaptiveThrottle::new(&policy, now);
    for n in 0..30 {
        let health = if n % 3 == 0 { Health::Well } else { Health::Failed };
        throttle.record(health, now + SECOND * n);
    }
    let at = now + SECOND * 29;
    let shorter = policy.window(SECOND * 10).unwrap();
    assert!(!throttle.serves(&shorter) && throttle.serves(&policy.ratio(3.0).unwrap()));
    let next = throttle.succeeded_by(&shorter, at);
    assert!(next.serves(&shorter) && !next.is_quiet());
    assert_eq!(next.refusal(&shorter, at), policy.refusal(10, 3));
    let longer = policy.window(SECOND * 60).unwrap();
    assert_eq!(throttle.succeeded_by(&longer, at).refusal(&longer, at), policy.refusal(30, 10));
}

#[test]
fn recovery_is_predicted_as_the_formulas_have_it() {
    let secs = |policy: ThrottlePolicy, load| policy.predicted_recovery(load).as_secs_f64();
    // What is refused here counts: W·ln(λW)/x, where x = K(1 − e⁻ˣ).
    let book = ThrottlePolicy::book();
    let table = [(2.0, 120, 534.0), (2.0, 30, 107.0), (1.1, 120, 4_391.0)];
    for (ratio, window, formula) in table {
        let policy = book.ratio(ratio).unwrap().window(SECOND * window).unwrap();
        let ours = secs(policy, 10.0);
        assert!((0.6..1.6).contains(&(ours / formula)), "{ratio}, {window}: {ours}");
    }
    // It does not: calls grow by (K·A + p)/(R + A + p) of the load, from R² + p·R = p·λ·W.
    let free = ThrottlePolicy::default().probes_per_second(0.0).unwrap();
    for (ratio, load) in [(2.0, 100.0), (2.0, 1_000.0), (2.0, 10_000.0), (1.5, 1_000.0)] {
        let sent = (16.0_f64 + 8.0 * load * 30.0).sqrt() - 4.0;
        let accepts = sent / (ratio - 1.0);
        let growth = (sent + 8.0 - 8.0 / ratio) * (1.0 + ratio * accepts / 8.0).ln();
        let formula = (accepts + growth) / (load * ratio);
        let ours = secs(free.ratio(ratio).unwrap(), load);
        assert!((ours - formula).abs() < 0.1 * formula + 0.4, "{ratio}, {load}: {ours}, {formula}");
    }
    let probing = ThrottlePolicy::default().probes_per_second(50.0).unwrap();
    let with_probes = secs(probing, 100.0);
    assert!((7.5..15.0).contains(&with_probes), "at most W/K: {with_probes}");
    assert_eq!(secs(ThrottlePolicy::default(), 1.0), 0.0, "the probes let all of it through");
    assert_eq!([0.0, -1.0, f64::NAN, f64::INFINITY].map(|load| secs(book, load)), [0.0; 4]);
}

#[test]
fn a_state_predicts_its_own_recovery() {
    let policy = ThrottlePolicy::default();
    let fresh = AdaptiveThrottle::new(&policy, Instant::now());
    assert_eq!(fresh.predicted_recovery(&policy, Instant::now()), Duration::ZERO);
    for per_second in [10, 100, 1_000] {
        let mut scene = after_five_minutes_down(policy, per_second, 2);
        let predicted = scene.throttle.predicted_recovery(&policy, scene.now).as_secs_f64();
        let took = scene.recovery().as_secs_f64();
        assert!((took - predicted).abs() < 5.0, "{per_second}/s: {took}, {predicted}");
    }
}

#[test]
fn a_policy_says_what_it_was_given() {
    let policy = ThrottlePolicy::default();
    assert_eq!((policy.accepted_ratio(), policy.span()), (2.0, SECOND * 30));
    assert_eq!((policy.request_padding(), policy.probe_rate()), (8, 1.0));
    assert_eq!((policy.most_refused(), policy.does_count_refused()), (1.0, false));
    let policy = policy.probes_per_second(0.25).unwrap().padding(3).unwrap();
    assert_eq!((policy.probe_rate(), policy.probe_nanos()), (0.25, 4_000_000_000));
    assert_eq!(policy.request_padding(), 3);
    let debug = format!("{:?}", AdaptiveThrottle::new(&policy, Instant::now()));
    assert_eq!(debug, "AdaptiveThrottle { window: 30s, .. }");
}

#[test]
fn what_cannot_be_a_throttle_is_refused_with_the_rule() {
    let policy = ThrottlePolicy::default();
    let text = |invalid: Result<ThrottlePolicy, InvalidThrottle>| invalid.unwrap_err().to_string();
    assert_eq!(text(policy.ratio(0.9)), "ratio 0.9 is not within 1 to 100");
    assert_eq!(text(policy.ratio(f64::NAN)), "ratio NaN is not within 1 to 100");
    assert_eq!(text(policy.window(SECOND / 2)), "window 500ms is not within 1s to 1h");
    assert!(policy.window(SECOND * 3_601).is_err() && policy.window(SECOND * 3_600).is_ok());
    assert_eq!(text(policy.padding(0)), "padding 0 is not within 1 to 1000000");
    assert!(policy.padding(1_000_001).is_err());
    let rule = "probes a second are neither 0 nor within 0.001 to 1000";
    assert_eq!(text(policy.probes_per_second(-1.0)), format!("-1 {rule}"));
    assert_eq!(text(policy.probes_per_second(1_001.0)), format!("1001 {rule}"));
    assert_eq!(text(policy.probes_per_second(f64::NAN)), format!("NaN {rule}"));
    for share in [0.0, -0.5, 1.1, f64::NAN, 1e-9] {
        let rule = "is not above 0 and at most 1";
        assert_eq!(
            text(policy.refused_max(share)),
            format!("largest share refused {share} {rule}")
        );
    }
}
