//! A service that counts what it does, a store that fails when it is told to, and what tests ask them.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use redial::{
    BoxError,
    core::{Event, FencingToken, Fingerprint, KeyOutcome},
    idempotency::{
        Claim, Execution, Idempotency, IdempotencyLayer, IdempotencyStore, MemoryStore, RecordKey,
        StoreError, StoredAnswer,
    },
};
use tower::{Service, ServiceExt};

/// Does what the query says, each time: `?status=500&after=5&body=100&panic&fail&done`.
#[derive(Clone, Default)]
pub(crate) struct Shop {
    pub(crate) begun: Arc<AtomicU32>,
    pub(crate) ended: Arc<AtomicU32>,
    pub(crate) executions: Arc<Mutex<Vec<Execution>>>,
}

pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Shop {
    pub(crate) fn begun(&self) -> u32 {
        self.begun.load(Ordering::SeqCst)
    }

    pub(crate) fn ended(&self) -> u32 {
        self.ended.load(Ordering::SeqCst)
    }

    pub(crate) fn tokens(&self) -> Vec<FencingToken> {
        self.executions.lock().unwrap().iter().map(Execution::token).collect()
    }
}

impl<B> Service<Request<B>> for Shop
where
    B: Body<Data = Bytes, Error: std::fmt::Debug> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shop = self.clone();
        Box::pin(async move {
            let number = shop.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let query = head.uri.query().unwrap_or_default().to_owned();
            let asked = |name: &str| {
                let mut pairs =
                    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                pairs.find(|(own, _)| *own == name).map(|(_, value)| value.to_owned())
            };
            let execution = head.extensions.get::<Execution>().cloned();
            shop.executions.lock().unwrap().extend(execution.clone());
            if let Some(seconds) = asked("after") {
                tokio::time::sleep(Duration::from_secs(seconds.parse()?)).await;
            }
            assert!(asked("panic").is_none(), "as it was told to");
            shop.ended.fetch_add(1, Ordering::SeqCst);
            if asked("fail").is_some() {
                return Err("as it was told to".into());
            }
            let mut text = format!("order {number} of {} bytes", body.len());
            if let Some(length) = asked("body") {
                text = "x".repeat(length.parse()?);
            }
            if let Some(execution) = execution.filter(|_| asked("done").is_some()) {
                execution.mark_completed();
            }
            let status = asked("status").map_or(Ok(201), |status| status.parse())?;
            let response =
                Response::builder().status(status).header("location", format!("/{number}"));
            Ok(response.header("set-cookie", "session=1").body(Full::from(text))?)
        })
    }
}

/// A store that is unreachable, or takes for ever, as long as it is told to.
#[derive(Clone)]
pub(crate) struct Faulty {
    inner: MemoryStore,
    pub(crate) is_down: Arc<AtomicBool>,
    pub(crate) hangs: Arc<AtomicBool>,
}

impl Faulty {
    pub(crate) fn new(inner: MemoryStore) -> Self {
        Self { inner, is_down: Arc::default(), hangs: Arc::default() }
    }

    async fn reach(&self) -> Result<(), StoreError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        match self.is_down.load(Ordering::SeqCst) {
            true => Err(StoreError::new("faulty", "as it was told to")),
            false => Ok(()),
        }
    }
}

impl IdempotencyStore for Faulty {
    async fn begin(
        &self,
        key: &RecordKey,
        fingerprint: Fingerprint,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        self.reach().await?;
        self.inner.begin(key, fingerprint, lease).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        token: FencingToken,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        self.reach().await?;
        self.inner.renew(key, token, lease).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: FencingToken,
        answer: &StoredAnswer,
        keep: Duration,
    ) -> Result<bool, StoreError> {
        self.reach().await?;
        self.inner.complete(key, token, answer, keep).await
    }

    async fn release(&self, key: &RecordKey, token: FencingToken) -> Result<bool, StoreError> {
        self.reach().await?;
        self.inner.release(key, token).await
    }
}

impl Answered {
    pub(crate) fn is_replayed(&self) -> bool {
        self.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
    }

    /// The last part of the problem's type, of a problem.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.body);
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(json["status"], self.status);
        json["type"].as_str().unwrap().rsplit('#').next().unwrap().to_owned()
    }

    pub(crate) fn retry_after(&self) -> Option<&str> {
        self.headers.get("retry-after").map(|value| value.to_str().unwrap())
    }
}

pub(crate) fn post(target: &str, key: &str) -> Request<Full<Bytes>> {
    let request = Request::post(target).header("idempotency-key", key);
    request.body(Full::from("one apple")).unwrap()
}

pub(crate) async fn ask<St: IdempotencyStore>(
    service: &Idempotency<Shop, St>,
    request: Request<Full<Bytes>>,
) -> Answered {
    let response = service.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let status = StatusCode::as_u16(&head.status);
    Answered { status, headers: head.headers, body }
}

/// Notes what a layer tells.
pub(crate) fn told<St: IdempotencyStore>(
    layer: IdempotencyLayer<St>,
) -> (IdempotencyLayer<St>, Arc<Mutex<Vec<KeyOutcome>>>) {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&outcomes);
    let observe = move |_: &redial::Call<'_>, event: &Event| {
        if let Event::Keyed { outcome } = event {
            noted.lock().unwrap().push(*outcome);
        }
    };
    (layer.observe(observe), outcomes)
}
