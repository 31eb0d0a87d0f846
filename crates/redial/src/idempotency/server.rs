//! A request with a key is carried out once, on the server's side.

mod answer;
mod execution;
mod flights;
mod hold;
mod identity;
mod problem;
mod run_on;
mod shared;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, Request, Response, header, request::Parts};
use http_body::Body;
use pin_project_lite::pin_project;
use redial_core::KeyOutcome;
use tower_layer::Layer;
use tower_service::Service;

pub use self::execution::Execution;
use self::{
    answer::{again, read_whole},
    flights::Flights,
    hold::Hold,
    problem::Problem,
    run_on::RunOn,
    shared::{About, Shared},
};
use super::{
    key::{IdempotencyKey, InvalidKey},
    policy::{Abandoned, IdempotencyPolicy, Outage},
    store::{Claim, IdempotencyStore},
};
use crate::{
    buffer::BufferedBody,
    http::IDEMPOTENCY_KEY,
    observe::{Observe, Observer},
};

/// Wraps services in [`Idempotency`].
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use redial::{
///     BoxError,
///     idempotency::{IdempotencyLayer, MemoryStore},
/// };
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// static ORDERS: AtomicU32 = AtomicU32::new(0);
/// let orders = service_fn(|_: Request<_>| async {
///     let number = ORDERS.fetch_add(1, Relaxed);
///     Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(format!("order {number}"))))
/// });
/// let service = IdempotencyLayer::new(MemoryStore::default()).layer(orders);
///
/// for replayed in [None, Some("true")] {
///     let request = Request::post("/orders").header("idempotency-key", "\"7a\"");
///     let request = request.body(Full::<Bytes>::from("one apple"))?;
///     let answer = service.clone().oneshot(request).await?;
///     let mark = answer.headers().get("idempotent-replayed");
///     assert_eq!(mark.map(|mark| mark.to_str().unwrap()), replayed);
/// }
/// assert_eq!(ORDERS.load(Relaxed), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct IdempotencyLayer<St> {
    shared: Arc<Shared<St>>,
}

/// A service that carries out a request with an idempotency key once, and answers its duplicates with what
/// came of it.
///
/// What makes a duplicate is the key together with who asks, the method and the path. The body is read
/// first, to be compared. See [the module](super) for what clients are told.
///
/// An answer is whole before anybody gets it, up to the length that is kept: do not put this in front of
/// answers without end. Trailers go to the first and are not kept.
///
/// # Cancellation
///
/// An execution that nobody waits for any more goes on in a task of its own, unless
/// [`IdempotencyPolicy::abandoned`] says otherwise: its effects may have happened, and the repetition that
/// will come gets its answer. One that panics, or is dropped, frees the key at once; without a runtime to do
/// so, when its lease is over.
#[derive(Clone, Debug)]
pub struct Idempotency<S, St> {
    inner: S,
    shared: Arc<Shared<St>>,
}

type Answer<R, E> = Result<Response<BufferedBody<R>>, E>;

pin_project! {
    /// A request on its way through [`Idempotency`].
    #[must_use = "futures do nothing unless polled"]
    pub struct IdempotencyFuture<F, R, E> {
        #[pin]
        passing: Option<F>,
        keyed: Option<Pin<Box<dyn Future<Output = Answer<R, E>> + Send>>>,
    }
}

impl<St: IdempotencyStore> IdempotencyLayer<St> {
    /// Creates a layer that keeps its records in `store`, under the default policy.
    #[must_use]
    pub fn new(store: St) -> Self {
        let shared = Shared {
            store,
            policy: IdempotencyPolicy::default(),
            field: IDEMPOTENCY_KEY.clone(),
            fingerprinted: vec![header::CONTENT_TYPE],
            principal: Arc::new(identity::authorization),
            problem_types: PROBLEM_TYPES.into(),
            flights: Flights::default(),
            observer: Observer::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the policy.
    #[must_use]
    pub fn policy(self, policy: IdempotencyPolicy) -> Self {
        self.with(|shared| shared.policy = policy)
    }

    /// Sets the field that carries the key. `Idempotency-Key` unless set.
    #[must_use]
    pub fn field(self, field: HeaderName) -> Self {
        self.with(|shared| shared.field = field)
    }

    /// Sets who tells whose request it is. Two principals never share a record, whatever their keys: what
    /// this returns must differ between any two who must not see each other's answers.
    ///
    /// The value of `Authorization` unless set. Where credentials change between the attempts of one call,
    /// as short-lived tokens do, name the account instead.
    #[must_use]
    pub fn principal<P: AsRef<[u8]>>(
        self,
        principal: impl Fn(&Parts) -> P + Send + Sync + 'static,
    ) -> Self {
        let principal = move |head: &Parts| principal(head).as_ref().to_vec();
        self.with(|shared| shared.principal = Arc::new(principal))
    }

    /// Sets the fields that belong to the payload, besides method, target and body. `Content-Type` unless
    /// set.
    #[must_use]
    pub fn fingerprint(self, fields: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(|shared| shared.fingerprinted = fields.into_iter().collect())
    }

    /// Sets what the types of problems begin with: a URI, to which `key-missing` and so on are added. What
    /// cannot stand in a URI is left out.
    #[must_use]
    pub fn problem_types(self, prefix: &str) -> Self {
        let is_fit = |c: &char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '<' | '>');
        let prefix: String = prefix.chars().filter(is_fit).collect();
        self.with(|shared| shared.problem_types = prefix.into())
    }

    /// Tells `observe` of every request with a key.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self {
        self.with(|shared| shared.observer = Observer::new(observe))
    }

