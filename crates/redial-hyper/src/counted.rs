//! A stream that counts what was written to it.
//!
//! Whether a request may be repeated hangs on whether a byte of it left. The count is taken above
//! TLS, so that a handshake or an alert is never mistaken for a part of a request, and it only ever
//! grows: the difference between two readings is what was written in between.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use redial_core::Fault;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{pool::Permit, snapshot::Reason};

/// A TCP socket that can be looked at while a connection task owns it.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    tcp: Arc<TcpStream>,
}

/// What a request is written to: the socket, or TLS over it.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// A [`Stream`] that counts the bytes that it took.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: Stream,
    ledger: Arc<Ledger>,
    /// Last, so that the socket is closed when its place in the pool becomes free.
    permit: Option<Permit>,
}

/// What is written down about a connection.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    written: AtomicU64,
    /// Why it is closed, if that was decided here.
    reason: Mutex<Option<Reason>>,
    /// What its task ended by, if that was a failure.
    fault: OnceLock<Fault>,
    hearing: Hearing,
}

/// What the peer allows over HTTP/2.
#[derive(Debug, Default)]
struct Hearing {
    /// One of `SILENT`, `HEARD` and `SETTLED`.
    progress: AtomicU8,
    streams_max: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

/// A view of a connection from outside: how much was written, and whether the peer is still there.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    ledger: Arc<Ledger>,
    /// Weak, so that looking never keeps a connection open that its task has let go.
    tcp: Weak<TcpStream>,
}

