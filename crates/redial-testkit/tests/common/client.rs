//! A client that adds nothing and hides nothing: bytes out, bytes and the way they ended back.

use std::io;

use redial_testkit::Upstream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// Connects, and sends `request`.
pub(crate) async fn send(upstream: &Upstream, request: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(upstream.addr()).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    stream
}

/// Reads to the end, and tells whether that was one: `Err` is how it was cut off.
pub(crate) async fn read_all(stream: &mut TcpStream) -> (String, io::Result<()>) {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes).await.map(|_| ());
    (String::from_utf8(bytes).unwrap(), ended)
}

/// Reads until `end` was read.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "ended before {end:?}: {bytes:?}");
    }
    String::from_utf8(bytes).unwrap()
}
