//! One connection, and the right to send one request over it.
//!
//! A connection's task owns the socket; what is kept here is the way to hand it requests and a view
//! of its wire. HTTP/1.1 connections are lent to one call at a time, HTTP/2 connections are shared.

use std::sync::Arc;

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::{
    connect::{ConnectError, Dialed},
    counted::{Peer, Wire},
    origin::Origin,
    pool::Pool,
    request::Outgoing,
};

/// A connection whose task runs.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Grows with every connection made: the newer, the higher.
    pub(crate) id: u64,
    sender: Sender,
    wire: Wire,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

/// The right to send one request over a connection.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Connection,
    is_reused: bool,
    /// Where the connection goes when it is free again; nowhere if it serves one call only.
    home: Option<(Arc<Pool>, Origin)>,
}

/// A request that brought no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) error: hyper::Error,
    /// The request itself, if not even its head was begun.
    pub(crate) request: Option<Request<Outgoing>>,
    /// Whether any byte left on this connection since the request was handed over. Over HTTP/2 it
    /// may have been another stream's: then the request counts as sent, which is the safe side.
    pub(crate) wrote: bool,
    /// Whether the connection had served another request before.
    pub(crate) is_reused: bool,
}

impl Connection {
    /// Starts HTTP on a connection that was just made.
    pub(crate) async fn start(id: u64, dialed: Dialed) -> Result<Self, ConnectError> {
        let io = TokioIo::new(dialed.stream);
        let sender = if dialed.is_h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let started = builder.timer(TokioTimer::new()).handshake(io).await;
            let (sender, task) = started.map_err(ConnectError::Handshake)?;
            // How a connection ends is told to the calls on it.
            tokio::spawn(async move { drop(task.await) });
            Sender::Http2(sender)
        } else {
            let started = http1::Builder::new().handshake(io).await;
            let (sender, task) = started.map_err(ConnectError::Handshake)?;
            tokio::spawn(async move { drop(task.with_upgrades().await) });
            Sender::Http1(sender)
        };
        Ok(Self { id, sender, wire: dialed.wire })
    }

    pub(crate) fn is_h2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Returns whether the connection can take another request, as far as the kernel knows now.
    ///
    /// Over HTTP/1.1 bytes that nobody asked for are no answer, and their connection is done with
    /// (RFC 9112 §9.2); over HTTP/2 there are always frames.
    pub(crate) fn is_usable(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed() && self.wire.peer() == Peer::Quiet,
            Sender::Http2(sender) => !sender.is_closed() && self.wire.peer() != Peer::Gone,
        }
    }

    /// Returns another handle to the same connection, if it speaks HTTP/2.
    pub(crate) fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        let sender = Sender::Http2(sender.clone());
        Some(Self { id: self.id, sender, wire: self.wire.clone() })
    }
}

impl Lease {
    /// Lends a connection that was just made.
    pub(crate) fn new(connection: Connection, home: Option<(Arc<Pool>, Origin)>) -> Self {
        Self { connection, is_reused: false, home }
    }

    /// Lends a connection that other requests went over, or may have.
    pub(crate) fn reused(connection: Connection, home: (Arc<Pool>, Origin)) -> Self {
        Self { connection, is_reused: true, home: Some(home) }
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.connection.is_h2()
    }

    /// Sends `request` and waits for the head of its answer.
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes an HTTP/1.1 connection and resets an HTTP/2 stream.
    pub(crate) async fn send(
        mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let before = self.connection.wire.written();
        let answer = match &mut self.connection.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        };
        match answer {
            Ok(answer) => {
                self.give_back();
                Ok(answer)
            }
            Err(error) => Err(self.unanswered(before, error)),
        }
    }

    fn unanswered(&self, before: u64, mut error: TrySendError<Request<Outgoing>>) -> Unanswered {
        let request = error.take_message();
        let wrote = self.connection.wire.written() > before;
        Unanswered { error: error.into_error(), request, wrote, is_reused: self.is_reused }
    }

    /// Puts an HTTP/1.1 connection back as soon as request and answer are through.
    fn give_back(self) {
        let Some((pool, origin)) = self.home else { return };
        let Connection { id, sender: Sender::Http1(mut sender), wire } = self.connection else {
            return;
        };
        if sender.is_ready() {
            pool.put(origin, Connection { id, sender: Sender::Http1(sender), wire });
            return;
        }
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                pool.put(origin, Connection { id, sender: Sender::Http1(sender), wire });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, time::Duration};

    use bytes::Bytes;
    use http_body_util::Full;
    use redial::Diagnosis;
    use redial_core::{Fault, Proof};

    use super::*;
    use crate::{
        counted::{Counted, Socket, Stream},
        error::Error,
        request::Target,
    };

    /// Starts a connection, and lets the peer end it in a way that the kernel knows and the
    /// connection's task does not.
    async fn dead(is_h2: bool, is_reset: bool) -> (Connection, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let (peer, _) = listener.accept().unwrap();
        let socket = Socket::new(tcp);
        let (stream, wire) = Counted::new(Stream::Plain(socket.clone()), &socket);
        drop(socket);
        let connection = Connection::start(1, Dialed { stream, wire, is_h2 }).await.unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        if is_reset {
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        }
        (connection, peer)
    }

    async fn send(lease: Lease) -> Diagnosis {
        let body = Full::new(Bytes::from_static(b"one order"));
        let mut request = Request::post("http://shop.test/").body(body).unwrap();
        let target = Target::take(&mut request).unwrap();
        target.write(&mut request, lease.is_h2());
        let (parts, body) = request.into_parts();
        let (body, failure) = Outgoing::new(body);
        let ended = lease.send(Request::from_parts(parts, body)).await.unwrap_err();
        let error = Error::unanswered(&target.origin, ended, &failure);
        redial::Diagnose::diagnose(&error)
    }

    fn pool() -> (Arc<Pool>, Origin) {
        let origin = Origin::of(&http::Uri::from_static("http://shop.test/")).unwrap();
        (Arc::new(Pool::new(Duration::from_secs(1), 1)), origin)
    }

    #[tokio::test]
    async fn a_reset_before_a_byte_is_written_proves_that_none_was() {
        for is_h2 in [false, true] {
            // h2 keeps the kind of an error and not its number: its end looks like any other.
            let new = if is_h2 { Fault::ConnectionClosed } else { Fault::ConnectionReset };
            let table = [(true, Fault::StaleConnection), (false, new)];
            for (is_reused, fault) in table {
                let (connection, peer) = dead(is_h2, true).await;
                drop(peer);
                let mut lease = Lease::reused(connection, pool());
                lease.is_reused = is_reused;
                let told = send(lease).await;
                assert_eq!((told.fault, told.proof), (fault, Proof::NothingWritten), "{is_h2}");
            }
        }
    }

    #[tokio::test]
    async fn a_close_that_is_noticed_gives_the_request_back() {
        let (connection, peer) = dead(false, false).await;
        drop(peer);
        while connection.wire.peer() != Peer::Gone
            || matches!(&connection.sender, Sender::Http1(s) if !s.is_closed())
        {
            tokio::task::yield_now().await;
        }
        assert!(!connection.is_usable());
        let told = send(Lease::reused(connection, pool())).await;
        assert_eq!(told, Fault::StaleConnection.into());
    }

    #[tokio::test]
    async fn what_was_written_into_a_closed_connection_counts_as_sent() {
        let (connection, peer) = dead(false, false).await;
        drop(peer);
        let told = send(Lease::reused(connection, pool())).await;
        assert_eq!(told.proof, Proof::Sent);
    }
}
