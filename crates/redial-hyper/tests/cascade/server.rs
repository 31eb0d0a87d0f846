//! A server on hyper, which notes what it is asked, when its work is dropped, and what is at work.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use redial::{BoxError, InboundLayer, TraceId, current_deadline, current_trace};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tower::{Layer, ServiceExt};

use crate::{
    hops::{Client, empty},
    now,
};

pub(crate) type Answer = UnsyncBoxBody<Bytes, BoxError>;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    Http1,
    Http2,
}

/// What the server does about each request.
pub(crate) enum Act {
    Answer,
    /// Begins an answer, and adds to it for ever.
    AnswerForEver,
    /// Reads the request, and never answers.
    Hang,
    /// Never answers, and leaves the request's body where it is.
    HangUnread,
    /// Asks somebody else, whose answer it passes on.
    Call(Client, String),
}

/// What a handler was asked.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// What the request said of the time left.
    pub(crate) told: Option<u64>,
    /// What the handler knew of it.
    pub(crate) left: Option<Duration>,
    pub(crate) trace: Option<TraceId>,
    pub(crate) parent: Option<String>,
    pub(crate) baggage: Option<String>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    site: Arc<Site>,
    task: JoinHandle<()>,
}

struct Site {
    act: Act,
    seen: watch::Sender<Vec<Seen>>,
    working: watch::Sender<usize>,
    dropped: watch::Sender<Vec<Instant>>,
}

/// Work that is going on.
struct Work {
    site: Arc<Site>,
}

impl Server {
    pub(crate) async fn start(wire: Wire, layer: InboundLayer, act: Act) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let site = Arc::new(Site {
            act,
            seen: watch::Sender::default(),
            working: watch::Sender::default(),
            dropped: watch::Sender::default(),
        });
        let task = tokio::spawn(serve(listener, wire, layer, Arc::clone(&site)));
        Self { address, url: format!("http://{address}/"), site, task }
    }

    /// Returns what the handlers were asked, in order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.site.seen.borrow().clone()
    }

    /// Returns when work ended, whether it was done or not.
    pub(crate) fn dropped(&self) -> Vec<Instant> {
        self.site.dropped.borrow().clone()
    }

    pub(crate) async fn until_seen(&self, count: usize) {
        until(&self.site.seen, |seen| count <= seen.len()).await;
    }

    pub(crate) async fn until_dropped(&self, count: usize) {
        until(&self.site.dropped, |dropped| count <= dropped.len()).await;
    }

    pub(crate) async fn until_idle(&self) {
        until(&self.site.working, |working| *working == 0).await;
    }
}

async fn until<T>(sender: &watch::Sender<T>, is_so: impl FnMut(&T) -> bool) {
    let mut receiver = sender.subscribe();
    let waiting = receiver.wait_for(is_so);
    tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("it never came").unwrap();
}

async fn serve(listener: TcpListener, wire: Wire, layer: InboundLayer, site: Arc<Site>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve_connection(stream, wire, layer.clone(), Arc::clone(&site)));
    }
}

async fn serve_connection(stream: TcpStream, wire: Wire, layer: InboundLayer, site: Arc<Site>) {
    let handler = layer.layer(tower::service_fn(move |request| handle(Arc::clone(&site), request)));
    let service = service_fn(move |request: Request<Incoming>| handler.clone().oneshot(request));
    let builder = auto::Builder::new(TokioExecutor::new());
    let builder = match wire {
        Wire::Http1 => builder.http1_only(),
        Wire::Http2 => builder.http2_only(),
    };
    // Callers that go away end connections with errors: that is what these tests are about.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(
    site: Arc<Site>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, redial_hyper::Error> {
    let work = Work::begin(&site, request.headers());
    match &site.act {
        Act::Answer => {
            request.into_body().collect().await.unwrap();
            Ok(Response::new(boxed(Full::from("done"))))
        }
        Act::AnswerForEver => Ok(Response::new(UnsyncBoxBody::new(Drops::of(work)))),
        Act::Hang => {
            request.into_body().collect().await.unwrap();
            std::future::pending().await
        }
        Act::HangUnread => std::future::pending().await,
        Act::Call(client, url) => {
            client.clone().oneshot(Request::get(url).body(empty()).unwrap()).await
        }
    }
}

fn boxed(body: Full<Bytes>) -> Answer {
    UnsyncBoxBody::new(body.map_err(|never| match never {}))
}

impl Work {
    fn begin(site: &Arc<Site>, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let seen = Seen {
            told: text("redial-timeout-ms").map(|told| told.parse().unwrap()),
            left: current_deadline().map(|deadline| deadline.remaining(now())),
            trace: current_trace(),
            parent: text("traceparent"),
            baggage: text("baggage"),
        };
        site.working.send_modify(|working| *working += 1);
        site.seen.send_modify(|all| all.push(seen));
        Self { site: Arc::clone(site) }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.site.dropped.send_modify(|dropped| dropped.push(now()));
        self.site.working.send_modify(|working| *working -= 1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer that brings a drop every 20 ms, for as long as somebody takes it.
struct Drops {
    ticks: tokio::time::Interval,
    _work: Work,
}

impl Drops {
    fn of(work: Work) -> Self {
        Self { ticks: tokio::time::interval(Duration::from_millis(20)), _work: work }
    }
}

impl http_body::Body for Drops {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let drop = |_| Some(Ok(Frame::data(Bytes::from_static(b"."))));
        self.ticks.poll_tick(cx).map(drop)
    }
}
