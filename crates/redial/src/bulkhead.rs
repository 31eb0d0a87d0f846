//! So many calls at once, and no more: a slow upstream cannot take what calls to others need.
//!
//! Outside of a retry: a call keeps its place while it waits between attempts, and retries take none of
//! their own.

mod places;

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, uri::Authority};
use http_body::Body;
use pin_project_lite::pin_project;
use redial_core::{BulkheadPolicy, BulkheadScope, Event};
use tower_layer::Layer;
use tower_service::Service;

pub use self::places::Permit;
use self::places::{Admission, Places, Wait};
use crate::{
    admitted::Admitted,
    diagnose::Rejection,
    held::HeldBody,
    observe::{Call, Observe, Observer},
    origins::Origins,
    policies::Ruling,
};

/// Wraps services in [`WithBulkhead`]. Clones, and all services that it wraps, share the places.
#[derive(Clone, Debug)]
pub struct BulkheadLayer {
    shared: Arc<Shared>,
}

/// A service that lets a fixed number of calls in, lets some wait, and refuses the rest.
///
/// A call is in flight until its answer's body has ended or is dropped. One that finds no place is
/// refused with [`Rejection::BulkheadFull`]; or, where the policy has a queue, waits in the order in
/// which calls came, and is refused with [`Rejection::BulkheadTimeout`] after the longest wait, or at
/// the [deadline](crate::current_deadline) if that is sooner.
///
/// # Cancellation
///
/// Dropping the future gives up the place, or the wait for one.
#[derive(Clone, Debug)]
pub struct WithBulkhead<S> {
    shared: Arc<Shared>,
    inner: S,
}

/// The places of all origins. Clones share them.
///
/// At most 1,024 origins are remembered; then one that was not used for long makes room.
#[derive(Clone)]
pub struct Bulkheads {
    origins: Origins<Places>,
    all: Arc<Places>,
}

/// A number of places, for code that is no service. Clones share them.
///
/// # Examples
///
/// ```
/// use redial::{Bulkhead, Rejection, core::BulkheadPolicy};
///
/// let bulkhead = Bulkhead::new(BulkheadPolicy::new(1)?);
/// let permit = bulkhead.try_acquire()?;
/// assert_eq!(bulkhead.try_acquire().unwrap_err(), Rejection::BulkheadFull { in_flight_max: 1 });
/// drop(permit);
/// assert!(bulkhead.try_acquire().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bulkhead {
    places: Arc<Places>,
    policy: BulkheadPolicy,
}

#[derive(Debug)]
struct Shared {
    policy: Ruling<BulkheadPolicy>,
    bulkheads: Bulkheads,
    observer: Observer,
}

pin_project! {
    /// A call: in flight, in the queue, or refused.
    pub struct BulkheadFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        call: Admitted<S::Future>,
        permit: Option<Permit>,
        queued: Option<Box<Queued<S, B>>>,
    }
}

/// What it takes to make the call later. The service is ready since before the wait.
struct Queued<S, B> {
    wait: Pin<Box<Wait>>,
    parts: Option<(S, Request<B>)>,
    shared: Arc<Shared>,
}

impl Bulkhead {
    /// Creates a bulkhead with all of its places free. Whoever calls is of one origin here.
    #[must_use]
    pub fn new(policy: BulkheadPolicy) -> Self {
        Self { places: Arc::new(Places::new(&policy)), policy }
    }

    /// Takes a place, if there is one and nobody waits for it.
    ///
    /// # Errors
    ///
    /// Returns [`Rejection::BulkheadFull`] if there is none.
    pub fn try_acquire(&self) -> Result<Permit, Rejection> {
        let in_flight_max = self.policy.in_flight_max();
        Places::try_enter(&self.places, &self.policy)
            .ok_or(Rejection::BulkheadFull { in_flight_max })
    }

    /// Takes a place, and waits for one as the policy allows.
    ///
    /// # Errors
    ///
    /// Returns [`Rejection::BulkheadFull`] if there is neither a place nor room to wait, and
    /// [`Rejection::BulkheadTimeout`] if none came in time.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives up the wait; a place that was about to be handed over goes to the next.
    pub async fn acquire(&self) -> Result<Permit, Rejection> {
        match Places::admit(&self.places, &self.policy) {
            Admission::Entered(permit) => Ok(permit),
            Admission::Waits(mut wait) => poll_fn(|cx| wait.as_mut().poll(cx)).await,
            Admission::Refused(rejection) => Err(rejection),
        }
    }

    /// Returns how many places are taken.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.places.in_flight()
    }

    /// Returns how many wait for one.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.places.waiting()
    }
}

impl Bulkheads {
    /// Creates bulkheads without any origin in them.
    #[must_use]
    pub fn new() -> Self {
        let all = Arc::new(Places::new(&BulkheadPolicy::default()));
        Self { origins: Origins::new(), all }
    }

    /// Returns all origins that are remembered, in no order.
    #[must_use]
    pub fn authorities(&self) -> Vec<Authority> {
        self.origins.all().into_iter().map(|(authority, _)| authority).collect()
    }

    /// Returns how many calls to `authority` are in flight; with `None`, how many of those that share
    /// the places of [`BulkheadScope::All`].
    #[must_use]
    pub fn in_flight(&self, authority: Option<&Authority>) -> u32 {
        self.find(authority).map_or(0, |places| places.in_flight())
    }

    /// Returns how many calls wait, counted as for [`in_flight`](Self::in_flight).
    #[must_use]
    pub fn waiting(&self, authority: Option<&Authority>) -> u32 {
        self.find(authority).map_or(0, |places| places.waiting())
    }

    fn find(&self, authority: Option<&Authority>) -> Option<Arc<Places>> {
        match authority {
            Some(authority) => self.origins.find(authority),
            None => Some(Arc::clone(&self.all)),
        }
    }
}

