//! One call's copies: what the end of each means, who pays, and what the observer is told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response, header, request::Parts};
use http_body::Body;
use redial_core::{
    Budget, CopyEnd, Deadline, Event, Fault, HedgeCause, Hedging, NextHedge, Policy, Reading, Stop,
    Verdict,
};

use super::Shared;
use crate::{
    classify::Classify,
    clock,
    deadline::current_deadline,
    diagnose::{AttemptNumber, BoxError, Diagnose, Fresh},
    http as semantics,
    observe::Call,
    replay::{Replay, ReplayBody},
    retry::Attempts,
};

/// What every copy of a call has in common.
pub(super) struct Run<C> {
    pub(super) shared: Arc<Shared<C>>,
    pub(super) own: Option<Arc<Policy>>,
    pub(super) head: Parts,
    pub(super) started: Instant,
}

/// A call that may be hedged.
pub(super) struct Race<S, C, B> {
    run: Run<C>,
    hedging: Hedging,
    service: S,
    replay: Replay<B>,
    deadline: Option<Deadline>,
    /// The time since the call's start, when something last happened.
    elapsed: Duration,
    /// What the winner's time is measured from: the first copy, or the one that was sent when all
    /// before it had failed. Failures tell nothing about how long answers take.
    measured_from: Duration,
    is_tracked: bool,
    is_over: bool,
}

impl<S, C, B> Race<S, C, B> {
    pub(super) fn new(
        run: Run<C>,
        hedging: Hedging,
        service: S,
        replay: Replay<B>,
        is_tracked: bool,
    ) -> Self {
        let race = Self {
            run,
            hedging,
            service,
            replay,
            deadline: current_deadline(),
            elapsed: Duration::ZERO,
            measured_from: Duration::ZERO,
            is_tracked,
            is_over: false,
        };
        race.tell(|| Event::AttemptStarted { attempt: 1 });
        race
    }

    pub(super) const fn sent(&self) -> u32 {
        self.hedging.sent()
    }

    pub(super) const fn has_copies_out(&self) -> bool {
        0 < self.hedging.out()
    }

    pub(super) const fn started(&self) -> Instant {
        self.run.started
    }

    pub(super) const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Looks at the clock.
    pub(super) fn tick(&mut self) {
        self.elapsed = clock::now().saturating_duration_since(self.run.started);
    }

    /// Decides about the next copy, and pays for it where one is due.
    pub(super) fn next(&mut self) -> NextHedge {
        let Run { shared, own, head, started } = &self.run;
        let after = self.hedging.since_last(self.elapsed);
        let now = *started + self.elapsed;
        let was_out = self.hedging.out();
        let next = self.hedging.next(self.elapsed, || {
            let withdraw = |budget: &Budget| budget.withdraw(now);
            shared.under(own.as_deref(), |policy| shared.budgets.with(&head.uri, policy, withdraw))
        });
        if let NextHedge::Now(cause) = next {
            if was_out == 0 {
                self.measured_from = self.elapsed;
            }
            self.tell_hedged(after, cause);
        }
        next
    }

    fn tell_hedged(&self, after: Duration, cause: HedgeCause) {
        let attempt = self.sent();
        self.tell(|| Event::Hedged { attempt, after, cause });
        self.tell(|| Event::AttemptStarted { attempt });
    }

    fn tell(&self, event: impl FnOnce() -> Event) {
        let observer = &self.run.shared.observer;
        if observer.is_some() {
            let Parts { method, uri, .. } = &self.run.head;
            observer.tell(&Call { method, uri }, event());
        }
    }

    /// Ends the call with `outcome`; the copies that are out are cancelled.
    pub(super) fn settle<T, E>(
        &mut self,
        winner: u32,
        is_success: bool,
        outcome: Result<Response<T>, E>,
    ) -> Result<Response<T>, E> {
        let (attempts, cancelled) = (self.sent(), self.hedging.out());
        if 1 < attempts {
            self.tell(|| Event::HedgeSettled { winner, cancelled });
        }
        let stop = Stop::Permanent;
        self.end(if is_success {
            Event::Succeeded { attempts }
        } else {
            Event::GaveUp { attempts, stop }
        });
        self.mark(outcome)
    }

    /// Ends the call with the last of its failures.
    pub(super) fn give_up<T, E>(
        &mut self,
        stop: Stop,
        outcome: Result<Response<T>, E>,
    ) -> Result<Response<T>, E> {
        self.end(Event::GaveUp { attempts: self.sent(), stop });
        self.mark(outcome)
    }

    fn end(&mut self, event: Event) {
        self.is_over = true;
        self.tell(|| event);
    }

    fn mark<T, E>(&self, outcome: Result<Response<T>, E>) -> Result<Response<T>, E> {
        outcome.map(|mut response| {
            if 1 < self.sent() {
                response.extensions_mut().insert(Attempts(self.sent()));
            }
            response
        })
    }
}

impl<S: Clone, C, B> Race<S, C, B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    /// Returns the copy that was decided to be sent, and a service to send it.
    pub(super) fn copy(&self) -> (S, Request<ReplayBody<B>>) {
        let mut head = self.run.head.clone();
        head.extensions.insert(AttemptNumber(self.sent()));
        (self.service.clone(), Request::from_parts(head, self.replay.again()))
    }
}

