//! What peers get wrong, on real sockets: each test names the behavior that it guards against.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use redial::{
    Attempts, BoxError, Budgets, RetryLayer, Sent,
    core::{Backoff, BudgetPolicy, Jitter, Policy, TokenBudget, Tokens},
};
use redial_hyper::{Error, Transport};
use redial_testkit::{Reply, Upstream, refused_addr};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

const MS: Duration = Duration::from_millis(1);

/// Quick and predictable: 10 ms between attempts.
fn policy() -> Policy {
    let backoff = Backoff::fixed(MS * 10).jitter(Jitter::None).unwrap();
    Policy { retry: Policy::default().retry.backoff(backoff), ..Policy::default() }
}

fn transport() -> Transport {
    Transport::builder().build().unwrap()
}

fn request(method: Method, url: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(url).body(Full::from("one espresso")).unwrap()
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;
type Client<B> = BoxCloneSyncService<Request<B>, Answer, Error>;

/// The standard stack over `transport`, without the type that names all of it: the compiler is spared
/// proving it anew at each use.
fn over<T, B, A>(policy: Policy, transport: T) -> Client<B>
where
    T: Service<Request<Sent<B>>, Response = Response<A>, Error = Error>,
    T: Clone + Send + Sync + 'static,
    T::Future: Send,
    Error: From<A::Error>,
    A: Body<Data = Bytes> + Unpin + Send + 'static,
    A::Error: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    let stack = redial::stack(policy).layer(transport);
    let boxed = |answer: Response<_>| answer.map(BodyExt::boxed_unsync);
    BoxCloneSyncService::new(stack.map_response(boxed))
}

fn client<B>(policy: Policy) -> Client<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    over(policy, transport())
}

async fn fetch(policy: Policy, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
    client(policy).oneshot(request).await
}

/// F. reqwest-retry, fetch-kit and agentgateway repeat it, and the customer pays twice.
#[tokio::test]
async fn a_post_without_a_key_is_sent_once_after_a_503() {
    for reply in [Reply::status(503), Reply::reset(), Reply::close_without_answer()] {
        let upstream = Upstream::script([reply, Reply::ok("again?")]).await;
        let outcome = fetch(policy(), request(Method::POST, &upstream.url("/pay"))).await;
        assert!(outcome.is_err() || outcome.is_ok_and(|answer| answer.status() == 503));
        assert_eq!(upstream.requests().len(), 1);
    }
}

/// F, the other half: with a key it is repeated, with the same key.
#[tokio::test]
async fn a_post_with_a_key_is_repeated_with_the_same_key() {
    for reply in [Reply::status(503), Reply::reset(), Reply::close_without_answer()] {
        let upstream = Upstream::script([reply, Reply::ok("thanks")]).await;
        let mut keyed = request(Method::POST, &upstream.url("/pay"));
        keyed.headers_mut().insert("idempotency-key", HeaderValue::from_static("\"k-1\""));
        assert_eq!(fetch(policy(), keyed).await.unwrap().status(), 200);
        let requests = upstream.requests();
        let keys: Vec<_> = requests.iter().map(|r| r.header("idempotency-key")).collect();
        assert_eq!(keys, [Some("\"k-1\""), Some("\"k-1\"")]);
        assert!(requests.iter().all(|request| request.body == "one espresso"));
    }
}

/// F, and N1: nothing was sent, so any method may go again.
#[tokio::test]
async fn a_post_to_a_server_that_is_not_there_yet_gets_through() {
    let addr = refused_addr();
    let call = fetch(policy(), request(Method::POST, &format!("http://{addr}/pay")));
    let started = Instant::now();
    let error = call.await.err().unwrap();
    assert_eq!(redial::Diagnose::diagnose(&error).fault, redial::core::Fault::ConnectionRefused);
    assert!(MS * 30 <= started.elapsed(), "three retries were made");
}

/// G. Others sleep for a day, or come back at once.
#[tokio::test]
async fn a_wish_longer_than_the_time_left_returns_the_answer_at_once() {
    for wish in ["30", "86400", "9223372036854775808"] {
        let upstream = Upstream::script([Reply::status(503).header("retry-after", wish)]).await;
        let policy = Policy { deadline: Some(MS * 2_000), ..policy() };
        let started = Instant::now();
        let answer = fetch(policy, request(Method::GET, &upstream.url("/"))).await.unwrap();
        assert!(started.elapsed() < MS * 500);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (503, &HeaderValue::from_static(wish))
        );
        assert_eq!(upstream.requests().len(), 1);
    }
}

