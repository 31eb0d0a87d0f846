use std::{collections::VecDeque, convert::Infallible};

use http::HeaderValue;
use http_body_util::{BodyExt, Empty, Full};
use proptest::prelude::*;

use super::*;

/// A body of given frames, which is not ready before every second one.
#[derive(Debug, Default)]
struct Script {
    frames: VecDeque<Result<Frame<Bytes>, BoxError>>,
    is_ready: bool,
    hint: SizeHint,
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !mem::replace(&mut self.is_ready, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_ready = self.frames.len().is_multiple_of(2);
        Poll::Ready(self.frames.pop_front())
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

fn script(pieces: &[&'static [u8]], trailers: Option<&HeaderMap>) -> Script {
    let data = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece))));
    let trailers = trailers.cloned().map(|trailers| Ok(Frame::trailers(trailers)));
    Script { frames: data.chain(trailers).collect(), ..Script::default() }
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("42"))])
}

async fn read<B>(body: ReplayBody<B>) -> (Bytes, Option<HeaderMap>)
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    (collected.to_bytes(), trailers)
}

#[tokio::test]
async fn an_empty_body_and_one_of_a_single_piece_are_not_shared() {
    let (first, replay) = Replay::split(Empty::<Bytes>::new(), 10);
    assert!(first.is_end_stream() && matches!(replay.source, Source::Whole(None)));
    let (first, replay) = Replay::split(Full::new(Bytes::from_static(b"hello")), 10);
    assert_eq!(first.size_hint().exact(), Some(5));
    assert!(matches!(replay.source, Source::Whole(Some(_))) && replay.is_possible());
    assert_eq!(read(first).await.0, "hello");
    assert_eq!(read(replay.again()).await.0, "hello");
    assert_eq!(read(replay.again()).await.0, "hello");
}

#[tokio::test]
async fn only_what_is_in_one_piece_can_be_sent_twice_at_once() {
    let (_, replay) = Replay::split(Full::new(Bytes::from_static(b"piece")), 10);
    assert!(replay.is_whole() && Replay::split(Empty::<Bytes>::new(), 0).1.is_whole());
    let (_, replay) = Replay::split(Full::new(Bytes::from_static(b"piece")), 4);
    assert!(!replay.is_whole(), "it is above the cap");
    let (first, replay) = Replay::split(script(&[b"a", b"b"], None), 10);
    assert!(!replay.is_whole());
    let Source::Shared(shared) = &replay.source else { panic!("it is in two pieces") };
    let shared = Arc::clone(shared);
    replay.forgo();
    assert_eq!(read(first).await.0, "ab");
    assert!(shared.lock().pieces.is_empty(), "nothing was kept");
}

#[tokio::test]
async fn a_body_that_is_sent_once_passes_as_it_is() {
    let full = ReplayBody::once(Full::new(Bytes::from_static(b"piece")));
    assert_eq!((full.size_hint().exact(), full.is_end_stream()), (Some(5), false));
    assert_eq!(read(full).await, (Bytes::from_static(b"piece"), None));
    assert!(ReplayBody::once(Empty::<Bytes>::new()).is_end_stream());
    let several = ReplayBody::once(script(&[b"a", b"b"], Some(&trailers())));
    assert_eq!(read(several).await, (Bytes::from_static(b"ab"), Some(trailers())));
    let mut broken = script(&[b"a"], None);
    broken.frames.push_back(Err("broken".into()));
    assert!(ReplayBody::once(broken).collect().await.is_err());
}

#[tokio::test]
async fn pieces_and_trailers_come_again_as_they_were() {
    let (first, replay) = Replay::split(script(&[b"ab", b"", b"cde"], Some(&trailers())), 5);
    assert_eq!(read(first).await, (Bytes::from_static(b"abcde"), Some(trailers())));
    assert!(replay.is_possible());
    let again = replay.again();
    assert_eq!(again.size_hint().exact(), None, "trailers do not follow a content-length");
    assert_eq!(read(again).await, (Bytes::from_static(b"abcde"), Some(trailers())));
}

#[tokio::test]
async fn a_longer_body_passes_once_whole() {
    let (first, replay) = Replay::split(script(&[b"abc", b"de", b"fg"], None), 4);
    assert!(replay.is_possible(), "nothing was read yet");
    assert_eq!(read(first).await.0, "abcdefg");
    assert!(!replay.is_possible());
}

