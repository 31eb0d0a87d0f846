//! Bodies that come in pieces, break off, or have trailers.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use redial::{
    BoxError,
    idempotency::{IdempotencyLayer, MemoryStore},
};
use tower::{Layer, ServiceExt, service_fn};

/// Comes frame by frame, and may break off.
#[derive(Clone)]
struct Pieces(VecDeque<Result<&'static str, io::ErrorKind>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.0.pop_front().map(|piece| match piece {
            Ok("trailers") => Ok(Frame::trailers(HeaderMap::new())),
            Ok(text) => Ok(Frame::data(Bytes::from(text))),
            Err(kind) => Err(kind.into()),
        }))
    }
}

fn pieces<const N: usize>(pieces: [Result<&'static str, io::ErrorKind>; N]) -> Pieces {
    Pieces(pieces.into())
}

fn post(key: &str, body: Pieces) -> Request<Pieces> {
    Request::post("/orders").header("idempotency-key", key).body(body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_off_is_not_carried_out_and_its_pieces_do_not_matter() {
    let echo = service_fn(|request: Request<redial::BufferedBody<Pieces>>| async {
        Ok::<_, BoxError>(Response::new(request.into_body()))
    });
    let service = IdempotencyLayer::new(MemoryStore::default()).layer(echo);
    let broken = pieces([Ok("one "), Err(io::ErrorKind::ConnectionReset)]);
    let answer = service.clone().oneshot(post("k", broken)).await.unwrap();
    assert_eq!(answer.status(), 400);
    for body in [pieces([Ok("one "), Ok("apple"), Ok("trailers")]), pieces([Ok("one apple")])] {
        let answer = service.clone().oneshot(post("k", body)).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "one apple");
    }
    let longer = pieces([Ok("one apples")]);
    assert_eq!(service.oneshot(post("k", longer)).await.unwrap().status(), 422);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_not_kept_and_frees_the_key() {
    let begun = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&begun);
    let breaks_once = service_fn(move |_: Request<redial::BufferedBody<Pieces>>| {
        let whole = pieces([Ok("done "), Ok("so"), Ok("trailers")]);
        let broken = pieces([Ok("done "), Err(io::ErrorKind::ConnectionReset)]);
        let body = if count.fetch_add(1, Ordering::SeqCst) == 0 { broken } else { whole };
        async { Ok::<_, BoxError>(Response::new(body)) }
    });
    let service = IdempotencyLayer::new(MemoryStore::default()).layer(breaks_once);
    let ask = || service.clone().oneshot(post("k", pieces([Ok("one apple")])));
    assert_eq!(ask().await.unwrap().status(), 500);
    let first = ask().await.unwrap().into_body().collect().await.unwrap();
    assert!(first.trailers().is_some(), "the first gets its trailers");
    assert_eq!(first.to_bytes(), "done so");
    let again = ask().await.unwrap().into_body().collect().await.unwrap();
    assert!(again.trailers().is_none());
    assert_eq!(again.to_bytes(), "done so");
    assert_eq!(begun.load(Ordering::SeqCst), 2);
}
