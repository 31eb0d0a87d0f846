//! One stream: a request and the reply that the script gives it.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request, Response, request::Parts};
use tokio::time::{self, Instant};

use super::{
    reply::{Ending, H2Reply},
    socket::{Socket, goaway},
};
use crate::{Received, ledger::Ledger, script::Script};

/// A stream that was accepted and is on the books.
pub(super) struct Stream {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    ledger: Arc<Ledger>,
    socket: Weak<Socket>,
    index: usize,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    Continue,
    Close,
}

impl Stream {
    /// Enters the request in the books: the `place.1`-th of connection `place.0`.
    pub(super) fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        place: (usize, usize),
        ledger: Arc<Ledger>,
        socket: Weak<Socket>,
    ) -> Self {
        let (parts, body) = request.into_parts();
        let index = ledger.enter(received(&parts, place, respond.stream_id().into()));
        Self { body, respond, ledger, socket, index }
    }

    /// Plays the reply that was drawn, or that the handler makes. Returns the stream, still open,
    /// if the connection is to close with it.
    pub(super) async fn run(
        mut self,
        drawn: Option<H2Reply>,
        script: Arc<Script<H2Reply>>,
    ) -> Option<Self> {
        match self.play(drawn, &script).await {
            Ok(Next::Close) => Some(self),
            Ok(Next::Continue) => None,
            Err(_) => {
                self.ledger.amend(self.index, |received| received.abandoned = true);
                None
            }
        }
    }

    async fn play(
        &mut self,
        drawn: Option<H2Reply>,
        script: &Script<H2Reply>,
    ) -> Result<Next, h2::Error> {
        if drawn.as_ref().is_none_or(|reply| reply.ending.reads_body()) {
            self.read_body().await?;
        }
        let received = self.ledger.read(|book| book.requests.get(self.index).cloned());
        let received = received.ok_or(Reason::INTERNAL_ERROR)?;
        let reply = script.reply(drawn, &received);
        self.wait(&reply).await?;
        if let (Some((last_stream_id, reason)), Some(socket)) =
            (reply.goaway, self.socket.upgrade())
        {
            socket.inject(&goaway(last_stream_id, reason));
        }
        match reply.ending {
            Ending::Answer | Ending::ResetAt(..) => self.answer(&reply).await?,
            Ending::Reset(reason) => self.respond.send_reset(reason),
            Ending::Hang => return Err(self.until_client_goes().await),
            Ending::CloseWithoutAnswer => return Ok(Next::Close),
        }
        Ok(if reply.closes { Next::Close } else { Next::Continue })
    }

    async fn read_body(&mut self) -> Result<(), h2::Error> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.body.data().await {
            let piece = piece?;
            if BODY_BYTES_MAX - body.len() < piece.len() {
                self.respond.send_reset(Reason::ENHANCE_YOUR_CALM);
                return Err(Reason::ENHANCE_YOUR_CALM.into());
            }
            body.extend_from_slice(&piece);
            self.body.flow_control().release_capacity(piece.len())?;
        }
        let trailers = self.body.trailers().await?.unwrap_or_default();
        self.ledger.amend(self.index, |received| {
            received.body = body.freeze();
            received.trailers = fields(&trailers);
            received.complete = true;
        });
        Ok(())
    }

    /// Lets the reply's delay pass, unless the client goes first: that is an error.
    async fn wait(&mut self, reply: &H2Reply) -> Result<(), h2::Error> {
        if reply.delay.is_zero() {
            return Ok(());
        }
        tokio::select! {
            biased;
            error = self.until_client_goes() => Err(error),
            () = time::sleep(reply.delay) => Ok(()),
        }
    }

    async fn until_client_goes(&mut self) -> h2::Error {
        let reset = poll_fn(|cx| self.respond.poll_reset(cx)).await;
        reset.map_or_else(|error| error, h2::Error::from)
    }

    async fn answer(&mut self, reply: &H2Reply) -> Result<(), h2::Error> {
        let mut head = Response::new(());
        *head.status_mut() = reply.status;
        head.headers_mut().clone_from(&reply.headers);
        let (sent, reset) = match reply.ending {
            Ending::ResetAt(n, reason) => {
                (reply.body.slice(..n.min(reply.body.len())), Some(reason))
            }
            _ => (reply.body.clone(), None),
        };
        let ends_with_head = sent.is_empty() && reply.trailers.is_empty() && reset.is_none();
        let mut stream = self.respond.send_response(head, ends_with_head)?;
        if ends_with_head {
            return Ok(());
        }
        let _open = self.ledger.open_body();
        send(&mut stream, sent).await?;
        if let Some(reason) = reset {
            flushed(&mut stream).await;
            stream.send_reset(reason);
        } else if reply.trailers.is_empty() {
            stream.send_data(Bytes::new(), true)?;
        } else {
            stream.send_trailers(reply.trailers.clone())?;
        }
        Ok(())
    }
}

/// Hands over the body as fast as the client's flow control takes it, so that it is open as long as
/// the client does not read.
async fn send(stream: &mut SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let granted = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let bytes = granted.ok_or(Reason::CANCEL)??;
        stream.send_data(body.split_to(bytes.min(body.len())), false)?;
    }
    Ok(())
}

/// Lets the connection write what it holds: a reset of ours would discard that.
async fn flushed(stream: &mut SendStream<Bytes>) {
    let wait = poll_fn(|cx| stream.poll_reset(cx));
    // A client that resets first makes the wait shorter, and ours needless.
    let _ = time::timeout(super::MOMENT, wait).await;
}

fn received(parts: &Parts, place: (usize, usize), stream_id: u32) -> Received {
    let authority = parts.uri.authority().map(|a| (String::from(":authority"), a.to_string()));
    let target = parts.uri.path_and_query().map(ToString::to_string);
    Received {
        method: parts.method.to_string(),
        target: target.unwrap_or_default(),
        headers: authority.into_iter().chain(fields(&parts.headers)).collect(),
        body: Bytes::new(),
        trailers: Vec::new(),
        at: Instant::now().into_std(),
        connection: place.0,
        nth: place.1,
        stream_id: Some(stream_id),
        complete: false,
        abandoned: false,
    }
}

fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let pairs = headers.iter().map(|(name, value)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    pairs.collect()
}

const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
