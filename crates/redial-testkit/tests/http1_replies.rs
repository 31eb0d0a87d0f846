//! What a client of an HTTP/1.1 script sees on the wire.

#![expect(clippy::unwrap_used, reason = "a test whose client fails should stop")]

#[path = "common/client.rs"]
mod client;

use std::{io::ErrorKind, time::Duration};

use redial_testkit::{Reply, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::client::{GET, read_all, read_until, send};

#[tokio::test]
async fn replies_are_played_in_order_and_the_last_one_for_ever() {
    let script = [Reply::status(503).header("retry-after", "2"), Reply::ok("hello")];
    let upstream = Upstream::script(script).await;

    let mut stream = send(&upstream, GET).await;
    let first = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(
        first,
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n"
    );
    for _ in 0..2 {
        stream.write_all(GET.as_bytes()).await.unwrap();
        let next = read_until(&mut stream, "hello").await;
        assert_eq!(next, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    }
    read_until(&mut send(&upstream, GET).await, "hello").await;
    assert_eq!((upstream.requests().len(), upstream.connections()), (4, 2));
}

#[tokio::test]
async fn close_announces_the_end_of_the_connection() {
    let upstream = Upstream::script([Reply::ok("bye").close()]).await;
    let (answer, ended) = read_all(&mut send(&upstream, GET).await).await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbye");
    assert!(ended.is_ok());
}

#[tokio::test]
async fn a_client_that_asks_for_the_end_gets_it() {
    let upstream = Upstream::script([Reply::ok("bye")]).await;
    for request in ["GET / HTTP/1.1\r\nconnection: x, Close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let (answer, ended) = read_all(&mut send(&upstream, request).await).await;
        assert!(answer.contains("connection: close\r\n") && ended.is_ok(), "{answer}");
    }
}

#[tokio::test]
async fn a_truncated_body_ends_in_good_order_after_that_many_bytes() {
    for n in [0, 1, 5] {
        let upstream = Upstream::script([Reply::ok("hello, world").truncate_at(n)]).await;
        let (answer, ended) = read_all(&mut send(&upstream, GET).await).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 12");
        assert_eq!(body, &"hello, world"[..n]);
        assert!(ended.is_ok());
    }
}

#[tokio::test]
async fn a_truncated_chunked_body_has_no_last_chunk() {
    let reply = Reply::ok("hello").trailer("x-sum", "5").truncate_at(3);
    let upstream = Upstream::script([reply]).await;
    let (answer, ended) = read_all(&mut send(&upstream, GET).await).await;
    assert!(answer.ends_with("\r\n\r\n3\r\nhel\r\n"), "{answer}");
    assert!(ended.is_ok());
}

#[tokio::test]
async fn a_body_is_reset_after_that_many_bytes() {
    for n in [0, 5, 32 * 1024] {
        let upstream = Upstream::script([Reply::ok("x".repeat(40_000)).reset_at(n)]).await;
        let (answer, ended) = read_all(&mut send(&upstream, GET).await).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with("content-length: 40000"));
        assert_eq!(body.len(), n);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_reset_comes_in_the_place_of_an_answer() {
    let upstream = Upstream::script([Reply::reset()]).await;
    let (answer, ended) = read_all(&mut send(&upstream, GET).await).await;
    assert_eq!((answer.as_str(), ended.unwrap_err().kind()), ("", ErrorKind::ConnectionReset));
    let received = &upstream.requests()[0];
    assert!(received.complete && !received.abandoned);
}

#[tokio::test]
async fn an_unread_request_is_reset_and_not_on_record() {
    for n in [0, 10, GET.len()] {
        let upstream = Upstream::script([Reply::reset_unread(n), Reply::ok("hello")]).await;
        let (answer, ended) = read_all(&mut send(&upstream, GET).await).await;
        assert_eq!((answer.as_str(), ended.unwrap_err().kind()), ("", ErrorKind::ConnectionReset));
        assert!(upstream.requests().is_empty());

        read_until(&mut send(&upstream, GET).await, "hello").await;
        assert_eq!((upstream.requests().len(), upstream.connections()), (1, 2));
    }
}

#[tokio::test]
async fn a_kept_connection_may_be_dead_when_it_is_used_again() {
    let upstream = Upstream::script([Reply::ok("hello"), Reply::reset_unread(0)]).await;
    let mut stream = send(&upstream, GET).await;
    read_until(&mut stream, "hello").await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    let (_, ended) = read_all(&mut stream).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_connection_can_end_without_an_answer() {
    let upstream = Upstream::script([Reply::close_without_answer()]).await;
    let (answer, ended) = read_all(&mut send(&upstream, GET).await).await;
    assert!(answer.is_empty() && ended.is_ok());
}

#[tokio::test]
async fn garbage_is_sent_as_it_is() {
    let upstream = Upstream::script([Reply::garbage("SSH-2.0-x\r\n")]).await;
    let (answer, ended) = read_all(&mut send(&upstream, GET).await).await;
    assert_eq!(answer, "SSH-2.0-x\r\n");
    assert!(ended.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_dying_connection_promises_to_stay_and_ends_unasked() {
    let upstream = Upstream::script([Reply::ok("hello").die()]).await;
    let mut stream = send(&upstream, GET).await;
    let answer = read_until(&mut stream, "hello").await;
    assert!(!answer.contains("close"));
    assert_eq!(upstream.connections_open(), 1);

    let (rest, ended) = read_all(&mut stream).await;
    assert!(rest.is_empty() && ended.is_ok());
    upstream.until(|upstream| upstream.connections_open() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_late_by_its_delay() {
    let upstream = Upstream::script([Reply::ok("hello").after(Duration::from_secs(30))]).await;
    let start = Instant::now();
    read_until(&mut send(&upstream, GET).await, "hello").await;
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn informational_heads_do_not_wait_for_the_answer() {
    let reply = Reply::ok("hello").informational(103).after(Duration::from_secs(30));
    let upstream = Upstream::script([reply]).await;
    let start = Instant::now();
    let mut stream = send(&upstream, GET).await;
    let first = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(
        (first.as_str(), start.elapsed().as_secs()),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", 0)
    );
    read_until(&mut stream, "hello").await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_comes_in_pieces_and_is_open_meanwhile() {
    let reply = Reply::ok("hello").slow(2, Duration::from_secs(1)).chunked();
    let upstream = Upstream::script([reply]).await;
    let start = Instant::now();
    let mut stream = send(&upstream, GET).await;
    read_until(&mut stream, "2\r\nhe\r\n").await;
    assert_eq!((upstream.bodies_open(), start.elapsed().as_secs()), (1, 1));
    assert_eq!(read_until(&mut stream, "0\r\n\r\n").await, "2\r\nll\r\n1\r\no\r\n0\r\n\r\n");
    assert_eq!(start.elapsed().as_secs(), 3);
    upstream.until(|upstream| upstream.bodies_open() == 0).await;
    assert!(!upstream.requests()[0].abandoned);
}

#[tokio::test]
async fn trailers_follow_the_last_chunk() {
    let upstream = Upstream::script([Reply::ok("hello").trailer("x-sum", "5")]).await;
    let answer = read_until(&mut send(&upstream, GET).await, "5\r\n\r\n").await;
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n"
    );
}

#[tokio::test]
async fn a_script_may_lie_about_its_length() {
    let upstream = Upstream::script([Reply::ok("hello").header("Content-Length", "3")]).await;
    let answer = read_until(&mut send(&upstream, GET).await, "hello").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhello");
}

#[tokio::test]
async fn answers_that_have_no_body_are_sent_without() {
    let upstream = Upstream::script([Reply::ok("hello"), Reply::status(204), Reply::ok("!")]).await;
    let mut stream = send(&upstream, "HEAD / HTTP/1.1\r\n\r\n").await;
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.contains("content-length: 5"));
    stream.write_all(GET.as_bytes()).await.unwrap();
    let no_content = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(no_content, "HTTP/1.1 204 No Content\r\n\r\n");
    stream.write_all(GET.as_bytes()).await.unwrap();
    read_until(&mut stream, "\r\n\r\n!").await;
}

#[tokio::test]
async fn who_hangs_never_answers_and_notices_that_the_client_went() {
    let upstream = Upstream::script([Reply::hang()]).await;
    let mut stream = send(&upstream, GET).await;
    upstream.until(|upstream| upstream.requests().iter().any(|r| r.complete)).await;
    assert_eq!(stream.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);

    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    upstream.until(|upstream| upstream.connections_open() == 0).await;
    assert!(upstream.requests()[0].abandoned);
}
