//! What peers get wrong about answers' bodies and about hostile servers, on real sockets: each test
//! names the behavior that it guards against.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use redial::{
    Budgets, ChaosLayer, Diagnose, Rejection, ResumeLayer, RetryLayer, StallTimeoutLayer,
    core::{
        Backoff, ChaosPolicy, ChaosRule, Cut, Fault, Jitter, Policy, ResumePolicy, StallPolicy,
    },
};
use redial_hyper::{Error, Transport};
use redial_testkit::{Received, Reply, Upstream};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

/// Quick and predictable: 10 ms between attempts.
fn policy() -> Policy {
    let backoff = Backoff::fixed(MS * 10).jitter(Jitter::None).unwrap();
    Policy { retry: Policy::default().retry.backoff(backoff), ..Policy::default() }
}

fn transport() -> Transport {
    Transport::builder().build().unwrap()
}

fn resume() -> ResumeLayer {
    let backoff = Backoff::fixed(MS * 10).jitter(Jitter::None).unwrap();
    ResumeLayer::new(ResumePolicy::default().max_resumes(5).backoff(backoff))
}

fn get(url: &str) -> Request<Empty<Bytes>> {
    Request::get(url).body(Empty::new()).unwrap()
}

/// The download as a caller sees it: its bytes, and how it ended.
async fn read(body: impl Body<Data = Bytes, Error = Error>) -> (Vec<u8>, Option<Error>) {
    let (mut bytes, mut body) = (Vec::new(), std::pin::pin!(body));
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend(frame.into_data().unwrap_or_default()),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

/// Downloads through resume, retry and transport.
async fn download(upstream: &Upstream) -> (Vec<u8>, Option<Error>) {
    let client = resume().layer(RetryLayer::new(policy()).layer(transport()));
    read(client.oneshot(get(&upstream.url("/file"))).await.unwrap().into_body()).await
}

fn file() -> Bytes {
    (0..=255).cycle().take(1_000_000).collect()
}

/// Answers the n-th request, from 1, with what `reply` makes of it.
async fn upstream(reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::with(move |request| reply(1 + count.fetch_add(1, Ordering::Relaxed), request)).await
}

/// N. Every client but `object_store` hands the broken half to its caller.
#[tokio::test]
async fn a_download_that_is_reset_in_the_middle_is_byte_exact_and_nobody_knows() {
    let upstream = upstream(|nth, request| {
        let answer = Reply::file(request, file(), "\"v1\"");
        match nth {
            1 => answer.reset_at(400_000),
            2 => Reply::status(503),
            3 => answer.truncate_at(200_000),
            4 => Reply::reset(),
            _ => answer,
        }
    })
    .await;
    let (bytes, error) = download(&upstream).await;
    assert!(error.is_none() && bytes == file(), "{} bytes, {error:?}", bytes.len());
    let requests = upstream.requests();
    assert!(requests[1..].iter().all(|request| request.header("range").is_some()));
    assert!(requests[1..].iter().all(|request| request.header("if-range") == Some("\"v1\"")));
}

/// N. Who goes on without `If-Range` puts the halves of two files together.
#[tokio::test]
async fn a_file_that_changed_is_a_clean_error() {
    let upstream = upstream(|nth, request| match nth {
        1 => Reply::file(request, file(), "\"v1\"").truncate_at(400_000),
        _ => Reply::file(request, vec![b'x'; 1_000_000], "\"v2\""),
    })
    .await;
    let (bytes, error) = download(&upstream).await;
    assert_eq!(error.unwrap().rejection(), Some(&Rejection::Changed { at: 400_000 }));
    assert!(bytes == file()[..400_000], "{} bytes", bytes.len());
}

/// N. Who believes a 206 unseen gets bytes twice, or of another file.
#[tokio::test]
async fn a_part_that_is_not_the_one_that_was_asked_for_is_not_handed_on() {
    for (range, tag) in [
        ("bytes 399999-999999/1000000", "\"v1\""),
        ("bytes 400000-999999/1000000", "\"v2\""),
        ("bytes 400000-1000000/1000001", "\"v1\""),
    ] {
        let upstream = upstream(move |nth, request| match nth {
            1 => Reply::file(request, file(), "\"v1\"").truncate_at(400_000),
            _ => Reply::status(206)
                .header("content-range", range)
                .header("etag", tag)
                .body(file().slice(400_000..)),
        })
        .await;
        let (bytes, error) = download(&upstream).await;
        assert_eq!(error.unwrap().rejection(), Some(&Rejection::Changed { at: 400_000 }));
        assert_eq!(bytes.len(), 400_000);
    }
}

/// N. Who asks a server without ranges for the rest gets the beginning again, and appends it.
#[tokio::test]
async fn a_server_without_ranges_is_asked_anew_or_not_at_all() {
    let whole = || Reply::ok(file()).header("etag", "\"v1\"");
    let upstream = Upstream::script([whole().truncate_at(0), whole()]).await;
    let (bytes, error) = download(&upstream).await;
    assert!(error.is_none() && bytes == file(), "nothing was handed on: from the start");
    let upstream = Upstream::script([whole().truncate_at(9), whole()]).await;
    let (bytes, error) = download(&upstream).await;
    assert_eq!(error.unwrap().fault(), Fault::ResponseTruncated);
    assert!(bytes == file()[..9], "what came stays what it is");
}

/// N. Ranges are of the bytes on the wire: who counts decoded ones asks for the wrong rest.
#[tokio::test]
async fn a_decoded_answer_does_not_go_on() {
    let gzip = || Reply::ok(GZIP).header("content-encoding", "gzip").header("etag", "\"v1\"");
    let upstream = Upstream::script([gzip().truncate_at(GZIP.len() - 8), gzip()]).await;
    let (bytes, error) = download(&upstream).await;
    let requests = upstream.requests();
    assert!(requests.iter().all(|request| request.header("range").is_none()));
    assert_eq!((requests.len(), error.unwrap().fault()), (1, Fault::ResponseTruncated));
    assert!("espresso ".repeat(40).as_bytes().starts_with(&bytes));
    assert!(!bytes.is_empty());
}

/// N, with chaos in the place of a bad network: what is injected is repaired as what happens.
#[tokio::test]
async fn a_cut_by_chaos_is_repaired_like_any_other() {
    let upstream = upstream(|_, request| Reply::file(request, file(), "\"v1\"")).await;
    let rule = ChaosRule::new().first(3).and_then(|rule| rule.truncate(Cut::after(123_456)));
    let chaos = ChaosLayer::new(ChaosPolicy::default().rule(rule.unwrap()).unwrap());
    let client = resume().layer(RetryLayer::new(policy()).layer(chaos.layer(transport())));
    let answer = client.oneshot(get(&upstream.url("/file"))).await.unwrap();
    let (bytes, error) = read(answer.into_body()).await;
    assert!(error.is_none() && bytes == file(), "{} bytes, {error:?}", bytes.len());
    let ranges: Vec<_> =
        upstream.requests().iter().map(|r| r.header("range").map(ToOwned::to_owned)).collect();
    let range = |at: usize| Some(format!("bytes={at}-"));
    assert_eq!(ranges, [None, range(123_456), range(246_912), range(370_368)]);
}

/// O. A server that sends one byte now and then holds a caller for ever, within every timeout.
#[tokio::test(start_paused = true)]
async fn a_body_that_drips_or_hangs_is_given_up() {
    let policy = StallPolicy::default().throughput(1_000, MS * 10_000).unwrap();
    let client = StallTimeoutLayer::new(policy).layer(transport());
    for (every, expected) in [
        (MS * 100, Rejection::TooSlow { bytes_per_second_min: 1_000, grace: MS * 10_000 }),
        (MS * 3_600_000, Rejection::TooSlow { bytes_per_second_min: 1_000, grace: MS * 10_000 }),
    ] {
        let upstream = Upstream::script([Reply::ok(vec![b'x'; 100_000]).slow(1, every)]).await;
        let started = Instant::now();
        let answer = client.clone().oneshot(get(&upstream.url("/"))).await.unwrap();
        let (_, error) = read(answer.into_body()).await;
        assert_eq!(error.as_ref().unwrap().rejection(), Some(&expected));
        assert_eq!(error.unwrap().diagnose().fault, Fault::ResponseTruncated);
        assert!(started.elapsed() < MS * 11_000, "{:?}", started.elapsed());
        upstream.until(|upstream| upstream.bodies_open() == 0).await;
    }
}

/// O. And what was given up goes on from a server that is awake.
#[tokio::test(start_paused = true)]
async fn a_stalled_download_goes_on_over_another_connection() {
    let upstream = upstream(|nth, request| {
        let answer = Reply::file(request, file(), "\"v1\"");
        if nth == 1 { answer.slow(300_000, MS * 7_000) } else { answer }
    })
    .await;
    let stall = StallTimeoutLayer::new(StallPolicy::default().idle(MS * 5_000).unwrap());
    let client = resume().layer(RetryLayer::new(policy()).layer(stall.layer(transport())));
    let answer = client.oneshot(get(&upstream.url("/file"))).await.unwrap();
    let (bytes, error) = read(answer.into_body()).await;
    assert!(error.is_none() && bytes == file(), "{} bytes, {error:?}", bytes.len());
    assert_eq!((upstream.requests().len(), upstream.connections()), (2, 2));
}

/// O. `Retry-After: 2^63` makes peers panic, overflow to no wait at all, or sleep for 292 years.
#[tokio::test]
async fn a_wish_beyond_all_clocks_ends_the_call_at_once() {
    for wish in ["9223372036854775808", "18446744073709551616", "999999999999999999999999999999"] {
        let upstream = Upstream::script([Reply::status(503).header("retry-after", wish)]).await;
        let client = RetryLayer::new(policy()).layer(transport());
        let started = Instant::now();
        let answer = client.oneshot(get(&upstream.url("/"))).await.unwrap();
        assert_eq!((answer.status().as_u16(), upstream.requests().len()), (503, 1), "{wish}");
        assert!(started.elapsed() < MS * 500);
    }
}

/// O. A million hosts, from links that a hostile page made up, must not fill the memory.
#[tokio::test(start_paused = true)]
async fn a_million_hosts_leave_a_bounded_trace() {
    #[derive(Debug)]
    struct Never;
    impl Diagnose for Never {
        fn diagnose(&self) -> redial::Diagnosis {
            Fault::Other.into()
        }
    }
    let budgets = Budgets::new();
    let service =
        service_fn(|_: Request<_>| async { Ok::<_, Never>(Response::new(Empty::<Bytes>::new())) });
    let mut client = RetryLayer::new(policy()).budgets(budgets.clone()).layer(service);
    for host in 0..1_000_000 {
        let request = get(&format!("http://h{host}.example/"));
        client.ready().await.unwrap().call(request).await.unwrap();
        if host % 10_000 == 0 {
            assert!(budgets.len() <= 1_024, "{} after {host}", budgets.len());
        }
    }
    assert!(budgets.len() <= 1_024);
}

/// O. Endless heads and noise are refused while they come, not kept.
#[tokio::test]
async fn an_endless_head_and_noise_are_no_answers() {
    let endless = "HTTP/1.1 200 OK\r\n".to_owned() + &"x-more: and more\r\n".repeat(200_000);
    let noise = vec![0xff; 4_000_000];
    for bytes in [endless.into_bytes(), noise] {
        let upstream = Upstream::script([Reply::garbage(bytes)]).await;
        let error = transport().oneshot(get(&upstream.url("/"))).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Protocol, "{error:?}");
    }
}

/// O. A server that answers without end is read as far as the caller reads, and let go with it.
#[tokio::test]
async fn a_body_that_is_dropped_takes_its_connection_with_it() {
    let upstream = Upstream::script([Reply::ok(vec![b'x'; 1_000_000]).slow(1, MS)]).await;
    let client = resume().layer(StallTimeoutLayer::new(StallPolicy::default()).layer(transport()));
    let answer = client.oneshot(get(&upstream.url("/"))).await.unwrap();
    let mut body = Box::pin(answer.into_body());
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);
    upstream.until(|upstream| upstream.connections_open() == 0).await;
    assert!(upstream.requests()[0].abandoned);
}

/// `espresso ` 40 times.
const GZIP: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\x2d\x2e\x28\x4a\x2d\x2e\xce\x57\x48\
      \x1d\x65\xd0\x92\x01\x00\x92\x63\xcf\xbc\x68\x01\x00\x00";
