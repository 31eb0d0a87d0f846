//! An upstream with a queue, and the clients that call it, on tokio's paused clock.
//!
//! The upstream is a queue in front of ten workers whose service times are exponential; it goes on with
//! what its callers have given up, as most servers do. Clients call it at random moments whether or not
//! earlier calls have ended. Everything comes from one seed, so that a run can be repeated.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use redial::{Diagnose, Diagnosis, Rejection, core::Entropy};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tower::{Service, ServiceExt};

/// A request without a body.
pub(crate) type Asked = Request<Empty<Bytes>>;
/// An answer without a body.
pub(crate) type Answered = Response<Empty<Bytes>>;
/// A call whose end tells whether it went well.
pub(crate) type Calling = Pin<Box<dyn Future<Output = bool> + Send>>;
/// One client: calls the upstream through whatever layers it has.
pub(crate) type Client = Box<dyn FnMut(Asked) -> Calling + Send>;

/// What the upstream is like from a moment on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Seconds since the start.
    pub(crate) from: f64,
    /// How much longer the workers take; 1 is as usual.
    pub(crate) slowdown: f64,
    /// The share of requests that is answered with 503 at once, without a worker.
    pub(crate) failing: f64,
}

/// A run: who calls, how often, how long, and what they meet.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    /// How many clients, each with layers of its own.
    pub(crate) clients: u32,
    /// Calls a second of all clients together.
    pub(crate) rate: f64,
    /// For how many seconds there are new calls.
    pub(crate) lasts: f64,
    /// What the upstream is like, in order of time. Before the first it is well.
    pub(crate) weather: Vec<Weather>,
    /// Whether the upstream leaves what its caller gave up before a worker took it.
    pub(crate) drops_abandoned: bool,
    /// What all draws come from.
    pub(crate) seed: u64,
}

/// What happened. All times are seconds since the start.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Every call, in the order in which they ended.
    pub(crate) calls: Vec<Call>,
    /// When each attempt reached the upstream, in order.
    pub(crate) attempts: Vec<f64>,
}

/// One call that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// When it began.
    pub(crate) at: f64,
    /// Whether it ended well.
    pub(crate) is_well: bool,
    /// How many requests of it reached the upstream: none if layers refused them all.
    pub(crate) attempts: u32,
}

/// The upstream, as a service. Clones are the same upstream.
#[derive(Clone)]
pub(crate) struct Upstream {
    shared: Arc<Mutex<Shared>>,
}

/// An error that the upstream never makes, but that layers may.
#[derive(Clone, Debug)]
pub(crate) struct Refused(pub(crate) Rejection);

struct Shared {
    began: Instant,
    weather: Vec<Weather>,
    drops_abandoned: bool,
    entropy: Entropy,
    idle: u32,
    queue: VecDeque<Job>,
    attempts: Vec<f64>,
}

/// A request that wants a worker.
struct Job {
    /// What it takes when all is well.
    work: Duration,
    done: oneshot::Sender<()>,
}

/// Counts the requests of a call that reach the upstream; travels in their extensions.
#[derive(Clone, Debug, Default)]
struct Sent(Arc<AtomicU32>);

impl Traffic {
    /// How many calls a second the upstream can answer when it is well.
    pub(crate) const CAPACITY: f64 = WORKERS as f64 / WORK_SECONDS;

    /// Lets clients, each made by `make` of the upstream and a seed of its own, call for as long as the
    /// traffic lasts; returns once every call has ended.
    ///
    /// Needs a single-threaded runtime whose clock is paused.
    pub(crate) async fn run(&self, make: impl Fn(Upstream, u64) -> Client) -> Ledger {
        let upstream = Upstream::new(self);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seeds = Entropy::seeded(self.seed);
        let clients: Vec<_> = (0..self.clients)
            .map(|_| {
                let client = make(upstream.clone(), seeds.draw());
                let moments = Entropy::seeded(seeds.draw());
                tokio::spawn(call_on(self.clone(), client, moments, Arc::clone(&calls)))
            })
            .collect();
        for client in clients {
            client.await.expect("clients do not panic");
        }
        let calls = std::mem::take(&mut *lock(&calls));
        let attempts = std::mem::take(&mut upstream.lock().attempts);
        Ledger { calls, attempts }
    }
}

/// One client's calls, at random moments.
async fn call_on(
    traffic: Traffic,
    mut client: Client,
    moments: Entropy,
    calls: Arc<Mutex<Vec<Call>>>,
) {
    let (began, mean) = (Instant::now(), f64::from(traffic.clients) / traffic.rate);
    let mut at = exponential(&moments) * mean;
    let mut open = tokio::task::JoinSet::new();
    while at < traffic.lasts {
        // The timer knows milliseconds; counting from the start keeps the mean of the gaps exact.
        sleep_until(began + Duration::from_secs_f64(at)).await;
        let (sent, mut request) = (Sent::default(), Request::new(Empty::new()));
        *request.uri_mut() = http::Uri::from_static("http://upstream.example/");
        request.extensions_mut().insert(sent.clone());
        let (call, calls) = (client(request), Arc::clone(&calls));
        open.spawn(async move {
            let is_well = call.await;
            let attempts = sent.0.load(Ordering::Relaxed);
            lock(&calls).push(Call { at, is_well, attempts });
        });
        while open.try_join_next().is_some() {}
        at += exponential(&moments) * mean;
    }
    open.join_all().await;
}

