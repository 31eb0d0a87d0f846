//! How many calls a second.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{Extensions, HeaderValue, Request, Uri, request::Parts, uri::Authority};
use pin_project_lite::pin_project;
use redial_core::{Event, FieldName, RateKey, RateLimitPolicy, RateLimiter, Reservation};
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    admitted::Admitted,
    clock,
    deadline::current_deadline,
    diagnose::Rejection,
    observe::{Call, Observe, Observer},
    origins::{Origins, PerOrigin, authority_of},
    policies::Ruling,
};

/// Wraps services in [`RateLimit`].
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    shared: Arc<Shared>,
}

/// A service that lets so many calls a second through as its policy says.
///
/// A call above the rate waits for its turn where the policy allows for a wait that long, and is
/// refused with [`Rejection::RateLimited`] otherwise. Turns are given in the order in which calls come.
/// A call whose turn would come at its deadline or later is refused at once.
///
/// # Cancellation
///
/// Dropping a call that waits gives its turn back, unless others have come after it: their turns stay
/// where they are, and this one passes unused.
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    shared: Arc<Shared>,
    inner: S,
}

/// The rate limiters of all keys that calls have. Clones share them.
///
/// Two clients that are given the same limits keep to one rate together. At most 1,024 keys are
/// remembered, and as many origins, unless another bound is given; then one that was not used for long
/// makes room. Each rate has limiters of its own, so that two routes with rates of their own may go to
/// one origin. A rate that is new to a key begins with what is left under the last one.
#[derive(Clone)]
pub struct RateLimits {
    origins: Origins<RateLimiter>,
    named: Origins<RateLimiter, Vec<u8>>,
}

#[derive(Clone)]
struct Shared {
    policy: Ruling<RateLimitPolicy>,
    limits: RateLimits,
    key_of: Option<Arc<KeyOf>>,
    observer: Observer,
}

type KeyOf = dyn for<'a> Fn(&'a Parts) -> Cow<'a, [u8]> + Send + Sync;

/// Whether a call may go.
enum Answer {
    AtOnce,
    /// That depends on more of the request's head.
    ByHead,
    At(Instant, Turn),
    Refused {
        retry_after: Duration,
    },
}

/// A place in the line, which is given back unless it is used.
struct Turn {
    limiter: Arc<RateLimiter>,
    reservation: Option<Reservation>,
}

pin_project! {
    /// A call in flight, or waiting for its turn in a box, or refused.
    pub struct RateLimitFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        call: Admitted<S::Future>,
        waiting: Option<Pin<Box<Waiting<S, R>>>>,
    }
}

pin_project! {
    struct Waiting<S, R> {
        #[pin]
        sleep: Sleep,
        service: S,
        request: Option<R>,
        turn: Option<Turn>,
    }
}

impl RateLimitLayer {
    /// Creates a layer that keeps to `policy`: a fixed one, or what a
    /// [`PolicyCell`](crate::PolicyCell) says at that moment. With none it does nothing.
    pub fn new(policy: impl Into<Ruling<RateLimitPolicy>>) -> Self {
        let (policy, limits) = (policy.into(), RateLimits::new());
        let observer = Observer::default();
        Self { shared: Arc::new(Shared { policy, limits, key_of: None, observer }) }
    }

    /// Keeps to `limits`, which other clients may share.
    #[must_use]
    pub fn limits(self, limits: RateLimits) -> Self {
        self.with(|shared| shared.limits = limits)
    }

    /// Gives each key that `key_of` finds in a request's head a rate of its own, whatever key the
    /// policy has. Keys are told apart by their first 256 bytes. A key that is borrowed from the head
    /// costs no allocation.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use redial::{RateLimitLayer, core::RateLimitPolicy};
    ///
    /// // One rate for reading and one for writing.
    /// let policy = RateLimitPolicy::new(50, Duration::from_secs(1))?;
    /// let layer = RateLimitLayer::new(policy).key_by(|head| {
    ///     if head.method.is_safe() { b"read".into() } else { b"write".into() }
    /// });
    /// # drop(layer);
    /// # Ok::<(), redial::core::InvalidRateLimit>(())
    /// ```
    #[must_use]
    pub fn key_by<F>(self, key_of: F) -> Self
    where
        F: for<'a> Fn(&'a Parts) -> Cow<'a, [u8]> + Send + Sync + 'static,
    {
        self.with(|shared| shared.key_of = Some(Arc::new(key_of)))
    }

    /// Tells `observe` of every call that is refused.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self {
        self.with(|shared| shared.observer = Observer::new(observe))
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.shared);
        change(&mut shared);
        Self { shared: Arc::new(shared) }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S, B> Service<Request<B>> for RateLimit<S>
