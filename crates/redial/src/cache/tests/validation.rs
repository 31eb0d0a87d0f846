//! What a 304 does.

use super::*;

const STORED: &[(&str, &str)] = &[
    ("cache-control", "max-age=60"),
    ("etag", "\"a\""),
    ("content-type", "text/plain"),
    ("x-kept", "old"),
    ("x-news", "old"),
];

fn validated(stored: Fields, news: Fields) -> Client {
    client(CachePolicy::default(), move |n, request| match n {
        0 => answer(200, stored, "body"),
        _ if request.headers().contains_key("if-none-match")
            || request.headers().contains_key("if-modified-since") =>
        {
            answer(304, news, "")
        }
        _ => answer(200, stored, "other"),
    })
}

#[tokio::test(start_paused = true)]
async fn a_304_makes_the_stored_answer_fresh_and_brings_what_is_new() {
    let news = &[
        ("etag", "\"a\""),
        ("cache-control", "max-age=30"),
        ("x-news", "new"),
        ("x-more", "1"),
        ("content-type", "nonsense"),
    ];
    let client = validated(STORED, news);
    client.get().await;
    pass(70).await;
    let got = client.get().await;
    assert_eq!(client.log.last()["if-none-match"], "\"a\"");
    assert_eq!(
        (got.status, got.name(), got.text(), got.age()),
        (200, "revalidated", "body", Some(0))
    );
    for (name, value) in
        [("x-kept", "old"), ("x-news", "new"), ("x-more", "1"), ("content-type", "text/plain")]
    {
        assert_eq!(got.headers[name], value);
    }
    pass(29).await;
    assert_eq!(client.get().await.name(), "hit");
    pass(1).await;
    assert_eq!((client.get().await.name(), client.log.calls()), ("revalidated", 3));
    assert_eq!(client.told(), ["miss", "revalidated", "hit", "revalidated"]);
}

#[tokio::test(start_paused = true)]
async fn last_modified_validates_as_well_and_fields_of_the_request_stay() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let client = validated(
        &[("cache-control", "max-age=60"), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
        &[],
    );
    client.get().await;
    pass(60).await;
    let got = client.get_with(&[("accept", "a"), ("accept", "b")]).await;
    let asked = client.log.last();
    assert_eq!((got.name(), asked["if-modified-since"].to_str().unwrap()), ("revalidated", date));
    assert_eq!(asked.get_all("accept").iter().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_must_be_validated_each_time_is() {
    for control in ["no-cache", "max-age=0, must-revalidate"] {
        let client = client(CachePolicy::default(), move |n, _| match n {
            0 => answer(200, &[("cache-control", control), ("etag", "W/\"a\"")], "body"),
            _ => answer(304, &[("etag", "\"a\"")], ""),
        });
        for name in ["miss", "revalidated", "revalidated"] {
            let got = client.get().await;
            assert_eq!((got.name(), got.text()), (name, "body"), "{control}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_about_something_else_is_believed_once_and_nothing_is_kept() {
    let client = validated(STORED, &[("etag", "\"b\"")]);
    client.get().await;
    pass(60).await;
    assert_eq!(client.get().await.text(), "body");
    assert!(client.store.is_empty());
    assert_eq!(client.get().await.text(), "other");
}

#[tokio::test(start_paused = true)]
async fn a_304_may_take_back_the_leave_to_store() {
    let client = validated(STORED, &[("cache-control", "no-store")]);
    client.get().await;
    pass(60).await;
    assert_eq!(client.get().await.name(), "revalidated");
    assert!(client.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cookie_on_a_304_goes_to_the_one_who_asked_and_is_not_stored() {
    let client = validated(STORED, &[("set-cookie", "a=1"), ("set-cookie", "b=2")]);
    client.get().await;
    pass(60).await;
    assert_eq!(client.get().await.headers.get_all("set-cookie").iter().count(), 2);
    let hit = client.get().await;
    assert_eq!((hit.name(), hit.headers.contains_key("set-cookie")), ("hit", false));
}

#[tokio::test(start_paused = true)]
async fn a_new_answer_takes_the_place_of_the_old_one() {
    let client = steady(STORED);
    client.get().await;
    pass(60).await;
    assert_eq!((client.get().await.name(), client.store.len()), ("miss", 1));
    assert_eq!(client.get().await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_gone_or_closed_is_forgotten_and_a_busy_server_changes_nothing() {
    for (status, is_kept) in [(404, false), (410, false), (401, false), (429, true), (503, true)] {
        let client = client(CachePolicy::default(), move |n, _| match n {
            0 => answer(200, STORED, "body"),
            _ => answer(status, &[], "no"),
        });
        client.get().await;
        pass(60).await;
        assert_eq!(client.get().await.status, status);
        assert_eq!(!client.store.is_empty(), is_kept, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_condition_is_the_callers() {
    let client = client(CachePolicy::default(), |n, _| match n {
        0 => answer(200, STORED, "body"),
        _ => answer(304, &[("etag", "\"a\"")], ""),
    });
    client.get().await;
    let got = client.get_with(&[("if-none-match", "\"a\"")]).await;
    assert_eq!((got.status, got.outcome), (304, None));
}
