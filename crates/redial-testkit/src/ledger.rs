//! What an upstream has seen so far.
//!
//! Every change wakes those who wait for it, so that tests wait for facts and not for time.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::watch;

/// A request as it reached the upstream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// The method as sent: `GET`.
    pub method: String,
    /// The request target as sent, query included: `/orders?page=2`.
    pub target: String,
    /// The headers in the order sent, names in lower case. HTTP/2 adds `:authority`, if there.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined; empty until [`complete`](Self::complete).
    pub body: Bytes,
    /// The fields after the body, names in lower case.
    pub trailers: Vec<(String, String)>,
    /// When the head was read, on tokio's clock.
    pub at: Instant,
    /// Which connection brought it, counted from 1 in the order accepted.
    pub connection: usize,
    /// Which request of its connection it is, counted from 1.
    pub nth: usize,
    /// The HTTP/2 stream.
    pub stream_id: Option<u32>,
    /// Whether the upstream read it to its end.
    pub complete: bool,
    /// Whether the client gave up: it closed the connection, or reset the stream, before all of the
    /// request was read or all of the reply written.
    pub abandoned: bool,
}

impl Received {
    /// Returns the first header of this name, in whatever case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// Returns the first field of this name.
pub(crate) fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// The books of one upstream, shared by all its connections.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    book: watch::Sender<Book>,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) requests: Vec<Received>,
    pub(crate) connections: usize,
    pub(crate) connections_open: usize,
    pub(crate) bodies_open: usize,
}

/// Something open; dropping it closes it in the books, however its task ended.
pub(crate) struct Open {
    ledger: Arc<Ledger>,
    close: fn(&mut Book),
}

impl Ledger {
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.book.borrow())
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Book> {
        self.book.subscribe()
    }

    /// Counts a connection, and returns its number.
    pub(crate) fn open_connection(self: &Arc<Self>) -> (usize, Open) {
        self.book.send_modify(|book| {
            book.connections += 1;
            book.connections_open += 1;
        });
        let number = self.read(|book| book.connections);
        (number, Open { ledger: Arc::clone(self), close: |book| book.connections_open -= 1 })
    }

    pub(crate) fn open_body(self: &Arc<Self>) -> Open {
        self.book.send_modify(|book| book.bodies_open += 1);
        Open { ledger: Arc::clone(self), close: |book| book.bodies_open -= 1 }
    }

    /// Enters a request, and returns where.
    pub(crate) fn enter(&self, received: Received) -> usize {
        let mut index = 0;
        self.book.send_modify(|book| {
            index = book.requests.len();
            book.requests.push(received);
        });
        index
    }

    /// Changes an entry.
    pub(crate) fn amend(&self, index: usize, change: impl FnOnce(&mut Received)) {
        self.book.send_modify(|book| {
            if let Some(received) = book.requests.get_mut(index) {
                change(received);
            }
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.ledger.book.send_modify(self.close);
    }
}
