//! A call on its way to the upstream, and what becomes of its answer.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode, Uri, header, response::Parts};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use redial_core::{CacheOutcome, CachePolicy, Event};
use tokio::time::Sleep;

use super::{
    SentAt,
    body::{CachedBody, Rest},
    directives::Asks,
    entry::Entry,
    flights::{Landing, Lead},
    key::KeyRef,
    outlook::{Moment, Outlook},
    rules::{self, Selected},
    store::Shared,
};
use crate::{
    http::is_safe,
    observe::{Call, Observer},
};

pin_project! {
    /// A call, polled in place, and the errand that it is on.
    pub(super) struct Fetch<F, B: Body> {
        #[pin]
        pub(super) call: F,
        pub(super) errand: Errand<B>,
    }
}

/// What is to be done about a call's outcome.
pub(super) enum Errand<B: Body> {
    /// Nothing.
    Pass,
    /// Forget what is stored of a resource that the call has changed.
    Invalidate { store: Arc<Shared>, uri: Box<Uri> },
    /// See whether it can be stored, shared, or covered up.
    Keep(Box<Plan>),
    /// The same, once its body is there.
    Read(Box<Plan>, Box<Reading<B>>),
}

/// What has to be known about a request to make use of its answer.
pub(super) struct Plan {
    pub(super) store: Arc<Shared>,
    pub(super) observer: Observer,
    pub(super) policy: CachePolicy,
    pub(super) asks: Asks,
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// The URI's hash.
    pub(super) hash: u64,
    /// The caller's fields, without what makes the request conditional.
    pub(super) headers: HeaderMap,
    pub(super) has_credentials: bool,
    pub(super) stale: Option<Arc<Entry>>,
    pub(super) is_conditional: bool,
    pub(super) lead: Option<Lead>,
    pub(super) changes: u64,
    pub(super) began: Instant,
}

/// An answer whose body is being read.
pub(super) struct Reading<B> {
    head: Parts,
    body: Pin<Box<B>>,
    ahead: VecDeque<Frame<Bytes>>,
    bytes: usize,
    outlook: Outlook,
    selected: Selected,
    is_storable: bool,
    is_shareable: bool,
    patience: Option<Pin<Box<Sleep>>>,
}

/// How reading a body ended.
enum Read<E> {
    Whole,
    Broken(E),
    /// Too long, too slow, or of a kind that is not stored.
    Unfit,
}

/// The next step of a call whose head has come.
enum Next<B: Body, E> {
    Done(Result<Response<CachedBody<B>>, E>),
    Read(Box<Plan>, Box<Reading<B>>),
}

impl<F, B: Body> Fetch<F, B> {
    pub(super) const fn new(call: F, errand: Errand<B>) -> Self {
        Self { call, errand }
    }
}

impl<F, B, E> Future for Fetch<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<CachedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if !matches!(this.errand, Errand::Read(..)) {
            let outcome = ready!(this.call.poll(cx));
            if matches!(this.errand, Errand::Pass) {
                return Poll::Ready(through(outcome));
            }
            match mem::replace(this.errand, Errand::Pass) {
                Errand::Pass => return Poll::Ready(through(outcome)),
                Errand::Invalidate { store, uri } => {
                    invalidate(&store, &uri, &outcome);
                    return Poll::Ready(through(outcome));
                }
                Errand::Keep(plan) => match plan.receive(outcome) {
                    Next::Done(outcome) => return Poll::Ready(outcome),
                    Next::Read(plan, reading) => *this.errand = Errand::Read(plan, reading),
                },
                Errand::Read(..) => {}
            }
        }
        let Errand::Read(plan, reading) = this.errand else { return Poll::Pending };
        let read = ready!(reading.poll(plan.policy.body_bytes_max(), cx));
        match mem::replace(this.errand, Errand::Pass) {
            Errand::Read(plan, reading) => Poll::Ready(Ok(plan.complete(*reading, read))),
            _ => Poll::Pending,
        }
    }
}

impl Plan {
    fn receive<B, E>(mut self: Box<Self>, outcome: Result<Response<B>, E>) -> Next<B, E>
    where
        B: Body<Data = Bytes>,
    {
        let now = self.store.now();
        let response = match outcome {
            Ok(response) if !rules::is_failure(response.status()) => response,
            failure => return Next::Done(self.fail(now).map_or_else(|| through(failure), Ok)),
        };
        let sent = response.extensions().get::<SentAt>().map_or(self.began, |sent| sent.0);
        let delay = now.at.saturating_duration_since(sent);
        if response.status() == StatusCode::NOT_MODIFIED
            && self.is_conditional
            && let Some(stale) = self.stale.take()
        {
            return Next::Done(Ok(self.revalidate(&stale, response.headers(), delay, now)));
        }
        let (head, body) = response.into_parts();
        let outlook = Outlook::new(&head.headers, delay, now);
        let allowed = rules::use_of(&head, &outlook, self.has_credentials);
        let has_company = self.lead.as_ref().is_some_and(Lead::has_company);
        let has_validator = rules::has_validator(&head.headers);
        let is_storable = allowed.is_storable
            && self.method == Method::GET
            && self.policy.is_storing()
            && outlook.is_worth_keeping(has_validator, &self.policy);
        let is_shareable = allowed.is_shareable;
        let is_wanted = is_storable || (is_shareable && has_company);
        let is_short = body.size_hint().lower() <= u64::from(self.policy.body_bytes_max());
        let selected = (is_wanted && is_short)
            .then(|| rules::selected(&head.headers, &self.headers))
            .flatten();
        let Some(selected) = selected else {
            self.let_pass(head.status, has_company || (is_wanted && !is_short), now);
            let response = Response::from_parts(head, CachedBody::through(body));
            return Next::Done(Ok(self.hand_out(response, CacheOutcome::Miss)));
        };
        let (body, ahead, bytes, patience) = (Box::pin(body), VecDeque::new(), 0, None);
        let reading = Reading {
            head,
            body,
            ahead,
            bytes,
            outlook,
            selected,
            is_storable,
            is_shareable,
            patience,
        };
        Next::Read(self, Box::new(reading))
    }

