//! Something instead of nothing: what answers when a call has failed for good.
//!
//! Outermost of all layers that change anything, so that whatever is below has had its chance. The
//! failure is never hidden: the answer carries [`FellBack`], and an observer is told.

mod body;
mod forms;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Method, Request, Response, StatusCode, Uri, request::Parts};
use http_body::Body;
use pin_project_lite::pin_project;
use redial_core::{Event, FallbackPolicy, Fault, Severity};
use tower_layer::Layer;
use tower_service::Service;

use self::forms::{Asking, Relief, Relieved, Sending};
pub use self::{
    body::FallbackBody,
    forms::{FixedFallback, FunctionFallback, Instead, ServiceFallback},
};
use crate::{
    diagnose::{BoxError, Diagnose},
    observe::{Call, Observe, Observer},
    policies::Ruling,
    replay::{Replay, ReplayBody},
};

/// Wraps services in [`Fallback`].
///
/// It comes in three forms: the fixed answer of a [`FallbackPolicy`] ([`new`](Self::new)), a function of
/// what failed ([`function`](Self::function)), and another service that gets the request again
/// ([`service`](Self::service)). In each of them the policy says which failures are meant.
#[derive(Clone, Debug)]
pub struct FallbackLayer<A = FixedFallback> {
    answer: A,
    shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
struct Shared {
    ruling: Ruling<Arc<FallbackPolicy>>,
    observer: Observer,
}

/// A service that answers failed calls itself.
///
/// An answer of its own carries [`FellBack`] in its extensions. Calls that succeed, and failures that
/// the policy does not name, pass as they are.
///
/// With a fixed answer, a call that succeeds costs a look at its status. A function is shown the
/// request's head and another service is sent it, so these two copy the head of every call.
///
/// # Cancellation
///
/// Dropping the future drops the call, or the fallback that is under way.
#[derive(Clone, Debug)]
pub struct Fallback<S, A = FixedFallback> {
    layer: FallbackLayer<A>,
    inner: S,
}

/// What a fallback stood in for: an extension of its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FellBack {
    /// The status of the failed answer, where there was one.
    pub status: Option<StatusCode>,
    /// What kept an answer from coming, where there was none.
    pub fault: Option<Fault>,
}

pin_project! {
    /// A call in flight, and, only if it fails, its fallback.
    pub struct FallbackFuture<F, K, B, C, E> {
        #[pin]
        call: F,
        armed: Option<Armed<K>>,
        relief: Option<Answering<B, C, E>>,
    }
}

/// A fallback at work: boxed, since most calls never see one.
type Answering<B, C, E> = Pin<Box<dyn Future<Output = Answered<B, C, E>> + Send>>;
type Answered<B, C, E> = Result<Response<FallbackBody<B, C>>, E>;

/// A fallback that is ready to be used.
struct Armed<K> {
    relief: K,
    case: Case,
}

/// One call, as far as its fallback is concerned.
struct Case {
    policy: Arc<FallbackPolicy>,
    is_head: bool,
    told: Option<Box<Told>>,
}

/// Who is told of a fallback, and of which call.
struct Told {
    observer: Observer,
    method: Method,
    uri: Uri,
}

impl FallbackLayer {
    /// Creates a layer that answers as a policy says: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says at that moment.
    pub fn new(ruling: impl Into<Ruling<Arc<FallbackPolicy>>>) -> Self {
        Self::with(ruling, FixedFallback)
    }

    /// Creates a layer that asks `function` what to answer: it is given the request's head and the
    /// failed outcome, and returns a future of an answer [`Instead`] of it, or of the outcome itself.
    ///
    /// The policy says which failures are meant; its answer is not used.
    pub fn function<F>(
        ruling: impl Into<Ruling<Arc<FallbackPolicy>>>,
        function: F,
    ) -> FallbackLayer<FunctionFallback<F>> {
        FallbackLayer::with(ruling, FunctionFallback(function))
    }

