//! What a transport is made of.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use redial::BoxError;

use crate::{
    connect::Connector,
    leak::{Leak, OnLeak},
    limits::Limits,
    tls::{Roots, Tls},
    transport::{Settings, Transport},
};

/// Makes a [`Transport`]; see [`Transport::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    limits: Limits,
    on_leak: Option<OnLeak>,
    versions: Versions,
    is_decompressing: bool,
    roots: Roots,
    overrides: HashMap<String, Vec<SocketAddr>>,
}

/// Which versions of HTTP are spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Versions {
    /// What TLS agrees on; HTTP/1.1 without TLS.
    Both,
    Http1,
    Http2,
}

/// A transport cannot be built as it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// [`Builder::max_open`] or [`Builder::max_open_per_host`] is 0.
    #[error("max_open and max_open_per_host must be at least 1")]
    NoConnections,
    /// The PEM given as [`Roots`] holds no certificate at all.
    #[error("the pem given as roots holds no certificate")]
    NoCertificate,
    /// One of the certificates given as [`Roots`] cannot be used.
    #[error("certificate {nth} of the pem given as roots cannot be used")]
    Pem {
        /// Which one, counted from 1.
        nth: usize,
        /// What is wrong with it.
        source: BoxError,
    },
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            limits: Limits::default(),
            on_leak: None,
            versions: Versions::Both,
            is_decompressing: true,
            roots: Roots::default(),
            overrides: HashMap::new(),
        }
    }

    /// Sets how long making a connection may take: name resolution, TCP and TLS together. The
    /// default of 5 s leaves room for two lost SYN packets (1 s and 2 s, RFC 6298 §2).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connect_timeout = timeout;
        self
    }

    /// Sets how long a call may wait for a connection, be it one that another call brings back or
    /// one that is made. Unless set it is the [`connect_timeout`](Self::connect_timeout): a call
    /// that would wait so long for a new connection may wait as long for any.
    ///
    /// The call fails with `Rejected` if as many connections are open as may be, and with
    /// `ConnectTimeout` otherwise.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.limits.acquire_timeout = Some(timeout);
        self
    }

    /// Sets how long a call waits for an HTTP/1.1 connection to come back before one is made for it,
    /// where 64 are open to the host; twice as long where there are 128, and so on, and never less than
    /// that after connections were last added, at most as many as there were. With 0 one is made at
    /// once.
    ///
    /// The default of 10 ms is little beside a handshake with a server far away, and a near one
    /// answers in less: over loopback with 512 calls at a time, few connections serve more calls a
    /// second, and fewer of them late. A burst of 512 calls to a slow server has all its connections
    /// after 70 ms. It is too long for many calls at a time to a near server that answers all of them
    /// at once within a millisecond or two: set it to about as long then.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// Sets how long a connection may be idle before it is closed; 0 keeps none. The default of 30 s
    /// is below what common servers and load balancers wait (60 s and more), so that it is seldom
    /// the server that closes first.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle_timeout = timeout;
        self
    }

    /// Sets how old a connection may become before it gets no more requests; 0 sets no limit. Each
    /// one's own limit is up to a tenth shorter, so that those of a burst do not end at once. The
    /// default of 30 min lets a name that points elsewhere, and servers that were added, be noticed,
    /// at a cost that cannot be measured.
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.limits.max_lifetime = lifetime;
        self
    }

    /// Sets how many connections may be open in all, those being made included; at least 1. The
    /// default of 4096 is eight hosts at their most. Where the system allows fewer open files
    /// (`ulimit -n`), that limit is met first, as `ConnectFailed`.
    pub fn max_open(mut self, max: usize) -> Self {
        self.limits.max_open = max;
        self
    }

    /// Sets how many connections may be open to one host (scheme, name and port), those being made
    /// included; at least 1. Calls above it wait in line. With the default of 512 one host cannot
    /// take all of the 1024 open files that most systems allow, however slowly it answers.
    ///
    /// This is a limit and no target. The first 64 HTTP/1.1 connections are made as soon as calls
    /// want them; where these are busy, a call waits for one to come back as long as its
    /// [`patience`](Self::patience) lasts. The first connection to an `https` host is made alone, as it tells whether the host
    /// speaks HTTP/2; and HTTP/2 connections are made one at a time.
    pub fn max_open_per_host(mut self, max: usize) -> Self {
        self.limits.max_open_per_host = max;
        self
    }

    /// Sets how many idle HTTP/1.1 connections are kept in all; 0 keeps none. The default is 1024.
    /// One more closes the one that has been idle longest.
    pub fn max_idle(mut self, max: usize) -> Self {
        self.limits.max_idle = max;
        self
    }

    /// Sets how many idle HTTP/1.1 connections are kept for one host; 0 keeps none. The default of
    /// 512 is as many as may be open: between two calls of a busy client a connection is idle for
    /// an instant, and closing it then costs a handshake. What a burst leaves behind goes after the
    /// [`idle_timeout`](Self::idle_timeout).
    pub fn max_idle_per_host(mut self, max: usize) -> Self {
        self.limits.max_idle_per_host = max;
        self
    }

    /// Sets how many calls to one host may wait while as many connections are open as may be. One
    /// more is refused at once; with 0 none waits. The default of 8192 is what 512 connections work
    /// off within the default [`acquire_timeout`](Self::acquire_timeout) at 300 ms a call.
    pub fn max_waiting_per_host(mut self, max: usize) -> Self {
        self.limits.max_waiting_per_host = max;
        self
    }

    /// Sets after how long a call that has a connection is reported as a [`Leak`]; 0 reports none.
    /// The default of 5 min is above what an ordinary call, a long poll or a slow body takes. The
    /// call goes on: it may be a stream that is meant to last.
    ///
    /// Each is reported once, as a `tracing` event of level `WARN`, and to
    /// [`on_leak`](Self::on_leak).
    pub fn leak_after(mut self, age: Duration) -> Self {
        self.limits.leak_after = age;
        self
    }

    /// Sets who is told of leaks. It is called in the pool's task, so it should not block.
    pub fn on_leak(mut self, observe: impl Fn(&Leak) + Send + Sync + 'static) -> Self {
        self.on_leak = Some(OnLeak { observe: Arc::new(observe) });
        self
    }

    /// Speaks HTTP/2 only, without TLS by prior knowledge (RFC 9113 §3.3). Off by default: TLS then
    /// agrees on a version, and there is HTTP/1.1 without TLS. Of this and
    /// [`http1_only`](Self::http1_only) the last one that is set to true counts.
    pub fn http2_only(mut self, is_only: bool) -> Self {
        self.versions = self.versions.only(Versions::Http2, is_only);
        self
    }

    /// Speaks HTTP/1.1 only. Off by default.
    pub fn http1_only(mut self, is_only: bool) -> Self {
        self.versions = self.versions.only(Versions::Http1, is_only);
        self
    }

    /// Sets whether answers in gzip, Brotli and Zstandard are asked for and decoded. On by default,
    /// as it saves most of the bytes of most texts.
    ///
    /// A request that has an `Accept-Encoding` of its own, a `Range` or the method `HEAD` is left as
    /// it is, and so is its answer.
    pub fn decompress(mut self, is_on: bool) -> Self {
        self.is_decompressing = is_on;
        self
    }

    /// Sets whom to trust; the system's certificates by default.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Connects to `addr` where `host` is asked for, instead of resolving the name; for tests and for
    /// trying out a server before its name points to it. Given more than once, a host has several
    /// addresses. A port in the URI comes before the one in `addr`.
    pub fn resolve(mut self, host: &str, addr: SocketAddr) -> Self {
        self.overrides.entry(host.to_ascii_lowercase()).or_default().push(addr);
        self
    }

    /// Builds the transport. This reads no files: the system's certificates are read when the first
    /// `https` connection is made.
    ///
    /// # Errors
    ///
    /// If [`roots`](Self::roots) was given PEM without a usable certificate in it, or no connection
    /// may be open.
    pub fn build(self) -> Result<Transport, BuildError> {
        if self.limits.max_open == 0 || self.limits.max_open_per_host == 0 {
            return Err(BuildError::NoConnections);
        }
        let tls = Tls::new(&self.roots, self.versions.alpn())?;
        let settings = Settings { limits: self.limits, is_decompressing: self.is_decompressing };
        let connector = Connector::new(self.overrides, tls, self.versions);
        Ok(Transport::new(connector, settings, self.on_leak))
    }
}

impl Versions {
    fn only(self, version: Self, is_only: bool) -> Self {
        match (is_only, self == version) {
            (true, _) => version,
            (false, true) => Self::Both,
            (false, false) => self,
        }
    }

    fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Both => &[b"h2", b"http/1.1"],
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_version_set_counts() {
        let builder = Builder::new();
        assert_eq!(builder.clone().versions, Versions::Both);
        assert_eq!(builder.clone().http2_only(true).http1_only(false).versions, Versions::Http2);
        assert_eq!(builder.clone().http2_only(true).http1_only(true).versions, Versions::Http1);
        assert_eq!(builder.http2_only(true).http2_only(false).versions, Versions::Both);
    }
}
