//! A socket that `h2` writes to, and that takes whole frames from elsewhere in between.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use h2::Reason;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The socket of one connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    outgoing: Mutex<Outgoing>,
}

/// The side of the socket that `h2` has.
#[derive(Debug)]
pub(super) struct Io(pub(super) Arc<Socket>);

/// What was written so far, as far as it matters for the next byte.
#[derive(Debug, Default)]
struct Outgoing {
    frames: Frames,
    /// Frames from elsewhere that wait for the current one to end.
    injected: BytesMut,
}

/// Follows written bytes from frame to frame.
#[derive(Debug, Default)]
struct Frames {
    /// The part of a frame's header that was written, while it is not complete.
    header: Vec<u8>,
    payload_left_bytes: usize,
}

/// Returns a GOAWAY frame (RFC 9113, section 6.8).
pub(super) fn goaway(last_stream_id: u32, reason: Reason) -> [u8; 17] {
    let mut frame = [0; 17];
    frame[2] = 8; // length of the payload
    frame[3] = 7; // type
    frame[9..13].copy_from_slice(&last_stream_id.to_be_bytes());
    frame[13..].copy_from_slice(&u32::from(reason).to_be_bytes());
    frame
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        // A socket that refuses the option is broken, as reads will show.
        let _ = stream.set_nodelay(true);
        Self { stream, outgoing: Mutex::default() }
    }

    /// Writes whole frames as soon as no other is half written.
    pub(super) fn inject(&self, frames: &[u8]) {
        let mut outgoing = self.outgoing();
        outgoing.injected.extend_from_slice(frames);
        // What does not fit now, or fails, is tried again with h2's next write, which reports it.
        let _ = self.write_injected(&mut outgoing);
    }

    fn write_injected(&self, outgoing: &mut Outgoing) -> io::Result<()> {
        while outgoing.frames.is_between() && !outgoing.injected.is_empty() {
            let bytes = self.stream.try_write(&outgoing.injected)?;
            outgoing.injected.advance(bytes);
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut outgoing = self.outgoing();
        self.write_injected(&mut outgoing)?;
        let waits = !outgoing.injected.is_empty();
        let now = if waits { outgoing.frames.rest(bytes) } else { bytes };
        let written = self.stream.try_write(now)?;
        outgoing.frames.follow(&now[..written]);
        Ok(written)
    }

    fn poll_with<T>(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    fn is_between(&self) -> bool {
        self.header.is_empty() && self.payload_left_bytes == 0
    }

    /// Returns the part of `bytes` that belongs to the part of the frame that is being written.
    fn rest<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let left = match self.payload_left_bytes {
            0 => HEADER_BYTES - self.header.len(),
            left => left,
        };
        &bytes[..left.min(bytes.len())]
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let part = self.rest(bytes);
            bytes = &bytes[part.len()..];
            if self.payload_left_bytes > 0 {
                self.payload_left_bytes -= part.len();
                continue;
            }
            self.header.extend_from_slice(part);
            if let &[a, b, c, _, _, _, _, _, _] = &self.header[..] {
                self.payload_left_bytes =
                    usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.header.clear();
            }
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            match self.0.stream.try_read(into.initialize_unfilled()) {
                Ok(bytes) => into.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_with(cx, || self.0.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.outgoing().injected.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.0.poll_with(cx, || self.0.write_injected(&mut self.0.outgoing()))
    }

    /// Leaves the closing to the drop of the socket, which is the script's to time.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const HEADER_BYTES: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_their_length_says() {
        let bytes =
            [&goaway(1, Reason::NO_ERROR)[..], &[0; 9], &goaway(3, Reason::CANCEL)].concat();
        let mut frames = Frames::default();
        let between = bytes.iter().enumerate().filter_map(|(at, byte)| {
            frames.follow(&[*byte]);
            frames.is_between().then_some(at + 1)
        });
        assert_eq!(between.collect::<Vec<_>>(), [17, 26, 43]);

        let mut frames = Frames::default();
        frames.follow(&bytes);
        assert!(frames.is_between());
        frames.follow(&bytes[..12]);
        assert_eq!(frames.rest(&[0; 100]).len(), 5);
    }

    #[test]
    fn a_goaway_frame_is_laid_out_as_specified() {
        let frame = goaway(5, Reason::ENHANCE_YOUR_CALM);
        assert_eq!(frame, [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 11]);
    }
}