    fn with(mut self, change: impl FnOnce(&mut Shared<St>)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }
}

impl<S, St> Layer<S> for IdempotencyLayer<St> {
    type Service = Idempotency<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        Idempotency { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S, St, B, R> Service<Request<B>> for Idempotency<S, St>
where
    S: Service<Request<BufferedBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    St: IdempotencyStore,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    R: Body<Data = Bytes> + Unpin + Send + 'static,
{
    type Response = Response<BufferedBody<R>>;
    type Error = S::Error;
    type Future = IdempotencyFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let key = match self.shared.key_of(&request) {
            Ok(Some(key)) => key,
            Ok(None) => {
                let passing = self.inner.call(request.map(BufferedBody::passing));
                return IdempotencyFuture { passing: Some(passing), keyed: None };
            }
            Err(problem) => {
                let about = About::of(&request);
                let response = self.shared.refuse(&about, problem);
                return IdempotencyFuture::boxed(async { Ok(response) });
            }
        };
        // The instance that `poll_ready` made ready is the one that is called.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        IdempotencyFuture::boxed(serve(Arc::clone(&self.shared), inner, request, key))
    }
}

/// Answers a request with a key.
async fn serve<S, St, B, R>(
    shared: Arc<Shared<St>>,
    mut inner: S,
    request: Request<B>,
    key: IdempotencyKey,
) -> Answer<R, S::Error>
where
    S: Service<Request<BufferedBody<B>>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    St: IdempotencyStore,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    R: Body<Data = Bytes> + Unpin + Send + 'static,
{
    let about = About::of(&request);
    let (head, body) = request.into_parts();
    let body = match read_whole(body, shared.policy.body_bytes_max).await {
        Ok(body) => body,
        Err(problem) => return Ok(shared.refuse(&about, problem)),
    };
    let (record, fingerprint) = shared.identify(&key, &head, &body);
    let request = Request::from_parts(head, BufferedBody::whole(body));
    let token = match shared.claim(&record, fingerprint).await {
        Ok(Claim::Started(token)) => token,
        Ok(Claim::Completed(answer)) => {
            shared.tell(&about, KeyOutcome::Replayed);
            return Ok(again(answer, &shared.problem_types).map(BufferedBody::whole));
        }
        Ok(Claim::InProgress { left }) => {
            return Ok(shared.refuse(&about, Problem::InProgress { left }));
        }
        Ok(Claim::Mismatch) => return Ok(shared.refuse(&about, Problem::Reused)),
        Err(_) if shared.policy.outage == Outage::FailOpen => {
            shared.tell(&about, KeyOutcome::Unprotected);
            return inner.call(request).await.map(|response| response.map(BufferedBody::passing));
        }
        Err(_) => return Ok(shared.refuse(&about, Problem::Unavailable)),
    };
    let hold = Hold::new(&shared, Execution::new(key, record, token), about);
    let work = hold.carry_out(inner, request);
    match shared.policy.abandoned {
        Abandoned::RunOn => RunOn::new(work).await,
        Abandoned::Cancel => work.await,
    }
}

impl<St: IdempotencyStore> Shared<St> {
    /// Returns the key of a request, if it counts there.
    fn key_of<B>(&self, request: &Request<B>) -> Result<Option<IdempotencyKey>, Problem> {
        if !self.policy.methods.contains(request.method()) {
            return Ok(None);
        }
        match IdempotencyKey::of(request.headers(), &self.field) {
            Ok(None) if self.policy.is_required => Err(Problem::Missing),
            Ok(key) => Ok(key),
            Err(InvalidKey::Length(0)) if self.policy.is_required => Err(Problem::Missing),
            Err(_) => Err(Problem::Malformed),
        }
    }

    fn refuse<R>(&self, about: &About, problem: Problem) -> Response<BufferedBody<R>> {
        let outcome = match problem {
            Problem::InProgress { .. } => KeyOutcome::InProgress,
            Problem::Reused => KeyOutcome::Mismatch,
            Problem::Unavailable => KeyOutcome::Refused,
            _ => KeyOutcome::Unusable,
        };
        self.tell(about, outcome);
        problem.response(&self.problem_types).map(BufferedBody::whole)
    }
}

impl About {
    fn of<B>(request: &Request<B>) -> Self {
        Self { method: request.method().clone(), uri: request.uri().clone() }
    }
}

impl<F, R, E> IdempotencyFuture<F, R, E> {
    fn boxed(keyed: impl Future<Output = Answer<R, E>> + Send + 'static) -> Self {
        Self { passing: None, keyed: Some(Box::pin(keyed)) }
    }
}

impl<F, R, E> Future for IdempotencyFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Answer<R, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(passing) = this.passing.as_pin_mut() {
            let response = ready!(passing.poll(cx))?;
            return Poll::Ready(Ok(response.map(BufferedBody::passing)));
        }
        match this.keyed {
            Some(keyed) => keyed.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F, R, E> std::fmt::Debug for IdempotencyFuture<F, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdempotencyFuture").field("is_keyed", &self.keyed.is_some()).finish()
    }
}

/// Headings of the module's documentation, until a service has pages of its own.
const PROBLEM_TYPES: &str = "https://docs.rs/redial/latest/redial/idempotency/#";