/// G. A wish that fits is never undercut, in any of its forms.
#[tokio::test(start_paused = true)]
async fn a_wish_is_obeyed_in_all_its_forms() {
    let now = jiff::Timestamp::now();
    let later = now + jiff::SignedDuration::from_secs(2);
    let date = |format: &str, at: jiff::Timestamp| at.strftime(format).to_string();
    let imf = "%a, %d %b %Y %H:%M:%S GMT";
    let forms = [
        "2".to_owned(),
        date(imf, later),
        date("%A, %d-%b-%y %H:%M:%S GMT", later),
        date("%a %b %e %H:%M:%S %Y", later),
    ];
    for form in forms {
        let busy = Reply::status(503).header("retry-after", &form).header("date", date(imf, now));
        let upstream = Upstream::script([busy, Reply::ok("now")]).await;
        fetch(policy(), request(Method::GET, &upstream.url("/"))).await.unwrap();
        let at: Vec<_> = upstream.requests().iter().map(|request| request.at).collect();
        let waited = at[1] - at[0];
        assert!(MS * 2_000 <= waited && waited <= MS * 2_600, "{form}: {waited:?}");
    }
}

/// G. What cannot be read asks for nothing.
#[tokio::test]
async fn a_negative_wish_is_none() {
    for form in ["-1", "1.5", "soon", "0"] {
        let busy = Reply::status(503).header("retry-after", form);
        let upstream = Upstream::script([busy, Reply::ok("now")]).await;
        let started = Instant::now();
        fetch(policy(), request(Method::GET, &upstream.url("/"))).await.unwrap();
        assert!(started.elapsed() < MS * 900, "{form}");
        assert_eq!(upstream.requests().len(), 2);
    }
}

/// H. reqwest-retry overshoots its total by a factor of 2.7.
#[tokio::test]
async fn the_deadline_holds_whatever_the_server_does() {
    let faults = [
        vec![Reply::hang()],
        vec![Reply::status(503)],
        vec![Reply::reset()],
        vec![Reply::ok("slow").after(MS * 5_000)],
    ];
    for script in faults {
        let upstream = Upstream::script(script).await;
        let retry = policy().retry.max_retries(1_000);
        let budget = BudgetPolicy::Unlimited;
        let policy = Policy { deadline: Some(MS * 300), retry, budget, ..policy() };
        let started = Instant::now();
        let _ = fetch(policy, request(Method::GET, &upstream.url("/"))).await;
        let elapsed = started.elapsed();
        assert!(elapsed < MS * 350, "{elapsed:?}");
    }
}

/// H. A body that never ends is within the deadline as well.
#[tokio::test]
async fn the_deadline_covers_the_body() {
    let upstream = Upstream::script([Reply::ok(vec![b'x'; 10_000]).slow(1, MS * 20)]).await;
    let policy = Policy { deadline: Some(MS * 300), ..policy() };
    let started = Instant::now();
    let answer = fetch(policy, request(Method::GET, &upstream.url("/"))).await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
    assert!(started.elapsed() < MS * 350);
}

/// I. Peers hold the failed response, and its connection, while they wait.
#[tokio::test]
async fn the_connection_is_free_again_during_the_wait() {
    let upstream = Upstream::script([
        Reply::status(503).body("an error page"),
        Reply::ok("b"),
        Reply::ok("a"),
    ])
    .await;
    let backoff = Backoff::fixed(MS * 400).jitter(Jitter::None).unwrap();
    let policy = Policy { retry: policy().retry.backoff(backoff), ..policy() };
    let transport = transport();
    let client = over(policy, transport.clone());
    let first = tokio::spawn(client.clone().oneshot(request(Method::GET, &upstream.url("/a"))));
    upstream.until(|upstream| upstream.requests().len() == 1).await;
    let freed = async {
        while transport.pool().snapshot().total.idle == 0 {
            tokio::time::sleep(MS).await;
        }
    };
    tokio::time::timeout(MS * 10_000, freed).await.unwrap();
    client.oneshot(request(Method::GET, &upstream.url("/b"))).await.unwrap();
    let answer = first.await.unwrap().unwrap();
    assert_eq!(answer.extensions().get(), Some(&Attempts(2)));
    let targets: Vec<_> = upstream.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/a", "/b", "/a"]);
    assert_eq!(upstream.connections(), 1, "one connection served all three");
}

