use std::{collections::VecDeque, convert::Infallible};

use bytes::Bytes;
use http_body_util::BodyExt;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::policy::GrpcPolicy;

/// A body of scripted frames; an error ends it.
#[derive(Debug, Default)]
struct Frames(VecDeque<Result<Frame<Bytes>, BoxError>>);

impl Frames {
    fn of(frames: impl IntoIterator<Item = Frame<Bytes>>) -> Self {
        Self(frames.into_iter().map(Ok).collect())
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front())
    }
}

/// A request's body that has not ended, or has.
#[derive(Debug)]
struct Asking {
    has_ended: bool,
}

impl Body for Asking {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.has_ended { Poll::Ready(None) } else { Poll::Pending }
    }
}

fn trailers(code: &'static str) -> Frame<Bytes> {
    let mut fields = HeaderMap::new();
    fields.insert(Status::GRPC_STATUS, code.parse().unwrap());
    fields.insert("x-more", "kept".parse().unwrap());
    Frame::trailers(fields)
}

fn data() -> Frame<Bytes> {
    Frame::data(Bytes::from_static(b"message"))
}

async fn peek(
    has_ended: bool,
    answer: Response<Frames>,
) -> Result<Response<EarlyBody<Frames>>, GrpcError> {
    let mut answer = Some(answer);
    let server = service_fn(move |request: Request<SentBody<Asking>>| {
        let answer = answer.take().unwrap();
        async move {
            // The transport reads the request as far as it goes.
            let mut body = request.into_body();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let _ = Pin::new(&mut body).poll_frame(&mut cx);
            Ok(answer)
        }
    });
    let layer = EarlyStatusLayer::new(GrpcPolicy::default().with_peek(true));
    layer.layer(server).oneshot(Request::new(Asking { has_ended })).await
}

fn code<T>(response: &Response<T>) -> Option<&str> {
    response.headers().get(Status::GRPC_STATUS)?.to_str().ok()
}

#[tokio::test]
async fn a_failure_that_comes_first_moves_to_the_head_with_all_its_fields() {
    let answer = Response::new(Frames::of([trailers("14")]));
    let answer = peek(true, answer).await.unwrap();
    assert_eq!(
        (code(&answer), &answer.headers()["x-more"]),
        (Some("14"), &"kept".parse().unwrap())
    );
    assert!(answer.body().is_end_stream());
    assert!(answer.into_body().collect().await.unwrap().trailers().is_none());
}

#[tokio::test]
async fn a_success_or_a_message_that_comes_first_stays_in_the_body() {
    for frames in [vec![trailers("0")], vec![data(), trailers("14")], vec![]] {
        let has_data = frames.len() == 2;
        let has_trailers = !frames.is_empty();
        let answer = peek(true, Response::new(Frames::of(frames))).await.unwrap();
        assert_eq!(code(&answer), None);
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().is_some(), has_trailers);
        assert_eq!(!body.to_bytes().is_empty(), has_data);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_first_is_an_error_of_the_call() {
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let frames = Frames([Err(reset.into())].into());
    let error = peek(true, Response::new(frames)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn nothing_is_looked_at_while_the_request_is_sent_or_after_a_status() {
    let answer = peek(false, Response::new(Frames::of([trailers("14")]))).await.unwrap();
    assert_eq!(code(&answer), None);
    let not_grpc = Response::builder().status(503).body(Frames::of([trailers("14")])).unwrap();
    assert_eq!(code(&peek(true, not_grpc).await.unwrap()), None);
}
