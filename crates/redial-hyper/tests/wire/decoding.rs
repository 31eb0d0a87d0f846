//! Compressed answers.

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, RANGE};
use redial_testkit::{Reply, Upstream};

use super::*;

const PLAIN: &str = "hello, hello, hello";
const GZIP: &[u8] = &[
    0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0xd7, 0x51, 0xc8, 0x40,
    0xa2, 0x00, 0x9f, 0xa1, 0xca, 0x09, 0x13, 0, 0, 0,
];
const ZSTD: &[u8] = &[
    0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x6d, 0x00, 0x00, 0x38, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x2c,
    0x20, 0x01, 0x00, 0xe2, 0x8a, 0x11, 0x75, 0xf3, 0x98, 0x8e,
];
/// One stored meta-block (RFC 7932 §9.2) of "hello".
const BROTLI: &[u8] = b"\x0b\x02\x80hello\x03";

fn encoded(coding: &str, body: &'static [u8]) -> Reply {
    Reply::ok(body).header("content-encoding", coding)
}

#[tokio::test]
async fn the_three_codings_are_decoded_or_left_as_they_are() {
    let table = [("gzip", GZIP, PLAIN), ("br", BROTLI, "hello"), ("zstd", ZSTD, PLAIN)];
    for (coding, bytes, plain) in table {
        for (name, reply) in
            [("length", encoded(coding, bytes)), ("chunks", encoded(coding, bytes).chunked())]
        {
            let upstream = Upstream::script([reply]).await;
            let answer = send(&transport(), get(upstream.url("/"))).await.unwrap();
            assert!(!answer.headers().contains_key(CONTENT_ENCODING));
            assert!(!answer.headers().contains_key(CONTENT_LENGTH));
            assert_eq!(text(answer).await, plain, "{coding} {name}");
        }
        let upstream = Upstream::script([encoded(coding, bytes)]).await;
        let off = Transport::builder().decompress(false).build().unwrap();
        let answer = send(&off, get(upstream.url("/"))).await.unwrap();
        assert_eq!(answer.headers()[CONTENT_ENCODING], coding);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), bytes);
        assert_eq!(upstream.requests()[0].header("accept-encoding"), None);
    }
}

#[tokio::test]
async fn who_asks_for_a_coding_or_a_range_gets_the_answer_as_it_comes() {
    for (name, value) in [(ACCEPT_ENCODING, "gzip"), (RANGE, "bytes=0-28")] {
        let upstream = Upstream::script([encoded("gzip", GZIP)]).await;
        let mut request = get(upstream.url("/"));
        request.headers_mut().insert(name, value.parse().unwrap());
        let answer = send(&transport(), request).await.unwrap();
        assert_eq!(answer.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), GZIP);
        let asked = upstream.requests()[0].header("accept-encoding").map(str::to_owned);
        assert!(asked.is_none_or(|asked| asked == "gzip"));
    }
}

#[tokio::test]
async fn answers_without_a_body_are_not_decoded_into_errors() {
    for (method, reply) in [
        (Method::HEAD, encoded("gzip", GZIP)),
        (Method::GET, Reply::status(204).header("content-encoding", "gzip")),
        (Method::GET, Reply::status(304).header("content-encoding", "br")),
        (Method::GET, encoded("zstd", b"")),
    ] {
        let upstream = Upstream::script([reply]).await;
        let answer = send(&transport(), request(method, upstream.url("/"), "")).await.unwrap();
        assert_eq!(text(answer).await, "");
    }
}

#[tokio::test]
async fn a_cut_stream_is_truncated_and_a_broken_one_is_not_valid() {
    let table = [
        ("cut on the wire", encoded("gzip", GZIP).truncate_at(20), Fault::ResponseTruncated),
        ("cut before it was sent", encoded("gzip", &GZIP[..20]), Fault::ResponseTruncated),
        ("not what it says", encoded("gzip", b"hello, hello"), Fault::Protocol),
        ("not what it says", encoded("zstd", b"hello, hello"), Fault::Protocol),
    ];
    for (name, reply, fault) in table {
        let upstream = Upstream::script([reply]).await;
        let error = broken(send(&transport(), get(upstream.url("/"))).await.unwrap()).await;
        assert_eq!(told(&error), (fault, Proof::Answered), "{name}: {error:?}");
    }
}
