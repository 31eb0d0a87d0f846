//! TLS: whom to trust, and which version is spoken.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http::Version;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use redial_hyper::{Builder, Roots};
use redial_testkit::{Reply, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
    server::TlsStream,
};

use super::*;

/// A certificate of its own for `shop.test`, and how to serve with it.
pub(crate) struct Identity {
    pub(crate) pem: Vec<u8>,
    pub(crate) acceptor: TlsAcceptor,
}

impl Identity {
    pub(crate) fn new(alpn: &[&str]) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self { pem: cert.pem().into_bytes(), acceptor }
    }

    /// Serves each connection with `serve`, after the handshake.
    async fn listen<F>(
        &self,
        serve: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static,
    ) -> SocketAddr
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = self.acceptor.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(serve(stream));
                }
            }
        });
        address
    }

    /// A server that answers with the version that it was asked in.
    async fn echo_version(&self) -> SocketAddr {
        let answer = |request: Request<Incoming>| async move {
            let body = format!("{:?}", request.version());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
        };
        let serve = move |stream| async move {
            let served = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
            drop(served);
        };
        self.listen(serve).await
    }
}

pub(crate) fn trusting(pem: &[u8], address: SocketAddr) -> Builder {
    Transport::builder().roots(Roots::Only(pem.to_vec())).resolve("shop.test", address)
}

pub(crate) const URL: &str = "https://shop.test/orders";

#[tokio::test]
async fn the_version_is_agreed_on_in_the_handshake() {
    let both = &["h2", "http/1.1"][..];
    let table = [
        (both, false, Version::HTTP_2),
        (both, true, Version::HTTP_11),
        (&["http/1.1"], false, Version::HTTP_11),
        (&[], false, Version::HTTP_11),
    ];
    for (alpn, http1_only, version) in table {
        let identity = Identity::new(alpn);
        let address = identity.echo_version().await;
        let builder = trusting(&identity.pem, address).http1_only(http1_only);
        let transport = builder.build().unwrap();
        for _ in 0..2 {
            let answer = send(&transport, post(URL.to_owned())).await.unwrap();
            assert_eq!(answer.version(), version);
            assert_eq!(text(answer).await, format!("{version:?}"));
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_from_a_failed_handshake() {
    let (identity, other) = (Identity::new(&[]), Identity::new(&[]));
    let address = identity.echo_version().await;
    let untrusted = [
        ("another root", trusting(&other.pem, address), URL.to_owned()),
        ("the system's roots", Transport::builder().resolve("shop.test", address), URL.to_owned()),
        (
            "wrong name",
            trusting(&identity.pem, address).resolve("b.test", address),
            "https://b.test/".to_owned(),
        ),
        ("an address", trusting(&identity.pem, address), format!("https://{address}/")),
    ];
    for (name, builder, url) in untrusted {
        let error = send(&builder.build().unwrap(), post(url)).await.expect_err(name);
        assert_eq!(told(&error), (Fault::TlsCertificate, Proof::NoConnection), "{name}: {error:?}");
    }
    let extra = Transport::builder().roots(Roots::NativeAnd(identity.pem.clone()));
    let extra = extra.resolve("shop.test", address).build().unwrap();
    send(&extra, post(URL.to_owned())).await.unwrap();
}

#[tokio::test]
async fn a_server_without_tls_fails_the_handshake() {
    let upstream = Upstream::script([Reply::ok("plain")]).await;
    let identity = Identity::new(&[]);
    let transport = trusting(&identity.pem, upstream.addr()).build().unwrap();
    let error = send(&transport, post(URL.to_owned())).await.unwrap_err();
    assert_eq!(told(&error), (Fault::Tls, Proof::NoConnection), "{error:?}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let transport = trusting(&identity.pem, listener.local_addr().unwrap()).build().unwrap();
    tokio::spawn(async move {
        while let Ok(accepted) = listener.accept().await {
            drop(accepted)
        }
    });
    let error = send(&transport, post(URL.to_owned())).await.unwrap_err();
    assert_eq!(told(&error), (Fault::Tls, Proof::NoConnection), "{error:?}");
}

/// Reads a request of [`post`] and returns whether there was one.
async fn read_post(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut request = Vec::new();
    while !request.ends_with(b"one order") {
        if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn a_post_over_a_dead_tls_connection_arrives_exactly_once() {
    let identity = Identity::new(&[]);
    let (hits, mut seen) = watch::channel((0, 0));
    let serve = move |mut stream: TlsStream<TcpStream>| {
        let hits = hits.clone();
        async move {
            if read_post(&mut stream).await {
                hits.send_modify(|(posts, _)| *posts += 1);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
                // With a close_notify, or without one.
                if hits.borrow().0 % 2 == 0 {
                    stream.shutdown().await.unwrap();
                }
            }
            drop(stream);
            hits.send_modify(|(_, dead)| *dead += 1);
        }
    };
    let address = identity.listen(serve).await;
    let transport = trusting(&identity.pem, address).build().unwrap();
    for nth in 1..=50 {
        let answer = send(&transport, post(URL.to_owned())).await.unwrap();
        assert_eq!(text(answer).await, "ok");
        seen.wait_for(|seen| *seen == (nth, nth)).await.unwrap();
    }
}

#[tokio::test]
async fn a_post_that_was_written_through_tls_counts_as_sent() {
    let identity = Identity::new(&[]);
    let serve = |mut stream: TlsStream<TcpStream>| async move {
        assert!(read_post(&mut stream).await);
        stream.get_ref().0.set_zero_linger().unwrap();
    };
    let address = identity.listen(serve).await;
    let transport = trusting(&identity.pem, address).build().unwrap();
    let error = send(&transport, post(URL.to_owned())).await.unwrap_err();
    assert_eq!(told(&error), (Fault::ConnectionReset, Proof::Sent), "{error:?}");
}