    /// Returns the stale answer that covers up a failure, where one may.
    fn fail<B: Body<Data = Bytes>>(&mut self, now: Moment) -> Option<Response<CachedBody<B>>> {
        self.land(Landing::Failed);
        let stale = self.stale.take()?;
        let is_allowed = stale.outlook.covers_failure(&self.asks, &self.policy, now);
        let is_head = self.method == Method::HEAD;
        let outcome = CacheOutcome::StaleIfError;
        is_allowed.then(|| self.hand_out(stale.answer(now, is_head, outcome), outcome))
    }

    /// Takes note of a 304: what is stored is right.
    fn revalidate<B: Body<Data = Bytes>>(
        mut self,
        stale: &Entry,
        news: &HeaderMap,
        delay: Duration,
        now: Moment,
    ) -> Response<CachedBody<B>> {
        let entry = Arc::new(stale.refreshed(news, delay, now));
        let is_keepable = rules::is_about(stale.headers(), news)
            && !entry.outlook.terms.no_store
            && (!self.has_credentials || entry.outlook.terms.is_for_everybody());
        if is_keepable {
            self.store.put(self.key(), Arc::clone(&entry), &self.headers, self.changes);
        } else {
            // The server contradicts itself, or takes its leave back: good for this once.
            self.store.drop_selected(self.key(), &self.headers);
        }
        let is_fresh = entry.outlook.serves(&Asks::default(), &self.policy, now).is_now();
        let shared = Landing::Shared(Arc::clone(&entry));
        self.land(if is_keepable && is_fresh { shared } else { Landing::Alone });
        let mut response = entry.answer(now, false, CacheOutcome::Revalidated);
        for cookie in &news.get_all(header::SET_COOKIE) {
            response.headers_mut().append(header::SET_COOKIE, cookie.clone());
        }
        self.hand_out(response, CacheOutcome::Revalidated)
    }

    /// Makes the best of a body that was read.
    fn complete<B: Body<Data = Bytes>>(
        mut self,
        reading: Reading<B>,
        read: Read<B::Error>,
    ) -> Response<CachedBody<B>> {
        let Reading { head, body, ahead, is_storable, is_shareable, .. } = reading;
        let now = self.store.now();
        let rest = match read {
            Read::Whole => {
                let bytes = joined(&ahead);
                let is_complete = is_as_long_as_told(&head.headers, bytes.len());
                let (selected, outlook) = (reading.selected, reading.outlook);
                let entry = || Entry::new(selected, &head, bytes.clone(), outlook);
                let entry = is_complete.then(|| Arc::new(entry()));
                match &entry {
                    Some(entry) if is_storable => {
                        let entry = Arc::clone(entry);
                        self.store.put(self.key(), entry, &self.headers, self.changes);
                    }
                    _ => self.supersede(head.status),
                }
                let landing =
                    entry.filter(|_| is_shareable).map_or(Landing::Alone, Landing::Shared);
                self.land(landing);
                let response = Response::from_parts(head, CachedBody::stored(bytes));
                return self.hand_out(response, CacheOutcome::Miss);
            }
            Read::Broken(error) => match self.fail(now) {
                Some(stale) => return stale,
                None => Rest::Broken(Some(error)),
            },
            Read::Unfit => {
                self.let_pass(head.status, true, now);
                Rest::More(body)
            }
        };
        let response = Response::from_parts(head, CachedBody::ahead(ahead, rest));
        self.hand_out(response, CacheOutcome::Miss)
    }

    /// Ends the errand for an answer that is neither stored nor shared.
    fn let_pass(&mut self, status: StatusCode, is_of_no_use: bool, now: Moment) {
        self.supersede(status);
        // A failure may be over by the next call.
        if is_of_no_use && rules::supersedes(status) {
            self.store.leave_alone(self.key(), now);
        }
        self.land(Landing::Alone);
    }

    fn supersede(&self, status: StatusCode) {
        if self.stale.is_some() && self.method == Method::GET && rules::supersedes(status) {
            self.store.drop_selected(self.key(), &self.headers);
        }
    }

