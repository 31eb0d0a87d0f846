//! Answers that need no call: a cache by RFC 9111 and RFC 5861, and calls that share one answer.
//!
//! Rules are applied to heads in `rules`, `directives` and `entry`; `store` keeps, in a bounded number
//! of bytes; `flights` knows which calls for the same are out; `fetch` makes the best of an answer that
//! comes. This module only puts requests on their way.

mod body;
mod directives;
mod entry;
mod fetch;
mod flights;
mod rules;
mod store;

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use pin_project_lite::pin_project;
use redial_core::{CacheOutcome, CachePolicy, Event};
use tokio::sync::watch;
use tower_layer::Layer;
use tower_service::Service;

pub use self::{body::CachedBody, store::CacheStore};
use self::{
    directives::Asks,
    entry::{Entry, Serves},
    fetch::{Errand, Fetch, Plan},
    flights::{Join, Landing, Lead},
    store::{Found, Place},
};
use crate::{
    observe::{Call, Observe, Observer},
    policies::Ruling,
};

/// Wraps services in [`Cache`].
#[derive(Clone, Debug)]
pub struct CacheLayer {
    ruling: Ruling<CachePolicy>,
    store: CacheStore,
    observer: Observer,
}

/// A service that answers from what it has stored where HTTP allows it, and lets calls that ask for the
/// same at the same time share one.
///
/// It answers GET, and HEAD from a stored GET. Everything else passes; a call that may have changed
/// something, and went well, makes it forget what it has of that resource. Requests that are
/// conditional, for a part, with a body, or `no-store` pass as well. A stored answer carries `Age`, and
/// every answer that the cache had a say in a [`CacheOutcome`] in its extensions.
///
/// Answers that are being stored are read to their end first, up to the policy's bound and for 2 s at
/// most; then, or if they are longer, they stream on as they come.
///
/// # Cancellation
///
/// Dropping the future drops the call. Calls that waited for it are not lost: one of them goes in its
/// place. Renewals in the background go on.
#[derive(Clone, Debug)]
pub struct Cache<S> {
    inner: S,
    layer: CacheLayer,
}

/// When the attempt that brought an answer was sent: an extension of responses.
///
/// The age of an answer counts from there (RFC 9111 §4.2.3). Layers below that send more than one
/// attempt put it in; without it, age counts from the beginning of the call, which is never too young.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SentAt(pub Instant);

pin_project! {
    /// A call in flight: an answer that is there, a call below, or a wait for another call.
    pub struct CacheFuture<F, B: Body, E> {
        #[pin]
        state: State<F, B, E>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B: Body, E> {
        Answered { response: Option<Response<CachedBody<B>>> },
        Fetching { #[pin] fetch: Fetch<F, B> },
        Waiting { wait: Waiting<B, E> },
    }
}

type Waiting<B, E> = Pin<Box<dyn Future<Output = Result<Response<CachedBody<B>>, E>> + Send>>;

/// What is done with a request.
enum Step<R, B: Body> {
    Answer(Response<CachedBody<B>>),
    /// Give out what is stored, and send the request on its own.
    Renew(Response<CachedBody<B>>, Request<R>, Box<Plan>, Place),
    Fetch(Request<R>, Errand<B>),
    Wait(Request<R>, Queued),
}

/// What a call knows while it waits for another.
struct Queued {
    landing: watch::Receiver<Landing>,
    stale: Option<Arc<Entry>>,
    asks: Asks,
    policy: CachePolicy,
}

impl CacheLayer {
    /// Creates a layer that caches as a policy says: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says at that moment. It has a store of its own, as large as the
    /// largest policy that rules; it grows with policies, and does not shrink.
    pub fn new(ruling: impl Into<Ruling<CachePolicy>>) -> Self {
        let (store, observer) = (CacheStore::growing(), Observer::default());
        Self { ruling: ruling.into(), store, observer }
    }

    /// Keeps answers in `store`, which other clients may share and whose size is its own.
    #[must_use]
    pub fn store(self, store: CacheStore) -> Self {
        Self { store, ..self }
    }

    /// Tells `observe` how answers came about.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self {
        Self { observer: Observer::new(observe), ..self }
    }

    /// Returns the store, to look into it or to invalidate by hand.
    #[must_use]
    pub fn handle(&self) -> CacheStore {
        self.store.clone()
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Cache { inner, layer: self.clone() }
    }
}

impl<S, R, B> Service<Request<R>> for Cache<S>
where
    S: Service<Request<R>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send,
    R: Body + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    type Response = Response<CachedBody<B>>;
    type Error = S::Error;
    type Future = CacheFuture<S::Future, B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let policy = self.layer.ruling.with(request.extensions(), |policy| policy.copied());
        let Some(policy) = policy else {
            return CacheFuture::fetch(self.inner.call(request), Errand::Pass);
        };
        match self.layer.step(&policy, request, policy.is_coalescing()) {
            Step::Answer(response) => CacheFuture::answer(response),
            Step::Fetch(request, errand) => CacheFuture::fetch(self.inner.call(request), errand),
            Step::Renew(response, request, plan, place) => {
                renew(self.take(), request, plan, place);
                CacheFuture::answer(response)
            }
            Step::Wait(request, queued) => {
                let (service, layer) = (self.take(), self.layer.clone());
                let wait = Box::pin(layer.wait(service, request, queued));
                CacheFuture { state: State::Waiting { wait } }
            }
        }
    }
}

