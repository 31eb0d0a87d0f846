//! Bodies that are cut, or come slowly.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use redial_core::{Cut, Pace};

use super::switch::Watch;
use crate::diagnose::Rejection;

pin_project! {
    /// The body of an answer that chaos may have had a hand in: the upstream's, cut or slowed where a
    /// rule says so, or none under an injected status.
    pub struct ChaosBody<B, E> {
        #[pin]
        body: Option<B>,
        faults: Option<Box<Faults>>,
        error: PhantomData<fn() -> E>,
    }
}

/// What a body is in for.
pub(super) struct Faults {
    cut: Option<Cut>,
    /// After how many bytes it is cut, once that is known.
    cut_at: Option<u64>,
    pace: Option<Pace>,
    watch: Watch,
    /// How many bytes were handed on.
    sent: u64,
    /// What came from below and was not handed on yet.
    held: Bytes,
    /// How many bytes of that go next, when the pause is over.
    pause: Option<(usize, Pause)>,
}

type Pause = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl<B, E> ChaosBody<B, E> {
    pub(super) const fn new(body: B, faults: Option<Box<Faults>>) -> Self {
        Self { body: Some(body), faults, error: PhantomData }
    }

    pub(super) const fn empty() -> Self {
        Self { body: None, faults: None, error: PhantomData }
    }
}

impl<B, E> Body for ChaosBody<B, E>
where
    B: Body<Data = Bytes>,
    E: From<B::Error> + From<Rejection>,
{
    type Data = Bytes;
    type Error = E;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let this = self.project();
        let Some(body) = this.body.as_pin_mut() else { return Poll::Ready(None) };
        match this.faults {
            None => body.poll_frame(cx).map_err(E::from),
            Some(faults) => faults.poll_frame(body, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match (&self.body, &self.faults) {
            (None, _) => true,
            (Some(body), None) => body.is_end_stream(),
            (Some(body), Some(faults)) => faults.is_over() && body.is_end_stream(),
        }
    }

    /// The length that the upstream announced, whatever will come of it.
    fn size_hint(&self) -> SizeHint {
        let Some(body) = &self.body else { return SizeHint::with_exact(0) };
        let hint = body.size_hint();
        let held = self.faults.as_ref().map_or(0, |faults| length(&faults.held));
        if held == 0 {
            return hint;
        }
        let mut more = SizeHint::new();
        more.set_lower(hint.lower().saturating_add(held));
        if let Some(upper) = hint.upper() {
            more.set_upper(upper.saturating_add(held));
        }
        more
    }
}

impl Faults {
    pub(super) fn new(cut: Option<Cut>, pace: Option<Pace>, watch: Watch) -> Self {
        let cut_at = cut.and_then(|cut| cut.fixed());
        Self { cut, cut_at, pace, watch, sent: 0, held: Bytes::new(), pause: None }
    }

    fn poll_frame<B, E>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>>
    where
        B: Body<Data = Bytes>,
        E: From<B::Error> + From<Rejection>,
    {
        loop {
            if let Some((bytes, pause)) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                let bytes = *bytes;
                self.pause = None;
                return Poll::Ready(Some(Ok(self.hand_on(bytes))));
            }
            if !self.watch.is_on() {
                (self.cut, self.cut_at, self.pace) = (None, None, None);
            }
            if let (Some(cut), None) = (self.cut, self.cut_at) {
                self.cut_at = body.size_hint().exact().map(|length| cut.at(length));
            }
            if self.cut_at.is_some_and(|at| at <= self.sent) {
                let cut = Rejection::InjectedCut { at: self.sent };
                return Poll::Ready(Some(Err(cut.into())));
            }
            if self.held.is_empty() {
                let frame = match ready!(body.as_mut().poll_frame(cx)) {
                    Some(Ok(frame)) => frame,
                    other => return Poll::Ready(other.map(|frame| frame.map_err(E::from))),
                };
                match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => self.held = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                }
                if let (Some(cut), None) = (self.cut, self.cut_at) {
                    self.cut_at = Some(self.sent + cut.at(length(&self.held)));
                    continue;
                }
            }
            let bytes = self.next_piece();
            match self.pace {
                None => return Poll::Ready(Some(Ok(self.hand_on(bytes)))),
                Some(pace) => {
                    let (watch, wait) = (self.watch.clone(), pace.wait(to_u64(bytes)));
                    let pause = async move { watch.sleep(wait).await };
                    self.pause = Some((bytes, Box::pin(pause)));
                }
            }
        }
    }

    /// How many bytes go next: as many as are there, fit into a piece, and come before the cut.
    fn next_piece(&self) -> usize {
        let piece = self.pace.map_or(u64::MAX, |pace| pace.piece_bytes_max());
        let uncut = self.cut_at.map_or(u64::MAX, |at| at.saturating_sub(self.sent));
        let bytes = piece.min(uncut).min(length(&self.held));
        usize::try_from(bytes).unwrap_or(self.held.len())
    }

    fn hand_on(&mut self, bytes: usize) -> Frame<Bytes> {
        let piece = self.held.split_to(bytes.min(self.held.len()));
        self.sent = self.sent.saturating_add(length(&piece));
        Frame::data(piece)
    }

    const fn is_over(&self) -> bool {
        self.cut.is_none() && self.held.is_empty()
    }
}

fn length(bytes: &Bytes) -> u64 {
    to_u64(bytes.len())
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl<B, E> fmt::Debug for ChaosBody<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosBody")
            .field("has_body", &self.body.is_some())
            .field("is_hit", &self.faults.is_some())
            .finish()
    }
}
