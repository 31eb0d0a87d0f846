//! Connections that are not to be used again: anything was wrong with their framing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Frame;
use http_body_util::Full;
use redial_core::Fault;
use redial_testkit::{Reply, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
};

use super::*;

fn one_connection() -> Transport {
    Transport::builder().max_open_per_host(1).build().unwrap()
}

/// A body that comes piece by piece.
struct Pieces(Receiver<io::Result<Frame<Bytes>>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

/// Checks that the next call is answered, over a connection of its own.
async fn the_next_is_clean(transport: &Transport, upstream: &Upstream, what: &str) {
    assert_eq!(
        text(send(transport, &upstream.url("/next")).await.unwrap()).await,
        "clean",
        "{what}"
    );
    let connections: Vec<_> = upstream.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections.len(), 2, "{what}");
    assert_ne!(connections[0], connections[1], "{what}");
}

#[tokio::test]
async fn a_broken_answer_ends_its_connection() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let table = [
        ("cut", Reply::ok("0123456789").truncate_at(4)),
        ("cut in chunks", Reply::ok("0123456789").chunked().truncate_at(4)),
        ("reset", Reply::ok("0123456789").reset_at(4)),
        ("no chunk", Reply::garbage(format!("{chunked}nonsense\r\n"))),
        ("no head", Reply::garbage("HTTP/9 nonsense\r\n\r\n")),
        ("no answer", Reply::close_without_answer()),
        (
            "two lengths",
            Reply::garbage("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx"),
        ),
    ];
    for (what, reply) in table {
        let upstream = Upstream::script([reply, Reply::ok("clean")]).await;
        let transport = one_connection();
        if let Ok(answer) = send(&transport, &upstream.url("/")).await {
            in_time(answer.into_body().collect()).await.expect_err(what);
        }
        the_next_is_clean(&transport, &upstream, what).await;
        // Who was first to close is chance where the server closes too.
        let closed = total(&transport).closed;
        assert_eq!((closed.error + closed.server, closed.sum()), (1, 1), "{what}: {closed:?}");
    }
}

#[tokio::test]
async fn a_request_body_that_fails_ends_its_connection() {
    let upstream = Upstream::script([Reply::ok("clean")]).await;
    let transport = one_connection();
    let (sender, pieces) = channel(1);
    let request = Request::post(upstream.url("/")).body(Pieces(pieces)).unwrap();
    let call = tokio::spawn(transport.clone().oneshot(request));
    sender.send(Ok(Frame::data(Bytes::from_static(b"half")))).await.unwrap();
    upstream.until(|upstream| upstream.requests().len() == 1).await;
    sender.send(Err(io::Error::other("the disk is gone"))).await.unwrap();
    let error = in_time(call).await.unwrap().unwrap_err();
    assert_eq!(error.fault(), Fault::RequestBody);
    the_next_is_clean(&transport, &upstream, "body").await;
}

#[tokio::test]
async fn an_answer_before_the_request_was_sent_ends_its_connection() {
    let early = Reply::status(413).early().close();
    let upstream = Upstream::script([early, Reply::ok("clean")]).await;
    let transport = one_connection();
    let body = Full::new(Bytes::from(vec![b'x'; 8 << 20]));
    let request = Request::post(upstream.url("/")).body(body).unwrap();
    // Whether the answer or the close is seen first is chance.
    drop(in_time(transport.clone().oneshot(request)).await);
    the_next_is_clean(&transport, &upstream, "413").await;
}

#[tokio::test]
async fn half_a_body_ends_its_connection() {
    let upstream = Upstream::script([Reply::ok(vec![b'x'; 1 << 20]), Reply::ok("clean")]).await;
    let transport = one_connection();
    let mut answer = send(&transport, &upstream.url("/")).await.unwrap();
    in_time(answer.body_mut().frame()).await.unwrap().unwrap();
    drop(answer);
    the_next_is_clean(&transport, &upstream, "half").await;
    assert_eq!(total(&transport).closed.abandoned, 1);
}

#[tokio::test]
async fn what_nobody_asked_for_is_nobodys_answer_even_for_a_call_that_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut nth = 10;
        while let Ok((mut stream, _)) = listener.accept().await {
            nth += 1;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{nth}");
            let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n!";
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut request).await?, 0);
                }
                stream.write_all(format!("{answer}{smuggled}").as_bytes()).await?;
                // Stays open, as somebody who smuggles would.
                stream.read_to_end(&mut request).await
            });
        }
    });
    let transport = one_connection();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (transport, url) = (transport.clone(), url.clone());
        calls.spawn(async move { text(send(&transport, &url).await.unwrap()).await });
    }
    let mut bodies = calls.join_all().await;
    bodies.sort();
    assert_eq!(bodies, (11..=30).map(|nth| nth.to_string()).collect::<Vec<_>>());
}