impl<S: Clone> Cache<S> {
    /// Takes the instance that `poll_ready` made ready; a clone stays behind.
    fn take(&mut self) -> S {
        let clone = self.inner.clone();
        mem::replace(&mut self.inner, clone)
    }
}

impl CacheLayer {
    fn step<R, B>(&self, policy: &CachePolicy, request: Request<R>, may_wait: bool) -> Step<R, B>
    where
        R: Body,
        B: Body<Data = Bytes>,
    {
        let (store, method) = (&self.store.shared, request.method());
        let is_get = method == Method::GET;
        if !is_get && method != Method::HEAD {
            let errand = if store.is_untouched() || !fetch::may_change(method) {
                Errand::Pass
            } else {
                Errand::Invalidate { store: Arc::clone(store), uri: request.uri().clone() }
            };
            return Step::Fetch(request, errand);
        }
        let asks = Asks::of(request.headers());
        let is_plain = request.body().is_end_stream();
        if asks.no_store || !is_plain || rules::is_for_upstream_only(request.headers()) {
            return Step::Fetch(request, Errand::Pass);
        }
        store.make_room(policy.bytes_max());
        self.look_up(policy, asks, request, may_wait)
    }

    fn look_up<R, B>(
        &self,
        policy: &CachePolicy,
        asks: Asks,
        mut request: Request<R>,
        may_wait: bool,
    ) -> Step<R, B>
    where
        B: Body<Data = Bytes>,
    {
        let (store, now) = (&self.store.shared, self.store.shared.now());
        let is_head = request.method() == Method::HEAD;
        let found = store.find(request.uri(), request.headers());
        let usable = found.entry.as_ref().filter(|_| policy.is_storing());
        if let Some(entry) = usable
            && let Serves::Now(outcome) = entry.serves(&asks, policy, now)
        {
            let response = entry.answer(now, is_head, outcome);
            self.tell(&request, outcome);
            if outcome == CacheOutcome::StaleWhileRevalidate
                && !is_head
                && !asks.only_if_cached
                && let Some((plan, place)) = self.plan_renewal(policy, asks, &mut request, &found)
            {
                return Step::Renew(response, request, plan, place);
            }
            return Step::Answer(response);
        }
        if asks.only_if_cached {
            self.tell(&request, CacheOutcome::OnlyIfCached);
            return Step::Answer(not_cached());
        }
        if is_head && found.entry.is_none() {
            return Step::Fetch(request, Errand::Pass);
        }
        let has_credentials = rules::has_credentials(request.headers());
        let is_anybodys =
            !has_credentials || found.entry.as_ref().is_some_and(|e| e.terms().is_for_everybody());
        let may_share = policy.is_coalescing() && !is_head && !asks.demands() && is_anybodys;
        if found.entry.is_none() && (found.is_alone(now) || !(may_share || policy.is_storing())) {
            return Step::Fetch(request, Errand::Pass);
        }
        let mut lead = None;
        if may_share && may_wait && !found.is_alone(now) {
            match store.join(request.uri(), request.headers(), &found) {
                Join::Wait(landing) => {
                    let queued = Queued { landing, stale: found.entry, asks, policy: *policy };
                    return Step::Wait(request, queued);
                }
                Join::Lead(leading) => {
                    // Another may have landed between the look into the store and here.
                    let again = store.find(request.uri(), request.headers());
                    if policy.is_storing()
                        && let Some(entry) = again.entry
                        && entry.serves(&asks, policy, now) == Serves::Now(CacheOutcome::Hit)
                    {
                        self.tell(&request, CacheOutcome::Hit);
                        return Step::Answer(entry.answer(now, is_head, CacheOutcome::Hit));
                    }
                    lead = Some(leading);
                }
            }
        }
        let stale = found.entry.filter(|_| policy.is_storing());
        let plan = self.plan(policy, asks, &mut request, stale, lead);
        Step::Fetch(request, Errand::Keep(plan))
    }

    /// Prepares a call whose answer is made use of, and makes the request conditional where that helps.
    fn plan<R>(
        &self,
        policy: &CachePolicy,
        asks: Asks,
        request: &mut Request<R>,
        stale: Option<Arc<Entry>>,
        lead: Option<Lead>,
    ) -> Box<Plan> {
        let store = &self.store.shared;
        let headers = request.headers().clone();
        let is_get = request.method() == Method::GET;
        let conditional = stale.as_ref().filter(|_| is_get);
        let is_conditional = conditional.is_some_and(|stale| stale.validate(request.headers_mut()));
        Box::new(Plan {
            store: Arc::clone(store),
            observer: self.observer.clone(),
            policy: *policy,
            asks,
            method: request.method().clone(),
            uri: request.uri().clone(),
            has_credentials: rules::has_credentials(&headers),
            headers,
            stale,
            is_conditional,
            lead,
            changes: store.changes(request.uri()),
            began: store.now().at,
        })
    }

