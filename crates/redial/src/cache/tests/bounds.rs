//! What is never stored, what is forgotten, and how much is kept at most.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Frame;
use proptest::prelude::*;

use super::*;
use crate::{PolicyCell, core::Policy};

const MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60")];

/// A body of pieces, and what comes after them.
struct Pieces(Vec<Bytes>, Option<Result<Frame<Bytes>, BoxError>>, bool);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.0.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.0.remove(0)))));
        }
        match self.1.take() {
            Some(last) => Poll::Ready(Some(last)),
            None if self.2 => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

fn with_body(fields: &[(&str, &str)], body: Pieces) -> Answer {
    Ok(answer(200, fields, "")?.map(|_| body.boxed_unsync()))
}

pub(super) fn broken(text: &str, fields: &[(&str, &str)]) -> Answer {
    let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let text = Bytes::from(text.to_owned());
    with_body(fields, Pieces(vec![text], Some(Err(error.into())), false))
}

pub(super) fn endless(text: &str, fields: &[(&str, &str)]) -> Answer {
    with_body(fields, Pieces(vec![Bytes::from(text.to_owned())], None, true))
}

fn small() -> CachePolicy {
    CachePolicy::default().with_body_bytes_max(10).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_handed_on_as_it_came_and_never_stored() {
    let client = client(CachePolicy::default(), |_, _| broken("half", MINUTE));
    for _ in 0..2 {
        let response = client.cache.clone().oneshot(get(&[])).await.unwrap();
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }
    assert!(client.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_body_of_another_length_than_was_told_is_never_stored() {
    let client = steady(&[("cache-control", "max-age=60"), ("content-length", "2")]);
    assert_eq!(client.get().await.text(), "0");
    assert!(client.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn longer_bodies_stream_through_whether_their_length_is_known_or_not() {
    let told = client(small(), |_, _| answer(200, MINUTE, "12345678901"));
    assert_eq!(told.get().await.text(), "12345678901");
    let untold = client(small(), |_, _| {
        let pieces = ["12345", "678901", "2"].map(Bytes::from).to_vec();
        with_body(MINUTE, Pieces(pieces, None, false))
    });
    assert_eq!(untold.get().await.text(), "123456789012");
    let fits = client(small(), |_, _| {
        let pieces = ["12345", "67890"].map(Bytes::from).to_vec();
        with_body(MINUTE, Pieces(pieces, None, false))
    });
    assert_eq!((fits.get().await.text(), fits.get().await.name()), ("1234567890", "hit"));
    assert_eq!((told.store.bytes() + untold.store.bytes()) / 4_096, 0, "marks, and nothing else");
}

#[tokio::test(start_paused = true)]
async fn trailers_reach_the_caller_and_keep_an_answer_from_being_stored() {
    let client = client(CachePolicy::default(), |_, _| {
        let trailers =
            Frame::trailers(HeaderMap::from_iter([(header::ETAG, "x".parse().unwrap())]));
        with_body(MINUTE, Pieces(vec![Bytes::from_static(b"x")], Some(Ok(trailers)), false))
    });
    for _ in 0..2 {
        let body = client.cache.clone().oneshot(get(&[])).await.unwrap().into_body();
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["etag"], "x");
        assert_eq!(collected.to_bytes(), "x");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_its_time_is_handed_on_after_two_seconds_and_next_time_at_once() {
    let client = client(CachePolicy::default(), |_, _| endless("tick", MINUTE));
    for expected in [SECOND * 2, Duration::ZERO] {
        let started = tokio::time::Instant::now();
        let mut body = client.cache.clone().oneshot(get(&[])).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "tick");
        assert!(started.elapsed() - expected < SECOND / 100);
    }
}

#[tokio::test(start_paused = true)]
async fn r86_failures_are_never_stored_whatever_they_say() {
    let fields = &[("cache-control", "public, max-age=600, stale-if-error=600"), ("etag", "\"a\"")];
    for status in [400, 401, 403, 408, 421, 425, 429, 500, 501, 502, 503, 504, 206, 304, 416] {
        let client = client(CachePolicy::default(), move |_, _| answer(status, fields, "no"));
        for _ in 0..2 {
            assert_eq!(client.get().await.status, status);
        }
        assert_eq!((client.log.calls(), client.store.bytes()), (2, 0), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_remembered_only_for_as_long_as_the_server_says() {
    for status in [404, 410, 302, 307] {
        let client = client(CachePolicy::default(), move |_, _| answer(status, MINUTE, "no"));
        client.get().await;
        assert_eq!((client.get().await.name(), client.log.calls()), ("hit", 1), "{status}");
        let policy = CachePolicy::default().with_stale_if_error(SECOND).unwrap();
        let silent = super::client(policy, move |_, _| answer(status, &[], "no"));
        silent.get().await;
        assert!(silent.store.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn r85_a_change_that_succeeds_drops_what_it_names_and_one_that_fails_does_not() {
    let table: [(&str, u16, Fields, [bool; 2]); 10] = [
        ("PUT", 200, &[], [false, true]),
        ("DELETE", 204, &[], [false, true]),
        ("POST", 303, &[("location", "/orders/8")], [false, false]),
        ("POST", 201, &[("location", "http://shop.example/orders/8")], [false, false]),
        ("POST", 200, &[("content-location", "8")], [false, false]),
        ("POST", 201, &[("location", "http://else.example/orders/8")], [false, true]),
        ("UNKNOWN", 200, &[], [false, true]),
        ("PUT", 503, &[("location", "/orders/8")], [true, true]),
        ("PUT", 404, &[], [true, true]),
        ("OPTIONS", 200, &[], [true, true]),
    ];
    for (method, status, fields, kept) in table {
        let client =
            client(CachePolicy::default(), move |_, request| match request.method().as_str() {
                "GET" => answer(200, MINUTE, "x"),
                _ => answer(status, fields, ""),
            });
        let other = "http://shop.example/orders/8";
        client.get().await;
        client.send(ask("GET", other, &[])).await.unwrap();
        client.send(ask(method, URI, &[])).await.unwrap();
        let names =
            [client.get().await.name(), client.send(ask("GET", other, &[])).await.unwrap().name()];
        assert_eq!(names.map(|name| name == "hit"), kept, "{method} {status} {fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_under_way_when_its_resource_changed_is_not_stored() {
    let client =
        slow_client(CachePolicy::default(), SECOND, |n, _| answer(200, MINUTE, &n.to_string()));
    let early = client.get();
    let change = async {
        tokio::time::sleep(SECOND / 2).await;
        client.store.invalidate(&URI.parse().unwrap());
        client.get().await
    };
    let (early, late) = tokio::join!(early, change);
    assert_eq!(
        (early.text(), late.text()),
        ("0", "1"),
        "who comes after the change is not given what was before it"
    );
    assert_eq!(client.get().await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_store_can_be_shared_looked_into_and_cleared() {
    let store = CacheStore::new(1 << 20);
    let upstream = service_fn(|_: Asked| async { answer(200, MINUTE, "x") });
    let layer = || CacheLayer::new(CachePolicy::default()).store(store.clone());
    layer().layer(upstream).oneshot(get(&[])).await.unwrap();
    let got = Got::read(layer().layer(upstream).oneshot(get(&[])).await.unwrap()).await;
    assert_eq!((got.name(), store.len()), ("hit", 1));
    assert!(512 < store.bytes() && store.bytes() < 4_096, "{}", store.bytes());
    layer().handle().clear();
    assert!(store.is_empty() && store.bytes() == 0);
    assert!(format!("{store:?}").contains("1048576"));
}

#[tokio::test(start_paused = true)]
async fn hostile_heads_break_nothing_and_keep_nothing_for_long() {
    let huge = u64::MAX.to_string();
    let names = (0..5_000).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
    let table: [(&'static str, &str, bool); 12] = [
        ("age", "9223372036854775808", false),
        ("age", &huge, false),
        ("age", "99999999999999999999999999", false),
        ("age", "-5", true),
        ("age", "nonsense", true),
        ("vary", &names, false),
        ("vary", "a b, \u{1}", false),
        ("vary", "*, accept", false),
        ("date", "Fri, 31 Dec 9999 23:59:59 GMT", true),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT", false),
        ("date", "nonsense", true),
        ("content-length", "18446744073709551616", false),
    ];
    for (name, value, is_stored) in table {
        let Ok(value) = http::HeaderValue::from_bytes(value.as_bytes()) else { continue };
        let client = client(CachePolicy::default(), move |_, _| {
            let mut response = answer(200, &[("cache-control", "max-age=600")], "x")?;
            response.headers_mut().insert(name, value.clone());
            Ok(response)
        });
        client.get().await;
        pass(2).await;
        assert_eq!(client.get().await.name() == "hit", is_stored, "{name}");
    }
    let overflow = steady(&[("cache-control", "max-age=99999999999999999999")]);
    overflow.get().await;
    pass(4_000_000).await;
    assert_eq!(overflow.get().await.age(), Some(4_000_000));
}

#[tokio::test(start_paused = true)]
async fn of_one_uri_eight_answers_are_kept() {
    let client = steady(&[("cache-control", "max-age=600"), ("vary", "accept")]);
    for n in 0..20 {
        client.get_with(&[("accept", &n.to_string())]).await;
    }
    assert_eq!(client.get_with(&[("accept", "19")]).await.name(), "hit");
    assert_eq!(client.get_with(&[("accept", "12")]).await.name(), "hit");
    assert_eq!(client.get_with(&[("accept", "11")]).await.name(), "miss");
    assert_eq!(client.store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_under_a_smaller_policy_takes_nothing_from_those_under_a_larger_one() {
    let cell = PolicyCell::new(Policy { cache: Some(CachePolicy::default()), ..Policy::default() });
    let client = client(cell, |_, _| answer(200, MINUTE, "x"));
    client.get().await;
    let small = small().with_bytes_max(1 << 16).unwrap();
    let mut request = ask("GET", "http://shop.example/other", &[]);
    let own = Policy { cache: Some(small), ..Policy::default() };
    request.extensions_mut().insert(Arc::new(own));
    client.send(request).await.unwrap();
    assert_eq!((client.get().await.name(), client.store.len()), ("hit", 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_more_is_stored_than_the_bound_and_the_count_covers_what_is_held(
        lengths in prop::collection::vec((0_usize..20_000, 0_usize..60, 0_usize..2_000), 1..60),
    ) {
        const BYTES_MAX: usize = 1 << 16;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let policy = CachePolicy::default()
                .with_body_bytes_max(16_384)
                .and_then(|policy| policy.with_bytes_max(BYTES_MAX as u64))
                .unwrap();
            let sizes = lengths.clone();
            let client = client(policy, move |n, _| {
                let (body, _, field) = sizes[n];
                let field = "f".repeat(field);
                let fields = [("cache-control", "max-age=600"), ("x-f", &field), ("vary", "accept")];
                answer(200, &fields, &"b".repeat(body))
            });
            for (n, (body, uri, _)) in lengths.iter().enumerate() {
                let (uri, accept) = (format!("http://shop.example/{uri}"), n.to_string());
                client.send(ask("GET", &uri, &[("accept", &accept)])).await.unwrap();
                assert!(client.store.bytes() <= BYTES_MAX, "{}", client.store.bytes());
                let again = [("accept", &*accept), ("cache-control", "only-if-cached")];
                let kept = client.send(ask("GET", &uri, &again)).await.unwrap();
                if kept.status == 200 {
                    assert_eq!(kept.body.unwrap().len(), *body);
                    assert!(*body < client.store.bytes());
                }
            }
        });
    }
}
