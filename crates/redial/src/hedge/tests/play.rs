//! An upstream that takes its time, and remembers what came, when, and what became of it.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::request::Parts;
use http_body_util::BodyExt;
use tokio::time::Instant as TokioInstant;

use super::*;

pub(super) type Answer = Result<Response<Full<Bytes>>, Broken>;
type Sent = Request<ReplayBody<Full<Bytes>>>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Broken(pub(super) Fault);

impl Diagnose for Broken {
    fn diagnose(&self) -> Diagnosis {
        self.0.into()
    }
}

impl From<Rejection> for Broken {
    fn from(rejection: Rejection) -> Self {
        Self(rejection.diagnose().fault)
    }
}

pub(super) struct Timed {
    latency: Duration,
    answer: Answer,
}

/// What to add to a script.
pub(super) enum Put {
    One(Timed),
    /// For the first copy and for a hedge.
    Both(Timed),
}

#[derive(Clone)]
pub(super) struct Play {
    started: TokioInstant,
    script: Arc<Mutex<VecDeque<Timed>>>,
    seen: Arc<Mutex<Vec<(Parts, Bytes, u64)>>>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    out: AtomicUsize,
    ended: AtomicUsize,
    dropped: AtomicUsize,
}

/// Counts an exchange as dropped unless it came to its end.
struct Exchange(Arc<Tally>, bool);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.out.fetch_sub(1, Ordering::Relaxed);
        let Self(tally, is_over) = self;
        let count = if *is_over { &tally.ended } else { &tally.dropped };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Play {
    pub(super) fn new(script: impl IntoIterator<Item = Timed>) -> Self {
        Self {
            started: TokioInstant::now(),
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            seen: Arc::default(),
            tally: Arc::default(),
        }
    }

    pub(super) fn put(&self, put: Put) {
        let mut script = self.script.lock().unwrap();
        match put {
            Put::One(timed) => script.push_back(timed),
            Put::Both(Timed { latency, answer }) => {
                script.push_back(Timed { latency, answer: copy(&answer) });
                script.push_back(Timed { latency, answer });
            }
        }
    }

    pub(super) fn clear(&self) {
        self.script.lock().unwrap().clear();
    }

    async fn answer(self, request: Sent) -> Answer {
        self.tally.out.fetch_add(1, Ordering::Relaxed);
        let mut exchange = Exchange(Arc::clone(&self.tally), false);
        let (head, body) = request.into_parts();
        let at = self.now();
        let body = body.collect().await.unwrap().to_bytes();
        self.seen.lock().unwrap().push((head, body, at));
        let next = self.script.lock().unwrap().pop_front();
        let Timed { latency, answer } = next.unwrap_or_else(|| after(0, status(200)));
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        exchange.1 = true;
        answer
    }

    /// Milliseconds since the play began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    pub(super) fn sent_at(&self) -> Vec<u64> {
        self.seen.lock().unwrap().iter().map(|(_, _, at)| *at).collect()
    }

    pub(super) fn heads(&self) -> Vec<Parts> {
        self.seen.lock().unwrap().iter().map(|(head, _, _)| head.clone()).collect()
    }

    pub(super) fn bodies(&self) -> Vec<Bytes> {
        self.seen.lock().unwrap().iter().map(|(_, body, _)| body.clone()).collect()
    }

    pub(super) fn hits(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(super) fn out(&self) -> usize {
        self.tally.out.load(Ordering::Relaxed)
    }

    pub(super) fn ended(&self) -> usize {
        self.tally.ended.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> usize {
        self.tally.dropped.load(Ordering::Relaxed)
    }
}

impl Service<Sent> for Play {
    type Response = Response<Full<Bytes>>;
    type Error = Broken;
    type Future = std::pin::Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

pub(super) fn after(latency: u64, answer: Answer) -> Timed {
    Timed { latency: millis(latency), answer }
}

pub(super) fn status(code: u16) -> Answer {
    let status = StatusCode::from_u16(code).unwrap();
    Ok(Response::builder().status(status).body(Full::from("why not")).unwrap())
}

pub(super) fn wishing(code: u16, name: &'static str, value: &'static str) -> Answer {
    status(code).map(|mut response| {
        response.headers_mut().insert(name, http::HeaderValue::from_static(value));
        response
    })
}

pub(super) const fn broken(fault: Fault) -> Answer {
    Err(Broken(fault))
}

fn copy(answer: &Answer) -> Answer {
    match answer {
        Ok(response) => status(response.status().as_u16()),
        Err(error) => Err(*error),
    }
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn hedged(hedge: HedgePolicy) -> Policy {
    Policy { hedge: Some(hedge), budget: BudgetPolicy::Unlimited, ..Policy::default() }
}

pub(super) fn get() -> Request<Full<Bytes>> {
    Request::get("http://shop.example/item").body(Full::default()).unwrap()
}

pub(super) fn post() -> Request<Full<Bytes>> {
    Request::post("http://shop.example/orders").body(Full::from("one apple")).unwrap()
}