where
    S: Service<Request<B>, Error: From<Rejection>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RateLimitFuture<S, Request<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.shared.policy.is_off(request.extensions()) {
            let call = Admitted::call(self.inner.call(request));
            return RateLimitFuture { call, waiting: None };
        }
        self.call_in_turn(request)
    }
}

impl<S> RateLimit<S> {
    /// Apart from `call`, so that where nothing is to be done the request is not even moved.
    #[inline(never)]
    fn call_in_turn<B>(&mut self, request: Request<B>) -> RateLimitFuture<S, Request<B>>
    where
        S: Service<Request<B>> + Clone,
    {
        match self.shared.ask(request.uri(), request.extensions()) {
            Answer::AtOnce => {}
            Answer::ByHead => return self.call_by_head(request),
            answer => return self.hold(request, answer),
        }
        let call = Admitted::call(self.inner.call(request));
        RateLimitFuture { call, waiting: None }
    }

    #[inline(never)]
    fn call_by_head<B>(&mut self, request: Request<B>) -> RateLimitFuture<S, Request<B>>
    where
        S: Service<Request<B>> + Clone,
    {
        let (head, body) = request.into_parts();
        let answer = self.shared.ask_by_head(&head);
        let request = Request::from_parts(head, body);
        match answer {
            Answer::AtOnce => {
                RateLimitFuture { call: Admitted::call(self.inner.call(request)), waiting: None }
            }
            answer => self.hold(request, answer),
        }
    }

    /// Has a call wait, or refuses it.
    #[cold]
    fn hold<B>(&mut self, request: Request<B>, answer: Answer) -> RateLimitFuture<S, Request<B>>
    where
        S: Service<Request<B>> + Clone,
    {
        let (mut call, mut waiting) = (Admitted::NONE, None);
        match answer {
            Answer::At(at, turn) => {
                // The clone stays behind; the instance that `poll_ready` made ready waits.
                let clone = self.inner.clone();
                let service = mem::replace(&mut self.inner, clone);
                let sleep = tokio::time::sleep_until(at.into());
                let (request, turn) = (Some(request), Some(turn));
                waiting = Some(Box::pin(Waiting { sleep, service, request, turn }));
            }
            Answer::Refused { retry_after } => {
                let whose = Call { method: request.method(), uri: request.uri() };
                let limited = Rejection::RateLimited { retry_after };
                self.shared.observer.tell(&whose, Event::Refused { by: limited.name() });
                call = Admitted::refused(limited);
            }
            Answer::AtOnce | Answer::ByHead => {}
        }
        RateLimitFuture { call, waiting }
    }
}

impl<S, R> Future for RateLimitFuture<S, R>
where
    S: Service<R, Error: From<Rejection>>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(waiting) = this.waiting {
            let Some(call) = ready!(waiting.as_mut().poll(cx)) else {
                // It is replaced by the call as soon as there is one.
                return Poll::Pending;
            };
            this.call.set(Admitted::call(call));
            *this.waiting = None;
        }
        this.call.poll(cx)
    }
}

impl<S: Service<R>, R> Waiting<S, R> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Future>> {
        let this = self.project();
        ready!(this.sleep.poll(cx));
        if let Some(turn) = this.turn.take() {
            turn.use_up();
        }
        Poll::Ready(this.request.take().map(|request| this.service.call(request)))
    }
}

impl Shared {
    #[inline]
    fn ask(&self, uri: &Uri, extensions: &Extensions) -> Answer {
        if self.policy.is_off(extensions) {
            Answer::AtOnce
        } else {
            self.ask_policy(uri, extensions)
        }
    }

    /// What is lent to this is not moved for it: nothing in it, and in what it calls, hands on the
    /// address of the request.
    #[inline(never)]
    fn ask_policy(&self, uri: &Uri, extensions: &Extensions) -> Answer {
        if self.key_of.is_some() {
            return Answer::ByHead;
        }
        self.policy.with(extensions, |policy| {
            let Some(policy) = policy else { return Answer::AtOnce };
            let authority = match policy.rate_key() {
                RateKey::Origin => authority_of(uri),
                RateKey::All => &ALL,
                RateKey::Field(_) => return Answer::ByHead,
            };
            let ask = |limiter: &Arc<RateLimiter>| {
                let now = clock::now();
                match limiter.try_acquire(now) {
                    Ok(()) => Answer::AtOnce,
                    Err(_) => Answer::of(limiter, policy, now),
                }
            };
            self.limits.origins.with_authority(authority, policy, ask)
        })
    }

