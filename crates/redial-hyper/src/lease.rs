//! One connection, and the right to send one request over it.
//!
//! A connection's task owns the socket; what is kept here is the way to hand it requests and a view
//! of its wire. HTTP/1.1 connections are lent to one call at a time, HTTP/2 connections are shared.

use std::{
    future::{Future, poll_fn},
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use redial_core::Fault;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    connect::{ConnectError, Dialed},
    counted::{Peer, Wire},
    fault,
    origin::Origin,
    pool::{Grant, Need, Pool},
    request::Outgoing,
    snapshot::Reason,
};

/// A connection whose task runs.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Grows with every connection made: the newer, the higher.
    pub(crate) id: u64,
    /// When it is too old to be given to anybody.
    pub(crate) expires: Option<Instant>,
    sender: Sender,
    wire: Wire,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

/// The right to send one request over a connection, and to read its answer.
///
/// Dropping it brings the connection back if it can be used again, and closes it otherwise.
#[derive(Debug)]
pub(crate) struct Lease {
    grant: Option<Grant>,
    stage: Stage,
    pool: Arc<Pool>,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Unused,
    Sent,
    /// The head of the answer is there.
    Answered,
    /// The answer is there to its end.
    Through,
    Broken,
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
    /// What the connection had ended by, if it was over when the request came.
    pub(crate) before: Option<Fault>,
}

/// How long a connection that nobody had is taken to stand. Its task is told of a close as soon as
/// the runtime looks at its sockets, which a busy one does more often than that.
const MOMENT: Duration = Duration::from_millis(1);

impl Connection {
    /// Starts HTTP on a connection that was just made.
    pub(crate) async fn start(
        id: u64,
        dialed: Dialed,
        pool: &Arc<Pool>,
        origin: &Origin,
    ) -> Result<Self, ConnectError> {
        let Dialed { stream, wire, is_h2 } = dialed;
        let io = TokioIo::new(stream);
        let sender = if is_h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let started = builder.timer(TokioTimer::new()).handshake(io).await;
            let (sender, mut task) = started.map_err(ConnectError::Handshake)?;
            let (seen, mut pool) = (wire.clone(), Some((Arc::downgrade(pool), origin.clone())));
            // How a connection ends is told to the calls on it.
            tokio::spawn(poll_fn(move |cx| {
                let ended = Pin::new(&mut task).poll(cx);
                if let Poll::Ready(Err(error)) = &ended {
                    seen.end_by(fault::answering(error));
                }
                seen.allow_streams(task.current_max_send_streams());
                if pool.is_some() && seen.poll_settled(cx.waker()) {
                    seen.allow_streams(task.current_max_send_streams());
                    let told =
                        pool.take().and_then(|(pool, origin)| Some((pool.upgrade()?, origin)));
                    told.inspect(|(pool, origin)| pool.settled(origin));
                }
                ended.map(drop)
            }));
            Sender::Http2(sender)
        } else {
            let started = http1::Builder::new().handshake(io).await;
            let (sender, task) = started.map_err(ConnectError::Handshake)?;
            let (mut task, seen) = (task.with_upgrades(), wire.clone());
            tokio::spawn(poll_fn(move |cx| {
                let ended = Pin::new(&mut task).poll(cx);
                if let Poll::Ready(Err(error)) = &ended {
                    seen.end_by(fault::answering(error));
                }
                ended.map(drop)
            }));
            Sender::Http1(sender)
        };
        let expires = pool.limits().lifetime(RandomState::new().hash_one(id));
        Ok(Self { id, expires: expires.map(|after| Instant::now() + after), sender, wire })
    }

    pub(crate) fn is_h2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Returns whether the connection, which nobody had for the time `unused`, can take another
    /// request.
    ///
    /// It may have been closed without its task knowing yet, so the kernel is asked. That is a system
    /// call for each request: a safe one, which may be sent twice, does without where the connection
    /// was in use a moment ago.
    pub(crate) fn is_usable(&self, need: Need, unused: Duration) -> bool {
        !self.is_closed() && (need.is_safe && unused < MOMENT || self.stands())
    }

    /// Returns whether the connection stands as far as the kernel knows now.
    ///
    /// Over HTTP/1.1 bytes that nobody asked for are no answer, and their connection is done with
    /// (RFC 9112 §9.2); over HTTP/2 there are always frames.
    fn stands(&self) -> bool {
        match self.wire.peer() {
            Peer::Quiet => true,
            Peer::Speaking => self.is_h2(),
            Peer::Gone => false,
        }
    }

    /// Returns whether the connection's task has ended, or will not take another request.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Returns whether the socket is there still.
    pub(crate) fn is_connected(&self) -> bool {
        self.wire.is_connected()
    }

    /// Returns another handle to the same connection, if it speaks HTTP/2.
    pub(crate) fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        let sender = Sender::Http2(sender.clone());
        Some(Self { sender, wire: self.wire.clone(), ..*self })
    }

    /// Returns how many streams the peer allows at a time, for all it has said.
    pub(crate) fn streams_max(&self) -> usize {
        self.wire.streams_max()
    }

    /// Returns whether the peer has said how many streams it allows.
    pub(crate) fn is_settled(&self) -> bool {
        self.wire.is_settled()
    }

    /// Notes why the connection will be closed; the first reason counts.
    pub(crate) fn close_for(&self, reason: Reason) {
        self.wire.close_for(reason);
    }

    /// Returns whether another request can follow the one before: it was sent to its end, and so
    /// was its answer.
    fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(_) => true,
        }
    }

    async fn ready(&mut self) -> Result<(), hyper::Error> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(_) => Ok(()),
        }
    }
}

