//! What an HTTP/1.1 request is answered, and how that goes wrong.

use std::time::Duration;

use bytes::Bytes;

use crate::Received;

/// One step of an HTTP/1.1 script: an answer, or what happens in the place of one.
///
/// An answer has a `content-length`, unless it is [`chunked`](Self::chunked), and leaves the
/// connection open, unless the client asks otherwise. A `content-length` or `transfer-encoding`
/// among the [headers](Self::header) replaces ours, and the body then goes out as it is: a script
/// may lie about its length.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_testkit::Reply;
///
/// let overloaded = Reply::status(503).header("retry-after", "2").close();
/// let half = Reply::ok("hello, world").truncate_at(5);
/// let late = Reply::ok("hello").after(Duration::from_secs(30));
/// let resets_after_a_second = Reply::reset().after(Duration::from_secs(1));
/// ```
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) chunked: bool,
    pub(super) informational: Vec<u16>,
    pub(super) delay: Duration,
    pub(super) pace: Option<Pace>,
    pub(super) early: bool,
    pub(super) withholds_continue: bool,
    pub(super) ending: Ending,
}

/// How slowly a body is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) chunk_bytes: usize,
    pub(super) every: Duration,
}

/// How an exchange ends. The last one set counts.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    // After an answer:
    KeepAlive,
    Close,
    Die,
    TruncateAt(usize),
    ResetAt(usize),
    // Instead of an answer:
    Hang,
    CloseWithoutAnswer,
    Reset,
    ResetUnread(usize),
    Garbage(Bytes),
}

