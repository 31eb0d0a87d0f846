//! Stale answers: R81, R82, R83, and the scenario `stale-shield`.

use proptest::prelude::*;

use super::*;

/// Answers the first call with `control`, and fails then as `failure` says.
fn fails_after(
    policy: CachePolicy,
    control: &'static str,
    failure: impl Fn() -> Answer + Send + Sync + 'static,
) -> Client {
    client(policy, move |n, _| match n {
        0 => answer(200, &[("cache-control", control)], "kept"),
        _ => failure(),
    })
}

fn ten_minutes() -> CachePolicy {
    CachePolicy::default().with_stale_if_error(SECOND * 600).unwrap()
}

#[tokio::test(start_paused = true)]
async fn r82_a_stale_answer_covers_a_failure_within_its_window_and_not_after() {
    let control = "max-age=600, stale-if-error=1200";
    for status in [500, 502, 503, 504] {
        let client =
            fails_after(CachePolicy::default(), control, move || answer(status, &[], "failed"));
        client.get().await;
        pass(700).await;
        let got = client.get().await;
        assert_eq!((got.status, got.age(), got.text()), (200, Some(700), "kept"), "{status}");
        assert_eq!((got.name(), client.log.calls()), ("stale_if_error", 2));
        pass(1_101).await;
        let got = client.get().await;
        assert_eq!((got.status, got.text(), got.age()), (status, "failed", None));
    }
}