impl<S, C, B> Race<S, C, B> {
    /// Takes in that a copy has ended. `Ok` when that settles the call, and otherwise the failure.
    pub(super) fn ended<T, E: Diagnose>(
        &mut self,
        (number, sent_at): (u32, Duration),
        outcome: Result<Response<T>, E>,
    ) -> Result<Result<Response<T>, E>, Result<Response<T>, E>>
    where
        C: Classify<T, E>,
    {
        self.tick();
        let (reading, end) = self.read(&outcome);
        self.tell(|| Event::AttemptEnded {
            attempt: number,
            took: self.elapsed.saturating_sub(sent_at),
            status: outcome.as_ref().ok().map(|response| response.status().as_u16()),
            fault: outcome.as_ref().err().map(|error| error.diagnose().fault),
            verdict: reading.verdict,
            proof: reading.proof,
            pushback: reading.pushback,
        });
        let is_settled = self.hedging.ended(end, self.elapsed);
        let is_success = end == CopyEnd::Success;
        self.account(number, &reading);
        if is_success && self.is_tracked {
            let latency = self.elapsed.saturating_sub(self.measured_from);
            let now = self.run.started + self.elapsed;
            let Run { shared, head, .. } = &self.run;
            shared.trackers.with(&head.uri, &(), |tracker| tracker.record(latency, now));
        }
        if is_settled {
            return Ok(self.settle(number, is_success, outcome));
        }
        self.prepare(&outcome, &reading);
        Err(outcome)
    }

    /// Reads what a copy's outcome means for itself, and for the call.
    fn read<T, E: Diagnose>(&self, outcome: &Result<Response<T>, E>) -> (Reading, CopyEnd)
    where
        C: Classify<T, E>,
    {
        let Run { shared, own, head, .. } = &self.run;
        if shared.classifier.is_success(outcome) {
            return (Reading::SUCCESS, CopyEnd::Success);
        }
        shared.under(own.as_deref(), |policy| {
            let reading = shared.classifier.classify(policy, &head.into(), outcome);
            let end = match reading.verdict {
                Verdict::Success => CopyEnd::Success,
                // What a repetition by other means would mend: without `Expect`, elsewhere.
                Verdict::Permanent(_) if reading.at_once => CopyEnd::Failed,
                Verdict::Permanent(_) if is_of_one_copy(policy, head, outcome) => {
                    CopyEnd::Last(Stop::Permanent)
                }
                Verdict::Permanent(_) => CopyEnd::Fatal,
                Verdict::Transient(_) | Verdict::Throttled => self.failed(policy, &reading),
            };
            (reading, end)
        })
    }

    fn failed(&self, policy: &Policy, reading: &Reading) -> CopyEnd {
        let pushback = policy.retry.pushback_policy();
        let Some(wish) = pushback.wish(reading.pushback) else { return CopyEnd::Failed };
        let (wait, now) = (wish.wait(), self.run.started + self.elapsed);
        let remaining = self.deadline.map_or(Duration::MAX, |deadline| deadline.remaining(now));
        if pushback.max() < wait || remaining <= wait {
            return CopyEnd::Last(Stop::PushbackTooLong);
        }
        let spread = pushback.delay(wish, self.run.shared.entropy.draw());
        // The jitter is ours, so it gives way to the deadline; the wish does not.
        CopyEnd::PushedBack(if remaining <= spread { wait } else { spread })
    }

    /// Puts into the budget what an outcome brings, and gives back what a hedge cost that helped.
    fn account(&self, number: u32, reading: &Reading) {
        let Run { shared, own, head, started } = &self.run;
        let is_refunded = 1 < number && reading.verdict == Verdict::Success;
        let now = *started + self.elapsed;
        let note = |budget: &Budget| {
            budget.deposit(reading);
            if is_refunded {
                budget.refund(now);
            }
        };
        match own {
            Some(policy) => shared.budgets.with(&head.uri, policy, note),
            None => shared.budgets.with_any(&head.uri, || shared.policy.load(), note),
        }
    }

    /// Changes the head for the next copy, where a failure calls for it.
    fn prepare<T, E>(&mut self, outcome: &Result<Response<T>, E>, reading: &Reading) {
        let status = outcome.as_ref().ok().map(|response| response.status().as_u16());
        let head = &mut self.run.head;
        if status == Some(417) {
            head.headers.remove(header::EXPECT);
        }
        // The connection is gone or suspect, or leads to the wrong server: not that one again.
        if status.map_or(!reading.at_once, |status| matches!(status, 408 | 421)) {
            head.extensions.insert(Fresh);
        } else {
            head.extensions.remove::<Fresh>();
        }
    }
}

impl<S, C, B> Drop for Race<S, C, B> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.tell(|| {
            let is_late = self.deadline.is_some_and(|at| at.remaining(clock::now()).is_zero());
            let stop = if is_late { Stop::Deadline } else { Stop::Cancelled };
            Event::GaveUp { attempts: self.sent(), stop }
        });
    }
}

/// Returns whether a failure ends one copy and says nothing about the others: we refused it
/// ourselves, or the upstream asked for no more of a failure that is otherwise worth another copy, or
/// another copy of ours may be the very reason for it.
fn is_of_one_copy<T, E: Diagnose>(
    policy: &Policy,
    head: &Parts,
    outcome: &Result<Response<T>, E>,
) -> bool {
    match outcome {
        Ok(response) => {
            let status = response.status().as_u16();
            if semantics::is_safe(head.method.as_str()) || !OF_A_TWIN.contains(&status) {
                let wish = semantics::wish(response.headers(), clock::unix_now, false);
                return wish.should_retry == Some(false)
                    && policy.triggers.statuses.contains(status);
            }
            true
        }
        Err(error) => error.diagnose().fault == Fault::Rejected,
    }
}

/// What a request that changes something meets where its twin has been, or still is: what it deletes
/// is gone, its key is in use (draft-ietf-httpapi-idempotency-key-header-07 §2.6), its `If-Match` no
/// longer holds, its resource is locked.
const OF_A_TWIN: [u16; 5] = [404, 409, 410, 412, 423];