    /// Prepares a renewal in the background; `None` where one is under way, or there are too many.
    fn plan_renewal<R>(
        &self,
        policy: &CachePolicy,
        asks: Asks,
        request: &mut Request<R>,
        found: &Found,
    ) -> Option<(Box<Plan>, Place)> {
        let store = &self.store.shared;
        tokio::runtime::Handle::try_current().ok()?;
        let place = store.place()?;
        let join = store.join(request.uri(), request.headers(), found);
        let Join::Lead(lead) = join else { return None };
        let mut plan = self.plan(policy, asks, request, found.entry.clone(), Some(lead));
        // Nobody waits for this answer: what comes of it is told by whoever asks next.
        plan.observer = Observer::default();
        Some((plan, place))
    }

    /// Waits for another call to bring the answer, and goes its own way if that does not help.
    async fn wait<S, R, B>(
        self,
        mut service: S,
        mut request: Request<R>,
        mut queued: Queued,
    ) -> Result<Response<CachedBody<B>>, S::Error>
    where
        S: Service<Request<R>, Response = Response<B>> + Send + 'static,
        S::Error: Send + 'static,
        S::Future: Send,
        R: Body + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let until = tokio::time::Instant::now() + queued.policy.wait_max();
        loop {
            let policy = queued.policy;
            let landed = queued.landing.wait_for(|landing| !matches!(landing, Landing::Aloft));
            let landing = match tokio::time::timeout_at(until, landed).await {
                Ok(Ok(landing)) => Some(landing.clone()),
                // Whoever led has gone away: somebody else has to.
                Ok(Err(_)) => None,
                Err(_) => Some(Landing::Alone),
            };
            let may_wait = landing.is_none();
            if let Some(response) =
                landing.and_then(|landing| self.take_off(&request, &queued, landing))
            {
                return Ok(response);
            }
            match self.step(&policy, request, may_wait) {
                Step::Answer(response) => return Ok(response),
                Step::Fetch(request, errand) => {
                    return Fetch::new(service.call(request), errand).await;
                }
                Step::Renew(response, request, plan, place) => {
                    renew(service, request, plan, place);
                    return Ok(response);
                }
                Step::Wait(again, queue) => (request, queued) = (again, queue),
            }
        }
    }

    /// Returns the answer that another call's landing brings to this one, where it suits.
    fn take_off<R, B: Body<Data = Bytes>>(
        &self,
        request: &Request<R>,
        queued: &Queued,
        landing: Landing,
    ) -> Option<Response<CachedBody<B>>> {
        let now = self.store.shared.now();
        let (entry, outcome) = match landing {
            Landing::Shared(entry) if entry.is_selected_by(request.headers()) => {
                (entry, CacheOutcome::Coalesced)
            }
            Landing::Failed => {
                let stale = queued.stale.clone().filter(|_| queued.policy.is_storing())?;
                let is_allowed = stale.covers_failure(&queued.asks, &queued.policy, now);
                (is_allowed.then_some(stale)?, CacheOutcome::StaleIfError)
            }
            _ => return None,
        };
        self.tell(request, outcome);
        Some(entry.answer(now, false, outcome))
    }

    fn tell<R>(&self, request: &Request<R>, outcome: CacheOutcome) {
        let call = Call { method: request.method(), uri: request.uri() };
        self.observer.tell(&call, Event::Cached { outcome });
    }
}

impl<F, B: Body, E> CacheFuture<F, B, E> {
    const fn answer(response: Response<CachedBody<B>>) -> Self {
        Self { state: State::Answered { response: Some(response) } }
    }

    const fn fetch(call: F, errand: Errand<B>) -> Self {
        Self { state: State::Fetching { fetch: Fetch::new(call, errand) } }
    }
}

impl<F, B, E> Future for CacheFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<CachedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Fetching { fetch } => fetch.poll(cx),
            StateProjection::Waiting { wait } => wait.as_mut().poll(cx),
            // A future that has finished is not polled again.
            StateProjection::Answered { response } => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
        }
    }
}

impl<F, B: Body, E> fmt::Debug for CacheFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheFuture").finish_non_exhaustive()
    }
}

/// Sends a request whose answer nobody waits for but the store.
fn renew<S, R, B>(mut service: S, request: Request<R>, plan: Box<Plan>, place: Place)
where
    S: Service<Request<R>, Response = Response<B>> + Send + 'static,
    S::Error: Send,
    S::Future: Send,
    R: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    tokio::spawn(async move {
        let _place = place;
        let fetch = Fetch::new(service.call(request), Errand::Keep(plan));
        // What came of it shows in the store; a failure leaves what is there.
        let _ = tokio::time::timeout(RENEW_FOR_MAX, fetch).await;
    });
}

/// RFC 9111 §5.2.1.7.
fn not_cached<B: Body>() -> Response<CachedBody<B>> {
    let mut response = Response::new(CachedBody::stored(Bytes::new()));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response.extensions_mut().insert(CacheOutcome::OnlyIfCached);
    response
}

/// How long a renewal in the background may take, whatever deadlines there are below.
const RENEW_FOR_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
