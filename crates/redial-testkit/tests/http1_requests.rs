//! What an HTTP/1.1 script does with requests: how far it reads them, and what it keeps.

#![expect(clippy::unwrap_used, reason = "a test whose client fails should stop")]

#[path = "common/client.rs"]
mod client;

use redial_testkit::{Reply, Upstream};
use tokio::io::AsyncWriteExt;

use crate::client::{GET, read_all, read_until, send};

const EXPECTING: &str = "PUT / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";

#[tokio::test]
async fn requests_are_kept_with_everything_that_came() {
    let upstream = Upstream::script([Reply::ok("!")]).await;
    let request = "POST /a?b=c HTTP/1.1\r\nHost: test\r\ncontent-length: 4\r\n\r\nbody";
    let mut stream = send(&upstream, request).await;
    read_until(&mut stream, "!").await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    read_until(&mut stream, "!").await;
    read_until(&mut send(&upstream, GET).await, "!").await;

    let requests = upstream.requests();
    let first = &requests[0];
    assert_eq!((first.method.as_str(), first.target.as_str()), ("POST", "/a?b=c"));
    assert_eq!(first.header("HOST"), Some("test"));
    assert_eq!(&first.body[..], b"body");
    assert!(first.complete && first.stream_id.is_none());
    assert!(first.at <= requests[1].at && requests[1].at <= requests[2].at);
    let places = requests.iter().map(|received| (received.connection, received.nth));
    assert_eq!(places.collect::<Vec<_>>(), [(1, 1), (1, 2), (2, 1)]);
}

#[tokio::test]
async fn chunked_bodies_are_read_with_their_trailers_however_they_are_cut() {
    let upstream = Upstream::script([Reply::ok("!")]).await;
    let request = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                   3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 5\r\n\r\n";
    let mut stream = send(&upstream, "").await;
    for byte in request.bytes() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    read_until(&mut stream, "!").await;

    let received = &upstream.requests()[0];
    assert_eq!(&received.body[..], b"hello");
    assert_eq!(received.trailers, [(String::from("x-sum"), String::from("5"))]);
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_by_one() {
    let upstream = Upstream::script([Reply::ok("one"), Reply::ok("two")]).await;
    let mut stream = send(&upstream, [GET, GET].concat()).await;
    let answers = read_until(&mut stream, "two").await;
    assert!(answers.contains("\r\n\r\noneHTTP/1.1 200 OK"), "{answers}");
}

#[tokio::test]
async fn a_handler_sees_the_whole_request() {
    let upstream = Upstream::with(|request| match request.header("idempotency-key") {
        Some(_) => Reply::ok(request.body.clone()),
        None => Reply::status(400),
    })
    .await;
    let keyed = "POST / HTTP/1.1\r\nidempotency-key: k\r\ncontent-length: 4\r\n\r\necho";
    read_until(&mut send(&upstream, keyed).await, "\r\n\r\necho").await;
    let refused = read_until(&mut send(&upstream, GET).await, "\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn who_expects_a_100_gets_it_before_the_body() {
    let upstream = Upstream::script([Reply::ok("!")]).await;
    let mut stream = send(&upstream, EXPECTING).await;
    let first = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(first, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    read_until(&mut stream, "!").await;
    assert_eq!(&upstream.requests()[0].body[..], b"body");
}

#[tokio::test]
async fn a_100_may_be_withheld() {
    let upstream = Upstream::script([Reply::ok("!").without_continue()]).await;
    let mut stream = send(&upstream, EXPECTING).await;
    upstream.until(|upstream| upstream.requests().len() == 1).await;
    stream.write_all(b"body").await.unwrap();
    assert!(read_until(&mut stream, "!").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_body() {
    let upstream = Upstream::script([Reply::status(413).body("no").early(), Reply::ok("!")]).await;
    let mut stream = send(&upstream, EXPECTING).await;
    assert!(read_until(&mut stream, "no").await.starts_with("HTTP/1.1 413 "));
    assert!(!upstream.requests()[0].complete);

    // The rest is read all the same, so that the connection stays in step.
    stream.write_all(["body", GET].concat().as_bytes()).await.unwrap();
    read_until(&mut stream, "!").await;
    assert_eq!(&upstream.requests()[0].body[..], b"body");
}

#[tokio::test]
async fn an_early_answer_that_closes_is_not_destroyed_by_what_was_not_read() {
    let upstream = Upstream::script([Reply::status(413).body("no").early().close()]).await;
    let request = "PUT / HTTP/1.1\r\ncontent-length: 9999999\r\n\r\n";
    let mut stream = send(&upstream, [request, &"x".repeat(100_000)].concat()).await;
    let (answer, ended) = read_all(&mut stream).await;
    assert!(answer.ends_with("\r\nconnection: close\r\n\r\nno"), "{answer}");
    assert!(ended.is_ok());
    drop(stream);
    upstream.until(|upstream| upstream.connections_open() == 0).await;
    assert!(!upstream.requests()[0].complete);
}

#[tokio::test]
async fn a_request_that_is_not_finished_is_kept_as_abandoned() {
    let upstream = Upstream::script([Reply::ok("!")]).await;
    drop(send(&upstream, "PUT / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf").await);
    upstream.until(|upstream| upstream.connections() == 1).await;
    upstream.until(|upstream| upstream.connections_open() == 0).await;
    let received = &upstream.requests()[0];
    assert!(received.abandoned && !received.complete);
}

#[tokio::test]
async fn malformed_requests_are_answered_400_with_the_reason() {
    let upstream = Upstream::script([Reply::ok("!")]).await;
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(70_000));
    for (request, reason) in [
        ("GET\r\n\r\n", "invalid token"),
        ("PUT / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", "body longer than 64 MiB"),
        (long.as_str(), "head longer than 64 KiB"),
    ] {
        let mut stream = send(&upstream, request).await;
        let (answer, _) = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{reason}\n")), "{answer}");
    }
}
