//! Plays one reply on the wire.

use std::{io, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time;

use super::{
    parse::Head,
    reply::{Ending, Reply},
    wire::Wire,
};
use crate::ledger::{Ledger, find};

/// A reply on its way to the request that it answers.
pub(super) struct Answer<'a> {
    pub(super) head: &'a Head,
    pub(super) reply: &'a Reply,
    pub(super) ledger: &'a Arc<Ledger>,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// It takes another request.
    Reuse,
    /// Its socket is to be dropped, which closes or resets it.
    Drop,
}

impl Answer<'_> {
    /// Writes what the script wants written, at its pace, and sets up the end.
    pub(super) async fn play(&self, wire: &mut Wire) -> io::Result<Next> {
        for &status in &self.reply.informational {
            wire.write(format!("{}\r\n", status_line(status)).as_bytes()).await?;
        }
        wire.wait(self.reply.delay).await?;
        match &self.reply.ending {
            Ending::Hang => return Err(wire.until_client_goes().await),
            Ending::CloseWithoutAnswer => return Ok(Next::Drop),
            Ending::Reset | Ending::ResetUnread(_) => wire.reset_on_drop()?,
            Ending::Garbage(bytes) => wire.write(bytes).await?,
            _ => return self.answer(wire).await,
        }
        Ok(Next::Drop)
    }

    async fn answer(&self, wire: &mut Wire) -> io::Result<Next> {
        wire.write(self.encode_head().as_bytes()).await?;
        if self.has_body() {
            self.write_body(wire).await?;
        }
        match self.reply.ending {
            Ending::KeepAlive if self.head.keeps_alive() => return Ok(Next::Reuse),
            Ending::Die => time::sleep(MOMENT).await,
            Ending::ResetAt(_) => wire.reset_on_drop()?,
            _ => {}
        }
        Ok(Next::Drop)
    }

    async fn write_body(&self, wire: &mut Wire) -> io::Result<()> {
        let Reply { body, pace, ending, .. } = self.reply;
        let _open = self.ledger.open_body();
        let sent = &body[..ending.cut().map_or(body.len(), |n| n.min(body.len()))];
        let piece_bytes = pace.map_or(sent.len().max(1), |pace| pace.chunk_bytes);
        for piece in sent.chunks(piece_bytes) {
            if let Some(pace) = pace {
                wire.wait(pace.every).await?;
            }
            if self.is_chunked() {
                let size = format!("{:x}\r\n", piece.len());
                wire.write(&[size.as_bytes(), piece, b"\r\n"].concat()).await?;
            } else {
                wire.write(piece).await?;
            }
        }
        if self.is_chunked() && ending.cut().is_none() {
            let trailers = encode_fields(&self.reply.trailers);
            wire.write(format!("0\r\n{trailers}\r\n").as_bytes()).await?;
        }
        Ok(())
    }

    fn encode_head(&self) -> String {
        let Reply { status, headers, body, trailers, ending, .. } = self.reply;
        let mut head = status_line(*status) + &encode_fields(headers);
        if self.is_chunked() {
            head += "transfer-encoding: chunked\r\n";
        } else if !self.frames_itself() && !forbids_body(*status) {
            head += &format!("content-length: {}\r\n", body.len());
        }
        if !trailers.is_empty() {
            let names: Vec<&str> = trailers.iter().map(|(name, _)| name.as_str()).collect();
            head += &format!("trailer: {}\r\n", names.join(", "));
        }
        let closes = matches!(ending, Ending::Close) || !self.head.keeps_alive();
        if closes && find(headers, "connection").is_none() {
            head += "connection: close\r\n";
        }
        head + "\r\n"
    }

    fn has_body(&self) -> bool {
        self.head.method != "HEAD" && !forbids_body(self.reply.status)
    }

    fn is_chunked(&self) -> bool {
        self.reply.chunked && !self.frames_itself() && !forbids_body(self.reply.status)
    }

    /// Tells whether the script announces the body by a header of its own.
    fn frames_itself(&self) -> bool {
        ["content-length", "transfer-encoding"]
            .iter()
            .any(|name| find(&self.reply.headers, name).is_some())
    }
}

/// RFC 9110, section 6.4.1.
fn forbids_body(status: u16) -> bool {
    status < 200 || status == 204 || status == 304
}

fn status_line(status: u16) -> String {
    let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    format!("HTTP/1.1 {status:03} {}\r\n", known.unwrap_or_default())
}

fn encode_fields(fields: &[(String, String)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// How long a connection outlives an answer before it dies: enough for a client to put it back into
/// its pool.
const MOMENT: Duration = Duration::from_millis(20);
