//! From an origin to an open connection: name resolution, TCP, TLS.
//!
//! Whatever fails here fails before a connection exists, so nothing of a request can have been
//! sent. Addresses of both families are tried by Happy Eyeballs (RFC 8305): the other family starts
//! 300 ms after the first.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use http::uri::Authority;
use hyper_util::client::legacy::connect::{
    HttpConnector,
    dns::{GaiResolver, Name},
};
use redial::{BoxError, chain};
use tower_service::Service;

use crate::{
    builder::Versions,
    counted::{Counted, Socket, Stream, Wire},
    origin::{InvalidTarget, Origin},
    tls::{Tls, TlsError},
};

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Connector {
    tcp: HttpConnector<Resolver>,
    tls: Tls,
    versions: Versions,
}

/// A connection on which nothing of HTTP was said yet.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) stream: Counted,
    pub(crate) wire: Wire,
    pub(crate) is_h2: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Resolve(ResolveError),
    #[error("no tcp connection could be made")]
    Tcp(#[source] BoxError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("http/2 cannot be started")]
    Handshake(#[source] hyper::Error),
    #[error("connecting did not end within {after:?}")]
    Timeout { after: Duration },
    #[error("the runtime that made the connection has ended")]
    Ended,
    #[error(transparent)]
    Target(#[from] InvalidTarget),
}

/// A name that could not be resolved.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the name {name} could not be resolved")]
pub(crate) struct ResolveError {
    name: String,
    #[source]
    cause: Arc<io::Error>,
}

/// Resolves names: by the overrides first, by the system otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    overrides: Arc<HashMap<String, Vec<SocketAddr>>>,
    system: GaiResolver,
}

impl Connector {
    pub(crate) fn new(
        overrides: HashMap<String, Vec<SocketAddr>>,
        tls: Tls,
        versions: Versions,
    ) -> Self {
        let resolver = Resolver { overrides: Arc::new(overrides), system: GaiResolver::new() };
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self { tcp, tls, versions }
    }

    /// Returns whether connections to `origin` are shared, as far as that is known beforehand.
    pub(crate) fn is_h2(&self, origin: &Origin) -> Option<bool> {
        match self.versions {
            Versions::Http2 => Some(true),
            Versions::Both if origin.is_tls() => None,
            Versions::Both | Versions::Http1 => Some(false),
        }
    }

    /// Connects to `origin`; the caller says how long this may take.
    pub(crate) async fn connect(&self, origin: &Origin) -> Result<Dialed, ConnectError> {
        let authority = Authority::try_from(origin.authority().as_bytes())
            .map_err(|_| InvalidTarget::Authority)?;
        let uri = origin.uri(authority, None).ok_or(InvalidTarget::Authority)?;
        let tcp = self.tcp.clone().call(uri).await.map_err(tcp_error)?;
        let socket = Socket::new(tcp.into_inner());
        let prior_knowledge = self.versions == Versions::Http2;
        let (stream, is_h2) = if origin.is_tls() {
            let tls = self.tls.connect(origin.server_name(), socket.clone()).await?;
            let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            (Stream::Tls(Box::new(tls)), is_h2 || prior_knowledge)
        } else {
            (Stream::Plain(socket.clone()), prior_knowledge)
        };
        let (stream, wire) = Counted::new(stream, &socket);
        Ok(Dialed { stream, wire, is_h2 })
    }
}

/// Tells a name that was not found from a connection that was not made.
fn tcp_error(error: impl Into<BoxError>) -> ConnectError {
    let error = error.into();
    match chain::find::<ResolveError>(error.as_ref()) {
        Some(resolve) => ConnectError::Resolve(resolve.clone()),
        None => ConnectError::Tcp(error),
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let ready = ready!(self.system.poll_ready(cx));
        Poll::Ready(ready.map_err(|error| ResolveError::new("", error)))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        if let Some(addresses) = self.overrides.get(&name.as_str().to_ascii_lowercase()) {
            let addresses = addresses.clone().into_iter();
            return Box::pin(async move { Ok(addresses) });
        }
        let resolving = self.system.call(name.clone());
        Box::pin(async move {
            let found = resolving.await.map_err(|error| ResolveError::new(name.as_str(), error))?;
            let addresses: Vec<_> = found.collect();
            if addresses.is_empty() {
                let error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                return Err(ResolveError::new(name.as_str(), error));
            }
            Ok(addresses.into_iter())
        })
    }
}

impl ResolveError {
    fn new(name: &str, cause: io::Error) -> Self {
        Self { name: name.to_owned(), cause: Arc::new(cause) }
    }
}
