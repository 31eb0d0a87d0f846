//! The standard order of the layers, as one list.

use redial_core::Policy;
use tower_layer::Layer;

use crate::{
    adaptive_limit::{AdaptiveLimitLayer, WithAdaptiveLimit},
    assess::HttpAssess,
    attempt_timeout::{AttemptTimeout, AttemptTimeoutLayer},
    breaker::{BreakerLayer, CircuitBreaker},
    budgets::Budgets,
    bulkhead::{BulkheadLayer, WithBulkhead},
    cache::{Cache, CacheLayer},
    chaos::{Chaos, ChaosLayer},
    classify::HttpClassifier,
    deadline::{DeadlineLayer, WithDeadline},
    fallback::{Fallback, FallbackLayer},
    headers::{SetHeaders, SetHeadersLayer},
    hedge::{Hedge, HedgeLayer},
    log::{Log, LogLayer},
    observe::LogEvents,
    policies::PolicyCell,
    rate_limit::{RateLimit, RateLimitLayer},
    replay::ReplayBody,
    resume::{OnceBody, Resume, ResumeLayer},
    retry::{Retry, RetryLayer},
    stall::{StallTimeout, StallTimeoutLayer},
    throttle::{HttpAdmission, Throttle, ThrottleLayer},
};

/// The layers of a call: those that see it once, those that repeat it, and those that see each attempt.
///
/// Each of the three can be replaced by any other layer, by a tuple of layers, or by [`Omit`]; within
/// each, every layer is a public field.
#[derive(Clone, Debug)]
pub struct Stack<C = CallLayers, R = RetryLayers, A = AttemptLayers> {
    calls: C,
    retries: R,
    attempts: A,
}

/// The stack that [`stack`] returns.
pub type StandardStack = Stack;

/// What a call meets once, from the outside in.
#[derive(Clone, Debug)]
pub struct CallLayers {
    /// One line a call, whatever happens inside.
    pub log: LogLayer,
    /// What stands in for an answer that could not be had: after everything below has had its chance.
    pub fallback: FallbackLayer,
    /// What need not be asked at all costs nothing below, and is there when the upstream is not.
    pub cache: CacheLayer,
    /// Covers every wait, every attempt and the body.
    pub deadline: DeadlineLayer,
    /// A call that is too many is not begun, and waits before it takes anything.
    pub rate_limit: RateLimitLayer,
    /// A place is held for the whole call, waits included, to the end of the body.
    pub bulkhead: BulkheadLayer,
    /// A body that breaks off goes on by a call that may be repeated like the first.
    pub resume: ResumeLayer,
}

/// What repeats a call: one of the two, whichever the policy says for the request.
#[derive(Clone, Debug)]
pub struct RetryLayers<C = HttpClassifier> {
    /// Tries again after a failure.
    pub retry: RetryLayer<C>,
    /// Sends a second copy before there is one.
    pub hedge: HedgeLayer<C>,
}

/// What each attempt meets, from the outside in.
#[derive(Clone, Debug)]
pub struct AttemptLayers<A = HttpAssess, D = HttpAdmission> {
    /// What would be refused there is refused here, before it counts as sent.
    pub throttle: ThrottleLayer<D>,
    /// As many at once as the upstream bears.
    pub adaptive_limit: AdaptiveLimitLayer<A>,
    /// An upstream that is down is left alone; nearest to what it judges, so that it sees every attempt.
    pub breaker: BreakerLayer<A>,
    /// A slow attempt fails, which those above see and may repeat.
    pub attempt_timeout: AttemptTimeoutLayer,
    /// Each attempt goes out with its fields.
    pub headers: SetHeadersLayer,
    /// A body that brings nothing for too long is given up.
    pub stall: StallTimeoutLayer,
    /// Failures on purpose look to all above like failures of the network.
    pub chaos: ChaosLayer,
}

/// The body of a request with a body of type `B` where it leaves the standard stack: what a transport
/// below it has to send.
pub type Sent<B> = ReplayBody<ReplayBody<OnceBody<B>>>;

/// No layer at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Omit;

/// Returns the standard stack under `policy`: a fixed one, or one that can be switched while calls
/// are running.
///
/// All layers are in it, and each does what the policy says at the moment. What the policy leaves out
/// costs 20 to 200 instructions a layer.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use redial::{BoxError, LogLayer, core::Policy};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// // Any service of HTTP requests will do; `redial_hyper::Transport` is one.
/// let transport = service_fn(|_: Request<_>| async {
///     Ok::<_, BoxError>(Response::new(Empty::<bytes::Bytes>::new()))
/// });
/// let stack = redial::stack(Policy::default()).map_calls(|mut calls| {
///     calls.log = LogLayer::silent();
///     calls
/// });
/// let client = stack.layer(transport);
///
/// let request = Request::get("http://shop.example/").body(Empty::<bytes::Bytes>::new())?;
/// assert_eq!(client.oneshot(request).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
pub fn stack(policy: impl Into<PolicyCell>) -> StandardStack {
    let cell: PolicyCell = policy.into();
    Stack {
        calls: CallLayers::new(cell.clone()),
        retries: RetryLayers::new(cell.clone()),
        attempts: AttemptLayers::new(cell),
    }
}

impl<C, R, A> Stack<C, R, A> {
    /// Replaces what a call meets once.
    pub fn calls<N>(self, calls: N) -> Stack<N, R, A> {
        Stack { calls, retries: self.retries, attempts: self.attempts }
    }

