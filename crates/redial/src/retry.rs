//! Tries again while that may help.
//!
//! *Whether* to retry is decided in [`redial_core`]; *what an outcome means* is read in
//! [`crate::http`]. This module only carries decisions out. The first attempt is polled in place; only
//! a failure starts the loop, which is boxed, once. A call that succeeds pays for the copy of the
//! request's head that a retry would have needed, and for nothing else.

mod record;

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response, header, request::Parts};
use http_body::Body;
use pin_project_lite::pin_project;
use redial_core::{
    Attempt, Budget, BudgetPolicy, Deadline, Decision, Entropy, Event, Policy, Progress, Reading,
    Verdict, Why, Withdrawal,
};
use tower_layer::Layer;
use tower_service::Service;

use self::record::Record;
use crate::{
    budgets::Budgets,
    classify::{Classify, HttpClassifier},
    clock,
    deadline::current_deadline,
    diagnose::{AttemptNumber, BoxError, Diagnose, Fresh},
    http as semantics,
    observe::{Observe, Observer},
    policies::PolicyCell,
    replay::{Replay, ReplayBody},
};

/// Wraps services in [`Retry`].
#[derive(Clone, Debug)]
pub struct RetryLayer<C = HttpClassifier> {
    shared: Arc<Shared<C>>,
}

/// A service that repeats failed requests as its policy decides.
///
/// When it stops, the last outcome is returned as it came: a retry never replaces the upstream's own
/// answer with an error of ours. An answer that took more than one attempt carries [`Attempts`] in
/// its extensions.
///
/// A request may bring a policy of its own, as an `Arc<Policy>` in its extensions.
///
/// # Cancellation
///
/// Dropping the future drops the attempt or the wait that it is in; nothing is sent any more.
#[derive(Debug)]
pub struct Retry<S, C = HttpClassifier> {
    inner: S,
    shared: Arc<Shared<C>>,
}

/// How many attempts an answer took: an extension of responses that took more than one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempts(pub u32);

#[derive(Debug)]
struct Shared<C> {
    policy: PolicyCell,
    classifier: C,
    budgets: Budgets,
    observer: Observer,
    entropy: Entropy,
}

