//! Pooled connections whose death has reached this machine, but not yet the runtime.
//!
//! The server is a thread, and the test waits for it without giving way to the runtime, so that the
//! kernel knows of the close and no task does: the instant in which a request is lost.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use tokio_rustls::rustls::{ServerConnection, StreamOwned};

use super::*;
use crate::tls::{Identity, URL, trusting};

/// A server that answers one request a connection, and closes it when told to.
struct Thread {
    address: SocketAddr,
    close: Sender<()>,
    closed: Receiver<()>,
    posts: Receiver<()>,
}

impl Thread {
    /// Starts it; `serve` answers one request, and returns what is to be dropped at the close.
    fn start<S, F>(is_reset: bool, serve: F) -> Self
    where
        F: Fn(TcpStream) -> S + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ((close, closing), (has_closed, closed)) = (channel(), channel());
        let (post, posts) = channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let socket = stream.try_clone().unwrap();
                let stream = serve(stream);
                post.send(()).unwrap();
                if closing.recv().is_err() {
                    return;
                }
                if is_reset {
                    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
                }
                drop((stream, socket));
                has_closed.send(()).unwrap();
            }
        });
        Self { address, close, closed, posts }
    }

    /// Closes the connection, and blocks the runtime until that has happened.
    fn close_behind_the_runtimes_back(&self) {
        self.close.send(()).unwrap();
        self.closed.recv().unwrap();
    }
}

fn answer<S: Read + Write>(mut stream: S) -> S {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.ends_with(b"one order") {
        let bytes = stream.read(&mut piece).unwrap();
        assert_ne!(bytes, 0, "the client went away");
        request.extend_from_slice(&piece[..bytes]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
    stream
}

/// Serves a request in frames written by hand: `SETTINGS`, and a head with `:status: 200`.
fn answer_h2(mut stream: TcpStream) -> TcpStream {
    stream.read_exact(&mut [0; 24]).unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).unwrap();
        let (kind, flags) = (head[3], head[4]);
        if kind <= 1 && flags & 1 == 1 {
            stream.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88]).unwrap();
            return stream;
        }
    }
}

/// Sends 50 requests, each of which finds the connection of the one before it dead.
async fn every_call_arrives_once(transport: &Transport, url: &str, server: &Thread) {
    for nth in 0..50 {
        let answer = send(transport, post(url.to_owned())).await;
        let answer = answer.unwrap_or_else(|error| panic!("call {nth}: {error:?}"));
        drop(text(answer).await);
        // Lets the connection's task put it back into the pool.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        server.close_behind_the_runtimes_back();
    }
    assert_eq!(server.posts.try_iter().count(), 50);
}

#[tokio::test]
async fn a_close_that_no_task_has_seen_is_seen_before_a_request_is_written() {
    for is_reset in [false, true] {
        let server = Thread::start(is_reset, answer);
        let url = format!("http://{}/", server.address);
        every_call_arrives_once(&transport(), &url, &server).await;
    }
}

#[tokio::test]
async fn the_same_holds_for_a_connection_that_is_shared() {
    for is_reset in [false, true] {
        let server = Thread::start(is_reset, answer_h2);
        let url = format!("http://{}/", server.address);
        every_call_arrives_once(&h2c(), &url, &server).await;
    }
}

#[tokio::test]
async fn the_same_holds_for_tls() {
    let identity = Identity::new(&[]);
    let config = Arc::clone(identity.acceptor.config());
    let server = Thread::start(false, move |stream| {
        let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = answer(StreamOwned::new(tls, stream));
        stream.flush().unwrap();
        stream
    });
    let transport = trusting(&identity.pem, server.address).build().unwrap();
    every_call_arrives_once(&transport, URL, &server).await;
}
