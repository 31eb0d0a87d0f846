//! HTTP/1.1 by hand, because every byte and every close is part of the script.
//!
//! One connection is one loop: draw a reply, read the request as far as the reply wants it read,
//! play the reply, and go on if the connection is still good for it.

mod answer;
mod parse;
pub(crate) mod reply;
mod wire;

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::{net::TcpStream, time::Instant};

use self::{
    answer::{Answer, Next},
    parse::Head,
    reply::{Ending, Reply},
    wire::Wire,
};
use crate::{
    Received,
    ledger::{Ledger, find},
    script::Script,
};

/// Serves one connection until it ends.
pub(crate) async fn serve(
    stream: TcpStream,
    number: usize,
    script: Arc<Script<Reply>>,
    ledger: Arc<Ledger>,
) {
    let mut connection = Connection { wire: Wire::new(stream), number, script, ledger };
    let outcome = connection.run().await;
    if let Err(error) = outcome
        && error.kind() == io::ErrorKind::InvalidData
    {
        let refusal = format!("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n{error}\n");
        // A client that is gone misses only the reason why.
        let _ = connection.wire.write(refusal.as_bytes()).await;
        connection.wire.close_politely().await;
    }
}

struct Connection {
    wire: Wire,
    number: usize,
    script: Arc<Script<Reply>>,
    ledger: Arc<Ledger>,
}

impl Connection {
    /// Plays replies until one of them, or the client, ends the connection.
    ///
    /// On return the socket is only to be dropped: that closes it, or resets it if that was set.
    async fn run(&mut self) -> io::Result<()> {
        for nth in 1.. {
            if !self.wire.request_begins().await? {
                break;
            }
            let drawn = self.script.draw();
            if let Some(Ending::ResetUnread(bytes)) = drawn.as_ref().map(|reply| &reply.ending) {
                self.wire.read_up_to(*bytes).await?;
                return self.wire.reset_on_drop();
            }
            let head = self.wire.head().await?;
            let index = self.ledger.enter(self.received(&head, nth));
            match self.exchange(&head, index, drawn).await {
                Ok(Next::Reuse) => {}
                Ok(Next::Drop) => break,
                Err(error) => {
                    self.ledger.amend(index, |received| received.abandoned = true);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Goes from a request's head to the end of its reply.
    async fn exchange(
        &mut self,
        head: &Head,
        index: usize,
        drawn: Option<Reply>,
    ) -> io::Result<Next> {
        let early = drawn.as_ref().is_some_and(|reply| reply.early);
        if !early {
            let invites = drawn.as_ref().is_none_or(|reply| !reply.withholds_continue);
            if invites && head.expects_continue() {
                self.wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            self.read_body(head, index).await?;
        }
        let received = self.ledger.read(|book| book.requests.get(index).cloned());
        let received = received.ok_or(io::ErrorKind::NotFound)?;
        let reply = self.script.reply(drawn, &received);
        let next =
            Answer { head, reply: &reply, ledger: &self.ledger }.play(&mut self.wire).await?;
        match (early, next) {
            (true, Next::Reuse) => self.read_body(head, index).await?,
            (true, Next::Drop) if reply.ending.is_polite() => self.wire.close_politely().await,
            _ => {}
        }
        Ok(next)
    }

    async fn read_body(&mut self, head: &Head, index: usize) -> io::Result<()> {
        let (body, trailers) = self.wire.body(head.framing).await?;
        self.ledger.amend(index, |received| {
            received.body = body;
            received.trailers = trailers;
            received.complete = true;
        });
        Ok(())
    }

    fn received(&self, head: &Head, nth: usize) -> Received {
        Received {
            method: head.method.clone(),
            target: head.target.clone(),
            headers: head.headers.clone(),
            body: Bytes::new(),
            trailers: Vec::new(),
            at: Instant::now().into_std(),
            connection: self.number,
            nth,
            stream_id: None,
            complete: false,
            abandoned: false,
        }
    }
}

impl Head {
    fn expects_continue(&self) -> bool {
        find(&self.headers, "expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue"))
    }

    /// Tells whether the client wants another exchange on this connection.
    fn keeps_alive(&self) -> bool {
        let connection = find(&self.headers, "connection").unwrap_or_default();
        let has =
            |option: &str| connection.split(',').any(|o| o.trim().eq_ignore_ascii_case(option));
        if self.is_http10 { has("keep-alive") } else { !has("close") }
    }
}
