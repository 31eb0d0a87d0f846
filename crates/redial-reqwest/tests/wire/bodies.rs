//! Bodies are sent again byte for byte, or once, and never turn a request into an error.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use redial::BoxError;
use reqwest::{Body, multipart};

use super::*;

/// A body in pieces that reqwest cannot clone and whose length nobody knows.
struct Pieces(VecDeque<Result<Bytes, BoxError>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front().map(|piece| piece.map(Frame::data)))
    }
}

struct Sealed<B>(std::sync::Mutex<B>);

impl<B: http_body::Body + Unpin> http_body::Body for Sealed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(self.0.get_mut().unwrap()).poll_frame(cx)
    }
}

fn pieces(pieces: impl IntoIterator<Item = Vec<u8>>) -> Body {
    let pieces = pieces.into_iter().map(|piece| Ok(piece.into())).collect();
    Body::wrap(Sealed(Pieces(pieces).into()))
}

/// Bytes without a pattern that a shifted or a doubled piece could hide in.
fn noise(bytes: usize) -> Vec<u8> {
    let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(7), next).map(|x: u32| x.to_be_bytes()[0]).take(bytes).collect()
}

#[tokio::test(start_paused = true)]
async fn a_multipart_form_is_sent_again_byte_for_byte() {
    let upstream = Upstream::script([Reply::status(503), Reply::reset(), Reply::ok("kept")]).await;
    let file = pieces([noise(9_000), noise(5_000)]);
    let form = multipart::Form::new()
        .text("title", "spring")
        .part("file", multipart::Part::stream(file).file_name("a.bin"));
    let answer = soon(client().put(upstream.url("/")).multipart(form).send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), attempts(&answer)), (200, 3));
    let requests = upstream.requests();
    let [first, .., last] = &requests[..] else { panic!("{requests:?}") };
    assert!(14_000 < first.body.len());
    assert_eq!(first.body, last.body);
    assert_eq!(first.header("content-type"), last.header("content-type"));
}

#[tokio::test(start_paused = true)]
async fn a_multipart_form_of_known_length_keeps_its_length() {
    let upstream = Upstream::script([Reply::status(503), Reply::ok("kept")]).await;
    let form = multipart::Form::new().text("title", "spring").text("year", "1848");
    let answer = soon(client().put(upstream.url("/")).multipart(form).send()).await.unwrap();
    assert_eq!(attempts(&answer), 2);
    let requests = upstream.requests();
    let length = requests[0].body.len().to_string();
    assert_eq!(requests[0].header("content-length"), Some(length.as_str()));
    assert_eq!(requests[1].header("content-length"), Some(length.as_str()));
    assert_eq!(requests[0].body, requests[1].body);
}

#[tokio::test(start_paused = true)]
async fn a_stream_below_the_cap_is_sent_again() {
    let upstream = Upstream::script([Reply::status(503), Reply::ok("kept")]).await;
    let body = pieces([noise(30_000), noise(1), noise(20_000)]);
    let answer = soon(client().put(upstream.url("/")).body(body).send()).await.unwrap();
    assert_eq!(attempts(&answer), 2);
    let expected = [noise(30_000), noise(1), noise(20_000)].concat();
    for request in upstream.requests() {
        assert_eq!(request.body, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_above_the_cap_is_sent_once_and_its_failure_comes_through() {
    let upstream = Upstream::script([Reply::status(503).body("busy"), Reply::reset()]).await;
    let long = || pieces((0..40).map(|_| noise(5_000)));
    let answer = soon(client().put(upstream.url("/")).body(long()).send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), attempts(&answer)), (503, 1));
    assert_eq!(answer.text().await.unwrap(), "busy");
    assert_eq!(upstream.requests()[0].body.len(), 200_000);
    let error = soon(client().put(upstream.url("/")).body(long()).send()).await.unwrap_err();
    assert!(error.is_request() && !error.is_middleware());
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_above_the_cap_that_was_not_read_is_sent_again() {
    let upstream = Upstream::script([Reply::ok("kept")]).await;
    let body = pieces((0..40).map(|_| noise(5_000)));
    let answer = soon(refused_once().post(upstream.url("/")).body(body).send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), attempts(&answer)), (200, 2));
    assert_eq!(upstream.requests()[0].body, noise(5_000).repeat(40));
}

#[tokio::test(start_paused = true)]
async fn a_body_in_memory_is_sent_again_however_long_it_is() {
    let upstream = Upstream::script([Reply::status(503), Reply::reset(), Reply::ok("kept")]).await;
    let body = noise(1_000_000);
    let answer = soon(client().put(upstream.url("/")).body(body.clone()).send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), attempts(&answer)), (200, 3));
    for request in upstream.requests() {
        assert_eq!(request.header("content-length"), Some("1000000"));
        assert_eq!(request.body, body);
    }
}

#[tokio::test(start_paused = true)]
async fn json_is_sent_again() {
    let upstream = Upstream::script([Reply::status(503), Reply::ok("{}")]).await;
    let request = client().put(upstream.url("/")).json(&[("order", 1)]);
    let answer = soon(request.send()).await.unwrap();
    assert_eq!(attempts(&answer), 2);
    for request in upstream.requests() {
        assert_eq!(request.body, r#"[["order",1]]"#);
        assert_eq!(request.header("content-type"), Some("application/json"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_by_itself_is_not_blamed_on_the_server() {
    let upstream = Upstream::script([Reply::ok("kept")]).await;
    let broken = VecDeque::from([Ok(Bytes::from("half")), Err("disk gone".into())]);
    let body = Body::wrap(Sealed(Pieces(broken).into()));
    let error = soon(client().put(upstream.url("/")).body(body).send()).await.unwrap_err();
    assert!(error.is_request() && !error.is_middleware(), "{error:?}");
    assert!(upstream.requests().len() <= 1);
}
