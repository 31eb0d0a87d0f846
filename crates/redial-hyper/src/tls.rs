//! TLS: whom to trust, and the handshake.
//!
//! The system's certificates take milliseconds to read and parse, so they are read when the first
//! `https` connection is made, once for all clones of a transport, and never for plain HTTP.

use std::{io, sync::Arc};

use tokio::sync::OnceCell;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::{builder::BuildError, counted::Socket};

/// Whom a transport trusts to certify a server's name.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Roots {
    /// The system's certificates: the default, as it is what every other program on the machine
    /// trusts. `SSL_CERT_FILE` and `SSL_CERT_DIR` are obeyed.
    #[default]
    Native,
    /// The system's certificates and these, in PEM.
    NativeAnd(Vec<u8>),
    /// These, in PEM, and no others.
    Only(Vec<u8>),
}

/// How a TLS connection is made.
#[derive(Debug)]
pub(crate) struct Tls {
    /// Certificates that the caller gave.
    given: RootCertStore,
    is_native: bool,
    alpn: Vec<Vec<u8>>,
    config: OnceCell<Arc<ClientConfig>>,
}

/// What a handshake came to grief over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The host of the URI is neither a name nor an address.
    #[error("the host is not a name that a certificate can be for")]
    ServerName(#[source] rustls::pki_types::InvalidDnsNameError),
    /// Nobody is trusted on this machine.
    #[error("no trusted root certificate was found on this system")]
    NoRoots,
    /// No parameters of TLS suit the provider.
    #[error("tls cannot be set up")]
    Setup(#[source] rustls::Error),
    /// The handshake began and failed.
    #[error("the tls handshake failed")]
    Handshake(#[source] io::Error),
}

impl Tls {
    /// Takes in the certificates that `roots` gives, and leaves the system's for later.
    pub(crate) fn new(roots: &Roots, alpn: &[&[u8]]) -> Result<Self, BuildError> {
        let (pem, is_native) = match roots {
            Roots::Native => (None, true),
            Roots::NativeAnd(pem) => (Some(pem), true),
            Roots::Only(pem) => (Some(pem), false),
        };
        let given = pem.map_or_else(|| Ok(RootCertStore::empty()), |pem| certificates(pem))?;
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self { given, is_native, alpn, config: OnceCell::new() })
    }

    /// Makes a TLS connection to `host` over `socket`.
    pub(crate) async fn connect(
        &self,
        host: &str,
        socket: Socket,
    ) -> Result<TlsStream<Socket>, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(TlsError::ServerName)?;
        let config = self.config.get_or_try_init(|| self.set_up()).await?;
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(name, socket).await.map_err(TlsError::Handshake)
    }

    async fn set_up(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut roots = self.given.clone();
        if self.is_native {
            let native = tokio::task::spawn_blocking(native).await;
            roots.extend(native.unwrap_or_else(|_| RootCertStore::empty()).roots);
        }
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(Arc::new(config))
    }
}

/// Reads the system's certificates. One that cannot be read or understood is left out, as every
/// other program on the machine does.
fn native() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn certificates(pem: &[u8]) -> Result<RootCertStore, BuildError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let nth = index + 1;
        let certificate =
            certificate.map_err(|source| BuildError::Pem { nth, source: source.into() })?;
        roots.add(certificate).map_err(|source| BuildError::Pem { nth, source: source.into() })?;
    }
    if roots.is_empty() { Err(BuildError::NoCertificate) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_without_a_certificate_is_refused() {
        let error = Tls::new(&Roots::Only(b"nothing".to_vec()), &[]).unwrap_err();
        assert_eq!(error.to_string(), "the pem given as roots holds no certificate");
        let broken = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let error = Tls::new(&Roots::NativeAnd(broken.to_vec()), &[]).unwrap_err();
        assert_eq!(error.to_string(), "certificate 1 of the pem given as roots cannot be used");
    }

    #[test]
    fn the_systems_certificates_wait_for_the_first_https_connection() {
        let tls = Tls::new(&Roots::Native, &[]).unwrap();
        assert!(tls.config.get().is_none() && tls.given.is_empty());
    }
}