#[tokio::test]
async fn a_body_known_to_be_too_long_can_be_sent_again_while_it_is_unread() {
    let mut long = script(&[b"abcdef"], None);
    long.hint = SizeHint::with_exact(6);
    let (first, replay) = Replay::split(long, 4);
    assert_eq!(first.size_hint().exact(), Some(6));
    drop(first);
    assert!(replay.is_possible());
    assert_eq!(read(replay.again()).await.0, "abcdef");
    assert!(!replay.is_possible());
}

#[tokio::test]
async fn a_full_body_above_the_cap_is_sent_once_and_never_copied() {
    let (first, replay) = Replay::split(Full::new(Bytes::from_static(b"abcdef")), 4);
    assert!(replay.is_possible());
    assert_eq!(read(first).await.0, "abcdef");
    assert!(!replay.is_possible());
}

#[tokio::test]
async fn a_sending_that_lingers_may_not_read_on() {
    let (mut first, replay) = Replay::split(script(&[b"ab", b"cd", b"ef"], None), 10);
    let piece = first.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(piece, "ab");
    let again = replay.again();
    let error = first.frame().await.unwrap().unwrap_err();
    assert!(error.is::<Superseded>());
    assert_eq!(read(again).await.0, "abcdef");
}

#[tokio::test]
async fn a_body_that_fails_fails_the_sending_and_cannot_be_repeated() {
    let mut failing = script(&[b"ab"], None);
    failing.frames.push_back(Err("disk on fire".into()));
    let (first, replay) = Replay::split(failing, 10);
    let error = first.collect().await.unwrap_err();
    assert_eq!(error.to_string(), "disk on fire");
    assert!(!replay.is_possible());
}

#[tokio::test]
async fn a_body_of_trailers_alone_keeps_them() {
    let (first, replay) = Replay::split(script(&[], Some(&trailers())), 10);
    assert!(!first.is_end_stream());
    assert_eq!(read(first).await, (Bytes::new(), Some(trailers())));
    assert_eq!(read(replay.again()).await, (Bytes::new(), Some(trailers())));
}

proptest! {
    /// Attempts that break off after any number of frames, one after the other: the last one is byte
    /// for byte what the caller gave.
    #[test]
    fn any_sequence_of_broken_sendings_ends_byte_exact(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..12),
        breaks in prop::collection::vec(0_usize..14, 0..5),
        has_trailers: bool,
        bytes_max in 0_usize..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let data = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from(piece.clone()))));
            let end = has_trailers.then(|| Ok(Frame::trailers(trailers())));
            let body = Script { frames: data.chain(end).collect(), ..Script::default() };
            let (mut sending, replay) = Replay::split(body, bytes_max);
            let whole = pieces.concat();
            for frames in breaks {
                let mut sent = Vec::new();
                for _ in 0..frames {
                    let Some(frame) = sending.frame().await else { break };
                    sent.extend(frame.unwrap().into_data().unwrap_or_default());
                }
                prop_assert!(whole.starts_with(&sent));
                if !replay.is_possible() {
                    prop_assert!(bytes_max < whole.len());
                    return Ok(());
                }
                sending = replay.again();
            }
            let (bytes, end) = read(sending).await;
            prop_assert_eq!(bytes, whole);
            prop_assert_eq!(end.is_some(), has_trailers);
            Ok(())
        })?;
    }

    #[test]
    fn the_hint_never_lies(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6),
        taken in 0_usize..6,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let data = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from(piece.clone()))));
            let body = Script { frames: data.collect(), ..Script::default() };
            let (mut sending, _replay) = Replay::split(body, 1_000);
            for _ in 0..taken {
                let _ = sending.frame().await;
            }
            let hint = sending.size_hint();
            let rest = u64::try_from(read(sending).await.0.len()).unwrap();
            prop_assert!(hint.lower() <= rest && hint.upper().is_none_or(|upper| rest <= upper));
            Ok::<(), TestCaseError>(())
        })?;
    }
}

#[test]
fn errors_that_cannot_be_are_fine() {
    fn takes<B: Body<Error: Into<BoxError>> + Unpin>() {}
    takes::<http_body_util::combinators::BoxBody<Bytes, Infallible>>();
}
