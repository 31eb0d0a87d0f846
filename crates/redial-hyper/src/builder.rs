//! What a transport is made of.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use redial::BoxError;

use crate::{
    connect::Connector,
    tls::{Roots, Tls},
    transport::{Settings, Transport},
};

/// Makes a [`Transport`]; see [`Transport::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    connect_timeout: Duration,
    idle_timeout: Duration,
    max_idle_per_host: usize,
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
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            max_idle_per_host: 64,
            versions: Versions::Both,
            is_decompressing: true,
            roots: Roots::default(),
            overrides: HashMap::new(),
        }
    }

    /// Sets how long making a connection may take: name resolution, TCP and TLS together, and the
    /// wait for another call that makes an HTTP/2 connection to share. The default of 5 s leaves
    /// room for two lost SYN packets (1 s and 2 s, RFC 6298 §2).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a connection may be idle before it is closed; 0 keeps none. The default of 30 s
    /// is below what common servers and load balancers wait (60 s and more), so that it is seldom
    /// the server that closes first.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets how many idle HTTP/1.1 connections are kept for one origin; 0 keeps none. The default of
    /// 64 bounds what a burst leaves behind. Connections in use are not limited by it.
    pub fn max_idle_per_host(mut self, max: usize) -> Self {
        self.max_idle_per_host = max;
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
    /// If [`roots`](Self::roots) was given PEM without a usable certificate in it.
    pub fn build(self) -> Result<Transport, BuildError> {
        let tls = Tls::new(&self.roots, self.versions.alpn())?;
        let settings = Settings {
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
            max_idle_per_host: self.max_idle_per_host,
            is_decompressing: self.is_decompressing,
            is_h2_only: self.versions == Versions::Http2,
        };
        let connector = Connector::new(self.overrides, tls, self.versions);
        Ok(Transport::new(connector, settings))
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
