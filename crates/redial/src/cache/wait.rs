//! Calls that wait for another, and calls that nobody waits for.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use redial_core::{CacheOutcome, CachePolicy};
use tokio::sync::watch;
use tower_service::Service;

use super::{
    CacheLayer, CachedBody,
    directives::Asks,
    entry::Entry,
    fetch::{Errand, Fetch, Plan},
    flights::Landing,
    step::Step,
    store::Place,
};

/// What a call knows while it waits for another.
pub(super) struct Queued {
    pub(super) landing: watch::Receiver<Landing>,
    pub(super) stale: Option<Arc<Entry>>,
    pub(super) asks: Asks,
    pub(super) policy: CachePolicy,
}

impl CacheLayer {
    /// Waits for another call to bring the answer, and goes its own way if that does not help.
    pub(super) async fn wait<S, R, B>(
        self: Arc<Self>,
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
                let is_allowed = stale.outlook.covers_failure(&queued.asks, &queued.policy, now);
                (is_allowed.then_some(stale)?, CacheOutcome::StaleIfError)
            }
            _ => return None,
        };
        self.tell(request, outcome);
        Some(entry.answer(now, false, outcome))
    }
}

/// Sends a request whose answer nobody waits for but the store.
pub(super) fn renew<S, R, B>(mut service: S, request: Request<R>, plan: Box<Plan>, place: Place)
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

/// How long a renewal in the background may take, whatever deadlines there are below.
const RENEW_FOR_MAX: Duration = Duration::from_secs(60);
