//! The call itself: its layers, its redirects, its end.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use redial::{
    BoxError, Budgets, BufferAnswerLayer, Call, Diagnose, Diagnosis, FellBack, HedgeLayer,
    LogEvents, Observe, PolicyCell, Rejection, RetryLayer, RetryLayers,
    core::{Event, Fault, Policy, Stop},
};
use redial_hyper::Transport;
use tower::{Layer, ServiceExt};

use super::{FetchArgs, body, download::download, record::Recorder};
use crate::{cli::Failure, show};

/// What came of a call.
pub(crate) struct Ended {
    pub(crate) status: Option<u16>,
    pub(crate) stop: Stop,
    pub(crate) is_refused: bool,
    /// What the fallback stood in for, if it answered.
    pub(crate) fell_back: Option<FellBack>,
    /// What people should know beside that.
    pub(crate) message: Option<String>,
}

pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// What it takes to make calls.
pub(super) struct Caller<'a> {
    pub(super) args: &'a FetchArgs,
    pub(super) policy: Policy,
    pub(super) transport: Transport,
    pub(super) recorder: &'a Recorder,
    /// How much of an answer is read before any of it is handed on.
    pub(super) ahead_bytes_max: usize,
}

/// Makes the call, redirects included, and writes the answer where it belongs.
pub(crate) async fn call(
    args: &FetchArgs,
    policy: Policy,
    transport: Transport,
    recorder: &Recorder,
    request: Request<Bytes>,
) -> Result<Ended, Failure> {
    let ahead_bytes_max = if args.no_buffer { 0 } else { AHEAD_BYTES_MAX };
    let caller = Caller { args, policy, transport, recorder, ahead_bytes_max };
    match args.file()? {
        Some(file) => download(caller, request, file).await,
        None => match caller.reach(request).await {
            Ok(answer) => body::write(args, answer, recorder).await,
            Err(ended) => Ok(ended),
        },
    }
}

impl Caller<'_> {
    /// Sends `request` until there is an answer that is none of the redirects to be followed, or says how
    /// the call has ended.
    pub(super) async fn reach(&self, mut request: Request<Bytes>) -> Result<Answer, Ended> {
        let mut hop = 0;
        loop {
            let policy = Policy { deadline: self.time_left(), ..self.policy.clone() };
            let (parts, bytes) = request.into_parts();
            let sent = Request::from_parts(parts.clone(), Full::new(bytes.clone()));
            request = Request::from_parts(parts, bytes);
            let answer = self.send(&policy, sent).await;
            let answer = answer.map_err(|error| failed(&error, self.recorder))?;
            let Some(next) = redirect(self.args, &request, &answer) else { return Ok(answer) };
            let status = answer.status().as_u16();
            if REDIRECTS_MAX <= hop {
                return Err(refused(status, "more than 10 redirects"));
            }
            let target = next.map_err(|message| refused(status, &message))?;
            if let Some(ended) = wait_to_follow(&answer, &policy, self.recorder).await {
                return Err(ended);
            }
            self.recorder.timeline(|timeline| timeline.line(&format!("     → {target}")));
            request = follow(request, status, target);
            self.recorder.next_hop();
            hop += 1;
        }
    }

    /// How much of the deadline is left.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let deadline = self.policy.deadline?;
        Some(deadline.saturating_sub(self.recorder.elapsed()))
    }

    async fn send(
        &self,
        policy: &Policy,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, redial_hyper::Error> {
        let cell = PolicyCell::new(policy.clone());
        let notes = self.recorder.clone();
        let observe = move |call: &Call<'_>, event: &Event| {
            LogEvents.observe(call, event);
            notes.observe(call, event);
        };
        let budgets = Budgets::new();
        let hedge = HedgeLayer::new(cell.clone()).budgets(budgets.clone()).observe(observe.clone());
        let retry = RetryLayer::new(cell.clone()).budgets(budgets).observe(observe);
        let mut layers = RetryLayers { retry, hedge };
        if let Some(seed) = self.args.seed {
            layers.retry = layers.retry.seed(seed);
            layers.hedge = layers.hedge.seed(seed);
        }
        let idle = policy.attempt_timeout.unwrap_or(IDLE_MAX);
        let ahead = BufferAnswerLayer::new(self.ahead_bytes_max, idle);
        let stack = redial::stack(cell).retries(layers);
        let client = stack.map_attempts(|attempts| (ahead, attempts)).layer(self.transport.clone());
        let answer = client.oneshot(request).await?;
        Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

fn failed(error: &redial_hyper::Error, recorder: &Recorder) -> Ended {
    let stop = recorder.stop().unwrap_or(Stop::Permanent);
    let is_deadline = matches!(error.rejection(), Some(Rejection::DeadlineExceeded { .. }));
    let stop = if is_deadline { Stop::Deadline } else { stop };
    let is_refused = !is_deadline && error.rejection().is_some_and(is_our_own);
    let message = Some(describe(error));
    Ended { status: None, stop, is_refused, fell_back: None, message }
}

/// Whether we refused to send it at all, which no upstream had a part in.
const fn is_our_own(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::BreakerOpen { .. }
            | Rejection::RateLimited { .. }
            | Rejection::BulkheadFull { .. }
            | Rejection::BulkheadTimeout { .. }
            | Rejection::LimitReached { .. }
            | Rejection::Throttled
    )
}

