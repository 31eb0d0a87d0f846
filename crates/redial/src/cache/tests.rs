//! An upstream that does as it is told, a wall clock that goes with the runtime's, and a client.

mod bounds;
mod freshness;
mod oracle;
mod sharing;
mod stale;
mod validation;

use std::{
    cell::LazyCell,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use redial_core::{CacheOutcome, CachePolicy};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Cache, CacheLayer, CacheStore, CachedBody};
use crate::{BoxError, policies::Ruling};

type Body = UnsyncBoxBody<Bytes, BoxError>;
type Asked = Request<Empty<Bytes>>;
type Answer = Result<Response<Body>, BoxError>;
type Reply = Arc<dyn Fn(usize, &Asked) -> Answer + Send + Sync>;
type Fields = &'static [(&'static str, &'static str)];

const URI: &str = "http://shop.example/orders/7";
const SECOND: Duration = Duration::from_secs(1);
/// Sun, 20 Sep 2026 09:06:40 GMT
const EPOCH: i64 = 1_789_895_200;

thread_local! {
    static START: LazyCell<tokio::time::Instant> = const { LazyCell::new(tokio::time::Instant::now) };
}

/// The wall clock of tests.
fn wall() -> i64 {
    let elapsed = START.with(|start| start.elapsed());
    EPOCH + i64::try_from(elapsed.as_secs()).unwrap()
}

fn date(offset: i64) -> String {
    let stamp = jiff::Timestamp::from_second(wall() + offset).unwrap();
    stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A service of its own type: the compiler loses sight of a boxed one's lifetime in spawned tasks.
#[derive(Clone)]
struct Upstream {
    log: Log,
    takes: Duration,
    reply: Reply,
}

/// What was asked of the upstream so far.
#[derive(Clone, Default)]
struct Log {
    calls: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<(Method, HeaderMap)>>>,
}

impl Log {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn last(&self) -> HeaderMap {
        self.heads.lock().unwrap().last().unwrap().1.clone()
    }
}

struct Client {
    cache: Cache<Upstream>,
    store: CacheStore,
    log: Log,
    told: Arc<Mutex<Vec<&'static str>>>,
}

/// What came back, in short.
struct Got {
    status: u16,
    headers: HeaderMap,
    outcome: Option<CacheOutcome>,
    body: Result<Bytes, BoxError>,
}

/// A client whose upstream takes `takes` for each answer, which `reply` makes of the number of the call
/// (from 0) and its request.
fn slow_client(
    policy: impl Into<Ruling<CachePolicy>>,
    takes: Duration,
    reply: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static,
) -> Client {
    let log = Log::default();
    let upstream = Upstream { log: log.clone(), takes, reply: Arc::new(reply) };
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let store = CacheStore::with_wall(false, wall);
    wall();
    let layer = CacheLayer::new(policy).store(store.clone()).observe(
        move |_: &crate::Call<'_>, event: &redial_core::Event| {
            if let redial_core::Event::Cached { outcome } = event {
                telling.lock().unwrap().push(outcome.name());
            }
        },
    );
    Client { cache: layer.layer(upstream), store, log, told }
}

fn client(
    policy: impl Into<Ruling<CachePolicy>>,
    reply: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static,
) -> Client {
    slow_client(policy, Duration::ZERO, reply)
}

/// A client that is always answered with a 200, `fields`, and the number of the call as its body.
fn steady(fields: Fields) -> Client {
    client(CachePolicy::default(), move |n, _| answer(200, fields, &n.to_string()))
}

fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Answer {
    let full = Full::from(body.to_owned()).map_err(|never: Infallible| match never {});
    let mut response = Response::new(full.boxed_unsync());
    *response.status_mut() = status.try_into().unwrap();
    for (name, value) in fields {
        let name: header::HeaderName = name.parse().unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    Ok(response)
}

fn refused() -> Answer {
    Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into())
}

fn get(fields: &[(&str, &str)]) -> Asked {
    ask("GET", URI, fields)
}

fn ask(method: &str, uri: &str, fields: &[(&str, &str)]) -> Asked {
    let request = Request::builder().method(method).uri(uri);
    let add = |request: http::request::Builder, (name, value): &(&str, &str)| {
        request.header(*name, *value)
    };
    fields.iter().fold(request, add).body(Empty::new()).unwrap()
}

impl Service<Asked> for Upstream {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Asked) -> Self::Future {
        let Self { log, takes, reply } = self.clone();
        Box::pin(async move {
            let number = log.calls.fetch_add(1, Ordering::Relaxed);
            let head = (request.method().clone(), request.headers().clone());
            log.heads.lock().unwrap().push(head);
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            reply(number, &request)
        })
    }
}

impl Client {
    async fn send(&self, request: Asked) -> Result<Got, BoxError> {
        Ok(Got::read(self.cache.clone().oneshot(request).await?).await)
    }

    async fn get(&self) -> Got {
        self.send(get(&[])).await.unwrap()
    }

    async fn get_with(&self, fields: &[(&str, &str)]) -> Got {
        self.send(get(fields)).await.unwrap()
    }

    /// Sends `count` equal requests at once, and returns what came back.
    async fn get_many(&self, count: usize) -> Vec<Result<Got, BoxError>> {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..count {
            let call = self.cache.clone().oneshot(get(&[]));
            calls.spawn(async move { Ok(Got::read(call.await?).await) });
        }
        calls.join_all().await
    }

    fn told(&self) -> Vec<&'static str> {
        self.told.lock().unwrap().clone()
    }
}

impl Got {
    async fn read(response: Response<CachedBody<Body>>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status.as_u16(),
            outcome: head.extensions.get().copied(),
            headers: head.headers,
            body: body.collect().await.map(http_body_util::Collected::to_bytes),
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.body.as_ref().unwrap()).unwrap()
    }

    fn age(&self) -> Option<u64> {
        self.headers.get(header::AGE)?.to_str().ok()?.parse().ok()
    }

    fn name(&self) -> &'static str {
        self.outcome.map_or("", CacheOutcome::name)
    }
}

async fn pass(seconds: u64) {
    tokio::time::advance(SECOND * u32::try_from(seconds).unwrap()).await;
}
