//! An execution, from the moment that its key is held to the moment that it is not.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use redial_core::KeyOutcome;
use tokio::runtime::Handle;
use tower_service::Service;

use super::{
    super::store::{IdempotencyStore, StoredAnswer},
    answer::gather,
    execution::Execution,
    flights::Flight,
    problem::Problem,
    shared::{About, Shared},
};
use crate::buffer::BufferedBody;

/// A key that is held. Dropped before it is settled, by a panic or because it is cancelled, it frees the
/// key.
pub(super) struct Hold<St: IdempotencyStore> {
    shared: Arc<Shared<St>>,
    execution: Execution,
    about: About,
    /// Wakes the duplicates here when it is dropped.
    flight: Option<Flight>,
    is_settled: bool,
}

impl<St: IdempotencyStore> Hold<St> {
    pub(super) fn new(shared: &Arc<Shared<St>>, execution: Execution, about: About) -> Self {
        let flight = Some(shared.flights.begin(execution.key()));
        Self { shared: Arc::clone(shared), execution, about, flight, is_settled: false }
    }

    /// Carries the request out, and keeps its answer.
    pub(super) async fn carry_out<S, B, R>(
        mut self,
        mut inner: S,
        mut request: Request<BufferedBody<B>>,
    ) -> Result<Response<BufferedBody<R>>, S::Error>
    where
        S: Service<Request<BufferedBody<B>>, Response = Response<R>>,
        R: Body<Data = Bytes> + Unpin,
    {
        request.extensions_mut().insert(self.execution.clone());
        let bytes_max = self.shared.policy.answer_bytes_max;
        let outcome = {
            let work = async move {
                let response = inner.call(request).await?;
                Ok(gather(response, bytes_max).await)
            };
            tokio::select! {
                biased;
                outcome = work => outcome,
                never = self.keep_renewing() => match never {},
            }
        };
        match outcome {
            Ok(Some((response, answer))) => Ok(self.settle(response, &answer).await),
            Ok(None) => {
                self.release().await;
                Ok(self.problem(Problem::BrokenAnswer))
            }
            Err(error) => {
                self.release().await;
                Err(error)
            }
        }
    }

    /// Renews the lease at each third of it, until somebody else has the key.
    async fn keep_renewing(&self) -> std::convert::Infallible {
        let (key, token) = (self.execution.key(), self.execution.token());
        loop {
            tokio::time::sleep(self.shared.policy.lease / 3).await;
            // Whether a renewal that failed matters, the next one tells.
            if let Ok(false) = self.shared.renew(key, token).await {
                self.execution.lose();
                std::future::pending::<()>().await;
            }
        }
    }

    async fn settle<R>(
        &mut self,
        response: Response<BufferedBody<R>>,
        answer: &StoredAnswer,
    ) -> Response<BufferedBody<R>> {
        if self.execution.is_completed() {
            self.is_settled = true;
            self.tell(KeyOutcome::Executed);
            return response;
        }
        if !self.shared.policy.remember.includes(answer.status) {
            self.release().await;
            return response;
        }
        let (key, token) = (self.execution.key(), self.execution.token());
        let outcome = self.shared.complete(key, token, answer).await;
        self.is_settled = true;
        match outcome {
            Ok(true) => {
                self.tell(KeyOutcome::Executed);
                response
            }
            Ok(false) => {
                // Another execution counts, and its answer is the one that all get.
                self.execution.lose();
                self.tell(KeyOutcome::LeaseLost);
                self.problem(Problem::LeaseLost)
            }
            Err(_) => {
                // It was carried out. To say anything else would call for a repetition.
                self.tell(KeyOutcome::NotStored);
                response
            }
        }
    }

    async fn release(&mut self) {
        if !self.execution.is_completed() {
            let (key, token) = (self.execution.key(), self.execution.token());
            self.shared.release(key, token).await;
        }
        self.is_settled = true;
        self.tell(KeyOutcome::Released);
    }

    fn tell(&self, outcome: KeyOutcome) {
        self.shared.tell(&self.about, outcome);
    }

    fn problem<R>(&self, problem: Problem) -> Response<BufferedBody<R>> {
        problem.response(&self.shared.problem_types).map(BufferedBody::whole)
    }
}

impl<St: IdempotencyStore> Drop for Hold<St> {
    fn drop(&mut self) {
        if self.is_settled || self.execution.is_completed() {
            return;
        }
        // Without a runtime the lease has to run out.
        let Ok(runtime) = Handle::try_current() else { return };
        let (shared, execution) = (Arc::clone(&self.shared), self.execution.clone());
        let flight = self.flight.take();
        runtime.spawn(async move {
            shared.release(execution.key(), execution.token()).await;
            drop(flight);
        });
        self.tell(KeyOutcome::Released);
    }
}
