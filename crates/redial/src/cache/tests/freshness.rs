//! What is given out without a call, and how old it says it is.

use super::*;
use crate::SentAt;

const MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test(start_paused = true)]
async fn a_fresh_answer_is_given_out_with_its_age_until_it_is_stale() {
    let client = steady(MINUTE);
    let first = client.get().await;
    assert_eq!((first.name(), first.age(), first.text()), ("miss", None, "0"));
    pass(59).await;
    let second = client.get().await;
    assert_eq!((second.status, second.text()), (200, "0"));
    assert_eq!((second.name(), second.age()), ("hit", Some(59)));
    pass(1).await;
    let third = client.get().await;
    assert_eq!((third.name(), third.text()), ("miss", "1"));
    assert_eq!(client.told(), ["miss", "hit", "miss"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_nothing_is_kept_and_nothing_is_added() {
    let client = client(None, |n, _| answer(200, MINUTE, &n.to_string()));
    for n in 0..3 {
        let got = client.get().await;
        assert_eq!((got.text(), got.outcome, got.age()), (n.to_string().as_str(), None, None));
    }
    assert!(client.store.is_empty() && client.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn r84_age_counts_from_the_attempt_that_succeeded() {
    let policy = CachePolicy::default();
    // The first attempt fails at 5 s, the second takes 1 s.
    let client = slow_client(policy, SECOND * 6, |_, _| {
        let mut response = answer(200, &[("cache-control", "max-age=60"), ("age", "0")], "x")?;
        let sent = crate::clock::now() - SECOND;
        response.extensions_mut().insert(SentAt(sent));
        Ok(response)
    });
    client.get().await;
    assert_eq!(client.get().await.age(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn without_a_word_from_below_age_counts_from_the_beginning_of_the_call() {
    let client = slow_client(CachePolicy::default(), SECOND * 6, |_, _| answer(200, MINUTE, "x"));
    client.get().await;
    assert_eq!(client.get().await.age(), Some(6));
}

#[tokio::test(start_paused = true)]
async fn age_is_what_the_answer_says_or_what_its_date_says_if_that_is_more() {
    for (age, dated, expected) in [("10", 0, 10), ("10", -30, 30), ("0", 40, 0), ("5, 9", 0, 5)] {
        let client = client(CachePolicy::default(), move |_, _| {
            let dated = date(dated);
            let fields = [("cache-control", "max-age=60"), ("age", age), ("date", &dated)];
            answer(200, &fields, "x")
        });
        client.get().await;
        assert_eq!(client.get().await.age(), Some(expected), "{age} {dated}");
        pass(2).await;
        assert_eq!(client.get().await.age(), Some(expected + 2), "{age} {dated}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_servers_date_stays_and_one_that_is_missing_is_added() {
    let dated = client(CachePolicy::default(), |_, _| {
        let then = date(-7);
        answer(200, &[("cache-control", "max-age=60"), ("date", &then)], "x")
    });
    let then = date(-7);
    dated.get().await;
    pass(3).await;
    assert_eq!(dated.get().await.headers["date"], then);

    let undated = steady(MINUTE);
    let now = date(0);
    assert!(!undated.get().await.headers.contains_key("date"));
    pass(3).await;
    assert_eq!(undated.get().await.headers["date"], now);
}

#[tokio::test(start_paused = true)]
async fn freshness_comes_from_s_maxage_then_max_age_then_expires_and_is_never_guessed() {
    let table: &[(&[(&str, &str)], u64)] = &[
        (&[("cache-control", "s-maxage=30, max-age=90")], 30),
        (&[("cache-control", "max-age=20"), ("expires", "+90")], 20),
        (&[("expires", "+25")], 25),
        (&[("expires", "+25"), ("date", "-10")], 25),
        (&[("expires", "0"), ("etag", "\"a\"")], 0),
        (&[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], 0),
        (&[("cache-control", "no-cache, max-age=60"), ("etag", "\"a\"")], 0),
        (&[("cache-control", "max-age=60, max-age=61"), ("etag", "\"a\"")], 0),
        (&[("cache-control", "MAX-AGE=15")], 15),
        (&[("cache-control", "max-age=60"), ("age", "50")], 10),
    ];
    for (fields, seconds) in table {
        let client = client(CachePolicy::default(), |n, _| {
            let fields = fields.iter().map(|(name, value)| match value.parse::<i64>() {
                Ok(offset) if matches!(*name, "expires" | "date") && offset != 0 => {
                    (*name, date(offset))
                }
                _ => (*name, (*value).to_owned()),
            });
            let fields: Vec<_> = fields.collect();
            let fields: Vec<_> = fields.iter().map(|(name, v)| (*name, v.as_str())).collect();
            answer(200, &fields, &n.to_string())
        });
        client.get().await;
        if *seconds != 0 {
            pass(seconds - 1).await;
            assert_eq!(client.get().await.name(), "hit", "{fields:?}");
            pass(1).await;
        }
        assert_ne!(client.get().await.name(), "hit", "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_says_how_old_and_how_fresh_an_answer_must_be() {
    let table = [
        ("max-age=20", true),
        ("max-age=19", false),
        ("max-age=0", false),
        ("no-cache", false),
        ("min-fresh=39", true),
        ("min-fresh=40", false),
        ("no-store", false),
    ];
    for (asks, is_hit) in table {
        let client = steady(MINUTE);
        client.get().await;
        pass(20).await;
        let got = client.get_with(&[("cache-control", asks)]).await;
        assert_eq!(got.name() == "hit", is_hit, "{asks}");
    }
}

#[tokio::test(start_paused = true)]
async fn max_stale_accepts_what_went_stale_unless_the_server_forbids_it() {
    for (asks, forbidden, expected) in [
        ("max-stale", "", "stale"),
        ("max-stale=10", "", "stale"),
        ("max-stale=9", "", "miss"),
        ("max-stale", ", must-revalidate", "miss"),
        ("max-stale", ", proxy-revalidate", "miss"),
        ("max-stale", ", s-maxage=60", "miss"),
    ] {
        let client = client(CachePolicy::default(), move |_, _| {
            answer(200, &[("cache-control", &format!("max-age=60{forbidden}"))], "x")
        });
        client.get().await;
        pass(70).await;
        let got = client.get_with(&[("cache-control", asks)]).await;
        assert_eq!(got.name(), expected, "{asks} {forbidden}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_never_calls_and_ends_in_a_504_of_ours() {
    let client = steady(MINUTE);
    let none = client.get_with(&[("cache-control", "only-if-cached")]).await;
    assert_eq!((none.status, none.name(), client.log.calls()), (504, "only_if_cached", 0));
    client.get().await;
    let some = client.get_with(&[("cache-control", "only-if-cached")]).await;
    assert_eq!((some.status, some.name(), client.log.calls()), (200, "hit", 1));
    pass(61).await;
    let stale = client.get_with(&[("cache-control", "only-if-cached")]).await;
    assert_eq!((stale.status, client.log.calls()), (504, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_cache_has_no_business_with_passes_untouched() {
    let client = steady(MINUTE);
    for field in ["range", "if-none-match", "if-modified-since", "if-range", "if-match", "upgrade"]
    {
        for _ in 0..2 {
            let got = client.get_with(&[(field, "x")]).await;
            assert_eq!((got.outcome, client.log.last()[field].as_bytes()), (None, &b"x"[..]));
        }
    }
    for method in ["OPTIONS", "POST", "PROPFIND", "HEAD"] {
        assert_eq!(client.send(ask(method, URI, &[])).await.unwrap().outcome, None, "{method}");
    }
    let unstored = client.get_with(&[("cache-control", "no-store")]).await;
    assert_eq!(unstored.outcome, None);
    assert!(client.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn head_is_answered_from_a_stored_get_without_its_body() {
    let client = steady(&[("cache-control", "max-age=60"), ("content-length", "1")]);
    client.get().await;
    let head = client.send(ask("HEAD", URI, &[])).await.unwrap();
    assert_eq!((head.status, head.name(), head.text()), (200, "hit", ""));
    assert_eq!(head.headers["content-length"], "1");
    pass(60).await;
    let passed = client.send(ask("HEAD", URI, &[])).await.unwrap();
    assert_eq!((passed.name(), client.log.calls()), ("miss", 2));
    assert_eq!(client.get().await.text(), "2", "a HEAD is not stored");
}

#[tokio::test(start_paused = true)]
async fn answers_are_told_apart_by_every_value_of_the_fields_in_vary() {
    let fields =
        &[("cache-control", "max-age=60"), ("vary", "accept"), ("vary", "X-Tenant, accept")];
    let client = steady(fields);
    let asks: [&[(&str, &str)]; 5] = [
        &[],
        &[("accept", "a")],
        &[("accept", "a"), ("accept", "b")],
        &[("accept", "a"), ("x-tenant", "1")],
        &[("accept", "a"), ("x-tenant", "2")],
    ];
    for _ in 0..2 {
        for (n, fields) in asks.iter().enumerate() {
            assert_eq!(client.get_with(fields).await.text(), n.to_string());
        }
    }
    let other = client.get_with(&[("x-tenant", "1"), ("accept", "a"), ("user-agent", "x")]).await;
    assert_eq!((other.name(), other.text()), ("hit", "3"));
    assert_eq!(other.headers.get_all("vary").iter().count(), 2, "fields keep all their values");
}

#[tokio::test(start_paused = true)]
async fn hosts_and_uris_are_told_apart_and_the_case_of_an_authority_is_not() {
    let client = steady(MINUTE);
    client.get().await;
    assert_eq!(client.get_with(&[("host", "other.example")]).await.name(), "miss");
    let mut names = Vec::new();
    for uri in ["http://SHOP.example/orders/7", "http://shop.example/Orders/7", "/orders/7"] {
        names.push(client.send(ask("GET", uri, &[])).await.unwrap().name());
    }
    assert_eq!(names, ["hit", "miss", "miss"]);
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_a_connection_is_not_stored() {
    let client = steady(&[
        ("cache-control", "max-age=60"),
        ("connection", "x-hop, close"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("link", "<a>"),
        ("link", "<b>"),
    ]);
    client.get().await;
    let hit = client.get().await;
    for name in ["connection", "x-hop", "keep-alive"] {
        assert!(!hit.headers.contains_key(name), "{name}");
    }
    assert_eq!(hit.headers.get_all("link").iter().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stored_answer_counts_the_time_that_a_machine_slept() {
    // Only the wall clock goes on, as over a suspend.
    thread_local!(static SLEPT: std::cell::Cell<i64> = const { std::cell::Cell::new(0) });
    let store = CacheStore::with_wall(false, || EPOCH + SLEPT.get());
    let upstream = service_fn(|_: Asked| async { answer(200, MINUTE, "x") });
    let cache = CacheLayer::new(CachePolicy::default()).store(store).layer(upstream);
    let first = Got::read(cache.clone().oneshot(get(&[])).await.unwrap()).await;
    let second = Got::read(cache.clone().oneshot(get(&[])).await.unwrap()).await;
    assert_eq!((first.name(), second.name()), ("miss", "hit"));
    SLEPT.set(3_600);
    assert_eq!(Got::read(cache.oneshot(get(&[])).await.unwrap()).await.name(), "miss");
}
