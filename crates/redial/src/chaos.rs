//! Failures on purpose, once an attempt, right above the transport.
//!
//! What happens to a request is decided in [`redial_core::ChaosPolicy`]; here it is carried out. A
//! request to which nothing happens is sent as if this layer were not there; one that is hit takes a
//! box, which nobody will miss.

mod body;
mod switch;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use redial_core::{ChaosHead, ChaosPlan, ChaosPolicy, ChaosState, Event, Policy};
use tower_layer::Layer;
use tower_service::Service;

pub use self::{body::ChaosBody, switch::ChaosSwitch};
use self::{body::Faults, switch::Watch};
use crate::{
    diagnose::Rejection,
    observe::{Call, Observe, Observer},
    policies::Ruling,
    retry::seed,
};

/// Wraps services in [`Chaos`].
#[derive(Clone, Debug)]
pub struct ChaosLayer {
    shared: Arc<Shared>,
}

/// A service that lets attempts fail on purpose.
///
/// All services of one layer count together, so that the first three requests are three. Switched to
/// another policy, it counts anew; to one that is equal, it goes on counting.
///
/// An attempt that is reset fails with [`Rejection::InjectedReset`], and reading a body that is cut
/// with [`Rejection::InjectedCut`]. Both say what a real one would: nobody knows whether the server
/// acted.
///
/// # Cancellation
///
/// Dropping the future drops the attempt or the delay that it is in.
#[derive(Clone, Debug)]
pub struct Chaos<S> {
    shared: Arc<Shared>,
    inner: S,
}

pin_project! {
    /// An attempt in flight.
    pub struct ChaosFuture<F, B, E> {
        // Sent as it is; the answer's body may be in for something.
        #[pin]
        attempt: Option<F>,
        faults: Option<Box<Faults>>,
        // Delayed, or failed.
        hit: Option<HitFuture<B, E>>,
    }
}

type HitFuture<B, E> = Pin<Box<dyn Future<Output = Outcome<B, E>> + Send>>;
type Outcome<B, E> = Result<Response<ChaosBody<B, E>>, E>;

#[derive(Clone, Debug)]
struct Shared {
    policy: Ruling<Arc<ChaosPolicy>>,
    switch: ChaosSwitch,
    observer: Observer,
    armed: Arc<ArcSwap<Vec<Arc<Armed>>>>,
    seed: u64,
}

/// A policy, and what it has counted.
#[derive(Debug)]
struct Armed {
    policy: Arc<ChaosPolicy>,
    state: ChaosState,
}

/// What happens to an attempt that is hit.
struct Hit {
    delay: std::time::Duration,
    answer: Option<Answer>,
    faults: Option<Box<Faults>>,
    watch: Watch,
}

struct Answer {
    status: Option<(StatusCode, HeaderMap)>,
    is_after: bool,
}

