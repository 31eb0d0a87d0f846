//! HTTP/2 over the `h2` crate, with frames of our own put between its frames.
//!
//! `h2` speaks the protocol; the script decides about each stream in a task of its own. What a
//! correct server would never say, such as a GOAWAY with an arbitrary last stream, goes past `h2`
//! through its [`socket`].

pub(crate) mod reply;
mod socket;
mod stream;

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpStream, task::JoinSet, time};

use self::{
    reply::H2Reply,
    socket::{Io, Socket},
    stream::Stream,
};
use crate::{ledger::Ledger, script::Script};

/// Serves one connection until it ends.
pub(crate) async fn serve(
    stream: TcpStream,
    number: usize,
    script: Arc<Script<H2Reply>>,
    ledger: Arc<Ledger>,
) {
    let socket = Arc::new(Socket::new(stream));
    // Streams must not keep the socket open once the connection is gone.
    let injector = Arc::downgrade(&socket);
    let Ok(mut connection) = h2::server::handshake(Io(socket)).await else { return };
    let mut streams = JoinSet::new();
    let mut accepted = 0;
    let last = loop {
        tokio::select! {
            biased;
            Some(ended) = streams.join_next() => {
                if let Ok(Some(last)) = ended {
                    break last;
                }
            }
            next = connection.accept() => {
                let Some(Ok((request, respond))) = next else {
                    // The client went: its streams see that, and note it.
                    drop(connection);
                    while streams.join_next().await.is_some() {}
                    return;
                };
                accepted += 1;
                let place = (number, accepted);
                let stream =
                    Stream::new(request, respond, place, Arc::clone(&ledger), injector.clone());
                streams.spawn(stream.run(script.draw(), Arc::clone(&script)));
            }
        }
    };
    // The last frames may still be in h2's buffer, and only the connection's own future writes
    // them. A stream that is let go is reset: those unanswered must last as long as the connection.
    let mut unanswered = Vec::new();
    let flush = async {
        while let Some(stream) = connection.accept().await {
            unanswered.push(stream);
        }
    };
    let _ = time::timeout(MOMENT, flush).await;
    drop(connection);
    drop((last, unanswered));
}

/// How long a connection outlives the reply that closes it.
const MOMENT: Duration = Duration::from_millis(20);