impl Lease {
    pub(crate) fn new(grant: Grant, pool: Arc<Pool>, origin: Origin) -> Self {
        Self { grant: Some(grant), stage: Stage::Unused, pool, origin }
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.grant.as_ref().is_some_and(|grant| grant.connection.is_h2())
    }

    /// Sends what `request` holds, and waits for the head of its answer. The lease is to be kept
    /// until the end of its body.
    ///
    /// # Cancellation
    ///
    /// Dropping the future, and then the lease, closes an HTTP/1.1 connection and resets an HTTP/2
    /// stream.
    pub(crate) async fn send(
        &mut self,
        request: &mut Option<Request<Outgoing>>,
    ) -> Result<Response<Incoming>, Box<Unanswered>> {
        self.stage = Stage::Sent;
        let Grant { connection, is_reused, .. } =
            self.grant.as_mut().expect("a lease has its connection until it is dropped");
        let request = request.take().expect("a request is sent once");
        let (before, is_reused) = (connection.wire.written(), *is_reused);
        let answer = match &mut connection.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        };
        let mut error = match answer {
            Ok(answer) => {
                self.stage = Stage::Answered;
                return Ok(answer);
            }
            Err(error) => error,
        };
        let wrote = connection.wire.written() > before;
        let request = error.take_message();
        let before = connection.wire.ended_by().filter(|_| request.is_some() || !wrote);
        self.poison();
        Err(Box::new(Unanswered { error: error.into_error(), request, wrote, is_reused, before }))
    }

    /// Says that the connection's framing cannot be trusted any more. An HTTP/2 connection that is
    /// wrong is ended by its task; what is wrong with a stream ends with it.
    pub(crate) fn poison(&mut self) {
        self.stage = Stage::Broken;
    }

    /// Says that the answer was read to its end.
    pub(crate) fn finish(&mut self) {
        self.stage = Stage::Through;
    }

    /// Brings back `grant`, whose request and answer are through or soon will be.
    fn free(pool: &Arc<Pool>, origin: &Origin, mut grant: Grant) {
        if grant.connection.is_ready() {
            grant.connection.wire.stay();
            return pool.put(origin, grant);
        }
        let Ok(runtime) = Handle::try_current() else {
            return pool.discard(origin, grant, Reason::Abandoned);
        };
        let (pool, origin) = (Arc::clone(pool), origin.clone());
        runtime.spawn(async move {
            if grant.connection.ready().await.is_ok() {
                grant.connection.wire.stay();
                pool.put(&origin, grant);
            } else {
                pool.discard(&origin, grant, Reason::Server);
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(grant) = self.grant.take() else { return };
        let (pool, origin) = (&self.pool, &self.origin);
        match self.stage {
            _ if grant.is_fresh => pool.discard(origin, grant, Reason::Fresh),
            _ if grant.connection.is_h2() => pool.release(origin, &grant),
            Stage::Unused => pool.put(origin, grant),
            Stage::Sent => pool.discard(origin, grant, Reason::Abandoned),
            Stage::Answered => {
                // hyper closes it, unless the rest of the body has come already.
                grant.connection.close_for(Reason::Abandoned);
                Self::free(pool, origin, grant);
            }
            Stage::Through => Self::free(pool, origin, grant),
            Stage::Broken => pool.discard(origin, grant, Reason::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::TcpListener, time::Duration};

    use bytes::Bytes;
    use http_body_util::Full;
    use redial::Diagnosis;
    use redial_core::Proof;

    use super::*;
    use crate::{
        builder::Versions,
        connect::Connector,
        counted::{Counted, Socket, Stream},
        error::Error,
        leak::Caller,
        limits::Limits,
        pool::Want,
        request::Target,
        tls::{Roots, Tls},
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
        let (pool, origin) = pool();
        let dialed = Dialed { stream, wire, is_h2 };
        let connection = Connection::start(1, dialed, &pool, &origin).await.unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        if is_reset {
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        }
        (connection, peer)
    }

    async fn send(mut lease: Lease) -> Diagnosis {
        let body = Full::new(Bytes::from_static(b"one order"));
        let mut request = Request::post("http://shop.test/").body(body).unwrap();
        let target = Target::take(&mut request).unwrap();
        target.write(&mut request, lease.is_h2());
        let (parts, body) = request.into_parts();
        let (body, failure) = Outgoing::new(body);
        let mut request = Some(Request::from_parts(parts, body));
        let ended = lease.send(&mut request).await.unwrap_err();
        let error = Error::unanswered(&target.origin, *ended, &failure);
        redial::Diagnose::diagnose(&error)
    }

    fn pool() -> (Arc<Pool>, Origin) {
        let origin = Origin::of(&http::Uri::from_static("http://shop.test/")).unwrap();
        let tls = Tls::new(&Roots::default(), &[]).unwrap();
        let connector = Connector::new(HashMap::new(), tls, Versions::Http1);
        (Arc::new(Pool::new(connector, Limits::default(), None)), origin)
    }

    fn lease(connection: Connection, is_reused: bool) -> Lease {
        let (pool, origin) = pool();
        Lease::new(Grant::of(connection, is_reused), pool, origin)
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
                let told = send(lease(connection, is_reused)).await;
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
        assert!(!connection.stands());
        let told = send(lease(connection, true)).await;
        assert_eq!(told, Fault::StaleConnection.into());
    }

    #[tokio::test]
    async fn the_kernel_is_asked_where_a_close_would_cost_more_than_another_attempt() {
        let (connection, peer) = dead(false, false).await;
        drop(peer);
        while connection.wire.peer() != Peer::Gone {
            std::thread::yield_now();
        }
        let table = [(true, Duration::ZERO, true), (true, MOMENT, false)];
        let table = table.into_iter().chain([(false, Duration::ZERO, false)]);
        for (is_safe, unused, is_usable) in table {
            let caller = Caller::new(std::panic::Location::caller(), false);
            let need = Need { want: Want::NewerThan(0), is_safe, caller };
            assert_eq!(connection.is_usable(need, unused), is_usable, "{is_safe}, {unused:?}");
        }
    }

    #[tokio::test]
    async fn what_was_written_into_a_closed_connection_counts_as_sent() {
        let (connection, peer) = dead(false, false).await;
        drop(peer);
        let told = send(lease(connection, true)).await;
        assert_eq!(told.proof, Proof::Sent);
    }
}
