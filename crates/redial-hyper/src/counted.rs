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
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

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
    written: Arc<AtomicU64>,
}

/// A view of a connection from outside: how much was written, and whether the peer is still there.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    written: Arc<AtomicU64>,
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
}

impl Counted {
    /// Starts to count what `stream` takes; `socket` is the one beneath it.
    pub(crate) fn new(stream: Stream, socket: &Socket) -> (Self, Wire) {
        let written = Arc::new(AtomicU64::new(0));
        let wire = Wire { written: Arc::clone(&written), tcp: Arc::downgrade(&socket.tcp) };
        (Self { stream, written }, wire)
    }

    fn count(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = result {
            self.written.fetch_add(bytes as u64, Ordering::Release);
        }
        result
    }
}

impl Wire {
    /// Returns how many bytes were written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
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
            match self.tcp.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(|_| ())),
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
        either!(self, stream => stream.poll_read(cx, buffer))
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
