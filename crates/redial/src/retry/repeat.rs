//! What is kept of a call while its first attempt is out, and the loop that a failure starts.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response, header};
use http_body::Body;
use redial_core::{
    Attempt, Class, Decision, Event, Policy, Progress, Reading, Verdict, Why, Withdrawal,
};
use tower_service::Service;

use super::{Again, Attempts, head::KeptHead, story::Story};
use crate::{
    cache::SentAt,
    classify::Classify,
    clock,
    deadline::current_deadline,
    diagnose::{AttemptNumber, BoxError, Diagnose, Fresh},
    replay::{Replay, ReplayBody},
};

/// What is kept of a call for trying again.
pub(super) struct Kept<S, C, B> {
    story: Story<S, C>,
    head: KeptHead,
    replay: Replay<B>,
}

impl<S, C, B> Kept<S, C, B> {
    #[inline]
    pub(super) fn new<T>(again: &Arc<Again<S, C>>, of: &Request<T>, replay: Replay<B>) -> Self {
        Self { story: Story::new(again, of), head: KeptHead::of(of), replay }
    }

    /// Reads what an outcome means, and tells it.
    #[inline]
    pub(super) fn read<T, E>(&self, outcome: &Result<Response<T>, E>) -> Reading
    where
        C: Classify<T, E>,
        E: Diagnose,
    {
        let shared = self.story.shared();
        let reading = if shared.classifier.is_success(outcome) {
            Reading::SUCCESS
        } else {
            let asked = self.head.asked(&self.story.method, &self.story.uri);
            let classify = |policy: &Policy| shared.classifier.classify(policy, &asked, outcome);
            self.own().map_or_else(|| classify(&shared.policy.peek()), |own| classify(own))
        };
        self.story.end(outcome, &reading);
        reading
    }

    /// Notes a success, made one by a retry that was `paid` for after a failure of that class.
    #[inline]
    pub(super) fn succeed(&mut self, paid: Option<Class>) {
        self.story.succeed(self.head.extensions.get(), paid);
    }

    fn own(&self) -> Option<&Arc<Policy>> {
        self.head.extensions.get()
    }
}

impl<S, C, B, T> Kept<S, C, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<T>> + Clone,
    S::Error: Diagnose,
    T: Body,
    C: Classify<T, S::Error>,
    B: Body<Error: Into<BoxError>> + Unpin,
{
    /// The whole of retrying, from the first failure, which was read as `reading`, to the last word.
    pub(super) fn repeat(
        mut self,
        mut outcome: Result<Response<T>, S::Error>,
        mut reading: Reading,
    ) -> impl Future<Output = Result<Response<T>, S::Error>> {
        let policy = self.own().map_or_else(|| self.story.shared().policy.load(), Arc::clone);
        let (mut service, mut progress, mut sent_at) = (None, Progress::default(), None);
        // The arguments are moved into the future once; an `async fn` would hold them twice.
        async move {
            loop {
                let decision = self.decide(&policy, &reading, progress);
                progress = progress.after(decision, &reading);
                let (after, why) = match decision {
                    Decision::Stop(stop) => {
                        let attempts = self.story.attempt;
                        self.story.finish(Event::GaveUp { attempts, stop });
                        return self.mark(outcome, sent_at);
                    }
                    Decision::Retry { after, why } => (after, why),
                };
                let paid = reading.verdict.class().filter(|_| why != Why::AtOnce);
                self.story.tell(Event::Retrying { attempt: self.story.attempt, after, why });
                self.prepare(&outcome, &reading);
                // A failed answer holds its connection, and the timer rounds up to its next tick: let
                // go before a wait, and a wait of zero must not meet the timer.
                if after.is_zero() {
                    drop(outcome);
                } else {
                    Box::pin(wait(outcome, after)).await;
                }
                let service = service.get_or_insert_with(|| self.story.service());
                poll_fn(|cx| service.poll_ready(cx)).await?;
                sent_at = self.story.shared().marks.then(clock::now);
                outcome = service.call(self.request()).await;
                reading = self.read(&outcome);
                if reading.verdict == Verdict::Success {
                    self.succeed(paid);
                    return self.mark(outcome, sent_at);
                }
            }
        }
    }

    fn decide(&self, policy: &Policy, reading: &Reading, progress: Progress) -> Decision {
        let (now, shared) = (clock::now(), self.story.shared());
        let Story { method, uri, .. } = &self.story;
        let attempt = Attempt {
            number: self.story.attempt,
            reading: *reading,
            idempotency: self.head.asked(method, uri).idempotency(policy.is_idempotent),
            is_replayable: self.replay.is_possible(),
            remaining: current_deadline().map(|deadline| deadline.remaining(now)),
            progress,
        };
        shared.budgets.with(uri, policy, |budget| {
            budget.deposit(reading);
            let draw = shared.entropy.draw();
            policy.retry.decide(&attempt, Some(Withdrawal::new(budget, now)), draw)
        })
    }

    /// Changes the head for the next attempt, where the failure calls for it.
    fn prepare(&mut self, outcome: &Result<Response<T>, S::Error>, reading: &Reading) {
        let status = outcome.as_ref().ok().map(|response| response.status().as_u16());
        if status == Some(417) {
            self.head.fields.retain(|(name, _)| name != header::EXPECT);
        }
        // The connection is gone or suspect, or leads to the wrong server: not that one again.
        let is_suspect = match status {
            Some(status) => matches!(status, 408 | 421),
            None => !reading.at_once,
        };
        if is_suspect {
            self.head.extensions.insert(Fresh);
        } else if !self.head.extensions.is_empty() {
            self.head.extensions.remove::<Fresh>();
        }
    }

    /// Returns the request of the next attempt.
    fn request(&mut self) -> Request<ReplayBody<B>> {
        self.story.begin();
        if self.story.shared().marks {
            self.head.extensions.insert(AttemptNumber(self.story.attempt));
        }
        self.head.request(&self.story.method, &self.story.uri, self.replay.again())
    }

    /// Marks an answer with how many attempts it took, if the last one was `sent_at` as a retry.
    fn mark(
        &self,
        outcome: Result<Response<T>, S::Error>,
        sent_at: Option<Instant>,
    ) -> Result<Response<T>, S::Error> {
        outcome.map(|mut response| {
            if let Some(sent_at) = sent_at {
                response.extensions_mut().insert(Attempts(self.story.attempt));
                response.extensions_mut().insert(SentAt(sent_at));
            }
            response
        })
    }
}

/// Lets a failed answer go, and waits.
async fn wait<T: Body, E>(outcome: Result<Response<T>, E>, after: Duration) {
    if let Ok(response) = outcome {
        drain(response, after).await;
    }
    tokio::time::sleep(after).await;
}

/// Gives a failed answer's connection back before the wait: what is left of its body is read, within
/// bounds, and dropped beyond them.
async fn drain<T: Body>(response: Response<T>, wait: Duration) {
    let body = response.into_body();
    if body.is_end_stream() {
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

/// What an error page may weigh, so that reading it is cheaper than a new connection.
const DRAINED_BYTES_MAX: usize = 64 * 1024;
const DRAINED_FOR_MAX: Duration = Duration::from_millis(50);
