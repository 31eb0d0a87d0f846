//! What is done with a request: answered, sent, or made to wait.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use redial_core::{CacheOutcome, CachePolicy, Event};

use super::{
    CacheLayer, CachedBody,
    directives::Asks,
    entry::Entry,
    fetch::{self, Errand, Plan},
    flights::{Join, Lead},
    key::KeyRef,
    outlook::Serves,
    rules,
    store::{Found, Place},
    wait::Queued,
};
use crate::observe::{Call, Observer};

/// What is done with a request.
pub(super) enum Step<R, B: Body> {
    Answer(Response<CachedBody<B>>),
    /// Give out what is stored, and send the request on its own.
    Renew(Response<CachedBody<B>>, Request<R>, Box<Plan>, Place),
    Fetch(Request<R>, Errand<B>),
    Wait(Request<R>, Queued),
}

impl CacheLayer {
    pub(super) fn step<R, B>(
        &self,
        policy: &CachePolicy,
        request: Request<R>,
        may_wait: bool,
    ) -> Step<R, B>
    where
        R: Body,
        B: Body<Data = Bytes>,
    {
        let (store, method) = (&self.store.shared, request.method());
        let is_get = method == Method::GET;
        if !is_get && method != Method::HEAD {
            let errand = if store.is_untouched() || !fetch::may_change(method) {
                Errand::Pass
            } else {
                Errand::Invalidate {
                    store: Arc::clone(store),
                    uri: Box::new(request.uri().clone()),
                }
            };
            return Step::Fetch(request, errand);
        }
        let asks = Asks::of(request.headers());
        let is_plain = request.body().is_end_stream();
        if asks.no_store || !is_plain || rules::is_for_upstream_only(request.headers()) {
            return Step::Fetch(request, Errand::Pass);
        }
        store.make_room(policy.bytes_max());
        self.look_up(policy, asks, request, may_wait)
    }

    fn look_up<R, B>(
        &self,
        policy: &CachePolicy,
        asks: Asks,
        mut request: Request<R>,
        may_wait: bool,
    ) -> Step<R, B>
    where
        B: Body<Data = Bytes>,
    {
        let (store, now) = (&self.store.shared, self.store.shared.now());
        let is_head = request.method() == Method::HEAD;
        let key = store.key(request.uri());
        let hash = key.hash;
        let found = store.find(key, request.headers());
        let usable = found.entry.as_ref().filter(|_| policy.is_storing());
        if let Some(entry) = usable
            && let Serves::Now(outcome) = entry.outlook.serves(&asks, policy, now)
        {
            let response = entry.answer(now, is_head, outcome);
            self.tell(&request, outcome);
            if outcome == CacheOutcome::StaleWhileRevalidate
                && !is_head
                && !asks.only_if_cached
                && let Some((plan, place)) =
                    self.plan_renewal(policy, asks, &mut request, hash, &found)
            {
                return Step::Renew(response, request, plan, place);
            }
            return Step::Answer(response);
        }
        if asks.only_if_cached {
            self.tell(&request, CacheOutcome::OnlyIfCached);
            return Step::Answer(not_cached());
        }
        if is_head && found.entry.is_none() {
            return Step::Fetch(request, Errand::Pass);
        }
        let has_credentials = rules::has_credentials(request.headers());
        let is_anybodys = !has_credentials
            || found.entry.as_ref().is_some_and(|e| e.outlook.terms.is_for_everybody());
        let may_share = policy.is_coalescing() && !is_head && !asks.demands() && is_anybodys;
        if found.entry.is_none() && (found.is_alone(now) || !(may_share || policy.is_storing())) {
            return Step::Fetch(request, Errand::Pass);
        }
        let mut lead = None;
        if may_share && may_wait && !found.is_alone(now) {
            match store.join(key, request.headers(), &found) {
                Join::Wait(landing) => {
                    let queued = Queued { landing, stale: found.entry, asks, policy: *policy };
                    return Step::Wait(request, queued);
                }
                Join::Lead(leading) => {
                    // Another may have landed between the look into the store and here.
                    let again = store.find(key, request.headers());
                    if policy.is_storing()
                        && let Some(entry) = again.entry
                        && entry.outlook.serves(&asks, policy, now)
                            == Serves::Now(CacheOutcome::Hit)
                    {
                        self.tell(&request, CacheOutcome::Hit);
                        return Step::Answer(entry.answer(now, is_head, CacheOutcome::Hit));
                    }
                    lead = Some(leading);
                }
            }
        }
        let stale = found.entry.filter(|_| policy.is_storing());
        let plan = self.plan(policy, asks, &mut request, hash, stale, lead);
        Step::Fetch(request, Errand::Keep(plan))
    }

    /// Prepares a call whose answer is made use of, and makes the request conditional where that helps.
    fn plan<R>(
        &self,
        policy: &CachePolicy,
        asks: Asks,
        request: &mut Request<R>,
        hash: u64,
        stale: Option<Arc<Entry>>,
        lead: Option<Lead>,
    ) -> Box<Plan> {
        let store = &self.store.shared;
        let headers = request.headers().clone();
        let is_get = request.method() == Method::GET;
        let conditional = stale.as_ref().filter(|_| is_get);
        let is_conditional = conditional.is_some_and(|stale| stale.validate(request.headers_mut()));
        Box::new(Plan {
            store: Arc::clone(store),
            observer: self.observer.clone(),
            policy: *policy,
            asks,
            method: request.method().clone(),
            uri: request.uri().clone(),
            hash,
            has_credentials: rules::has_credentials(&headers),
            headers,
            stale,
            is_conditional,
            lead,
            changes: store.changes(hash),
            began: store.now().at,
        })
    }

    /// Prepares a renewal in the background; `None` where one is under way, or there are too many.
    fn plan_renewal<R>(
        &self,
        policy: &CachePolicy,
        asks: Asks,
        request: &mut Request<R>,
        hash: u64,
        found: &Found,
    ) -> Option<(Box<Plan>, Place)> {
        let store = &self.store.shared;
        tokio::runtime::Handle::try_current().ok()?;
        let place = store.place()?;
        let key = KeyRef { hash, uri: request.uri() };
        let join = store.join(key, request.headers(), found);
        let Join::Lead(lead) = join else { return None };
        let mut plan = self.plan(policy, asks, request, hash, found.entry.clone(), Some(lead));
        // Nobody waits for this answer: what comes of it is told by whoever asks next.
        plan.observer = Observer::default();
        Some((plan, place))
    }

    pub(super) fn tell<R>(&self, request: &Request<R>, outcome: CacheOutcome) {
        let call = Call { method: request.method(), uri: request.uri() };
        self.observer.tell(&call, Event::Cached { outcome });
    }
}

/// RFC 9111 §5.2.1.7.
fn not_cached<B: Body>() -> Response<CachedBody<B>> {
    let mut response = Response::new(CachedBody::stored(Bytes::new()));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response.extensions_mut().insert(CacheOutcome::OnlyIfCached);
    response
}
