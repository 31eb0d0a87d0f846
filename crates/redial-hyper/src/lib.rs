//! The transport: HTTP/1.1 and HTTP/2 over TCP and TLS, with evidence of what was sent.
//!
//! [`Transport`] is a `tower` service on hyper and rustls. What it adds is exactness: an [`Error`]
//! does not only say that a call failed, but what is proven about the server having acted, so that
//! the layers of `redial` can repeat what is safe to repeat, and nothing else.
//!
//! # Examples
//!
//! A connection that was refused proves that nothing was sent:
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::{BodyExt, Full};
//! use redial_core::{Evidence, Fault};
//! use redial_hyper::Transport;
//! use redial_testkit::{Reply, Upstream};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let upstream = Upstream::script([Reply::ok("paid")]).await;
//! let transport = Transport::builder().build()?;
//!
//! let request = http::Request::post(upstream.url("/orders")).body(Full::new(Bytes::from("one")))?;
//! let answer = transport.clone().oneshot(request).await?;
//! assert_eq!(answer.into_body().collect().await?.to_bytes(), "paid");
//!
//! let nobody = format!("http://{}/orders", redial_testkit::refused_addr());
//! let request = http::Request::post(nobody).body(Full::new(Bytes::from("one")))?;
//! let error = transport.oneshot(request).await.unwrap_err();
//! assert_eq!(error.fault(), Fault::ConnectionRefused);
//! assert_eq!(error.proof().evidence(), Evidence::NeverSent);
//! # Ok(())
//! # }
//! ```
//!
//! # What each failure proves
//!
//! | what happened | fault | evidence |
//! |---|---|---|
//! | no name, no connection, no TLS | `Dns`, `ConnectionRefused`, `ConnectFailed`, `ConnectTimeout`, `Tls`, `TlsCertificate` | never sent |
//! | no connection was free in time, or too many calls wait for one | `Rejected` | never sent |
//! | the connection died before a byte of the request was written | `StaleConnection`; `ConnectionReset`, `ConnectionClosed` on a new one | never sent |
//! | the server refused the stream, or went away below it | `RefusedStream`, `Goaway` | rejected unprocessed |
//! | it died, or made no sense, after a byte was written | `ConnectionReset`, `ConnectionClosed`, `StreamReset`, `Protocol` | may be applied |
//! | the caller's own body failed | `RequestBody` | never sent, or may be applied |
//! | the answer ended too early | `ResponseTruncated` | applied |
//!
//! Bytes are counted above TLS, for each connection, from the moment that a request is handed over.
//! A pooled connection is looked at before it is used: a close that has reached this machine is
//! always seen. One that dies in the instant after that gives the request back if it was not begun,
//! and the request goes over a connection made since: the caller never sees it, whatever the method.
//! If it was begun and not a byte could be written, the caller sees `StaleConnection`, never sent.
//!
//! # The pool
//!
//! A call takes an idle connection, or waits in line for whatever comes first: one that another call
//! brings back, or a new one. The line is fair and bounded, and so is everything else: connections
//! for one host and in all, open and idle, their age, and the wait; [`Builder`] has the numbers. A
//! call that got none was not sent: its fault is `Rejected`, with [`PoolExhausted`] as its cause.
//!
//! - The connection belongs to the call until its answer's body has ended or is dropped. One that
//!   was not read to its end, whose framing was wrong, or on which anything failed is closed.
//! - HTTP/2 connections are shared for as long as the peer's `SETTINGS_MAX_CONCURRENT_STREAMS`
//!   allows; then another is made.
//! - A connection that is being made belongs to nobody: if the call that it was begun for is gone,
//!   it serves the next.
//! - A call that has its connection for very long is reported once as a [`Leak`], with its place
//!   in the program; [`Transport::pool`] counts all that happens.
//!
//! # What is not here
//!
//! No retries of what was sent, no redirects, no cookies, no headers of its own but
//! `Accept-Encoding`: these are layers. Informational answers (1xx) are skipped.

mod builder;
mod tls;

mod connect;
mod counted;
mod origin;

mod leak;
mod lease;
mod limits;
mod pool;
mod snapshot;

mod body;
mod request;
mod transport;

mod error;
mod fault;

pub use crate::{
    body::Body,
    builder::{BuildError, Builder},
    error::{Error, PoolExhausted},
    leak::{CallSite, Leak},
    snapshot::{ClosedCounts, PoolCounts, PoolHandle, PoolSnapshot},
    tls::Roots,
    transport::{ResponseFuture, Transport},
};

/// The code in the project's README compiles, and that in our own.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../README.md")]
struct Readme;
