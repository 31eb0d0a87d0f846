//! What holds whatever happens to a breaker.

use std::time::Duration;

use proptest::prelude::*;

use super::{Bench, SECOND};
use crate::{Abandoned, Admission, Backoff, BreakerPolicy, BreakerState, Health};

/// What may happen to a breaker, and when.
#[derive(Clone, Debug)]
enum Step {
    Acquire,
    End(usize, u8),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Acquire),
        4 => (0_usize..8, 0_u8..5).prop_map(|(which, end)| Step::End(which, end)),
        2 => (0_u64..4_000).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..300)
}

fn policies() -> impl Strategy<Value = BreakerPolicy> {
    (0_u32..5, 0.0..1.0_f64, 1_u32..5, 1_u32..5, any::<bool>()).prop_map(
        |(in_a_row, ratio, probes, successes, is_failure)| {
            let abandoned = if is_failure { Abandoned::Failure } else { Abandoned::Ignore };
            BreakerPolicy::default()
                .with_consecutive_failures(in_a_row)
                .with_min_calls(3)
                .and_then(|policy| policy.with_failure_ratio(ratio))
                .and_then(|policy| policy.with_slow_calls(SECOND, ratio))
                .and_then(|policy| policy.with_probes(probes))
                .and_then(|policy| policy.with_probe_successes(successes))
                .and_then(|policy| policy.with_open(Backoff::fixed(SECOND)))
                .and_then(|policy| policy.with_half_open_max(SECOND * 3))
                .unwrap()
                .with_abandoned(abandoned)
        },
    )
}

proptest! {
    #[test]
    fn half_open_never_admits_more_than_stated_and_closed_never_refuses(
        policy in policies(),
        steps in steps(),
    ) {
        let mut bench = Bench::new(policy);
        let mut out: Vec<Admission> = Vec::new();
        let mut draw = 0_u64;
        for step in steps {
            draw = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let Bench { breaker, policy, now } = &mut bench;
            match step {
                Step::Acquire => {
                    let before = breaker.state();
                    match breaker.admit(policy, *now, || draw) {
                        Ok(admission) => out.push(admission),
                        Err(_) => prop_assert_ne!(before, BreakerState::Closed),
                    }
                }
                Step::Wait(millis) => *now += Duration::from_millis(millis),
                Step::End(_, _) if out.is_empty() => {}
                Step::End(which, end) => {
                    let admission = out.swap_remove(which % out.len());
                    let healths = [Health::Well, Health::Failed, Health::Overloaded, Health::Unknown];
                    match healths.get(usize::from(end)) {
                        Some(health) => breaker.record(policy, admission, (*health).into(), *now, || draw),
                        None => breaker.abandon(policy, admission, *now, || draw),
                    };
                }
            }
            let (snapshot, generation) = (breaker.snapshot(*now), breaker.generation());
            let ours = |admission: &&Admission| admission.generation() == generation;
            let probes = out.iter().filter(ours).filter(|admission| admission.is_probe()).count();
            prop_assert_eq!(snapshot.probes_out, u32::try_from(probes).unwrap());
            prop_assert!(snapshot.probes_out <= policy.probes());
            let places = policy.probes().max(policy.probe_successes());
            prop_assert!(snapshot.probes_out + snapshot.probe_successes <= places);
        }
        // However it was left, quiet time and calls that go well close it.
        drop(out);
        for _ in 0..20 {
            bench.now += SECOND * 10;
            if let Ok(ticket) = bench.acquire() {
                ticket.record(Health::Well, bench.now, || 0);
            }
        }
        prop_assert_eq!(bench.breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn one_that_only_observes_admits_everything(policy in policies(), steps in steps()) {
        let mut bench = Bench::new(policy.with_observe_only(true));
        for step in steps {
            match step {
                Step::Wait(millis) => bench.now += Duration::from_millis(millis),
                Step::Acquire => { bench.ends(Health::Failed); }
                Step::End(..) => { bench.ends(Health::Well); }
            }
        }
    }

    #[test]
    fn it_is_open_for_as_long_as_backoff_and_wish_say(
        draw: u64,
        wish in proptest::option::of(0_u64..300),
        trips in 1_u32..12,
    ) {
        let policy = BreakerPolicy::default();
        let wish = wish.map(Duration::from_secs);
        let span = policy.open_time(trips, Duration::ZERO, wish, draw);
        let (low, high) = policy.open().bounds(trips);
        let wish = wish.unwrap_or_default().min(policy.pushback_max());
        prop_assert!(low.max(wish) <= span && span <= high.max(wish));
    }
}
