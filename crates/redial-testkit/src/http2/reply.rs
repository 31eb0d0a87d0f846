//! What an HTTP/2 stream is answered, and how that goes wrong.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// One step of an HTTP/2 script: what happens to one stream, or to its whole connection.
///
/// # Examples
///
/// ```
/// use redial_testkit::{H2Reply, Reason};
///
/// let unavailable = H2Reply::status(200).header("grpc-status", "14");
/// let with_trailers = H2Reply::status(200).body("data").trailer("grpc-status", "0");
/// let unprocessed = H2Reply::refused_stream();
///
/// // Stream 1 is the last one served: whoever sent stream 3 may send it again elsewhere.
/// let drains = H2Reply::hang().goaway(1, Reason::NO_ERROR);
/// let crashes = H2Reply::close_without_answer().goaway(1, Reason::INTERNAL_ERROR);
/// ```
#[derive(Clone, Debug)]
pub struct H2Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
    pub(super) delay: Duration,
    pub(super) goaway: Option<(u32, Reason)>,
    pub(super) closes: bool,
    pub(super) ending: Ending,
}

/// How a stream ends. The last one set counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Answer,
    ResetAt(usize, Reason),
    Reset(Reason),
    Hang,
    CloseWithoutAnswer,
}

impl H2Reply {
    /// Reads the request, and answers with a status and an empty body.
    ///
    /// # Panics
    ///
    /// Unless `100 <= status <= 999`.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status has three digits");
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            trailers: HeaderMap::new(),
            delay: Duration::ZERO,
            goaway: None,
            closes: false,
            ending: Ending::Answer,
        }
    }

    /// Refuses the stream with `REFUSED_STREAM`: no part of it was processed (RFC 9113, section
    /// 8.7).
    #[must_use]
    pub fn refused_stream() -> Self {
        Self::reset(Reason::REFUSED_STREAM)
    }

    /// Resets the stream at its head; its body is not read.
    #[must_use]
    pub fn reset(reason: Reason) -> Self {
        Self::instead(Ending::Reset(reason))
    }

    /// Never answers, until the client resets the stream or closes the connection. The body is not
    /// read.
    #[must_use]
    pub fn hang() -> Self {
        Self::instead(Ending::Hang)
    }

    /// Closes the connection at the stream's head, all its other streams included.
    #[must_use]
    pub fn close_without_answer() -> Self {
        Self::instead(Ending::CloseWithoutAnswer)
    }

    /// Adds a header, after those already there.
    ///
    /// # Panics
    ///
    /// If HTTP does not allow the name or the value; the name has to be in lower case.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        append(&mut self.headers, name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Adds a field after the body.
    ///
    /// # Panics
    ///
    /// If HTTP does not allow the name or the value; the name has to be in lower case.
    #[must_use]
    pub fn trailer(mut self, name: &'static str, value: &str) -> Self {
        append(&mut self.trailers, name, value);
        self
    }

    /// Waits before the head, or before what happens in its place.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Resets the stream after `n` bytes of the body.
    #[must_use]
    pub fn reset_at(self, n: usize, reason: Reason) -> Self {
        Self { ending: Ending::ResetAt(n, reason), ..self }
    }

    /// Sends a GOAWAY frame that calls `last_stream_id` the last stream that was or might be
    /// processed, after [`after`](Self::after) and before the rest of this reply.
    ///
    /// Nothing else changes: streams go on, and new ones are served. Use [`hang`](Self::hang) for a
    /// stream that the frame disowns.
    #[must_use]
    pub fn goaway(self, last_stream_id: u32, reason: Reason) -> Self {
        Self { goaway: Some((last_stream_id, reason)), ..self }
    }

    /// Closes the connection 20 ms after the answer, without a GOAWAY of its own.
    #[must_use]
    pub fn close(self) -> Self {
        Self { closes: true, ..self }
    }

    fn instead(ending: Ending) -> Self {
        Self { ending, ..Self::status(200) }
    }
}

impl Ending {
    /// Tells whether the request is read to its end first.
    pub(super) fn reads_body(self) -> bool {
        matches!(self, Self::Answer | Self::ResetAt(..))
    }
}

fn append(fields: &mut HeaderMap, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).expect("a header value of visible characters");
    fields.append(HeaderName::from_static(name), value);
}