/// What the kernel knows of a connection at this moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    /// Nothing to read: the connection stands.
    Quiet,
    /// Bytes wait to be read.
    Speaking,
    /// Closed or reset.
    Gone,
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp: Arc::new(tcp) }
    }

    /// Reads what is there. Where less was there than `buffer` has room for, the runtime is told
    /// that there is no more, as its own streams tell it: the next read waits for the kernel's word
    /// instead of asking.
    fn read(&self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let mut read = Err(io::ErrorKind::WouldBlock.into());
        let _ = self.tcp.try_io(Interest::READABLE, || {
            read = self.tcp.try_read_buf(buffer);
            let is_drained = |bytes| DRAINS && 0 < bytes && 0 < buffer.remaining();
            if read.as_ref().is_ok_and(|&bytes| is_drained(bytes)) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        read.map(drop)
    }
}

impl Counted {
    /// Starts to count what `stream` takes; `socket` is the one beneath it.
    pub(crate) fn new(stream: Stream, socket: &Socket) -> (Self, Wire) {
        let ledger = Arc::new(Ledger::default());
        let wire = Wire { ledger: Arc::clone(&ledger), tcp: Arc::downgrade(&socket.tcp) };
        (Self { stream, ledger, permit: None }, wire)
    }

    /// Keeps `permit` until the socket is closed, whoever has it then.
    pub(crate) fn hold(&mut self, mut permit: Permit) -> u64 {
        let id = permit.open(&self.ledger);
        self.permit = Some(permit);
        id
    }

    fn count(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = result {
            self.ledger.written.fetch_add(bytes as u64, Ordering::Release);
        }
        result
    }
}

impl Ledger {
    /// Returns why the connection was closed; the server did it where nobody here wanted it.
    pub(crate) fn reason(&self) -> Reason {
        self.decided().unwrap_or(Reason::Server)
    }

    fn decided(&self) -> MutexGuard<'_, Option<Reason>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hearing {
    /// Notes that the peer is about to be read from again. The frames read before have been dealt
    /// with then, and `SETTINGS` is the first of them (RFC 9113 §3.4).
    fn reads(&self) {
        if self.progress.load(Ordering::Relaxed) != HEARD {
            return;
        }
        self.progress.store(SETTLED, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn hears(&self) {
        let (from, to) = (SILENT, HEARD);
        let _ = self.progress.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn is_settled(&self) -> bool {
        self.progress.load(Ordering::Acquire) == SETTLED
    }
}

impl Wire {
    /// Notes why the connection is closed; the first reason counts.
    pub(crate) fn close_for(&self, reason: Reason) {
        self.ledger.decided().get_or_insert(reason);
    }

    /// Takes the reason back: the connection stays.
    pub(crate) fn stay(&self) {
        *self.ledger.decided() = None;
    }

    /// Notes what the connection's task ended by.
    pub(crate) fn end_by(&self, fault: Fault) {
        let _ = self.ledger.fault.set(fault);
        if fault == Fault::Protocol {
            self.close_for(Reason::Error);
        }
    }

    pub(crate) fn ended_by(&self) -> Option<Fault> {
        self.ledger.fault.get().copied()
    }

    /// Returns whether the peer's first `SETTINGS` are known; if they are not, `waker` is woken
    /// when they are.
    pub(crate) fn poll_settled(&self, waker: &Waker) -> bool {
        let hearing = &self.ledger.hearing;
        if hearing.is_settled() {
            return true;
        }
        let mut kept = hearing.waker.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(waker.clone());
        drop(kept);
        hearing.is_settled()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.ledger.hearing.is_settled()
    }

    /// Sets how many streams the peer allows at a time.
    pub(crate) fn allow_streams(&self, max: usize) {
        self.ledger.hearing.streams_max.store(max, Ordering::Relaxed);
    }

    /// Returns how many streams the peer allows at a time: one, until it has said.
    pub(crate) fn streams_max(&self) -> usize {
        let max = self.ledger.hearing.streams_max.load(Ordering::Relaxed);
        if self.is_settled() { max } else { 1 }
    }

    /// Returns how many bytes were written so far.
    pub(crate) fn written(&self) -> u64 {
        self.ledger.written.load(Ordering::Acquire)
    }

    /// Returns whether this side has the socket still.
    pub(crate) fn is_connected(&self) -> bool {
        0 < self.tcp.strong_count()
    }

    /// Asks the kernel, not the runtime: a close that has arrived but that no task has been woken
    /// for is seen.
    pub(crate) fn peer(&self) -> Peer {
        let Some(tcp) = self.tcp.upgrade() else { return Peer::Gone };
        match socket2::SockRef::from(&*tcp).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Peer::Gone,
            Ok(_) => Peer::Speaking,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Peer::Quiet,
            Err(_) => Peer::Gone,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.tcp).shutdown(std::net::Shutdown::Write))
    }
}

/// Calls the same method on whichever stream is there.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.stream {
            Stream::Plain(plain) => {
                let $stream = Pin::new(plain);
                $call
            }
            Stream::Tls(tls) => {
                let $stream = Pin::new(&mut **tls);
                $call
            }
        }
    };
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.ledger.hearing.reads();
        let before = buffer.filled().len();
        let result = either!(self, stream => stream.poll_read(cx, buffer));
        if before < buffer.filled().len() {
            self.ledger.hearing.hears();
        }
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = either!(self, stream => stream.poll_write(cx, bytes));
        self.count(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = either!(self, stream => stream.poll_write_vectored(cx, slices));
        self.count(result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(plain) => plain.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}

/// Whether a read that did not fill its buffer tells that the kernel has no more. So it is where
/// news of a socket comes once for each arrival (epoll(7), kqueue(2)).
const DRAINS: bool = cfg!(any(
    target_os = "android",
    target_os = "linux",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "ios",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd",
));

const SILENT: u8 = 0;
const HEARD: u8 = 1;
const SETTLED: u8 = 2;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_counted_and_what_is_read_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = Socket::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let (mut counted, wire) = Counted::new(Stream::Plain(socket.clone()), &socket);
        let (mut peer, _) = listener.accept().await.unwrap();
        assert_eq!((wire.written(), wire.peer()), (0, Peer::Quiet));

        peer.write_all(b"hello").await.unwrap();
        let mut five = [0; 5];
        counted.read_exact(&mut five).await.unwrap();
        assert_eq!((&five, wire.written()), (b"hello", 0));

        counted.write_all(b"abc").await.unwrap();
        counted.flush().await.unwrap();
        assert_eq!(wire.written(), 3);
        peer.write_all(b"more").await.unwrap();
        until(&wire, Peer::Speaking).await;
        counted.read_exact(&mut five[..4]).await.unwrap();

        drop(peer);
        until(&wire, Peer::Gone).await;
        drop((counted, socket));
        assert_eq!((wire.written(), wire.peer()), (3, Peer::Gone));
    }

    async fn until(wire: &Wire, peer: Peer) {
        while wire.peer() != peer {
            tokio::task::yield_now().await;
        }
    }
}