    const fn key(&self) -> KeyRef<'_> {
        KeyRef { hash: self.hash, uri: &self.uri }
    }

    fn land(&mut self, landing: Landing) {
        if let Some(lead) = self.lead.take() {
            lead.land(landing);
        }
    }

    /// Tells how the answer came about, and marks it.
    fn hand_out<B: Body>(
        &self,
        mut response: Response<CachedBody<B>>,
        outcome: CacheOutcome,
    ) -> Response<CachedBody<B>> {
        response.extensions_mut().insert(outcome);
        let call = Call { method: &self.method, uri: &self.uri };
        self.observer.tell(&call, Event::Cached { outcome });
        response
    }
}

impl<B: Body<Data = Bytes>> Reading<B> {
    fn poll(&mut self, bytes_max: u32, cx: &mut Context<'_>) -> Poll<Read<B::Error>> {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        while self.bytes <= bytes_max {
            match self.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let is_data = frame.is_data();
                    self.bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.ahead.push_back(frame);
                    if !is_data {
                        return Poll::Ready(Read::Unfit);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Read::Broken(error)),
                Poll::Ready(None) => return Poll::Ready(Read::Whole),
                Poll::Pending => {
                    let patience = || Box::pin(tokio::time::sleep(READ_FOR_MAX));
                    let patience = self.patience.get_or_insert_with(patience);
                    ready!(patience.as_mut().poll(cx));
                    return Poll::Ready(Read::Unfit);
                }
            }
        }
        Poll::Ready(Read::Unfit)
    }
}

fn through<B: Body, E>(outcome: Result<Response<B>, E>) -> Result<Response<CachedBody<B>>, E> {
    match outcome {
        Ok(response) => Ok(response.map(CachedBody::through)),
        Err(error) => Err(error),
    }
}

/// Forgets what a call that may have changed something names: its target, and what its answer points
/// to on the same origin (RFC 9111 §4.4).
fn invalidate<B, E>(store: &Shared, uri: &Uri, outcome: &Result<Response<B>, E>) {
    let Ok(response) = outcome else { return };
    if !(response.status().is_success() || response.status().is_redirection()) {
        return;
    }
    store.invalidate(uri);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let target = response.headers().get(&name).and_then(|value| value.to_str().ok());
        if let Some(other) = target.and_then(|target| same_origin(uri, target)) {
            store.invalidate(&other);
        }
    }
}

/// Resolves a reference that stays on the origin of `base`.
fn same_origin(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next().unwrap_or_default();
    if let Some(path) = reference.strip_prefix('/') {
        return if path.starts_with('/') { None } else { with_path(base, reference) };
    }
    match reference.parse::<Uri>() {
        Ok(absolute) if absolute.scheme().is_some() => {
            let is_same =
                absolute.scheme() == base.scheme() && absolute.authority() == base.authority();
            is_same.then(|| with_path(base, absolute.path_and_query()?.as_str()))?
        }
        _ => {
            let (folder, _) = base.path().rsplit_once('/')?;
            with_path(base, &format!("{folder}/{}", reference.trim_start_matches("./")))
        }
    }
}

fn with_path(base: &Uri, path: &str) -> Option<Uri> {
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Returns one piece of memory of its own: a slice of a read buffer would hold all of that.
fn joined(frames: &VecDeque<Frame<Bytes>>) -> Bytes {
    let pieces = || frames.iter().filter_map(Frame::data_ref);
    let mut bytes = BytesMut::with_capacity(pieces().map(Bytes::len).sum());
    for piece in pieces() {
        bytes.extend_from_slice(piece);
    }
    bytes.freeze()
}

/// Returns whether a body has the length that its head told, where it told one.
fn is_as_long_as_told(headers: &HeaderMap, length: usize) -> bool {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    told.is_none_or(|told| told.parse() == Ok(length))
}

/// Returns whether a method may change what is stored of its target.
pub(super) fn may_change(method: &Method) -> bool {
    !is_safe(method.as_str())
}

/// How long a body may take after its head to be stored. One that takes longer may never end, and is
/// handed on as it comes.
const READ_FOR_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_long_as_they_stay_on_the_origin() {
        let base = Uri::from_static("http://shop.example/orders/7?x=1");
        let table = [
            ("/orders/8", Some("http://shop.example/orders/8")),
            ("/orders/8?y=2#part", Some("http://shop.example/orders/8?y=2")),
            ("8", Some("http://shop.example/orders/8")),
            ("./8", Some("http://shop.example/orders/8")),
            ("http://shop.example/orders/8", Some("http://shop.example/orders/8")),
            ("http://SHOP.example/orders/8", Some("http://shop.example/orders/8")),
            ("https://shop.example/orders/8", None),
            ("http://shop.example:81/orders/8", None),
            ("http://evil.example/orders/8", None),
            ("//evil.example/orders/8", None),
            ("http://shop.example@evil.example/orders/8", None),
        ];
        for (reference, expected) in table {
            let resolved = same_origin(&base, reference).map(|uri| uri.to_string());
            assert_eq!(resolved.as_deref(), expected, "{reference}");
        }
    }
}