impl Default for Bulkheads {
    fn default() -> Self {
        Self::new()
    }
}

impl BulkheadLayer {
    /// Creates a layer under `policy`: a fixed one, or what a [`PolicyCell`](crate::PolicyCell) says at
    /// that moment. When another number of places rules, who is in stays in, and who waits is let in as
    /// soon as there is room.
    pub fn new(policy: impl Into<Ruling<BulkheadPolicy>>) -> Self {
        let (bulkheads, observer) = (Bulkheads::new(), Observer::default());
        Self { shared: Arc::new(Shared { policy: policy.into(), bulkheads, observer }) }
    }

    /// Takes places from `bulkheads`, which other clients may share.
    #[must_use]
    pub fn bulkheads(self, bulkheads: Bulkheads) -> Self {
        let Shared { policy, observer, .. } = self.into_shared();
        Self { shared: Arc::new(Shared { policy, bulkheads, observer }) }
    }

    /// Tells `observe` of every call that is refused.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self {
        let Shared { policy, bulkheads, .. } = self.into_shared();
        let observer = Observer::new(observe);
        Self { shared: Arc::new(Shared { policy, bulkheads, observer }) }
    }

    fn into_shared(self) -> Shared {
        Arc::try_unwrap(self.shared).unwrap_or_else(|shared| Shared {
            policy: shared.policy.clone(),
            bulkheads: shared.bulkheads.clone(),
            observer: shared.observer.clone(),
        })
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = WithBulkhead<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithBulkhead { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S, B, T> Service<Request<B>> for WithBulkhead<S>
where
    S: Service<Request<B>, Response = Response<T>, Error: From<Rejection>> + Clone,
    T: Body,
{
    type Response = Response<HeldBody<T, Permit>>;
    type Error = S::Error;
    type Future = BulkheadFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.shared.policy.is_off(request.extensions()) {
            let call = Admitted::call(self.inner.call(request));
            return BulkheadFuture { call, permit: None, queued: None };
        }
        self.call_if_admitted(request)
    }
}

impl<S> WithBulkhead<S> {
    /// Apart from `call`, so that where nothing is to be done the request is not even moved.
    #[inline(never)]
    fn call_if_admitted<B>(&mut self, request: Request<B>) -> BulkheadFuture<S, B>
    where
        S: Service<Request<B>> + Clone,
    {
        let permit = match self.shared.admit(&request) {
            None => None,
            Some(Admission::Entered(permit)) => Some(permit),
            Some(Admission::Waits(wait)) => return self.queue(wait, request),
            Some(Admission::Refused(rejection)) => {
                self.shared.tell(&request, &rejection);
                let call = Admitted::refused(rejection);
                return BulkheadFuture { call, permit: None, queued: None };
            }
        };
        let call = Admitted::call(self.inner.call(request));
        BulkheadFuture { call, permit, queued: None }
    }

    #[cold]
    fn queue<B>(&mut self, wait: Pin<Box<Wait>>, request: Request<B>) -> BulkheadFuture<S, B>
    where
        S: Service<Request<B>> + Clone,
    {
        // The clone stays behind; the instance that `poll_ready` made ready waits.
        let clone = self.inner.clone();
        let service = mem::replace(&mut self.inner, clone);
        let shared = Arc::clone(&self.shared);
        let queued = Some(Box::new(Queued { wait, parts: Some((service, request)), shared }));
        BulkheadFuture { call: Admitted::NONE, permit: None, queued }
    }
}

impl<S, B, T> Future for BulkheadFuture<S, B>
where
    S: Service<Request<B>, Response = Response<T>, Error: From<Rejection>>,
    T: Body,
{
    type Output = Result<Response<HeldBody<T, Permit>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(queued) = this.queued {
            match ready!(queued.poll(cx)) {
                Ok((permit, call)) => {
                    *this.permit = Some(permit);
                    this.call.set(Admitted::call(call));
                }
                Err(rejection) => return Poll::Ready(Err(rejection.into())),
            }
            *this.queued = None;
        }
        let outcome = ready!(this.call.poll(cx));
        let permit = this.permit.take();
        match outcome {
            Ok(answer) => Poll::Ready(Ok(answer.map(|body| HeldBody::new(body, permit)))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<S: Service<Request<B>>, B> Queued<S, B> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Permit, S::Future), Rejection>> {
        let outcome = ready!(self.wait.as_mut().poll(cx));
        let Some((mut service, request)) = self.parts.take() else {
            // A wait that has ended is not polled again.
            return Poll::Pending;
        };
        Poll::Ready(match outcome {
            Ok(permit) => Ok((permit, service.call(request))),
            Err(rejection) => {
                self.shared.tell(&request, &rejection);
                Err(rejection)
            }
        })
    }
}

impl Shared {
    /// Returns `None` where no policy rules.
    #[inline]
    fn admit<B>(&self, request: &Request<B>) -> Option<Admission> {
        self.policy.with(request.extensions(), |policy| {
            let policy = policy?;
            let enter = |places: &Arc<Places>| Places::admit(places, policy);
            Some(match policy.scope() {
                BulkheadScope::Origin => self.bulkheads.origins.with(request.uri(), policy, enter),
                BulkheadScope::All => enter(&self.bulkheads.all),
            })
        })
    }

    fn tell<B>(&self, request: &Request<B>, rejection: &Rejection) {
        let call = Call { method: request.method(), uri: request.uri() };
        self.observer.tell(&call, Event::Refused { by: rejection.name() });
    }
}

impl<S, B> fmt::Debug for BulkheadFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for Bulkheads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkheads").field("len", &self.origins.len()).finish()
    }
}

#[cfg(test)]
mod tests;