    /// Creates a layer that sends failed requests again, to `service`. If that fails as well, the first
    /// failure goes out as it came.
    ///
    /// Up to `body_bytes_max` bytes of each request's body are kept for it. A longer one cannot be sent
    /// again, and its call's failure goes out too. The policy says which failures are meant; its answer
    /// is not used.
    pub fn service<T>(
        ruling: impl Into<Ruling<Arc<FallbackPolicy>>>,
        service: T,
        body_bytes_max: usize,
    ) -> FallbackLayer<ServiceFallback<T>> {
        FallbackLayer::with(ruling, ServiceFallback { service, body_bytes_max })
    }
}

impl<A> FallbackLayer<A> {
    fn with(ruling: impl Into<Ruling<Arc<FallbackPolicy>>>, answer: A) -> Self {
        let shared = Shared { ruling: ruling.into(), observer: Observer::default() };
        Self { answer, shared: Arc::new(shared) }
    }

    /// Tells `observe` of each failure that was answered.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self {
        let ruling = self.shared.ruling.clone();
        let shared = Shared { ruling, observer: Observer::new(observe) };
        Self { shared: Arc::new(shared), ..self }
    }

    /// Returns what there is to know about a call; `None` where no policy rules.
    #[inline]
    fn case<B>(&self, request: &Request<B>) -> Option<Case> {
        let Shared { ruling, observer } = &*self.shared;
        let policy = ruling.with(request.extensions(), |policy| policy.cloned())?;
        let told = observer.wants(Severity::Warning).then(|| {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            Box::new(Told { observer: observer.clone(), method, uri })
        });
        Some(Case { policy, is_head: request.method() == Method::HEAD, told })
    }
}

impl<S, A: Clone> Layer<S> for FallbackLayer<A> {
    type Service = Fallback<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback { inner, layer: self.clone() }
    }
}

impl<S, R, B> Service<Request<R>> for Fallback<S, FixedFallback>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Error: Diagnose,
{
    type Response = Response<FallbackBody<B>>;
    type Error = S::Error;
    type Future = FallbackFuture<S::Future, FixedFallback, B, B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        if self.layer.shared.ruling.is_off(request.extensions()) {
            return FallbackFuture { call: self.inner.call(request), armed: None, relief: None };
        }
        self.call_armed(request)
    }
}

impl<S> Fallback<S, FixedFallback> {
    /// Apart from `call`, so that where nothing is to be done the request is not even moved.
    #[inline(never)]
    fn call_armed<R, B>(
        &mut self,
        request: Request<R>,
    ) -> FallbackFuture<S::Future, FixedFallback, B, B, S::Error>
    where
        S: Service<Request<R>, Response = Response<B>>,
    {
        if self.layer.shared.observer.is_some() {
            return self.call_and_tell(request);
        }
        let is_head = request.method() == Method::HEAD;
        let policy = self.layer.shared.ruling.with(request.extensions(), |policy| policy.cloned());
        let armed = policy.map(|policy| Armed {
            relief: FixedFallback,
            case: Case { policy, is_head, told: None },
        });
        FallbackFuture { call: self.inner.call(request), armed, relief: None }
    }

    #[inline(never)]
    fn call_and_tell<R, B>(
        &mut self,
        request: Request<R>,
    ) -> FallbackFuture<S::Future, FixedFallback, B, B, S::Error>
    where
        S: Service<Request<R>, Response = Response<B>>,
    {
        let armed = self.layer.case(&request).map(|case| Armed { relief: FixedFallback, case });
        FallbackFuture { call: self.inner.call(request), armed, relief: None }
    }
}

impl<S, R, B, F, U> Service<Request<R>> for Fallback<S, FunctionFallback<F>>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Error: Diagnose + Send + 'static,
    B: Send + 'static,
    F: Fn(Parts, Result<Response<B>, S::Error>) -> U + Clone,
    U: Future<Output = Instead<B, S::Error>> + Send + 'static,
{
    type Response = Response<FallbackBody<B>>;
    type Error = S::Error;
    type Future = FallbackFuture<S::Future, Asking<F>, B, B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let case = self.layer.case(&request);
        let (head, body) = request.into_parts();
        let armed = case.map(|case| {
            let relief = Asking { head: head.clone(), function: self.layer.answer.0.clone() };
            Armed { relief, case }
        });
        let call = self.inner.call(Request::from_parts(head, body));
        FallbackFuture { call, armed, relief: None }
    }
}