    /// Replaces what repeats a call.
    pub fn retries<N>(self, retries: N) -> Stack<C, N, A> {
        Stack { calls: self.calls, retries, attempts: self.attempts }
    }

    /// Replaces what each attempt meets.
    pub fn attempts<N>(self, attempts: N) -> Stack<C, R, N> {
        Stack { calls: self.calls, retries: self.retries, attempts }
    }

    /// Changes what a call meets once.
    pub fn map_calls<N>(self, change: impl FnOnce(C) -> N) -> Stack<N, R, A> {
        Stack { calls: change(self.calls), retries: self.retries, attempts: self.attempts }
    }

    /// Changes what repeats a call.
    pub fn map_retries<N>(self, change: impl FnOnce(R) -> N) -> Stack<C, N, A> {
        Stack { calls: self.calls, retries: change(self.retries), attempts: self.attempts }
    }

    /// Changes what each attempt meets.
    pub fn map_attempts<N>(self, change: impl FnOnce(A) -> N) -> Stack<C, R, N> {
        Stack { calls: self.calls, retries: self.retries, attempts: change(self.attempts) }
    }
}

impl CallLayers {
    /// Creates the layers of a call under `policy`, which log what they do.
    pub fn new(policy: impl Into<PolicyCell>) -> Self {
        let cell: PolicyCell = policy.into();
        Self {
            log: LogLayer::new(),
            fallback: FallbackLayer::new(cell.clone()).observe(LogEvents),
            cache: CacheLayer::new(cell.clone()).observe(LogEvents),
            deadline: DeadlineLayer::new(cell.clone()),
            rate_limit: RateLimitLayer::new(cell.clone()).observe(LogEvents),
            bulkhead: BulkheadLayer::new(cell.clone()).observe(LogEvents),
            resume: ResumeLayer::new(cell).observe(LogEvents),
        }
    }
}

impl RetryLayers {
    /// Creates the layers that repeat a call under `policy`. They share their budgets, log what they do,
    /// and number the attempts.
    pub fn new(policy: impl Into<PolicyCell>) -> Self {
        let cell: PolicyCell = policy.into();
        let budgets = Budgets::new();
        Self {
            retry: RetryLayer::new(cell.clone()).budgets(budgets.clone()).observe(LogEvents).mark(),
            hedge: HedgeLayer::new(cell).budgets(budgets).observe(LogEvents),
        }
    }
}

impl AttemptLayers {
    /// Creates the layers of an attempt under `policy`, which log what they do.
    pub fn new(policy: impl Into<PolicyCell>) -> Self {
        let cell: PolicyCell = policy.into();
        Self {
            throttle: ThrottleLayer::new(cell.clone()).observe(LogEvents),
            adaptive_limit: AdaptiveLimitLayer::new(cell.clone()).observe(LogEvents),
            breaker: BreakerLayer::new(cell.clone()).observe(LogEvents),
            attempt_timeout: AttemptTimeoutLayer::new(cell.clone()),
            headers: SetHeadersLayer::new(),
            stall: StallTimeoutLayer::new(cell.clone()),
            chaos: ChaosLayer::new(cell).observe(LogEvents),
        }
    }
}

impl<S, C, R, A> Layer<S> for Stack<C, R, A>
where
    A: Layer<S>,
    R: Layer<A::Service>,
    C: Layer<R::Service>,
{
    type Service = C::Service;

    fn layer(&self, transport: S) -> Self::Service {
        self.calls.layer(self.retries.layer(self.attempts.layer(transport)))
    }
}

impl<S> Layer<S> for CallLayers {
    type Service = Log<Fallback<Cache<WithDeadline<RateLimit<WithBulkhead<Resume<S>>>>>>>;

    fn layer(&self, inner: S) -> Self::Service {
        // Read from the end: the last is the outermost.
        let inner = self.resume.layer(inner);
        let inner = self.bulkhead.layer(inner);
        let inner = self.rate_limit.layer(inner);
        let inner = self.deadline.layer(inner);
        let inner = self.cache.layer(inner);
        let inner = self.fallback.layer(inner);
        self.log.layer(inner)
    }
}

impl<S: Clone, C> Layer<S> for RetryLayers<C> {
    type Service = Retry<Hedge<S, C>, C>;

    fn layer(&self, inner: S) -> Self::Service {
        self.retry.layer(self.hedge.layer(inner))
    }
}

impl<S, A, D> Layer<S> for AttemptLayers<A, D> {
    type Service = Throttle<
        WithAdaptiveLimit<CircuitBreaker<AttemptTimeout<SetHeaders<StallTimeout<Chaos<S>>>>, A>, A>,
        D,
    >;

    fn layer(&self, inner: S) -> Self::Service {
        // Read from the end: the last is the outermost.
        let inner = self.chaos.layer(inner);
        let inner = self.stall.layer(inner);
        let inner = self.headers.layer(inner);
        let inner = self.attempt_timeout.layer(inner);
        let inner = self.breaker.layer(inner);
        let inner = self.adaptive_limit.layer(inner);
        self.throttle.layer(inner)
    }
}

impl<S> Layer<S> for Omit {
    type Service = S;

    fn layer(&self, inner: S) -> S {
        inner
    }
}

impl Default for StandardStack {
    /// The standard stack under the default policy.
    fn default() -> Self {
        stack(Policy::default())
    }
}