impl Reply {
    /// Answers with a status, of any number, and an empty body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            trailers: Vec::new(),
            chunked: false,
            informational: Vec::new(),
            delay: Duration::ZERO,
            pace: None,
            early: false,
            withholds_continue: false,
            ending: Ending::KeepAlive,
        }
    }

    /// Answers 200 with a body.
    #[must_use]
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200).body(body)
    }

    /// Answers with a file, or with the end of it if that is what was asked for (RFC 9110 §14): a
    /// `Range` of the form `bytes=n-` counts, unless an `If-Range` names another tag. What cannot be
    /// satisfied is answered 416.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use redial_testkit::{Reply, Upstream};
    ///
    /// let upstream = Upstream::with(|request| Reply::file(request, "0123456789", "\"v1\"")).await;
    /// # drop(upstream);
    /// # }
    /// ```
    #[must_use]
    pub fn file(request: &Received, file: impl Into<Bytes>, tag: &str) -> Self {
        let file = file.into();
        let is_same = request.header("if-range").is_none_or(|named| named == tag);
        let range = request.header("range").filter(|_| is_same);
        let first =
            range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let (length, last) = (file.len(), file.len().saturating_sub(1));
        let answer = match first {
            None => Self::ok(file),
            Some(first) if length <= first => {
                Self::status(416).header("content-range", format!("bytes */{length}"))
            }
            Some(first) => Self::status(206)
                .header("content-range", format!("bytes {first}-{last}/{length}"))
                .body(file.slice(first..)),
        };
        answer.header("etag", tag)
    }

    /// Reads the request and never answers, until the client closes the connection.
    #[must_use]
    pub fn hang() -> Self {
        Self::instead(Ending::Hang)
    }

    /// Reads the request, then closes the connection in good order: the client sees its end.
    #[must_use]
    pub fn close_without_answer() -> Self {
        Self::instead(Ending::CloseWithoutAnswer)
    }

    /// Reads the request, then resets the connection (RST).
    #[must_use]
    pub fn reset() -> Self {
        Self::instead(Ending::Reset)
    }

    /// Resets the connection as soon as `n` bytes of the request are read, head included.
    ///
    /// With 0 it happens at the first byte: the connection is dead when it is used. A request
    /// shorter than `n` bytes is waited for. It is not among the upstream's requests.
    #[must_use]
    pub fn reset_unread(n: usize) -> Self {
        Self::instead(Ending::ResetUnread(n))
    }

    /// Reads the request, sends `bytes` as they are, and closes the connection.
    #[must_use]
    pub fn garbage(bytes: impl Into<Bytes>) -> Self {
        Self::instead(Ending::Garbage(bytes.into()))
    }

    /// Adds a header, after those already there.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body. Answers to `HEAD`, and those with 1xx, 204 or 304, are sent without it.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sends the body in chunks: one, or those of [`slow`](Self::slow).
    #[must_use]
    pub fn chunked(self) -> Self {
        Self { chunked: true, ..self }
    }

    /// Adds a field after the body, which makes it [`chunked`](Self::chunked), and announces it in
    /// a `trailer` header.
    #[must_use]
    pub fn trailer(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.trailers.push((name.into(), value.into()));
        self.chunked()
    }

    /// Sends an informational head, such as 103, first; before the delay of
    /// [`after`](Self::after).
    #[must_use]
    pub fn informational(mut self, status: u16) -> Self {
        self.informational.push(status);
        self
    }

    /// Waits before the head, or before what happens in its place.
    ///
    /// A client that closes its side meanwhile, were it only for writing, counts as gone.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Sends the body in pieces of at most `chunk_bytes`, and waits `every` before each.
    #[must_use]
    pub fn slow(self, chunk_bytes: usize, every: Duration) -> Self {
        Self { pace: Some(Pace { chunk_bytes: chunk_bytes.max(1), every }), ..self }
    }

    /// Answers before the request's body is read, and without a 100 if one was expected.
    ///
    /// The body is read afterward; with [`close`](Self::close) it never is, but what comes in is
    /// discarded for up to a second, lest the system destroys the answer with a reset.
    #[must_use]
    pub fn early(self) -> Self {
        Self { early: true, ..self }
    }

    /// Ignores `Expect: 100-continue`: the client has to send its body unasked.
    #[must_use]
    pub fn without_continue(self) -> Self {
        Self { withholds_continue: true, ..self }
    }

    /// Sends `connection: close`, and closes the connection after the body.
    #[must_use]
    pub fn close(self) -> Self {
        Self { ending: Ending::Close, ..self }
    }

    /// Closes the connection 20 ms after an answer that promised to keep it.
    ///
    /// For a connection that looks alive right until it is used again, answer normally and let
    /// [`Reply::reset_unread(0)`](Self::reset_unread) be the next reply of the script.
    #[must_use]
    pub fn die(self) -> Self {
        Self { ending: Ending::Die, ..self }
    }

    /// Closes the connection in good order after `n` bytes of the body, chunk sizes not counted.
    ///
    /// The head announces the whole length, or chunks whose last one never comes.
    #[must_use]
    pub fn truncate_at(self, n: usize) -> Self {
        Self { ending: Ending::TruncateAt(n), ..self }
    }

    /// Resets the connection (RST) after `n` bytes of the body, chunk sizes not counted.
    ///
    /// The client gets at most these: a reset overtakes what the system has not handed over yet. On
    /// Linux loopback, bodies within the client's receive buffer (64 KiB at least) come whole.
    #[must_use]
    pub fn reset_at(self, n: usize) -> Self {
        Self { ending: Ending::ResetAt(n), ..self }
    }

    fn instead(ending: Ending) -> Self {
        Self { ending, ..Self::status(200) }
    }
}

impl Ending {
    /// Returns how many bytes of the body are sent, if not all.
    pub(super) fn cut(&self) -> Option<usize> {
        if let Self::TruncateAt(n) | Self::ResetAt(n) = self { Some(*n) } else { None }
    }

    /// Tells whether the client is to read everything that was sent, and then the end.
    pub(super) fn is_polite(&self) -> bool {
        !matches!(self, Self::Die | Self::ResetAt(_) | Self::Reset | Self::ResetUnread(_))
    }
}
