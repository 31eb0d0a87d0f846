//! Layers of one's own around a chain of middlewares, whatever they do to their attempts.

use std::{
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use redial_reqwest::{Relay, RequestBody};
use tower::{Layer, Service, ServiceExt, layer::layer_fn};

use super::*;

type Answered = Result<http::Response<reqwest::Body>, Error>;
type Attempt = std::pin::Pin<Box<dyn Future<Output = Answered> + Send>>;

/// A service made of a function of the relay and a request.
#[derive(Clone)]
struct Through<F>(Relay, F);

impl<F> Service<http::Request<RequestBody>> for Through<F>
where
    F: Fn(Relay, http::Request<RequestBody>) -> Attempt,
{
    type Response = http::Response<reqwest::Body>;
    type Error = Error;
    type Future = Attempt;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<RequestBody>) -> Attempt {
        self.1(self.0, request)
    }
}

fn through<F>(send: F) -> ClientWithMiddleware
where
    F: Fn(Relay, http::Request<RequestBody>) -> Attempt + Clone + Send + Sync + 'static,
{
    let layer = layer_fn(move |relay| Through(relay, send.clone()));
    ClientBuilder::new(Client::new()).with(RedialMiddleware::layered(&layer)).build()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_may_be_made_by_another_task() {
    let client = through(|relay, request| {
        Box::pin(async move { tokio::spawn(relay.oneshot(request)).await.unwrap() })
    });
    let upstream = Upstream::script([Reply::ok("paid")]).await;
    let answer = soon(client.get(upstream.url("/")).send()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "paid");
}

#[tokio::test(start_paused = true)]
async fn two_attempts_may_be_out_at_once_and_the_slower_one_is_dropped() {
    let client = through(|relay, request| {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let twin = http::Request::from_parts(head.clone(), reqwest::Body::default());
            let first = relay.oneshot(http::Request::from_parts(head, body));
            tokio::select! {
                outcome = first => outcome,
                outcome = relay.oneshot(twin) => outcome,
            }
        })
    });
    let upstream = Upstream::script([Reply::hang(), Reply::ok("paid")]).await;
    let answer = soon(client.get(upstream.url("/")).send()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "paid");
    upstream.until(|upstream| upstream.requests()[0].abandoned).await;
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_layer_drops_is_dropped_while_the_call_goes_on() {
    let client = through(|relay, request| {
        Box::pin(async move {
            let head = request.into_parts().0;
            let request = || http::Request::from_parts(head.clone(), reqwest::Body::default());
            let given_up = tokio::time::timeout(SECOND, relay.oneshot(request())).await;
            assert!(given_up.is_err());
            tokio::time::sleep(SECOND * 5).await;
            relay.oneshot(request()).await
        })
    });
    let upstream = Arc::new(Upstream::script([Reply::hang(), Reply::ok("paid")]).await);
    let url = upstream.url("/");
    let call = tokio::spawn(async move { client.get(url).send().await });
    upstream.until(|upstream| upstream.requests().len() == 1).await;
    upstream.until(|upstream| upstream.requests()[0].abandoned).await;
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(soon(call).await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_the_extensions_of_its_call_fails_unsent() {
    let client = through(|relay, mut request| {
        request.extensions_mut().clear();
        Box::pin(relay.oneshot(request))
    });
    let upstream = Upstream::script([Reply::ok("paid")]).await;
    let error = soon(client.get(upstream.url("/")).send()).await.unwrap_err();
    assert!(error.is_middleware() && rejection(&error).is_none());
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_outlives_its_call_ends() {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let client = through(move |relay, request| {
        let (head, body) = request.into_parts();
        let copy = || http::Request::from_parts(head.clone(), reqwest::Body::default());
        let mut begun: Attempt = Box::pin(relay.oneshot(copy()));
        assert!(begun.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let unbegun: Attempt = Box::pin(relay.oneshot(copy()));
        *keep.lock().unwrap() = Some([begun, unbegun]);
        Box::pin(relay.oneshot(http::Request::from_parts(head, body)))
    });
    let upstream = Upstream::script([Reply::hang(), Reply::ok("paid")]).await;
    assert_eq!(soon(client.get(upstream.url("/")).send()).await.unwrap().status(), 200);
    let kept = kept.lock().unwrap().take().unwrap();
    for attempt in kept {
        let error = soon(attempt).await.unwrap_err();
        assert_eq!((error.fault(), error.evidence()), (Fault::Cancelled, Evidence::NeverSent));
    }
    assert_eq!(upstream.requests().len(), 2);
}

/// Notes what each attempt found in the extensions, and leaves something there.
struct Notes(Arc<Mutex<Vec<Found>>>);

type Found = (Option<AttemptNumber>, Option<&'static str>);

#[async_trait::async_trait]
impl Middleware for Notes {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let found = (extensions.get().copied(), extensions.get().copied());
        self.0.lock().unwrap().push(found);
        extensions.insert("left by an attempt");
        next.run(request, extensions).await
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_begins_with_the_extensions_of_the_call() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let client = ClientBuilder::new(Client::new())
        .with(RedialMiddleware::new(Policy::default()))
        .with(Notes(Arc::clone(&notes)))
        .build();
    let upstream = Upstream::script([Reply::status(503), Reply::ok("paid")]).await;
    let request = client.get(upstream.url("/")).build().unwrap();
    let mut extensions = Extensions::new();
    extensions.insert("given by the caller");
    soon(client.execute_with_extensions(request, &mut extensions)).await.unwrap();
    let given = Some("given by the caller");
    assert_eq!(*notes.lock().unwrap(), [(None, given), (Some(AttemptNumber(2)), given)]);
    assert_eq!(extensions.get(), Some(&"left by an attempt"));
    assert_eq!(extensions.get(), Some(&Attempts(2)));
}

/// An error of another middleware, with reqwest's inside.
struct Wrapping;

#[derive(Debug, thiserror::Error)]
#[error("outer")]
struct Outer(#[source] reqwest_middleware::Error);

#[async_trait::async_trait]
impl Middleware for Wrapping {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let answered = next.run(request, extensions).await;
        answered.map_err(|error| reqwest_middleware::Error::middleware(Outer(error)))
    }
}

#[tokio::test(start_paused = true)]
async fn errors_of_other_middlewares_are_searched_and_come_out_as_they_came() {
    let client = ClientBuilder::new(Client::new())
        .with(RedialMiddleware::new(Policy::default()))
        .with(Wrapping)
        .build();
    let upstream = Upstream::script([Reply::reset(), Reply::ok("paid"), Reply::reset()]).await;
    let answer = soon(client.get(upstream.url("/")).send()).await.unwrap();
    assert_eq!(attempts(&answer), 2);
    let error = soon(client.post(upstream.url("/")).send()).await.unwrap_err();
    let reqwest_middleware::Error::Middleware(error) = error else { panic!("{error:?}") };
    assert!(error.downcast_ref::<Outer>().is_some_and(|outer| outer.0.is_request()));
}

#[tokio::test(start_paused = true)]
async fn a_layer_may_send_its_attempt_elsewhere() {
    let upstream = Upstream::script([Reply::ok("paid")]).await;
    let url = upstream.url("/there");
    let client = through(move |relay, mut request| {
        *request.uri_mut() = url.parse().unwrap();
        Box::pin(relay.oneshot(request))
    });
    let call = client.post("http://shop.example/here").body("one order").send();
    assert_eq!(soon(call).await.unwrap().url().path(), "/there");
    assert_eq!(upstream.requests()[0].body, "one order");
}

#[tokio::test(start_paused = true)]
async fn a_layer_may_put_another_body_in_place() {
    let upstream = Upstream::script([Reply::ok("paid")]).await;
    let client = through(|relay, request| {
        let request = request.map(|_| reqwest::Body::from("two orders"));
        Box::pin(relay.oneshot(request))
    });
    soon(client.post(upstream.url("/")).body("one order!").send()).await.unwrap();
    assert_eq!(upstream.requests()[0].body, "two orders");
}

#[tokio::test(start_paused = true)]
async fn a_stack_may_be_changed_before_it_is_used() {
    let upstream = Upstream::script([Reply::status(503), Reply::ok("paid")]).await;
    let stack = redial::stack(Policy::default()).calls(redial::Omit);
    let client = ClientBuilder::new(Client::new()).with(RedialMiddleware::layered(&stack)).build();
    assert_eq!(attempts(&soon(client.get(upstream.url("/")).send()).await.unwrap()), 2);
    let _: &dyn Layer<Relay, Service = _> = &stack;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_calls_at_once_each_get_their_own_answer() {
    let spawned = |relay: Relay, request: http::Request<_>| -> Attempt {
        Box::pin(async move { tokio::spawn(relay.oneshot(request)).await.unwrap() })
    };
    let upstream = Upstream::with(|seen| Reply::ok(seen.body.clone())).await;
    let client = through(spawned);
    let calls = (0..200).map(|nth: u32| {
        let request = client.post(upstream.url("/")).body(nth.to_string());
        tokio::spawn(async move {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), nth.to_string());
        })
    });
    for call in calls.collect::<Vec<_>>() {
        soon(call).await.unwrap();
    }
    assert_eq!(upstream.requests().len(), 200);
}
