//! hyper's server, where the scripted one cannot do it: many connections, and settings of HTTP/2.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::Semaphore};

/// What a server has seen.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) connections: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    /// How many streams one connection had at a time, at most.
    pub(crate) streams_most: AtomicUsize,
    /// Every answer takes one of these.
    pub(crate) answers: Semaphore,
    body: Bytes,
}

impl Server {
    /// Starts one that answers with `body_bytes` bytes; over HTTP/2 if `streams_max` says how many
    /// streams a connection may have.
    pub(crate) async fn start(
        streams_max: Option<u32>,
        answers: usize,
        body_bytes: usize,
    ) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            url: format!("http://{}/", listener.local_addr().unwrap()),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            streams_most: AtomicUsize::new(0),
            answers: Semaphore::new(answers),
            body: vec![b'x'; body_bytes].into(),
        });
        tokio::spawn(Arc::clone(&server).accept(listener, streams_max));
        server
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, streams_max: Option<u32>) {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            self.connections.fetch_add(1, Ordering::Relaxed);
            let (server, streams) = (Arc::clone(&self), Arc::new(AtomicUsize::new(0)));
            let service = service_fn(move |_: http::Request<Incoming>| {
                Arc::clone(&server).answer(Arc::clone(&streams))
            });
            let io = TokioIo::new(stream);
            tokio::spawn(async move {
                // A client that goes away is no news.
                match streams_max {
                    None => drop(conn::http1::Builder::new().serve_connection(io, service).await),
                    Some(max) => {
                        let mut http = conn::http2::Builder::new(TokioExecutor::new());
                        drop(http.max_concurrent_streams(max).serve_connection(io, service).await);
                    }
                }
            });
        }
    }

    async fn answer(
        self: Arc<Self>,
        streams: Arc<AtomicUsize>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let now = streams.fetch_add(1, Ordering::Relaxed) + 1;
        self.streams_most.fetch_max(now, Ordering::Relaxed);
        self.answers.acquire().await.unwrap().forget();
        streams.fetch_sub(1, Ordering::Relaxed);
        Ok(Response::new(Full::new(self.body.clone())))
    }
}
