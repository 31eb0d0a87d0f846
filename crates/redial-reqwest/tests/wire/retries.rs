//! What is repeated, when, and what stays as it was.

use redial::{PolicyCell, Rejection};
use redial_core::RetryPolicy;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_get_is_repeated_after_a_503_and_after_a_reset() {
    let upstream = Upstream::script([Reply::status(503), Reply::reset(), Reply::ok("paid")]).await;
    let answer = soon(client().get(upstream.url("/orders?page=2")).send()).await.unwrap();
    assert_eq!(attempts(&answer), 3);
    assert_eq!(answer.url().as_str(), upstream.url("/orders?page=2"));
    assert!(answer.remote_addr().is_some());
    assert_eq!(answer.text().await.unwrap(), "paid");
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_succeeds_at_once_took_one_attempt() {
    let upstream = Upstream::script([Reply::ok("paid")]).await;
    let answer = soon(client().get(upstream.url("/")).send()).await.unwrap();
    assert_eq!(attempts(&answer), 1);
}

#[tokio::test(start_paused = true)]
async fn a_post_is_not_repeated_after_a_503_and_the_answer_comes_through() {
    let upstream = Upstream::script([Reply::status(503).body("busy")]).await;
    let answer = soon(client().post(upstream.url("/")).body("one order").send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), attempts(&answer)), (503, 1));
    assert_eq!(answer.text().await.unwrap(), "busy");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_post_with_an_idempotency_key_is_repeated_with_the_same_key() {
    let upstream = Upstream::script([Reply::status(503), Reply::reset(), Reply::ok("paid")]).await;
    let request = client().post(upstream.url("/")).header("idempotency-key", "\"7\"");
    let answer = soon(request.body("one order").send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), attempts(&answer)), (200, 3));
    for request in upstream.requests() {
        assert_eq!(request.header("idempotency-key"), Some("\"7\""));
        assert_eq!(request.body, "one order");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_whose_connection_was_refused_is_repeated_with_and_without_a_body() {
    let upstream = Upstream::script([Reply::ok("paid")]).await;
    for body in ["one order", ""] {
        let request = refused_once().post(upstream.url("/")).body(body);
        let answer = soon(request.send()).await.unwrap();
        assert_eq!((answer.status().as_u16(), attempts(&answer)), (200, 2));
    }
    let without = soon(refused_once().post(upstream.url("/")).send()).await.unwrap();
    assert_eq!(attempts(&without), 2);
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_was_reset_is_not_repeated_and_the_error_is_reqwests() {
    let upstream = Upstream::script([Reply::reset()]).await;
    let error = soon(client().post(upstream.url("/")).body("one order").send()).await.unwrap_err();
    assert!(error.is_request() && !error.is_middleware(), "{error:?}");
    assert_eq!(error.url().unwrap().as_str(), upstream.url("/"));
    assert!(rejection(&error).is_none());
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_for_good_says_how_many_attempts_it_took() {
    let url = Url::parse(&format!("http://{}/", refused_addr())).unwrap();
    let request = Request::new(reqwest::Method::GET, url);
    let mut extensions = Extensions::new();
    let twice = RetryPolicy::default().max_retries(2);
    let call = with_policy(Policy { retry: twice, ..Policy::default() });
    let error = soon(call.execute_with_extensions(request, &mut extensions)).await.unwrap_err();
    assert!(error.is_connect());
    assert_eq!(extensions.get(), Some(&Attempts(3)));
    assert!(extensions.get::<AttemptNumber>().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_waited_for() {
    let later = Reply::status(503).header("retry-after", "7");
    let upstream = Upstream::script([later, Reply::ok("paid")]).await;
    let answer = soon(client().get(upstream.url("/")).send()).await.unwrap();
    assert_eq!(attempts(&answer), 2);
    let requests = upstream.requests();
    let waited = requests[1].at - requests[0].at;
    assert!(SECOND * 7 <= waited && waited < SECOND * 10, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_call_and_is_found_in_the_error() {
    let upstream = Upstream::script([Reply::status(503), Reply::hang()]).await;
    let policy = Policy { deadline: Some(SECOND * 5), ..Policy::default() };
    let error = soon(with_policy(policy).get(upstream.url("/")).send()).await.unwrap_err();
    let expected = Rejection::DeadlineExceeded { after: SECOND * 5 };
    assert_eq!(rejection(&error), Some(&expected));
    upstream.until(|upstream| upstream.requests()[1].abandoned).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_covers_the_reading_of_the_body() {
    let slow = Reply::ok(vec![b'x'; 4_096]).slow(1, SECOND);
    let upstream = Upstream::script([slow]).await;
    let policy = Policy { deadline: Some(SECOND * 5), ..Policy::default() };
    let answer = soon(with_policy(policy).get(upstream.url("/")).send()).await.unwrap();
    let error = soon(answer.bytes()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    assert!(format!("{cause:?}").contains("DeadlineExceeded"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_dropped_and_repeated() {
    let upstream = Upstream::script([Reply::hang(), Reply::ok("paid")]).await;
    let policy = Policy { attempt_timeout: Some(SECOND * 2), ..Policy::default() };
    let answer = soon(with_policy(policy).get(upstream.url("/")).send()).await.unwrap();
    assert_eq!(attempts(&answer), 2);
    upstream.until(|upstream| upstream.requests()[0].abandoned).await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_reqwest_itself_is_a_failed_attempt() {
    let upstream = Upstream::script([Reply::hang(), Reply::ok("paid"), Reply::hang()]).await;
    let client = ClientBuilder::new(Client::builder().timeout(SECOND).build().unwrap())
        .with(RedialMiddleware::new(Policy::default()))
        .build();
    let answer = soon(client.get(upstream.url("/")).send()).await.unwrap();
    assert_eq!(attempts(&answer), 2);
    let error = soon(client.post(upstream.url("/")).send()).await.unwrap_err();
    assert!(error.is_timeout() && !error.is_middleware());
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_the_request_and_its_version_hold_for_each_attempt() {
    let upstream = Upstream::script([Reply::hang(), Reply::hang(), Reply::ok("paid")]).await;
    let request = client().get(upstream.url("/")).timeout(SECOND);
    let answer = soon(request.version(http::Version::HTTP_11).send()).await.unwrap();
    assert_eq!((answer.version(), attempts(&answer)), (http::Version::HTTP_11, 3));
    let requests = upstream.requests();
    assert!(SECOND <= requests[1].at - requests[0].at);
    assert!(SECOND <= requests[2].at - requests[1].at);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_bring_its_own_policy() {
    let upstream = Upstream::script([Reply::status(503)]).await;
    let own = Policy { retry: RetryPolicy::default().max_retries(1), ..Policy::default() };
    let request = client().get(upstream.url("/")).with_extension(Arc::new(own));
    assert_eq!(attempts(&soon(request.send()).await.unwrap()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_switched_while_the_client_lives() {
    let upstream = Upstream::script([Reply::status(503)]).await;
    let cell = PolicyCell::new(Policy::default());
    let client = ClientBuilder::new(Client::new()).with(RedialMiddleware::new(cell.clone()));
    let client = client.build();
    let never = RetryPolicy::default().max_retries(0);
    cell.switch(Policy { retry: never, ..Policy::default() });
    assert_eq!(attempts(&soon(client.get(upstream.url("/")).send()).await.unwrap()), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_drops_its_attempt_and_sends_nothing_more() {
    let upstream = Arc::new(Upstream::script([Reply::status(503), Reply::hang()]).await);
    let (client, url) = (client(), upstream.url("/"));
    let call = tokio::spawn(async move { client.get(url).send().await });
    upstream.until(|upstream| upstream.requests().len() == 2).await;
    call.abort();
    upstream.until(|upstream| upstream.requests()[1].abandoned).await;
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_url_that_cannot_be_sent_fails_in_reqwests_own_words() {
    for url in ["data:text/plain,hello", "ftp://127.0.0.1/"] {
        let error = soon(client().get(url).send()).await.unwrap_err();
        assert!(error.is_builder(), "{error:?}");
    }
}
