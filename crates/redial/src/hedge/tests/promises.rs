//! What holds for every script, and for every schedule.

use proptest::prelude::*;

use super::*;

/// How one copy fares: how long it takes, and how it ends.
fn fate() -> impl Strategy<Value = (u64, u16)> {
    let code = prop_oneof![
        4 => Just(200_u16),
        4 => Just(503_u16),
        1 => Just(404_u16),
        1 => Just(0_u16),
    ];
    (0_u64..300, code)
}

fn answer(code: u16) -> play::Answer {
    if code == 0 { broken(Fault::ConnectionReset) } else { status(code) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn copies_are_bounded_paid_for_and_all_gone_when_the_call_is_over(
        calls in prop::collection::vec(prop::collection::vec(fate(), 5), 1..12),
        delay in 0_u64..200,
        max_hedges in 1_u32..=4,
        initial in 0_u32..6,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let hedge = HedgePolicy::fixed(millis(delay)).with_max_hedges(max_hedges).unwrap();
        let tokens = TokenBudget {
            initial: Some(Tokens::whole(initial)),
            floor_per_second: Tokens::ZERO,
            ..TokenBudget::default()
        };
        let policy = Policy { budget: BudgetPolicy::Tokens(tokens), ..hedged(hedge) };
        let layer = HedgeLayer::new(policy);
        let (mut hedges, mut successes, mut wins) = (0, 0, 0);
        for fates in calls {
            let script = fates.into_iter().map(|(latency, code)| after(latency, answer(code)));
            let (copies, is_success, has_failed_over) = runtime.block_on(async {
                let play = Play::new(script);
                let outcome = layer.layer(play.clone()).oneshot(get()).await;
                prop_assert_eq!(play.out(), 0, "nothing outlives the call");
                prop_assert_eq!(play.ended() + play.dropped(), play.hits());
                let is_success = outcome.is_ok_and(|answer| answer.status().is_success());
                Ok((play.hits(), is_success, play.hits() > 1))
            })?;
            prop_assert!(copies <= 1 + usize::try_from(max_hedges).unwrap());
            hedges += u32::try_from(copies).unwrap() - 1;
            successes += u32::from(is_success);
            wins += u32::from(is_success && has_failed_over);
        }
        // A win is refunded; not every success of several copies was a hedge's, but never more.
        prop_assert!(hedges * 10 <= 10 * initial + successes + 10 * wins);
    }

    #[test]
    fn a_pending_success_always_wins_over_failures_that_another_copy_may_not_meet(
        slow in 1_u64..2_000, fast in prop::collection::vec(0_u64..100, 4), delay in 0_u64..100,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let hedge = HedgePolicy::fixed(millis(delay)).with_max_hedges(4).unwrap();
        let script = fast.into_iter().map(|latency| after(latency, status(503)));
        let script = [after(slow, status(200))].into_iter().chain(script);
        let code = runtime.block_on(async {
            let play = Play::new(script);
            HedgeLayer::new(hedged(hedge)).layer(play).oneshot(get()).await.unwrap().status()
        });
        prop_assert_eq!(code, 200);
    }
}

#[test]
fn futures_cross_threads_and_quantiles_below_the_median_are_refused() {
    fn is_send<T: Send>(_: &T) {}
    let mut client = HedgeLayer::new(Policy::default())
        .layer(service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async { status(200) }));
    is_send(&client.call(get()));
    assert!(HedgePolicy::tracked(Quantile::percent(10.0).unwrap()).is_err());
}
