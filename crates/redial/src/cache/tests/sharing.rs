//! Calls that ask for the same at the same time.

use super::*;
use crate::{PolicyCell, core::Policy};

const MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60")];

fn counted(fields: Fields) -> Client {
    slow_client(CachePolicy::default(), SECOND, move |n, _| answer(200, fields, &n.to_string()))
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_at_once_make_one() {
    let client = counted(MINUTE);
    let started = tokio::time::Instant::now();
    let got = client.get_many(1_000).await;
    assert!(got.iter().all(|got| got.as_ref().is_ok_and(|got| got.text() == "0")));
    let coalesced =
        got.iter().filter(|got| got.as_ref().is_ok_and(|got| got.name() == "coalesced"));
    assert_eq!((coalesced.count(), client.log.calls(), started.elapsed()), (999, 1, SECOND));
    assert_eq!(client.store.shared.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_at_601_s_make_one_and_wait_for_it() {
    let client = slow_client(CachePolicy::default(), SECOND, |n, _| match n {
        0 => answer(200, &[("cache-control", "max-age=600"), ("etag", "\"a\"")], "body"),
        _ => answer(304, &[("etag", "\"a\"")], ""),
    });
    client.get().await;
    pass(601).await;
    assert!(client.get_many(1_000).await.iter().all(|got| got.as_ref().unwrap().text() == "body"));
    assert_eq!(client.log.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_the_one_call_fails_all_are_given_the_stale_answer() {
    let policy = CachePolicy::default().with_stale_if_error(SECOND * 600).unwrap();
    let client = slow_client(policy, SECOND, |n, _| match n {
        0 => answer(200, &[("cache-control", "max-age=600")], "body"),
        _ => answer(503, &[], "down"),
    });
    client.get().await;
    pass(601).await;
    for got in client.get_many(1_000).await {
        let got = got.unwrap();
        assert_eq!((got.name(), got.text()), ("stale_if_error", "body"));
    }
    assert_eq!(client.log.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_the_one_call_fails_and_nothing_is_stored_each_goes_its_own_way() {
    let client = slow_client(CachePolicy::default(), SECOND, |n, _| match n {
        0 => answer(503, &[], "down"),
        n => answer(200, MINUTE, &n.to_string()),
    });
    let statuses = client.get_many(4).await.into_iter().map(|got| got.unwrap().status);
    assert_eq!(statuses.filter(|status| *status == 200).count(), 3);
    assert_eq!(client.log.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn when_the_one_who_leads_leaves_another_takes_over() {
    let client = counted(MINUTE);
    let mut leader = client.cache.clone();
    std::future::poll_fn(|cx| leader.poll_ready(cx)).await.unwrap();
    let led = tokio::spawn(leader.call(get(&[])));
    tokio::task::yield_now().await;
    let others = async {
        let calls = client.get_many(100);
        let leaving = async {
            tokio::time::sleep(SECOND / 2).await;
            led.abort();
        };
        tokio::join!(calls, leaving).0
    };
    let started = tokio::time::Instant::now();
    assert!(others.await.into_iter().all(|got| got.unwrap().text() == "1"));
    assert_eq!((client.log.calls(), started.elapsed()), (2, SECOND * 3 / 2));
}

#[tokio::test(start_paused = true)]
async fn a_leader_who_leaves_while_its_body_comes_takes_nothing_with_it() {
    let client = client(CachePolicy::default(), |n, _| match n {
        0 => bounds::endless("x", MINUTE),
        _ => answer(200, MINUTE, "whole"),
    });
    let led = tokio::spawn(client.cache.clone().oneshot(get(&[])));
    tokio::task::yield_now().await;
    let waiting = tokio::spawn(client.cache.clone().oneshot(get(&[])));
    tokio::task::yield_now().await;
    led.abort();
    let got = Got::read(waiting.await.unwrap().unwrap()).await;
    assert_eq!((got.text(), client.log.calls()), ("whole", 2));
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_for_one_only_are_not_shared() {
    let tables: [Fields; 7] = [
        &[("cache-control", "no-store")],
        &[("cache-control", "max-age=60"), ("set-cookie", "a=1")],
        &[("cache-control", "no-cache"), ("etag", "\"a\"")],
        &[("cache-control", "max-age=0"), ("etag", "\"a\"")],
        &[("cache-control", "max-age=60"), ("vary", "*")],
        &[("content-type", "text/event-stream")],
        &[("cache-control", "max-age=60"), ("age", "60"), ("etag", "\"a\"")],
    ];
    for fields in tables {
        let client = counted(fields);
        let mut texts: Vec<_> = client
            .get_many(5)
            .await
            .into_iter()
            .map(|got| got.unwrap().text().to_owned())
            .collect();
        texts.sort();
        assert_eq!(texts, ["0", "1", "2", "3", "4"], "{fields:?}");
        assert_eq!(client.log.calls(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn after_waiting_was_of_no_use_nobody_waits_for_two_minutes() {
    let client = counted(&[("cache-control", "no-store")]);
    let took = async |calls| {
        let started = tokio::time::Instant::now();
        client.get_many(calls).await;
        started.elapsed()
    };
    assert_eq!(took(3).await, SECOND * 2);
    assert_eq!(took(3).await, SECOND);
    pass(120).await;
    assert_eq!(took(3).await, SECOND * 2);
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_word_on_freshness_are_shared_and_not_stored() {
    let client = counted(&[]);
    assert!(client.get_many(5).await.into_iter().all(|got| got.unwrap().text() == "0"));
    assert!(client.store.is_empty());
    assert_eq!(client.get().await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn answers_are_shared_only_with_those_who_ask_for_the_same() {
    let client = counted(&[("cache-control", "max-age=60"), ("vary", "accept")]);
    let (a, b, other) = tokio::join!(
        client.get_with(&[("accept", "a")]),
        client.get_with(&[("accept", "b")]),
        client.send(ask("GET", "http://shop.example/orders/8", &[])),
    );
    assert_eq!((a.text(), b.name()), ("0", "miss"));
    assert_eq!(other.unwrap().name(), "miss");
    pass(61).await;
    let started = tokio::time::Instant::now();
    let (a, b) =
        tokio::join!(client.get_with(&[("accept", "a")]), client.get_with(&[("accept", "b")]));
    assert_eq!((a.name(), b.name()), ("miss", "miss"));
    assert_eq!(started.elapsed(), SECOND, "what is known to differ does not wait");
}

#[tokio::test(start_paused = true)]
async fn a_request_in_somebodys_name_shares_only_what_the_server_gives_to_everybody() {
    let asks = |field: &'static str, value: &str| {
        let mut request = get(&[]);
        let mut value: http::HeaderValue = value.parse().unwrap();
        value.set_sensitive(field == "x-secret");
        request.headers_mut().insert(field, value);
        request
    };
    for field in ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-secret"] {
        for (control, is_shared) in [
            ("max-age=60", false),
            ("private, max-age=60", false),
            ("max-age=60, must-revalidate", false),
            ("public, private, max-age=60", false),
            ("public, max-age=60", true),
            ("s-maxage=60", true),
        ] {
            let client = slow_client(CachePolicy::default(), SECOND, move |n, _| {
                answer(200, &[("cache-control", control)], &n.to_string())
            });
            let (first, second) =
                tokio::join!(client.send(asks(field, "1")), client.send(asks(field, "2")));
            let texts = (first.unwrap(), second.unwrap());
            assert_eq!((texts.0.text(), texts.1.text()), ("0", "1"), "{field}: nobody waits");
            assert_eq!(client.get().await.name() == "hit", is_shared, "{field} {control}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn private_answers_to_nobody_in_particular_are_kept() {
    let client = counted(&[("cache-control", "private, max-age=60")]);
    client.get().await;
    assert_eq!(client.get().await.name(), "hit");
    assert_eq!(client.get_with(&[("cookie", "a=1")]).await.name(), "hit");
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_bounded_and_then_a_call_goes_its_own_way() {
    let policy = CachePolicy::default().with_wait_max(SECOND).unwrap();
    let client = slow_client(policy, SECOND * 3, |n, _| answer(200, MINUTE, &n.to_string()));
    let started = tokio::time::Instant::now();
    let got = client.get_many(2).await;
    assert_eq!((started.elapsed(), client.log.calls()), (SECOND * 4, 2));
    assert!(got.iter().all(|got| got.as_ref().unwrap().name() == "miss"));
}

#[tokio::test(start_paused = true)]
async fn without_storing_calls_share_and_the_next_one_is_sent() {
    let client = slow_client(CachePolicy::coalesce_only(), SECOND, |n, _| {
        answer(200, MINUTE, &n.to_string())
    });
    assert!(client.get_many(5).await.into_iter().all(|got| got.unwrap().text() == "0"));
    assert_eq!((client.get().await.text(), client.store.bytes()), ("1", 0));
}

#[tokio::test(start_paused = true)]
async fn without_coalescing_each_call_is_sent() {
    let policy = CachePolicy::default().with_coalescing(false).unwrap();
    let client = slow_client(policy, SECOND, |n, _| answer(200, MINUTE, &n.to_string()));
    client.get_many(5).await;
    assert_eq!((client.log.calls(), client.get().await.name()), (5, "hit"));
}

#[tokio::test(start_paused = true)]
async fn who_demands_an_answer_of_its_own_gets_it() {
    let client = counted(MINUTE);
    let fields = [("cache-control", "no-cache")];
    let (a, b) = tokio::join!(client.get_with(&fields), client.get_with(&fields));
    assert_eq!((a.text(), b.text()), ("0", "1"));
}

#[tokio::test(start_paused = true)]
async fn a_policy_can_be_switched_while_calls_are_out() {
    let cell = PolicyCell::new(Policy::default());
    let client = slow_client(cell.clone(), SECOND, |n, _| answer(200, MINUTE, &n.to_string()));
    assert_eq!(client.get().await.outcome, None);
    cell.switch(Policy { cache: Some(CachePolicy::default()), ..Policy::default() });
    client.get().await;
    assert_eq!(client.get().await.name(), "hit");
    cell.switch(Policy::default());
    assert_eq!(client.get().await.outcome, None);
    let larger = CachePolicy::default().with_bytes_max(1 << 30).unwrap();
    cell.switch(Policy { cache: Some(larger), ..Policy::default() });
    assert_eq!(client.get().await.name(), "hit", "a store that grows keeps what it has");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_every_call_has_an_answer_and_no_flight_is_left() {
    let client = client(CachePolicy::default(), |n, _| {
        answer(200, &[("cache-control", if n % 3 == 0 { "no-store" } else { "max-age=60" })], "x")
    });
    for _ in 0..20 {
        assert!(client.get_many(50).await.iter().all(Result::is_ok));
        client.store.clear();
    }
    assert_eq!(client.store.shared.flights.len(), 0);
}
