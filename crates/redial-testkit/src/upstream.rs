//! A listening socket with a script.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::{
    H2Reply, Received, Reply, http1, http2,
    ledger::{Ledger, Open},
    script::Script,
};

/// A server on a loopback port of its own that replies as its script says.
///
/// It takes any number of connections. Dropping it closes the port and all connections, as soon as
/// the runtime gets to it; [`stop`](Self::stop) waits for that.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    server: JoinHandle<()>,
}

impl Upstream {
    /// Starts an HTTP/1.1 server that answers with `replies` in order of arrival over all
    /// connections, and goes on with the last one for ever.
    ///
    /// A reply is drawn when the first byte of a request is there. Unless the reply says otherwise,
    /// the request is read to its end first, and `Expect: 100-continue` is met with a 100. A
    /// malformed request is answered 400 and the connection closed.
    ///
    /// # Panics
    ///
    /// If `replies` is empty, no loopback port is left, or there is no tokio runtime.
    pub async fn script(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::http1(Script::fixed(replies)).await
    }

    /// Starts an HTTP/1.1 server that answers what `handler` makes of each request.
    ///
    /// The handler sees the whole request, so what a reply says about an unread request
    /// ([`Reply::early`], [`Reply::without_continue`], [`Reply::reset_unread`]) comes too late here.
    /// A handler that panics closes the connection.
    ///
    /// # Panics
    ///
    /// If no loopback port is left, or there is no tokio runtime.
    pub async fn with(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::http1(Script::handler(handler)).await
    }

    /// Starts an HTTP/2 server (cleartext, prior knowledge) that answers streams with `replies` in
    /// order of arrival over all connections, and goes on with the last one for ever.
    ///
    /// Streams are served side by side: a slow one does not delay those after it.
    ///
    /// # Panics
    ///
    /// If `replies` is empty, no loopback port is left, or there is no tokio runtime.
    pub async fn h2_script(replies: impl IntoIterator<Item = H2Reply>) -> Self {
        Self::http2(Script::fixed(replies)).await
    }

    /// Starts an HTTP/2 server that answers what `handler` makes of each request, once it is read
    /// to its end.
    ///
    /// # Panics
    ///
    /// If no loopback port is left, or there is no tokio runtime.
    pub async fn h2_with(handler: impl Fn(&Received) -> H2Reply + Send + Sync + 'static) -> Self {
        Self::http2(Script::handler(handler)).await
    }

    /// Returns the URL of `path`, which begins with a slash: `http://127.0.0.1:43210/orders`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the requests whose head was read so far, in order of arrival.
    ///
    /// One that met [`Reply::reset_unread`] is not among them.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.ledger.read(|book| book.requests.clone())
    }

    /// Returns how many connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.ledger.read(|book| book.connections)
    }

    /// Returns how many connections are open now.
    #[must_use]
    pub fn connections_open(&self) -> usize {
        self.ledger.read(|book| book.connections_open)
    }

    /// Returns how many reply bodies are begun and neither written to their end nor given up by the
    /// client.
    ///
    /// A body that fits into the socket's buffer is written at once, read or not; use
    /// [`Reply::slow`] for one that stays open.
    #[must_use]
    pub fn bodies_open(&self) -> usize {
        self.ledger.read(|book| book.bodies_open)
    }

    /// Waits until `condition` holds, looking again after each change.
    ///
    /// There is no time limit: what never becomes true hangs the test, unless it is in a timeout.
    ///
    /// # Cancellation
    ///
    /// Safe: it only looks.
    pub async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.ledger.changes();
        loop {
            // Marked as seen first: a change during the look is a reason to look again.
            changes.mark_unchanged();
            if condition(self) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Closes the port and all connections, and returns when they are closed: who connects from
    /// now on is refused.
    ///
    /// # Cancellation
    ///
    /// Like dropping the upstream.
    pub async fn stop(mut self) {
        self.server.abort();
        // An error here is the abort itself.
        let _ = (&mut self.server).await;
        self.until(|upstream| upstream.connections_open() == 0).await;
    }

    async fn http1(script: Script<Reply>) -> Self {
        let script = Arc::new(script);
        Self::start(move |stream, connection, ledger| {
            http1::serve(stream, connection, Arc::clone(&script), ledger)
        })
        .await
    }

    async fn http2(script: Script<H2Reply>) -> Self {
        let script = Arc::new(script);
        Self::start(move |stream, connection, ledger| {
            http2::serve(stream, connection, Arc::clone(&script), ledger)
        })
        .await
    }

    async fn start<S, F>(serve: S) -> Self
    where
        S: Fn(TcpStream, usize, Arc<Ledger>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, address) = bind().await.expect("a loopback port can be bound");
        let ledger = Arc::new(Ledger::default());
        let server = tokio::spawn(accept(listener, Arc::clone(&ledger), serve));
        Self { address, ledger, server }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn bind() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves every connection in a task of its own; all of them end with this one.
async fn accept<S, F>(listener: TcpListener, ledger: Arc<Ledger>, serve: S)
where
    S: Fn(TcpStream, usize, Arc<Ledger>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (number, open) = ledger.open_connection();
                    tasks.spawn(hold(open, serve(stream, number, Arc::clone(&ledger))));
                }
                // The client was gone before we came to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Out of descriptors, most likely: closing everything is what a test notices.
                Err(_) => return,
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Keeps the connection on the books until its future, and with it the socket, is gone.
async fn hold(open: Open, serving: impl Future<Output = ()>) {
    serving.await;
    drop(open);
}
