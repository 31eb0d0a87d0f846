//! An answer's body that holds a place until it has ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer, and the permit of the call that it belongs to.
    ///
    /// The permit is given back when the body has ended, has failed or is dropped: a call whose body is
    /// still read is in flight. All else is the inner body's.
    #[derive(Debug)]
    pub struct HeldBody<B, P> {
        #[pin]
        body: B,
        permit: Option<P>,
    }
}

impl<B: Body, P> HeldBody<B, P> {
    /// A body that has ended already gives its permit back at once.
    pub(crate) fn new(body: B, permit: Option<P>) -> Self {
        let permit = permit.filter(|_| !body.is_end_stream());
        Self { body, permit }
    }
}

impl<B: Body, P> Body for HeldBody<B, P> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        let is_over = !matches!(frame, Some(Ok(_))) || this.body.is_end_stream();
        if is_over {
            drop(this.permit.take());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use bytes::Bytes;
    use http::HeaderMap;
    use http_body_util::{BodyExt, Empty, Full};

    use super::*;

    /// Frames, and then an end that it does not know of beforehand.
    struct Pieces(std::vec::IntoIter<Result<Frame<Bytes>, &'static str>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            Poll::Ready(self.0.next())
        }
    }

    fn pieces(pieces: Vec<Result<Frame<Bytes>, &'static str>>) -> Pieces {
        Pieces(pieces.into_iter())
    }

    #[tokio::test]
    async fn a_body_that_has_ended_holds_nothing() {
        let permit = Arc::new(());
        let body = HeldBody::new(Empty::<Bytes>::new(), Some(Arc::clone(&permit)));
        assert_eq!(Arc::strong_count(&permit), 1);
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn the_last_piece_of_a_body_that_knows_its_end_gives_the_permit_back() {
        let permit = Arc::new(());
        let mut body = HeldBody::new(Full::new(Bytes::from("all")), Some(Arc::clone(&permit)));
        assert_eq!((body.size_hint().exact(), Arc::strong_count(&permit)), (Some(3), 2));
        let frame: Result<_, Infallible> = body.frame().await.unwrap();
        assert_eq!(frame.unwrap().into_data().unwrap(), "all");
        assert_eq!(Arc::strong_count(&permit), 1);
    }

    #[tokio::test]
    async fn data_and_trailers_pass_untouched_and_the_permit_is_held_to_the_end() {
        let permit = Arc::new(());
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let frames = vec![
            Ok(Frame::data(Bytes::from("a"))),
            Ok(Frame::data(Bytes::from("b"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let mut body = HeldBody::new(pieces(frames), Some(Arc::clone(&permit)));
        for wanted in ["a", "b"] {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), wanted);
        }
        assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
        assert_eq!(Arc::strong_count(&permit), 2);
        assert!(body.frame().await.is_none());
        assert_eq!(Arc::strong_count(&permit), 1);
    }

    #[tokio::test]
    async fn a_body_that_fails_or_is_dropped_gives_the_permit_back() {
        let permit = Arc::new(());
        let broken = pieces(vec![Ok(Frame::data(Bytes::from("a"))), Err("reset")]);
        let mut body = HeldBody::new(broken, Some(Arc::clone(&permit)));
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(
            body.frame().await.unwrap().unwrap_err(),
            "reset",
            "the error is the body's own"
        );
        assert_eq!(Arc::strong_count(&permit), 1);

        let half = pieces(vec![Ok(Frame::data(Bytes::from("a"))), Err("never seen")]);
        let mut body = HeldBody::new(half, Some(Arc::clone(&permit)));
        assert!(body.frame().await.unwrap().is_ok());
        drop(body);
        assert_eq!(Arc::strong_count(&permit), 1);
    }
}
