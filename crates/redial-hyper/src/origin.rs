//! Where a request goes: scheme, host and port, and nothing else of its URI.
//!
//! Connections are kept by origin. Names are compared without regard to case, a default port is the
//! same as none, and user information takes no part and is never sent.

use std::{
    cell::RefCell,
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Arc, LazyLock},
};

use http::{
    HeaderValue, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};

/// The place that a request goes to; cheap to clone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Origin {
    parts: Arc<Parts>,
}

#[derive(Debug, Eq, PartialEq)]
struct Parts {
    /// Of all the rest, taken once: every call looks its origin up more than once.
    hash: u64,
    is_tls: bool,
    /// Lower case; an IPv6 address is in brackets.
    host: Box<str>,
    /// None where it is the scheme's own.
    port: Option<u16>,
    /// Both as a `Host` field names them.
    authority: HeaderValue,
}

thread_local! {
    /// What the last URI on this thread named, which the next one names as well, most likely.
    static LAST: RefCell<Option<Named>> = const { RefCell::new(None) };
}

struct Named {
    authority: Box<str>,
    origin: Origin,
}

/// Hashes what has hashed itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hashed {
    hash: u64,
}

/// A URI that names no place to send a request to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum InvalidTarget {
    /// Only a path was given, or no host.
    #[error("the request's URI must be absolute, with a scheme and a host")]
    NotAbsolute,
    /// A scheme other than the two.
    #[error("the request's scheme must be http or https")]
    Scheme,
    /// A method that asks for a tunnel.
    #[error("CONNECT asks for a tunnel, which this transport does not make")]
    Tunnel,
    /// What the URI was taken apart into does not make a URI again.
    #[error("the request's host cannot be written as an authority")]
    Authority,
}

impl Origin {
    /// Returns the origin that `uri` names.
    pub(crate) fn of(uri: &Uri) -> Result<Self, InvalidTarget> {
        // What names a user is no business of the next call.
        let authority = uri.authority().map(Authority::as_str).filter(|name| !name.contains('@'));
        let Some(authority) = authority else { return Self::read(uri) };
        LAST.with_borrow_mut(|last| {
            let same = last.as_ref().filter(|last| {
                let scheme = if last.origin.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
                *last.authority == *authority && uri.scheme() == Some(&scheme)
            });
            if let Some(last) = same {
                return Ok(last.origin.clone());
            }
            let origin = Self::read(uri)?;
            *last = Some(Named { authority: authority.into(), origin: origin.clone() });
            Ok(origin)
        })
    }

    fn read(uri: &Uri) -> Result<Self, InvalidTarget> {
        let scheme = uri.scheme().ok_or(InvalidTarget::NotAbsolute)?;
        let is_tls = match scheme.as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(InvalidTarget::Scheme),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(InvalidTarget::NotAbsolute)?;
        let default = if is_tls { 443 } else { 80 };
        let port = uri.port_u16().filter(|port| *port != default);
        let host = host.to_ascii_lowercase().into_boxed_str();
        let authority = match port {
            Some(port) => format!("{host}:{port}").try_into(),
            None => HeaderValue::from_str(&host),
        };
        let authority = authority.map_err(|_| InvalidTarget::Authority)?;
        let hash = KEYS.hash_one((is_tls, &host, port));
        Ok(Self { parts: Arc::new(Parts { hash, is_tls, host, port, authority }) })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.parts.is_tls
    }

    /// Returns the host as TLS names it: an IPv6 address without its brackets.
    pub(crate) fn server_name(&self) -> &str {
        let host = &*self.parts.host;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(host)
    }

    /// Returns host and port as a `Host` field names them.
    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.parts.authority
    }

    /// Returns the URI of `path` at this origin, under `authority`.
    pub(crate) fn uri(&self, authority: Authority, path: Option<&PathAndQuery>) -> Option<Uri> {
        let scheme = if self.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let root = PathAndQuery::from_static("/");
        let path = path.cloned().unwrap_or(root);
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()
    }
}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.parts.hash);
    }
}

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write_u64(&mut self, hash: u64) {
        self.hash = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.hash = KEYS.hash_one((self.hash, bytes));
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.parts.host)?;
        self.parts.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Differ from run to run, so that nobody can choose hosts that collide.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(uri: &'static str) -> Result<String, InvalidTarget> {
        Origin::of(&Uri::from_static(uri)).map(|origin| origin.to_string())
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_alone() {
        let table = [
            ("http://a.example", "http://a.example"),
            ("HTTP://A.Example:80/x?y", "http://a.example"),
            ("http://a.example:443/", "http://a.example:443"),
            ("https://user:secret@a.example:443/", "https://a.example"),
            ("https://[::1]:8443/", "https://[::1]:8443"),
        ];
        for (uri, expected) in table {
            assert_eq!(origin(uri).as_deref(), Ok(expected), "{uri}");
        }
        let v6 = Origin::of(&Uri::from_static("http://[::1]/")).unwrap();
        assert_eq!(v6.server_name(), "::1");
    }

    #[test]
    fn a_name_is_not_taken_for_another_that_came_before() {
        for uri in [
            "http://a.example/1",
            "https://a.example/2",
            "http://u@a.example",
            "http://a.example:81/",
        ] {
            for _ in 0..2 {
                let parsed = Uri::from_static(uri);
                assert_eq!(Origin::of(&parsed), Origin::read(&parsed), "{uri}");
            }
        }
        assert!(Origin::of(&Uri::from_static("ftp://a.example:81/")).is_err());
    }

    #[test]
    fn what_names_no_place_is_refused() {
        assert_eq!(origin("/path"), Err(InvalidTarget::NotAbsolute));
        assert_eq!(origin("a.example:80"), Err(InvalidTarget::NotAbsolute));
        assert_eq!(origin("ftp://a.example/"), Err(InvalidTarget::Scheme));
    }
}
