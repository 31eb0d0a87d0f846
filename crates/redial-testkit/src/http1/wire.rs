//! One connection's socket, and what was read from it but not used yet.

use std::{future, io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

use super::parse::{self, Fields, Framing, Head, Parsed, malformed};

#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    unread: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        // With Nagle's algorithm on, a small last piece would wait for an acknowledgment, and a
        // reset would discard it. A socket that refuses the option is broken, as reads will show.
        let _ = stream.set_nodelay(true);
        Self { stream, unread: BytesMut::new() }
    }

    /// Waits for the first byte of a request, and leaves it unread; `false` is the end.
    pub(super) async fn request_begins(&self) -> io::Result<bool> {
        Ok(!self.unread.is_empty() || self.stream.peek(&mut [0]).await? > 0)
    }

    /// Reads until there are `bytes` bytes of the request, and not one more.
    pub(super) async fn read_up_to(&mut self, bytes: usize) -> io::Result<()> {
        while self.unread.len() < bytes {
            let missing = u64::try_from(bytes - self.unread.len()).unwrap_or(u64::MAX);
            let mut limited = (&mut self.stream).take(missing);
            if limited.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    pub(super) async fn head(&mut self) -> io::Result<Head> {
        self.parse(parse::head).await
    }

    /// Reads a body and its trailers.
    pub(super) async fn body(&mut self, framing: Framing) -> io::Result<(Bytes, Fields)> {
        let Framing::Length(length) = framing else {
            return self.chunks().await;
        };
        Ok((self.take(length).await?.freeze(), Fields::new()))
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Lets time pass, unless the client goes first: that is an error.
    pub(super) async fn wait(&mut self, duration: Duration) -> io::Result<()> {
        if duration.is_zero() {
            return Ok(());
        }
        tokio::select! {
            biased;
            error = self.until_client_goes() => Err(error),
            () = time::sleep(duration) => Ok(()),
        }
    }

    /// Returns how the client went. What it sends meanwhile is kept for later, up to a bound; past
    /// that nothing is read, and its going not noticed.
    pub(super) async fn until_client_goes(&mut self) -> io::Error {
        while self.unread.len() < READ_AHEAD_BYTES_MAX {
            if let Err(error) = self.fill().await {
                return error;
            }
        }
        future::pending().await
    }

    /// Ends our side, and discards what the client still sends, for a while.
    ///
    /// Closing a socket with unread bytes resets it, and the reset may destroy what the client has
    /// not read yet (RFC 9112, section 9.6).
    pub(super) async fn close_politely(&mut self) {
        let drain = async {
            self.stream.shutdown().await?;
            loop {
                self.unread.clear();
                self.fill().await?;
            }
        };
        // The end of the client's side is an error here, and what we wait for.
        let _: Result<io::Result<()>, _> = time::timeout(LINGER, drain).await;
    }

    /// Makes the drop of the socket a reset.
    pub(super) fn reset_on_drop(&self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    async fn chunks(&mut self) -> io::Result<(Bytes, Fields)> {
        let mut body = BytesMut::new();
        loop {
            let size = self.parse(parse::chunk_size).await?;
            if size == 0 {
                return Ok((body.freeze(), self.parse(parse::trailers).await?));
            }
            if BODY_BYTES_MAX - body.len() < size {
                return Err(malformed("body longer than 64 MiB"));
            }
            body.extend_from_slice(&self.take(size).await?);
            if &self.take(2).await?[..] != b"\r\n" {
                return Err(malformed("chunk longer than its size"));
            }
        }
    }

    async fn take(&mut self, bytes: usize) -> io::Result<BytesMut> {
        if BODY_BYTES_MAX < bytes {
            return Err(malformed("body longer than 64 MiB"));
        }
        while self.unread.len() < bytes {
            self.fill().await?;
        }
        Ok(self.unread.split_to(bytes))
    }

    /// Reads until `parse` finds its part, and takes that part away.
    async fn parse<T>(&mut self, parse: fn(&[u8]) -> Parsed<T>) -> io::Result<T> {
        loop {
            if let Some((part, length)) = parse(&self.unread)? {
                self.unread.advance(length);
                return Ok(part);
            }
            if HEAD_BYTES_MAX < self.unread.len() {
                return Err(malformed("head longer than 64 KiB"));
            }
            self.fill().await?;
        }
    }

    /// Reads whatever comes next; the end is an error.
    async fn fill(&mut self) -> io::Result<()> {
        self.unread.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const READ_AHEAD_BYTES_MAX: usize = 64 * 1024;
const READ_BYTES: usize = 8 * 1024;

/// Long enough for a client on the same machine to read an answer and close.
const LINGER: Duration = Duration::from_secs(1);