/// J. Adapters that call a service that is not ready panic under these layers.
#[tokio::test]
async fn every_layer_drives_readiness() {
    let script = (0..8).map(|_| Reply::status(503)).chain([Reply::ok("fine")]);
    let upstream = Upstream::script(script).await;
    let patient = policy().retry.max_retries(8);
    let inner = ServiceBuilder::new().concurrency_limit(2).service(transport());
    let policy = Policy { budget: BudgetPolicy::Unlimited, retry: patient, ..policy() };
    let client = over(policy, inner);
    let client = ServiceBuilder::new().buffer(4).concurrency_limit(3).service(client);
    let calls = (0..8).map(|_| {
        let (mut client, url) = (client.clone(), upstream.url("/"));
        tokio::spawn(async move {
            let client = client.ready().await.unwrap();
            client.call(request(Method::GET, &url)).await.unwrap().status()
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(upstream.requests().len(), 16);
}

/// K. A body that breaks off anywhere is whole on the next attempt, trailers included.
#[tokio::test]
async fn a_streamed_body_is_byte_exact_after_a_break_anywhere() {
    let pieces = ["one ", "", "two two ", "three three three ", "end"];
    let whole = pieces.concat();
    for broken_at in [0, 1, 40, 80, 120, 140, 160] {
        let script = [Reply::reset_unread(broken_at), Reply::ok("whole")];
        let upstream = Upstream::script(script).await;
        let body = Pieces::new(&pieces);
        // HTTP/1.1 sends the trailers that were announced.
        let request = Request::put(upstream.url("/")).header("trailer", "x-sum");
        let request = request.body(body).unwrap();
        let client = client(policy());
        let answer = client.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let last = upstream.requests().pop().unwrap();
        assert_eq!(last.body, whole, "broken at {broken_at}");
        let trailers = last.trailers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        assert_eq!(trailers.collect::<Vec<_>>(), [("x-sum", "42")]);
    }
}

/// K. What outgrows the buffer is sent once, whole.
#[tokio::test]
async fn a_body_above_the_cap_is_sent_whole_and_not_repeated() {
    let upstream = Upstream::script([Reply::status(503), Reply::ok("again?")]).await;
    let policy = Policy { replay_bytes_max: 1_024, ..policy() };
    let body = Full::<Bytes>::from(vec![b'x'; 100_000]);
    let request = Request::put(upstream.url("/")).body(body).unwrap();
    let answer = client(policy).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 503);
    let requests = upstream.requests();
    assert_eq!((requests.len(), requests[0].body.len()), (1, 100_000));
}

/// K. One that was never read needs no buffer: it goes again, whatever its size.
#[tokio::test]
async fn a_body_above_the_cap_survives_a_refused_connection() {
    let addr = refused_addr();
    let policy = Policy { replay_bytes_max: 1_024, ..policy() };
    let body = Full::<Bytes>::from(vec![b'x'; 100_000]);
    let request = Request::put(format!("http://{addr}/")).body(body).unwrap();
    let started = Instant::now();
    let outcome = client(policy).oneshot(request).await;
    assert!(outcome.is_err() && MS * 30 <= started.elapsed(), "three retries were made");
}

/// L. A pooled connection that died unnoticed costs nobody anything.
#[tokio::test]
async fn a_dead_connection_and_a_post_are_one_hit() {
    for _ in 0..20 {
        let upstream = Upstream::script([Reply::ok("warm").die(), Reply::ok("paid")]).await;
        let client = client(policy());
        let warm = client.clone().oneshot(request(Method::GET, &upstream.url("/warm"))).await;
        warm.unwrap().into_body().collect().await.unwrap();
        upstream.until(|upstream| upstream.connections_open() == 0).await;
        let answer = client.oneshot(request(Method::POST, &upstream.url("/pay"))).await.unwrap();
        assert_eq!(answer.status(), 200);
        let posts = upstream.requests().into_iter().filter(|request| request.method == "POST");
        assert_eq!(posts.count(), 1);
    }
}

/// M. Under total failure, tower's budget for 0.3 lets a third through, and others everything.
#[tokio::test]
async fn an_outage_meets_no_more_retries_than_the_budget_holds() {
    let upstream = Upstream::script([Reply::status(503)]).await;
    let tokens = TokenBudget {
        initial: Some(Tokens::whole(7)),
        floor_per_second: Tokens::ZERO,
        ..TokenBudget::default()
    };
    let policy = Policy { budget: BudgetPolicy::Tokens(tokens), ..policy() };
    let retry = RetryLayer::new(policy.clone()).budgets(Budgets::new());
    let client = redial::stack(policy).retries(retry).layer(transport());
    let calls = (0..32)
        .map(|_| tokio::spawn(client.clone().oneshot(request(Method::GET, &upstream.url("/")))));
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap().status(), 503);
    }
    assert_eq!(upstream.requests().len(), 32 + 7, "waiting retries are paid for as well");
}

/// A body of pieces that come one by one, and trailers.
struct Pieces {
    frames: VecDeque<Frame<Bytes>>,
    is_ready: bool,
}

impl Pieces {
    fn new(pieces: &[&'static str]) -> Self {
        let data = pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
        let sum = ("x-sum".parse().unwrap(), HeaderValue::from_static("42"));
        let trailers = Frame::trailers(HeaderMap::from_iter([sum]));
        Self { frames: data.chain([trailers]).collect(), is_ready: false }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.is_ready = !self.is_ready;
        if self.is_ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.frames.pop_front().map(Ok))
    }
}