/// An error with all that caused it, each once.
fn describe(error: &redial_hyper::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        let words = source.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = source.source();
    }
    text
}

/// Returns where an answer sends us, when that is to be followed; an error says why it cannot be.
fn redirect(
    args: &FetchArgs,
    request: &Request<Bytes>,
    answer: &Answer,
) -> Option<Result<Uri, String>> {
    let is_redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location =
        answer.headers().get(header::LOCATION).filter(|_| args.location && is_redirect)?;
    let location = location.to_str().unwrap_or_default();
    Some(resolve(request.uri(), location))
}

fn resolve(base: &Uri, location: &str) -> Result<Uri, String> {
    let wrong = || format!("location `{location}` is no target");
    let target: Uri = match (location, base.scheme_str(), base.authority()) {
        (absolute, ..) if absolute.contains("://") => absolute.parse().map_err(|_| wrong())?,
        (relative, Some(scheme), Some(authority)) => {
            let path = match relative {
                rooted if rooted.starts_with("//") => {
                    return format!("{scheme}:{rooted}").parse().map_err(|_| wrong());
                }
                rooted if rooted.starts_with('/') => rooted.to_owned(),
                query if query.starts_with('?') => format!("{}{query}", base.path()),
                sibling => {
                    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
                    format!("{folder}/{sibling}")
                }
            };
            let path = path.split('#').next().unwrap_or_default();
            format!("{scheme}://{authority}{path}").parse().map_err(|_| wrong())?
        }
        _ => return Err(wrong()),
    };
    let leaves_tls = base.scheme_str() == Some("https") && target.scheme_str() != Some("https");
    if leaves_tls {
        return Err(format!("a redirect from https to {target} is not followed"));
    }
    Ok(target)
}

/// A redirect may ask to be followed later (RFC 9110 §10.2.3): waits, or ends the call where the wait
/// is too long.
async fn wait_to_follow(answer: &Answer, policy: &Policy, recorder: &Recorder) -> Option<Ended> {
    let now = jiff::Timestamp::now().as_second();
    let wait = redial::http::retry_after(answer.headers(), now).filter(|wait| !wait.is_zero())?;
    let too_long = policy.retry.pushback_policy().max() < wait
        || policy.deadline.is_some_and(|deadline| deadline <= wait);
    if too_long {
        let message = Some(format!("the server asked to wait for {}", show::span(wait)));
        let status = Some(answer.status().as_u16());
        let stop = Stop::PushbackTooLong;
        return Some(Ended { status, stop, is_refused: false, fell_back: None, message });
    }
    let line = format!("     ↻ following in {} (the server asked for it)", show::span(wait));
    recorder.timeline(|timeline| timeline.line(&line));
    tokio::time::sleep(wait).await;
    None
}

