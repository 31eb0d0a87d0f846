//! Upstreams for tests that fail on purpose, on real loopback sockets.
//!
//! A mock returns an error; a socket shows how that error comes about: half a body, a reset instead
//! of an answer, a kept-alive connection that died unnoticed. An [`Upstream`] plays a script, one
//! [`Reply`] (HTTP/1.1) or [`H2Reply`] (HTTP/2) a request, and keeps what it received, so that a
//! test can say both what the client got and what the server saw.
//!
//! # A test in ten lines
//!
//! Script what goes wrong, point the client at the address, compare both ends:
//!
//! ```
//! use redial_testkit::{Reply, Upstream};
//! # use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpStream};
//! # async fn client(upstream: &Upstream) -> std::io::Result<String> {
//! #     let mut stream = TcpStream::connect(upstream.addr()).await?;
//! #     stream.write_all(b"GET /orders HTTP/1.1\r\nhost: test\r\n\r\n").await?;
//! #     let mut answer = String::new();
//! #     stream.read_to_string(&mut answer).await?;
//! #     Ok(answer)
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let script = [Reply::status(503).header("retry-after", "2").close(), Reply::reset()];
//! let upstream = Upstream::script(script).await;
//!
//! let first = client(&upstream).await.unwrap();
//! let second = client(&upstream).await.unwrap_err();
//!
//! assert!(first.starts_with("HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\n"));
//! assert_eq!(second.kind(), std::io::ErrorKind::ConnectionReset);
//! assert_eq!(upstream.requests().len(), 2);
//! assert_eq!(upstream.requests()[1].target, "/orders");
//! # }
//! ```
//!
//! # Waiting for the server's side
//!
//! What the upstream saw is on record a moment before or after what the client saw. Do not sleep:
//! [`Upstream::until`] waits for exactly what the test is about.
//!
//! ```
//! # use redial_testkit::{Reply, Upstream};
//! # use tokio::{io::AsyncWriteExt, net::TcpStream};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let upstream = Upstream::script([Reply::hang()]).await;
//! let mut stream = TcpStream::connect(upstream.addr()).await?;
//! stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
//! upstream.until(|upstream| upstream.requests().len() == 1).await;
//!
//! drop(stream); // the caller loses patience
//! upstream.until(|upstream| upstream.connections_open() == 0).await;
//! assert!(upstream.requests()[0].abandoned);
//! # Ok(())
//! # }
//! ```
//!
//! # Which fault for which question
//!
//! | the client should know | script |
//! |---|---|
//! | nothing was ever sent | [`refused_addr`] |
//! | the server never looked at it | [`H2Reply::refused_stream`], [`H2Reply::goaway`] |
//! | it may have been applied | [`Reply::reset`], [`Reply::close_without_answer`], [`Reply::hang`] |
//! | it was half sent | [`Reply::reset_unread`], [`Reply::early`] |
//! | it was applied, the answer is broken | [`Reply::truncate_at`], [`Reply::reset_at`] |
//! | the pooled connection is dead | [`Reply::die`], then whatever the next request meets |
//! | the peer speaks no HTTP | [`Reply::garbage`] |
//!
//! # Clocks
//!
//! An upstream lives in the runtime that made it, and all its waits are tokio's. With
//! `start_paused = true` a delay of an hour is over as soon as nobody has anything else to do; the
//! runtime looks at its sockets before it moves the clock, and bytes on loopback arrive at once, so
//! on a current-thread runtime the order of events stays the same.

mod http1;
mod http2;
mod ledger;
mod refused;
mod script;
mod upstream;

pub use h2::Reason;

pub use crate::{
    http1::reply::Reply, http2::reply::H2Reply, ledger::Received, refused::refused_addr,
    upstream::Upstream,
};