    fn ask_by_head(&self, head: &Parts) -> Answer {
        self.policy.with(&head.extensions, |policy| {
            let Some(policy) = policy else { return Answer::AtOnce };
            let field = |name: &FieldName| head.headers.get(name.as_str());
            match (&self.key_of, policy.rate_key()) {
                (Some(key_of), _) => self.limits.ask(&key_of(head), policy),
                (None, RateKey::Field(name)) => {
                    let value = field(name).map_or(&[][..], HeaderValue::as_bytes);
                    self.limits.ask(value, policy)
                }
                // Another policy has come to rule in between.
                (None, _) => Answer::AtOnce,
            }
        })
    }
}

impl Answer {
    fn of(limiter: &Arc<RateLimiter>, policy: &RateLimitPolicy, now: Instant) -> Self {
        match limiter.reserve(now, longest_wait(policy, now)) {
            Ok(reservation) if reservation.wait().is_zero() => Self::AtOnce,
            Ok(reservation) => {
                let at = now + reservation.wait();
                let limiter = Arc::clone(limiter);
                Self::At(at, Turn { limiter, reservation: Some(reservation) })
            }
            Err(refusal) => Self::Refused { retry_after: refusal.retry_after },
        }
    }
}

impl Turn {
    fn use_up(mut self) {
        self.reservation = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.limiter.give_back(reservation);
        }
    }
}

impl RateLimits {
    /// Creates limits without any key in them.
    #[must_use]
    pub fn new() -> Self {
        Self { origins: Origins::new(), named: Origins::new() }
    }

    /// Creates limits that remember up to `keys_max` keys of requests, and 1,024 origins.
    ///
    /// A key that is forgotten begins anew, with a whole burst. The bound should therefore be above
    /// the number of keys that are active at one time.
    #[must_use]
    pub fn bounded(keys_max: usize) -> Self {
        Self { origins: Origins::new(), named: Origins::bounded(keys_max) }
    }

    /// Returns how many limiters are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.origins.len() + self.named.len()
    }

    /// Returns whether no limiter is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn ask(&self, key: &[u8], policy: &RateLimitPolicy) -> Answer {
        let key = key.get(..KEY_BYTES_MAX).unwrap_or(key);
        self.named.with_key(key, policy, |limiter| Answer::of(limiter, policy, clock::now()))
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::new()
    }
}

impl PerOrigin for RateLimiter {
    type Policy = RateLimitPolicy;

    const SIDE_BY_SIDE: bool = true;

    fn open(policy: &RateLimitPolicy, now: Instant) -> Self {
        Self::new(policy, now)
    }

    #[inline]
    fn serves(&self, policy: &RateLimitPolicy) -> bool {
        self.keeps(policy)
    }

    fn succeeded_by(&self, policy: &RateLimitPolicy, now: Instant) -> Self {
        self.succeeded_by(policy, now)
    }
}

/// Waiting until the deadline leaves no time for the call.
#[inline]
fn longest_wait(policy: &RateLimitPolicy, now: Instant) -> Duration {
    let longest = policy.longest_wait();
    if longest.is_zero() {
        return longest;
    }
    let left = current_deadline().map(|deadline| deadline.remaining(now));
    left.map_or(longest, |left| longest.min(left.saturating_sub(Duration::from_nanos(1))))
}

impl fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimits").field("len", &self.len()).finish()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, limits, key_of, observer } = self;
        f.debug_struct("Shared")
            .field("policy", policy)
            .field("limits", limits)
            .field("has_key_of", &key_of.is_some())
            .field("observer", observer)
            .finish()
    }
}

impl<S: Service<R>, R> fmt::Debug for RateLimitFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitFuture").finish_non_exhaustive()
    }
}

/// Stands for all origins together.
static ALL: LazyLock<Authority> = LazyLock::new(|| Authority::from_static("all.invalid"));

/// Longer than any name of a tenant, and short enough for a thousand of them.
const KEY_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests;