/// The request for the next hop: 303 makes it a GET, and so do 301 and 302 of a POST, as browsers do;
/// another origin gets no credentials and no idempotency key.
fn follow(request: Request<Bytes>, status: u16, target: Uri) -> Request<Bytes> {
    let is_same_origin = request.uri().scheme() == target.scheme()
        && request.uri().authority() == target.authority();
    let becomes_get = match status {
        303 => request.method() != Method::HEAD,
        301 | 302 => request.method() == Method::POST,
        _ => false,
    };
    let (mut parts, mut body) = request.into_parts();
    parts.uri = target;
    if becomes_get {
        parts.method = Method::GET;
        body = Bytes::new();
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(IDEMPOTENCY_KEY);
    }
    if !is_same_origin {
        for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE] {
            parts.headers.remove(name);
        }
        parts.headers.remove(IDEMPOTENCY_KEY);
        parts.headers.remove(header::HOST);
    }
    Request::from_parts(parts, body)
}

fn refused(status: u16, message: &str) -> Ended {
    let message = Some(message.to_owned());
    let (status, stop) = (Some(status), Stop::Permanent);
    Ended { status, stop, is_refused: true, fell_back: None, message }
}

/// Whether an error of the answer's body says that the deadline came.
pub(super) fn is_late(error: &BoxError) -> bool {
    let rejection = match error.downcast_ref::<redial_hyper::Error>() {
        Some(error) => error.rejection(),
        None => error.downcast_ref(),
    };
    matches!(rejection, Some(Rejection::DeadlineExceeded { .. }))
}

/// What an error of the answer's body says went wrong.
pub(super) fn fault_of(error: &BoxError) -> Diagnosis {
    let diagnosis = match error.downcast_ref::<redial_hyper::Error>() {
        Some(error) => error.diagnose(),
        None => error.diagnose(),
    };
    match diagnosis.fault {
        Fault::Other => Diagnosis { fault: Fault::ResponseTruncated, ..diagnosis },
        _ => diagnosis,
    }
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REDIRECTS_MAX: u32 = 10;
const AHEAD_BYTES_MAX: usize = 1024 * 1024;
/// A body that brings nothing for so long has broken off.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_lead_where_they_say() {
        let base: Uri = "https://a.example/x/y?q=1".parse().unwrap();
        let table = [
            ("https://b.example/z", "https://b.example/z"),
            ("//b.example/z", "https://b.example/z"),
            ("/z?w=2", "https://a.example/z?w=2"),
            ("z", "https://a.example/x/z"),
            ("?p=3", "https://a.example/x/y?p=3"),
            ("/z#part", "https://a.example/z"),
        ];
        for (location, target) in table {
            assert_eq!(resolve(&base, location).unwrap().to_string(), target, "{location}");
        }
        assert!(resolve(&base, "http://a.example/").unwrap_err().contains("not followed"));
        assert!(resolve(&base, "ht tp://").is_err());
    }

    #[test]
    fn another_origin_gets_no_credentials() {
        let request = Request::post("http://a.example/")
            .header("authorization", "secret")
            .header("idempotency-key", "k")
            .body(Bytes::from_static(b"x"))
            .unwrap();
        let next = follow(request, 307, "http://b.example/".parse().unwrap());
        assert!(next.headers().is_empty());
        assert_eq!((next.method(), next.body().len()), (&Method::POST, 1));
        let next = follow(next, 303, "http://b.example/y".parse().unwrap());
        assert_eq!((next.method(), next.body().len()), (&Method::GET, 0));
    }
}
