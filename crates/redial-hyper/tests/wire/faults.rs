//! What goes wrong over HTTP/1.1, and what each case proves.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Frame;
use redial_core::Evidence;
use redial_testkit::{H2Reply, Reply, Upstream};

use super::*;

/// A body that gives its pieces, and then fails.
struct Failing(Vec<&'static str>);

#[derive(Debug, thiserror::Error)]
#[error("the disk is gone")]
struct DiskGone;

impl http_body::Body for Failing {
    type Data = Bytes;
    type Error = DiskGone;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DiskGone>>> {
        let piece = self.0.pop().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
        Poll::Ready(Some(piece.ok_or(DiskGone)))
    }
}

#[tokio::test]
async fn what_happens_before_the_answer_is_told_exactly() {
    let sent = |fault| (fault, Proof::Sent);
    let table = [
        ("reset", Reply::reset(), sent(Fault::ConnectionReset)),
        ("reset at the first byte", Reply::reset_unread(0), sent(Fault::ConnectionReset)),
        ("reset within the head", Reply::reset_unread(10), sent(Fault::ConnectionReset)),
        ("closed", Reply::close_without_answer(), sent(Fault::ConnectionClosed)),
        ("nothing but a close", Reply::garbage(""), sent(Fault::ConnectionClosed)),
        ("half a head", Reply::garbage("HTTP/1.1 200 OK\r\nconte"), sent(Fault::ConnectionClosed)),
        ("not http", Reply::garbage("SSH-2.0-OpenSSH\r\n\r\n"), sent(Fault::Protocol)),
        (
            "a bad length",
            Reply::garbage("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"),
            sent(Fault::Protocol),
        ),
    ];
    for (name, reply, expected) in table {
        let upstream = Upstream::script([reply]).await;
        let error = send(&transport(), post(upstream.url("/"))).await.expect_err(name);
        assert_eq!(told(&error), expected, "{name}: {error:?}");
        assert!(error.to_string().contains(&upstream.addr().to_string()), "{error}");
        assert!(std::error::Error::source(&error).is_some(), "{name}");
        assert_eq!(upstream.connections(), 1, "{name}: sent once");
    }
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_truncated_and_was_answered() {
    let nonsense = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n";
    let table = [
        ("length, closed", Reply::ok("0123456789").truncate_at(4), Fault::ResponseTruncated),
        ("length, closed at 0", Reply::ok("0123456789").truncate_at(0), Fault::ResponseTruncated),
        ("length, reset", Reply::ok("0123456789").reset_at(4), Fault::ResponseTruncated),
        (
            "chunks, closed",
            Reply::ok("0123456789").chunked().truncate_at(4),
            Fault::ResponseTruncated,
        ),
        (
            "chunks, no end",
            Reply::ok("0123456789").chunked().truncate_at(10),
            Fault::ResponseTruncated,
        ),
        ("chunks, reset", Reply::ok("0123456789").chunked().reset_at(4), Fault::ResponseTruncated),
        ("chunks, nonsense", Reply::garbage(nonsense), Fault::Protocol),
    ];
    for (name, reply, fault) in table {
        for decompress in [true, false] {
            let upstream = Upstream::script([reply.clone()]).await;
            let transport = Transport::builder().decompress(decompress).build().unwrap();
            let answer = send(&transport, get(upstream.url("/"))).await.expect(name);
            assert_eq!(answer.status(), 200);
            let error = broken(answer).await;
            assert_eq!(told(&error), (fault, Proof::Answered), "{name}: {error:?}");
            assert_eq!(error.proof().evidence(), Evidence::Applied);
        }
    }
}

#[tokio::test]
async fn an_empty_answer_is_whole() {
    let upstream =
        Upstream::script([Reply::ok(""), Reply::status(204), Reply::ok("").chunked()]).await;
    let transport = transport();
    for status in [200, 204, 200] {
        let answer = send(&transport, post(upstream.url("/"))).await.unwrap();
        assert_eq!((answer.status().as_u16(), text(answer).await), (status, String::new()));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn the_callers_own_body_is_told_from_the_servers_faults() {
    let http1 = Upstream::script([Reply::ok("")]).await;
    let http2 = Upstream::h2_script([H2Reply::status(200)]).await;
    for (transport, upstream) in [(transport(), &http1), (h2c(), &http2)] {
        for pieces in [&[][..], &["some"], &["more", "some"]] {
            let request = Request::post(upstream.url("/")).body(Failing(pieces.to_vec())).unwrap();
            let error = send(&transport, request).await.unwrap_err();
            assert_eq!(error.fault(), Fault::RequestBody, "{error:?}");
            // How much of it has left by then is hyper's affair; the server never got all of it.
            assert!(matches!(error.proof(), Proof::Sent | Proof::NothingWritten), "{error:?}");
            let mut root: &dyn std::error::Error = &error;
            while let Some(cause) = root.source() {
                root = cause;
            }
            assert!(root.is::<DiskGone>(), "{error:?}");
        }
    }
    assert!(http1.requests().iter().chain(&http2.requests()).all(|request| !request.complete));
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_not() {
    let table = ["/no/host", "ftp://127.0.0.1/", "unix:80"];
    for uri in table {
        let error = send(&transport(), get(uri.to_owned())).await.unwrap_err();
        assert_eq!(told(&error), (Fault::InvalidRequest, Proof::NothingWritten), "{uri}");
        assert_eq!(error.to_string(), "the request cannot be sent");
        assert!(
            std::error::Error::source(&error).unwrap().to_string().starts_with("the request's "),
            "{uri}"
        );
    }
}

#[tokio::test]
async fn who_speaks_first_does_not_speak_http() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 mail.example ESMTP\r\n").await?;
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await
    });
    let error = send(&transport(), post(url)).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Protocol, "{error:?}");
    let received: io::Result<usize> = server.await.unwrap();
    if error.proof() == Proof::NothingWritten {
        assert!(matches!(received, Ok(0) | Err(_)), "{received:?}");
    }
}