impl ChaosLayer {
    /// Creates a layer that lets attempts fail by `policy`: a fixed one, an `Arc` of it, or what a
    /// [`PolicyCell`](crate::PolicyCell) says at that moment.
    pub fn new(policy: impl Into<Ruling<Arc<ChaosPolicy>>>) -> Self {
        let shared = Shared {
            policy: policy.into(),
            switch: ChaosSwitch::new(),
            observer: Observer::default(),
            armed: Arc::default(),
            seed: seed(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Lets `switch` turn it off and on, besides the policy's own `enabled`: nothing happens unless
    /// both say so.
    #[must_use]
    pub fn switch(mut self, switch: ChaosSwitch) -> Self {
        Arc::make_mut(&mut self.shared).switch = switch;
        self
    }

    /// Tells `observe` of everything that is done, when it is decided.
    #[must_use]
    pub fn observe(mut self, observe: impl Observe + 'static) -> Self {
        Arc::make_mut(&mut self.shared).observer = Observer::new(observe);
        self
    }
}

impl<S> Layer<S> for ChaosLayer {
    type Service = Chaos<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Chaos { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S, R, B> Service<Request<R>> for Chaos<S>
where
    S: Service<Request<R>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: From<Rejection> + 'static,
    S::Future: Send,
    R: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<ChaosBody<B, S::Error>>;
    type Error = S::Error;
    type Future = ChaosFuture<S::Future, B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let shared = &self.shared;
        if shared.policy.is_off(request.extensions()) || !shared.switch.is_on() {
            let attempt = Some(self.inner.call(request));
            return ChaosFuture { attempt, faults: None, hit: None };
        }
        self.call_or_hit(request)
    }
}

impl<S> Chaos<S> {
    /// Apart from `call`, so that where nothing is to be done the request is not even moved.
    #[inline(never)]
    fn call_or_hit<R, B>(&mut self, request: Request<R>) -> ChaosFuture<S::Future, B, S::Error>
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: From<Rejection> + 'static,
        S::Future: Send,
        R: Send + 'static,
        B: Send + 'static,
    {
        let faults = match Shared::hit(&self.shared, &request) {
            None => None,
            Some(Hit { delay, answer: None, faults, .. }) if delay.is_zero() => faults,
            Some(hit) => {
                // The clone stays behind; the instance that was made ready goes with the request.
                let clone = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, clone);
                let hit: HitFuture<B, S::Error> = Box::pin(hit.run(service, request));
                return ChaosFuture { attempt: None, faults: None, hit: Some(hit) };
            }
        };
        ChaosFuture { attempt: Some(self.inner.call(request)), faults, hit: None }
    }
}

impl<F, B, E> Future for ChaosFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Outcome<B, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(attempt) = this.attempt.as_pin_mut() {
            return match ready!(attempt.poll(cx)) {
                Ok(answer) => {
                    let faults = this.faults.take();
                    Poll::Ready(Ok(answer.map(|body| ChaosBody::new(body, faults))))
                }
                Err(error) => Poll::Ready(Err(error)),
            };
        }
        match this.hit {
            Some(hit) => hit.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Hit {
    async fn run<S, R, B>(self, mut service: S, request: Request<R>) -> Outcome<B, S::Error>
    where
        S: Service<Request<R>, Response = Response<B>>,
        S::Error: From<Rejection>,
    {
        self.watch.sleep(self.delay).await;
        match self.answer {
            None => {
                let answer = service.call(request).await?;
                Ok(answer.map(|body| ChaosBody::new(body, self.faults)))
            }
            Some(answer) => {
                if answer.is_after {
                    service.call(request).await?;
                }
                answer.outcome()
            }
        }
    }
}

impl Answer {
    fn outcome<B, E: From<Rejection>>(self) -> Outcome<B, E> {
        let Some((status, headers)) = self.status else {
            return Err(Rejection::InjectedReset.into());
        };
        let mut response = Response::new(ChaosBody::empty());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

impl Shared {
    /// Decides what happens to a request; `None` for nothing.
    fn hit<R>(shared: &Arc<Self>, request: &Request<R>) -> Option<Hit> {
        shared.policy.with(request.extensions(), |policy| {
            let policy = policy.filter(|policy| policy.is_active())?;
            let armed = shared.armed(policy);
            let plan = armed.policy.plan(&head(request), &armed.state);
            if plan.is_nothing() {
                return None;
            }
            shared.tell(request, &plan);
            let is_own = request.extensions().get::<Arc<Policy>>().is_some();
            let watch = Watch::new(Arc::clone(shared), is_own);
            Some(Hit::new(&plan, watch))
        })
    }

    /// Returns whether chaos is still on for calls that do not bring their own policy.
    fn is_active(&self) -> bool {
        let none = http::Extensions::new();
        self.policy.with(&none, |policy| policy.is_some_and(|policy| policy.is_active()))
    }

    /// Returns the counts of a policy, which begin at first sight. The very same one is found first,
    /// and an equal one goes on with them.
    fn armed(&self, policy: &Arc<ChaosPolicy>) -> Arc<Armed> {
        let find = |armed: &Vec<Arc<Armed>>| {
            let same = armed.iter().find(|armed| Arc::ptr_eq(&armed.policy, policy));
            same.or_else(|| armed.iter().find(|armed| armed.policy == *policy)).map(Arc::clone)
        };
        if let Some(armed) = find(&self.armed.load()) {
            return armed;
        }
        let state = ChaosState::new(policy, self.seed);
        let new = Arc::new(Armed { policy: Arc::clone(policy), state });
        self.armed.rcu(|armed| {
            if find(armed).is_some() {
                return Arc::clone(armed);
            }
            // The oldest make room: a policy for each request must not fill the memory.
            let skipped = (armed.len() + 1).saturating_sub(POLICIES_MAX);
            let kept = armed.iter().skip(skipped).chain([&new]);
            Arc::new(kept.map(Arc::clone).collect())
        });
        find(&self.armed.load()).unwrap_or(new)
    }

    fn tell<R>(&self, request: &Request<R>, plan: &ChaosPlan<'_>) {
        if !self.observer.is_some() {
            return;
        }
        let answer = plan.answer.map(|answer| match answer.status {
            Some(_) => "status",
            None => "reset",
        });
        let what = [
            (!plan.delay.is_zero()).then_some("latency"),
            answer,
            plan.cut.and(Some("truncated")).filter(|_| answer.is_none()),
            plan.pace.and(Some("slow_body")).filter(|_| answer.is_none()),
        ];
        let call = Call { method: request.method(), uri: request.uri() };
        for what in what.into_iter().flatten() {
            self.observer.tell(&call, Event::Injected { what });
        }
    }
}

impl Hit {
    fn new(plan: &ChaosPlan<'_>, watch: Watch) -> Self {
        let answer = plan.answer.map(|answer| Answer {
            status: answer.status.map(|(code, fields)| {
                let status = StatusCode::from_u16(code);
                (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), headers(fields))
            }),
            is_after: answer.is_after,
        });
        let has_faults = plan.cut.is_some() || plan.pace.is_some();
        let faults = has_faults.then(|| Box::new(Faults::new(plan.cut, plan.pace, watch.clone())));
        Self { delay: plan.delay, answer, faults, watch }
    }
}

/// Returns what rules look at. Where the target has no host, the `Host` field tells it.
fn head<R>(request: &Request<R>) -> ChaosHead<'_> {
    let uri = request.uri();
    let field = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = uri.authority().map(http::uri::Authority::as_str).or_else(field);
    // What stands before an `@` is no part of the host.
    let authority = authority.map(|text| text.rsplit('@').next().unwrap_or(text));
    ChaosHead {
        authority: authority.unwrap_or_default(),
        path: uri.path(),
        method: request.method().as_str(),
    }
}

fn headers(fields: &[(String, String)]) -> HeaderMap {
    let parse = |(name, value): &(String, String)| {
        Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().filter_map(parse) {
        headers.append(name, value);
    }
    headers
}

impl From<ChaosPolicy> for Ruling<Arc<ChaosPolicy>> {
    fn from(policy: ChaosPolicy) -> Self {
        Arc::new(policy).into()
    }
}

impl<F, B, E> std::fmt::Debug for ChaosFuture<F, B, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChaosFuture").finish_non_exhaustive()
    }
}

/// How many policies count at the same time.
const POLICIES_MAX: usize = 16;