/// Makes a client of a service: it calls clones of it.
pub(crate) fn client<S>(service: S) -> Client
where
    S: Service<Asked, Response = Answered> + Clone + Send + 'static,
    S::Future: Send,
{
    Box::new(move |request| {
        let call = service.clone().oneshot(request);
        Box::pin(async move { call.await.is_ok_and(|answer| answer.status().is_success()) })
    })
}

impl Ledger {
    /// The calls that began within `from..until`.
    pub(crate) fn within(&self, from: f64, until: f64) -> impl Iterator<Item = &Call> + Clone {
        self.calls.iter().filter(move |call| from <= call.at && call.at < until)
    }

    /// The share of the calls within `from..until` that went well.
    pub(crate) fn success(&self, from: f64, until: f64) -> f64 {
        let calls = self.within(from, until);
        ratio(calls.clone().filter(|call| call.is_well).count(), calls.count())
    }

    /// How many attempts reached the upstream within `from..until`.
    pub(crate) fn attempts(&self, from: f64, until: f64) -> usize {
        let before = |moment| self.attempts.partition_point(|at| *at < moment);
        before(until) - before(from)
    }

    /// Attempts that reached the upstream for each call that began, both within `from..until`.
    pub(crate) fn load(&self, from: f64, until: f64) -> f64 {
        ratio(self.attempts(from, until), self.within(from, until).count())
    }

    /// How long after `from` the first `span` seconds began in which at least `share` of the calls went
    /// well, in steps of `span`, up to `until`.
    pub(crate) fn recovery(&self, from: f64, until: f64, span: f64, share: f64) -> Option<f64> {
        let mut starts = (0..).map(|n| f64::from(n) * span);
        starts.by_ref().take_while(|start| from + start < until).find(|start| {
            let start = from + start;
            share <= self.success(start, start + span)
        })
    }
}

impl Upstream {
    fn new(traffic: &Traffic) -> Self {
        let shared = Shared {
            began: Instant::now(),
            weather: traffic.weather.clone(),
            drops_abandoned: traffic.drops_abandoned,
            entropy: Entropy::seeded(!traffic.seed),
            idle: WORKERS,
            queue: VecDeque::new(),
            attempts: Vec::new(),
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Takes a request in; returns what resolves once it is answered, or nothing if it fails at once.
    fn admit<B>(&self, request: &Request<B>) -> Option<oneshot::Receiver<()>> {
        if let Some(Sent(count)) = request.extensions().get() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let (now, mut shared) = (Instant::now(), self.lock());
        let at = (now - shared.began).as_secs_f64();
        shared.attempts.push(at);
        if uniform(&shared.entropy) < shared.weather_at(now).failing {
            return None;
        }
        let work = Duration::from_secs_f64(exponential(&shared.entropy) * WORK_SECONDS);
        let (done, answer) = oneshot::channel();
        shared.queue.push_back(Job { work, done });
        if 0 < shared.idle {
            shared.idle -= 1;
            self.work(&mut shared, now);
        }
        Some(answer)
    }

    /// Has a worker, free since `from`, take the next request, or rest.
    fn work(&self, shared: &mut Shared, from: Instant) {
        while let Some(Job { work, done }) = shared.queue.pop_front() {
            if shared.drops_abandoned && done.is_closed() {
                continue;
            }
            // Exact, whatever the timer rounds: the next request begins when this one has ended.
            let until = from + work.mul_f64(shared.weather_at(from).slowdown);
            let upstream = self.clone();
            tokio::spawn(async move {
                sleep_until(until).await;
                // Whoever asked may be gone.
                let _ = done.send(());
                upstream.work(&mut upstream.lock(), until);
            });
            return;
        }
        shared.idle += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

impl Shared {
    fn weather_at(&self, moment: Instant) -> Weather {
        let at = (moment - self.began).as_secs_f64();
        let so_far = self.weather.iter().take_while(|weather| weather.from <= at);
        so_far.last().copied().unwrap_or(Weather { from: 0.0, slowdown: 1.0, failing: 0.0 })
    }
}

impl<B> Service<Request<B>> for Upstream {
    type Response = Answered;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Answered, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let admitted = self.admit(&request);
        Box::pin(async move {
            let is_well = match admitted {
                Some(answer) => answer.await.is_ok(),
                None => false,
            };
            let mut answer = Response::new(Empty::new());
            if !is_well {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok(answer)
        })
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self(rejection)
    }
}

impl Diagnose for Refused {
    fn diagnose(&self) -> Diagnosis {
        self.0.diagnose()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}", self.0)
    }
}

impl std::error::Error for Refused {}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}

/// A draw from 0 up to, but not including, 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub(crate) fn uniform(entropy: &Entropy) -> f64 {
    (entropy.draw() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A draw from the exponential distribution with mean 1.
fn exponential(entropy: &Entropy) -> f64 {
    -(1.0 - uniform(entropy)).ln()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are small")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const WORKERS: u32 = 10;
const WORK_SECONDS: f64 = 0.05;