pin_project! {
    /// The call in flight: its first attempt, polled in place, then, only if that fails, the loop.
    pub struct RetryFuture<S, C, B>
    where
        S: Service<Request<ReplayBody<B>>>,
    {
        #[pin]
        state: State<S, C, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, C, B>
    where
        S: Service<Request<ReplayBody<B>>>,
    {
        First { #[pin] attempt: S::Future, repeat: Option<Repeat<S, C, B>> },
        Repeating { repeat: Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>> },
    }
}

impl RetryLayer {
    /// Creates a layer that retries by `policy`: a fixed one, or the one that a [`PolicyCell`] holds
    /// at the moment.
    pub fn new(policy: impl Into<PolicyCell>) -> Self {
        let shared = Shared {
            policy: policy.into(),
            classifier: HttpClassifier,
            budgets: Budgets::new(),
            observer: Observer::default(),
            entropy: Entropy::seeded(seed()),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl<C> RetryLayer<C> {
    /// Reads outcomes with `classifier` instead of [`HttpClassifier`].
    pub fn classifier<D>(self, classifier: D) -> RetryLayer<D>
    where
        C: Clone,
    {
        let Shared { policy, budgets, observer, entropy, .. } = self.into_shared();
        RetryLayer { shared: Arc::new(Shared { policy, classifier, budgets, observer, entropy }) }
    }

    /// Spends from `budgets`, which other clients may share.
    #[must_use]
    pub fn budgets(self, budgets: Budgets) -> Self
    where
        C: Clone,
    {
        let shared = Shared { budgets, ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    /// Tells `observe` of every step of every call.
    #[must_use]
    pub fn observe(self, observe: impl Observe + 'static) -> Self
    where
        C: Clone,
    {
        let shared = Shared { observer: Observer::new(observe), ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    /// Draws jitter from `seed`, so that a run can be repeated.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self
    where
        C: Clone,
    {
        let shared = Shared { entropy: Entropy::seeded(seed), ..self.into_shared() };
        Self { shared: Arc::new(shared) }
    }

    fn into_shared(self) -> Shared<C>
    where
        C: Clone,
    {
        Arc::try_unwrap(self.shared).unwrap_or_else(|shared| Shared {
            policy: shared.policy.clone(),
            classifier: shared.classifier.clone(),
            budgets: shared.budgets.clone(),
            observer: shared.observer.clone(),
            entropy: Entropy::seeded(shared.entropy.draw()),
        })
    }
}

impl<S, C> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S: Clone, C> Clone for Retry<S, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S, C, B, T> Service<Request<B>> for Retry<S, C>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<T>> + Clone + Send + 'static,
    S::Error: Diagnose + Send + 'static,
    S::Future: Send,
    T: Body + Send + 'static,
    C: Classify<T, S::Error> + Send + Sync + 'static,
    B: Body<Error: Into<BoxError>> + Unpin + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, C, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone stays behind; the instance that `poll_ready` made ready goes with the request.
        let clone = self.inner.clone();
        let mut service = mem::replace(&mut self.inner, clone);
        let (head, body) = request.into_parts();
        let own = head.extensions.get::<Arc<Policy>>().map(Arc::clone);
        let bytes_max = own.as_deref().map_or_else(
            || self.shared.policy.peek().replay_bytes_max,
            |policy| policy.replay_bytes_max,
        );
        let (body, replay) = Replay::split(body, bytes_max);
        let record = Record::new(&self.shared.observer, &head);
        self.shared.note_call(&head, own.as_deref());
        let copy = head.clone();
        let attempt = service.call(Request::from_parts(head, body));
        let shared = Arc::clone(&self.shared);
        let deadline = current_deadline();
        let repeat = Repeat { service, shared, own, head: copy, replay, deadline, record };
        RetryFuture { state: State::First { attempt, repeat: Some(repeat) } }
    }
}

impl<S, C, B, T> Future for RetryFuture<S, C, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<T>> + Send + 'static,
    S::Error: Diagnose + Send + 'static,
    S::Future: Send,
    T: Body + Send + 'static,
    C: Classify<T, S::Error> + Send + Sync + 'static,
    B: Body<Error: Into<BoxError>> + Unpin + Send + 'static,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProjection::First { attempt, repeat } => {
                    let outcome = ready!(attempt.poll(cx));
                    let Some(mut repeat) = repeat.take() else {
                        // A future that has finished is not polled again.
                        return Poll::Ready(outcome);
                    };
                    let reading = repeat.read(&outcome);
                    if reading.verdict == Verdict::Success {
                        repeat.succeed(1);
                        return Poll::Ready(outcome);
                    }
                    state.set(State::Repeating { repeat: Box::pin(repeat.run(outcome, reading)) });
                }
                StateProjection::Repeating { repeat } => return repeat.as_mut().poll(cx),
            }
        }
    }
}

/// What it takes to try again.
struct Repeat<S, C, B> {
    service: S,
    shared: Arc<Shared<C>>,
    own: Option<Arc<Policy>>,
    head: Parts,
    replay: Replay<B>,
    deadline: Option<Deadline>,
    record: Record,
}

impl<S, C, B, T> Repeat<S, C, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<T>>,
    S::Error: Diagnose,
    T: Body,
    C: Classify<T, S::Error>,
    B: Body<Error: Into<BoxError>> + Unpin,
{
    /// The whole of retrying, from the first failure to the last word.
    async fn run(
        mut self,
        mut outcome: Result<Response<T>, S::Error>,
        mut reading: Reading,
    ) -> Result<Response<T>, S::Error> {
        let policy = self.own.clone().unwrap_or_else(|| self.shared.policy.load());
        let (mut number, mut progress) = (1, Progress::default());
        loop {
            let decision = self.decide(&policy, number, &reading, progress);
            progress = progress.after(decision, &reading);
            let (after, why) = match decision {
                Decision::Stop(stop) => {
                    self.record.finish(Event::GaveUp { attempts: number, stop });
                    return mark(outcome, number);
                }
                Decision::Retry { after, why } => (after, why),
            };
            self.record.tell(Event::Retrying { attempt: number, after, why });
            self.prepare(&outcome, &reading);
            let_go(outcome, after).await;
            // The timer rounds up to its next tick: a wait of zero must not meet it.
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            number += 1;
            outcome = self.attempt(number).await;
            reading = self.read(&outcome);
            if reading.verdict == Verdict::Success {
                self.succeed(number);
                if why != Why::AtOnce {
                    let refund = |budget: &Budget| budget.refund(clock::now());
                    self.shared.budgets.with(&self.head.uri, &policy, refund);
                }
                return mark(outcome, number);
            }
        }
    }

    fn decide(
        &self,
        policy: &Policy,
        number: u32,
        reading: &Reading,
        progress: Progress,
    ) -> Decision {
        let now = clock::now();
        let Parts { method, headers, uri, .. } = &self.head;
        let attempt = Attempt {
            number,
            reading: *reading,
            idempotency: semantics::idempotency_of(method, headers, policy.is_idempotent),
            is_replayable: self.replay.is_possible(),
            remaining: self.deadline.map(|deadline| deadline.remaining(now)),
            progress,
        };
        self.shared.budgets.with(uri, policy, |budget| {
            budget.deposit(reading);
            let draw = self.shared.entropy.draw();
            policy.retry.decide(&attempt, Some(Withdrawal::new(budget, now)), draw)
        })
    }

    /// Changes the head for the next attempt, where the failure calls for it.
    fn prepare(&mut self, outcome: &Result<Response<T>, S::Error>, reading: &Reading) {
        let status = outcome.as_ref().ok().map(|response| response.status().as_u16());
        if status == Some(417) {
            self.head.headers.remove(header::EXPECT);
        }
        // The connection is gone or suspect, or leads to the wrong server: not that one again.
        let is_suspect = match status {
            Some(status) => matches!(status, 408 | 421),
            None => !reading.at_once,
        };
        if is_suspect {
            self.head.extensions.insert(Fresh);
        } else {
            self.head.extensions.remove::<Fresh>();
        }
    }

    async fn attempt(&mut self, number: u32) -> Result<Response<T>, S::Error> {
        self.record.begin(number);
        self.head.extensions.insert(AttemptNumber(number));
        poll_fn(|cx| self.service.poll_ready(cx)).await?;
        let request = Request::from_parts(self.head.clone(), self.replay.again());
        self.service.call(request).await
    }

    fn read(&mut self, outcome: &Result<Response<T>, S::Error>) -> Reading {
        let own = self.own.as_deref();
        let classify =
            |policy: &Policy| self.shared.classifier.classify(policy, &self.head, outcome);
        let reading = match own {
            Some(policy) => classify(policy),
            None => classify(&self.shared.policy.peek()),
        };
        self.record.end(outcome, &reading);
        reading
    }

    fn succeed(&mut self, attempts: u32) {
        let deposit = |policy: &Policy| {
            let note = |budget: &Budget| budget.deposit(&Reading::SUCCESS);
            self.shared.budgets.with(&self.head.uri, policy, note);
        };
        match self.own.as_deref() {
            Some(policy) => deposit(policy),
            None => deposit(&self.shared.policy.peek()),
        }
        self.record.finish(Event::Succeeded { attempts });
    }
}

impl<C> Shared<C> {
    /// Tells a budget that counts calls of a new one.
    fn note_call(&self, head: &Parts, own: Option<&Policy>) {
        let note = |policy: &Policy| {
            if matches!(policy.budget, BudgetPolicy::Window(_)) {
                let deposit = |budget: &Budget| budget.deposit_call(clock::now());
                self.budgets.with(&head.uri, policy, deposit);
            }
        };
        match own {
            Some(policy) => note(policy),
            None => note(&self.policy.peek()),
        }
    }
}

impl<S, C, B> fmt::Debug for RetryFuture<S, C, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").finish_non_exhaustive()
    }
}

/// Gives a failed answer's connection back before the wait: what is left of its body is read, within
/// bounds, and dropped beyond them.
async fn let_go<T: Body, E>(outcome: Result<Response<T>, E>, wait: Duration) {
    let Ok(response) = outcome else { return };
    let body = response.into_body();
    if body.is_end_stream() || wait.is_zero() {
        return;
    }
    let mut body = pin!(body);
    let drain = async {
        let mut bytes = 0;
        while bytes <= DRAINED_BYTES_MAX
            && let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await
        {
            bytes += frame.data_ref().map_or(0, bytes::Buf::remaining);
        }
    };
    // Running out of time is one of the two ways to be done.
    let _ = tokio::time::timeout(DRAINED_FOR_MAX.min(wait), drain).await;
}

fn mark<T, E>(outcome: Result<Response<T>, E>, attempts: u32) -> Result<Response<T>, E> {
    outcome.map(|mut response| {
        if 1 < attempts {
            response.extensions_mut().insert(Attempts(attempts));
        }
        response
    })
}

/// A seed that differs from process to process and from layer to layer.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

/// What an error page may weigh, so that reading it is cheaper than a new connection.
const DRAINED_BYTES_MAX: usize = 64 * 1024;
const DRAINED_FOR_MAX: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