#[tokio::test(start_paused = true)]
async fn r82_it_covers_errors_as_well_and_other_statuses_not() {
    let control = "max-age=600, stale-if-error=1200";
    let client = fails_after(CachePolicy::default(), control, refused);
    client.get().await;
    pass(1_800).await;
    assert_eq!(client.get().await.age(), Some(1_800));
    pass(1).await;
    assert!(client.send(get(&[])).await.is_err());

    for status in [501, 505, 429, 404, 401] {
        let client =
            fails_after(CachePolicy::default(), control, move || answer(status, &[], "no"));
        client.get().await;
        pass(700).await;
        assert_eq!(client.get().await.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn r82_the_window_may_come_from_the_request_or_from_our_policy() {
    let by_request = fails_after(CachePolicy::default(), "max-age=600", refused);
    by_request.get().await;
    pass(700).await;
    assert!(by_request.send(get(&[])).await.is_err(), "off unless somebody says so");
    let asks = get(&[("cache-control", "stale-if-error=100")]);
    assert_eq!(by_request.send(asks).await.unwrap().age(), Some(700));
    let asks = get(&[("cache-control", "stale-if-error=99")]);
    assert!(by_request.send(asks).await.is_err());

    let by_policy = fails_after(ten_minutes(), "max-age=600", refused);
    by_policy.get().await;
    pass(1_200).await;
    assert_eq!(by_policy.get().await.name(), "stale_if_error");
    pass(1).await;
    assert!(by_policy.send(get(&[])).await.is_err());

    let servers_word_counts_more =
        fails_after(ten_minutes(), "max-age=600, stale-if-error=5", refused);
    servers_word_counts_more.get().await;
    pass(606).await;
    assert!(servers_word_counts_more.send(get(&[])).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn r81_what_must_be_revalidated_is_never_given_out_stale() {
    for directive in ["must-revalidate", "no-cache", "proxy-revalidate", "s-maxage=60"] {
        let control = format!("max-age=60, stale-if-error=600, {directive}");
        let client = client(ten_minutes(), move |n, _| match n {
            0 => answer(200, &[("cache-control", &control), ("etag", "\"a\"")], "kept"),
            1 => answer(504, &[], "down"),
            _ => refused(),
        });
        client.get().await;
        pass(61).await;
        let asks = [("cache-control", "stale-if-error=600")];
        assert_eq!(client.get_with(&asks).await.status, 504, "{directive}");
        assert!(client.send(get(&asks)).await.is_err(), "{directive}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_demands_a_validated_answer_is_told_of_the_failure() {
    for asks in ["no-cache", "max-age=5", "min-fresh=5"] {
        let client = fails_after(ten_minutes(), "max-age=60", refused);
        client.get().await;
        pass(70).await;
        assert!(client.send(get(&[("cache-control", asks)])).await.is_err(), "{asks}");
        let own = format!("{asks}, stale-if-error=60");
        let got = client.get_with(&[("cache-control", &own)]).await;
        assert_eq!(got.name(), "stale_if_error", "{own}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_say_nothing_are_kept_for_failures_where_our_policy_says_so() {
    let silent = |policy| {
        client(policy, |n, _| match n {
            0 | 1 => answer(200, &[], &n.to_string()),
            _ => refused(),
        })
    };
    let kept = silent(ten_minutes());
    assert_eq!((kept.get().await.text(), kept.get().await.text()), ("0", "1"));
    pass(600).await;
    assert_eq!(kept.get().await.text(), "1");
    let not = silent(CachePolicy::default());
    not.get().await;
    assert!(not.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn stale_heads_cover_failures_too() {
    let client = fails_after(ten_minutes(), "max-age=60", refused);
    client.get().await;
    pass(70).await;
    let head = client.send(ask("HEAD", URI, &[])).await.unwrap();
    assert_eq!((head.name(), head.text(), head.age()), ("stale_if_error", "", Some(70)));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_a_failure_that_a_stale_answer_covers() {
    let client = client(ten_minutes(), |n, _| match n {
        0 => answer(200, &[("cache-control", "max-age=60")], "kept"),
        _ => bounds::broken("half of it", &[("cache-control", "max-age=60")]),
    });
    client.get().await;
    pass(61).await;
    let got = client.get().await;
    assert_eq!((got.name(), got.text()), ("stale_if_error", "kept"));
}

#[tokio::test(start_paused = true)]
async fn r83_a_thousand_at_601_s_are_given_the_stale_answer_and_one_call_renews_it() {
    let control = "max-age=600, stale-while-revalidate=30";
    let client = slow_client(CachePolicy::default(), SECOND, move |n, _| {
        answer(200, &[("cache-control", control)], &n.to_string())
    });
    client.get().await;
    pass(600).await;
    let started = tokio::time::Instant::now();
    for got in client.get_many(1_000).await {
        let got = got.unwrap();
        assert_eq!((got.name(), got.text(), got.age()), ("stale_while_revalidate", "0", Some(601)));
    }
    assert!(started.elapsed().is_zero(), "nobody waits");
    assert_eq!(client.log.calls(), 2);
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!((client.get().await.text(), client.log.calls()), ("1", 2));
}

#[tokio::test(start_paused = true)]
async fn after_its_window_a_stale_answer_is_renewed_first() {
    let control = "max-age=600, stale-while-revalidate=30";
    let client = client(CachePolicy::default(), move |n, _| {
        answer(200, &[("cache-control", control)], &n.to_string())
    });
    client.get().await;
    pass(631).await;
    assert_eq!(client.get().await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_leaves_the_stale_answer_and_the_next_call_tries_again() {
    let client = client(CachePolicy::default(), |n, _| match n {
        1 => refused(),
        n => {
            let control = "max-age=600, stale-while-revalidate=30";
            answer(200, &[("cache-control", control)], &n.to_string())
        }
    });
    client.get().await;
    pass(610).await;
    for calls in [2, 3] {
        assert_eq!(client.get().await.text(), "0");
        tokio::time::sleep(SECOND).await;
        assert_eq!(client.log.calls(), calls);
    }
    assert_eq!(client.get().await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn renewals_in_the_background_are_bounded_in_number_and_in_time() {
    let control = "max-age=1, stale-while-revalidate=1000";
    let client =
        client(CachePolicy::default(), move |_, _| answer(200, &[("cache-control", control)], "x"));
    let uri = |n: usize| format!("http://shop.example/{n}");
    for n in 0..100 {
        client.send(ask("GET", &uri(n), &[])).await.unwrap();
    }
    pass(2).await;
    // From here on nobody answers.
    let silent = service_fn(|_: Asked| std::future::pending::<Answer>());
    let layer = CacheLayer::new(CachePolicy::default()).store(client.store.clone());
    let cache = layer.layer(silent);
    for n in 0..100 {
        let got = Got::read(cache.clone().oneshot(ask("GET", &uri(n), &[])).await.unwrap()).await;
        assert_eq!(got.name(), "stale_while_revalidate");
    }
    let flights = &client.store.shared.flights;
    assert_eq!(flights.len(), 64);
    tokio::time::sleep(SECOND * 61).await;
    assert_eq!(flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn stale_shield_availability_is_total_and_age_grows_while_the_origin_is_down() {
    let policy = ten_minutes();
    let (up, down) = (10, 130);
    let started = tokio::time::Instant::now();
    let client = client(policy, move |n, _| {
        let second = started.elapsed().as_secs();
        match second {
            second if (up..down).contains(&second) && n % 2 == 0 => refused(),
            second if (up..down).contains(&second) => answer(503, &[], "down"),
            _ => answer(200, &[("cache-control", "max-age=60")], &n.to_string()),
        }
    });
    let mut ages = Vec::new();
    for _ in 0..200 {
        let got = client.get().await;
        assert_eq!(got.status, 200);
        let second = started.elapsed().as_secs();
        if (1..down).contains(&second) {
            ages.push(got.age().unwrap());
        }
        tokio::time::sleep(SECOND).await;
    }
    assert!(ages.is_sorted(), "{ages:?}");
    assert_eq!((ages.first(), ages.last()), (Some(&1), Some(&129)));
    let covered = client.told().iter().filter(|told| **told == "stale_if_error").count();
    assert_eq!(covered, 70, "from the 60th second to the 129th");
}

#[tokio::test(start_paused = true)]
async fn above_a_whole_stack_a_stale_answer_comes_before_a_fallback() {
    let policy = crate::core::Policy {
        deadline: Some(SECOND * 3),
        cache: Some(ten_minutes()),
        fallback: Some(Arc::default()),
        ..crate::core::Policy::default()
    };
    let cell = crate::PolicyCell::new(policy);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let transport = service_fn(move |_: Request<_>| {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(match number {
            0 => answer(200, &[("cache-control", "max-age=60")], "kept"),
            _ => refused(),
        })
    });
    let store = CacheStore::with_wall(false, wall);
    let stack = crate::stack(cell.clone()).map_calls(|mut calls| {
        calls.cache = CacheLayer::new(cell).store(store);
        calls
    });
    let client = stack.layer(transport);
    let ask = async || {
        let response = client.clone().oneshot(get(&[])).await.unwrap();
        let outcome = response.extensions().get().copied().map_or("", CacheOutcome::name);
        let fell_back = response.extensions().get::<crate::FellBack>().is_some();
        (outcome, fell_back, response.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(ask().await, ("miss", false, "kept".into()));
    assert_eq!(ask().await, ("hit", false, "kept".into()));
    pass(61).await;
    assert_eq!(ask().await, ("stale_if_error", false, "kept".into()));
    assert!(2 < calls.load(Ordering::Relaxed), "after the retries");
    pass(700).await;
    assert_eq!(ask().await, ("", true, "".into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn age_never_falls_while_an_answer_stands_in(
        told: u64,
        dated in -100_i64..100,
        steps in prop::collection::vec(0_u64..100, 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let policy = CachePolicy::default().with_stale_if_error(SECOND * (1 << 31)).unwrap();
            let client = client(policy, move |n, _| match n {
                0 => {
                    let (age, date) = (told.to_string(), date(dated));
                    answer(200, &[("age", &age), ("date", &date)], "x")
                }
                _ => refused(),
            });
            client.get().await;
            let mut last = 0;
            for step in steps {
                pass(step).await;
                // Beyond the window the failure shows, and there is no age.
                let Ok(got) = client.send(get(&[])).await else { continue };
                let age = got.age().unwrap();
                assert!(last + step <= age || last == 0, "{last} {step} {age}");
                last = age;
            }
        });
    }
}