impl<S, T, R, B, C> Service<Request<R>> for Fallback<S, ServiceFallback<T>>
where
    S: Service<Request<ReplayBody<R>>, Response = Response<B>>,
    S::Error: Diagnose + Send + 'static,
    B: Send + 'static,
    T: Service<Request<ReplayBody<R>>, Response = Response<C>, Error: Diagnose>,
    T: Clone + Send + 'static,
    T::Future: Send,
    T::Error: Send,
    R: Body<Error: Into<BoxError>> + Unpin + Send + 'static,
    C: Send + 'static,
{
    type Response = Response<FallbackBody<B, C>>;
    type Error = S::Error;
    type Future = FallbackFuture<S::Future, Sending<T, R>, B, C, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let case = self.layer.case(&request);
        let (head, body) = request.into_parts();
        let ServiceFallback { service, body_bytes_max } = &self.layer.answer;
        // Without a policy nothing is kept.
        let bytes_max = case.as_ref().map_or(0, |_| *body_bytes_max);
        let (body, replay) = Replay::split(body, bytes_max);
        let armed = case.map(|case| {
            let relief = Sending { service: service.clone(), head: head.clone(), replay };
            Armed { relief, case }
        });
        let call = self.inner.call(Request::from_parts(head, body));
        FallbackFuture { call, armed, relief: None }
    }
}

impl<F, K, B, C, E> Future for FallbackFuture<F, K, B, C, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    K: Relief<B, C, E>,
    E: Diagnose,
{
    type Output = Result<Response<FallbackBody<B, C>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(relief) = this.relief {
            return relief.as_mut().poll(cx);
        }
        let outcome = ready!(this.call.poll(cx));
        let failure = this.armed.as_ref().and_then(|armed| armed.case.failure(&outcome));
        let Some(failure) = failure else { return Poll::Ready(unchanged(outcome)) };
        let Some(Armed { relief, case }) = this.armed.take() else {
            return Poll::Ready(unchanged(outcome));
        };
        match relief.relieve(case, failure, outcome) {
            Relieved::Now(answer) => Poll::Ready(Ok(answer)),
            Relieved::Later(later) => this.relief.insert(later).as_mut().poll(cx),
        }
    }
}

impl Case {
    /// Returns what failed, where that is something that the policy means.
    fn failure<T, E: Diagnose>(&self, outcome: &Result<Response<T>, E>) -> Option<FellBack> {
        match outcome {
            Ok(response) => {
                let status = response.status();
                let is_meant = self.policy.stands_in_for_status(status.as_u16());
                is_meant.then_some(FellBack { status: Some(status), fault: None })
            }
            Err(error) => {
                let fault = error.diagnose().fault;
                let is_meant = self.policy.stands_in_for_fault(fault);
                is_meant.then_some(FellBack { status: None, fault: Some(fault) })
            }
        }
    }

    /// Marks an answer as what it is, and tells of it.
    fn settle<T>(&self, failure: FellBack, mut answer: Response<T>) -> Response<T> {
        answer.extensions_mut().insert(failure);
        if let Some(told) = &self.told {
            let FellBack { status, fault } = failure;
            let status = status.map(|status| status.as_u16());
            let call = Call { method: &told.method, uri: &told.uri };
            told.observer.tell(&call, Event::FellBack { status, fault });
        }
        answer
    }
}

impl<F, K, B, C, E> fmt::Debug for FallbackFuture<F, K, B, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_falling_back = self.relief.is_some();
        f.debug_struct("FallbackFuture").field("is_falling_back", &is_falling_back).finish()
    }
}

fn unchanged<B, C, E>(outcome: Result<Response<B>, E>) -> Answered<B, C, E> {
    match outcome {
        Ok(response) => Ok(response.map(FallbackBody::upstream)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
