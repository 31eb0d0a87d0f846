//! Three servers in a row, and clients as they use them.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use redial::{BoxError, InboundLayer, LogLayer, PropagateLayer, core::Policy};
use redial_hyper::Transport;
use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};

use crate::server::{Act, Answer, Server, Wire};

pub(crate) type Client =
    BoxCloneSyncService<Request<Full<Bytes>>, Response<Answer>, redial_hyper::Error>;

/// An edge that calls a middle that calls a leaf.
pub(crate) struct Hops {
    pub(crate) edge: Server,
    pub(crate) middle: Server,
    pub(crate) leaf: Server,
}

impl Hops {
    pub(crate) async fn start(wire: Wire, act: Act) -> Self {
        let layer = InboundLayer::new();
        let leaf = Server::start(wire, layer.clone(), act).await;
        let call = |next: &Server| Act::Call(standard(wire), next.url.clone());
        let middle = Server::start(wire, layer.clone(), call(&leaf)).await;
        let edge = Server::start(wire, layer, call(&middle)).await;
        Self { edge, middle, leaf }
    }

    pub(crate) fn all(&self) -> [&Server; 3] {
        [&self.edge, &self.middle, &self.leaf]
    }

    pub(crate) async fn until_nobody_works(&self) {
        for server in self.all() {
            let idle = server.until_idle();
            tokio::time::timeout(Duration::from_secs(5), idle).await.expect("a hop works on");
        }
    }
}

/// A client as a service has it: the standard stack, retries included.
fn standard(wire: Wire) -> Client {
    let stack = redial::stack(Policy::default())
        .map_calls(|mut calls| {
            calls.log = LogLayer::silent();
            calls
        })
        .map_attempts(|attempts| (attempts, PropagateLayer::new()));
    erased(stack.layer(transport(wire)))
}

/// A client that does nothing but tell.
pub(crate) fn plain(wire: Wire) -> Client {
    erased(PropagateLayer::new().layer(transport(wire)))
}

fn transport(wire: Wire) -> Transport {
    let builder = match wire {
        Wire::Http1 => Transport::builder().http1_only(true),
        Wire::Http2 => Transport::builder().http2_only(true),
    };
    builder.build().unwrap()
}

fn erased<S, B>(client: S) -> Client
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = redial_hyper::Error>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let boxed = |body: B| UnsyncBoxBody::new(body.map_err(Into::into));
    BoxCloneSyncService::new(client.map_response(move |answer| answer.map(boxed)))
}

pub(crate) fn empty() -> Full<Bytes> {
    Full::default()
}

pub(crate) fn get(server: &Server) -> Request<Full<Bytes>> {
    Request::get(&server.url).body(empty()).unwrap()
}

/// Sends `request` and reads the answer to its end.
pub(crate) async fn send(
    client: &Client,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, String), BoxError> {
    let (head, body) = client.clone().oneshot(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok((head.status, String::from_utf8(body.into())?))
}
