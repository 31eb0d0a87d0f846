//! reqwest as the transport below a stack of layers.

use http_body_util::BodyExt;
use redial::BufferAnswerLayer;
use redial_reqwest::{Error, into_response};
use tower::{
    Layer, ServiceExt,
    util::{BoxCloneSyncService, MapRequestLayer},
};

use super::*;

type Sent = http::Request<reqwest::Body>;

/// The standard stack over reqwest, without the type that names all of it.
fn standard() -> BoxCloneSyncService<Sent, http::Response<reqwest::Body>, Error> {
    let stack = redial::stack(Policy::default()).layer(ReqwestTransport::new(Client::new()));
    let stack = ServiceExt::<Sent>::map_response(stack, |answer: http::Response<_>| {
        answer.map(reqwest::Body::wrap)
    });
    BoxCloneSyncService::new(stack)
}

fn post(url: &str, body: &'static str) -> Sent {
    http::Request::post(url).body(reqwest::Body::from(body)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_standard_stack_stands_on_it() {
    let upstream = Upstream::script([Reply::status(503), Reply::reset(), Reply::ok("paid")]).await;
    let service = standard();
    let request = http::Request::get(upstream.url("/x")).body(reqwest::Body::default()).unwrap();
    let answer = into_response(soon(service.oneshot(request)).await.unwrap());
    assert_eq!(attempts(&answer), 3);
    assert_eq!(answer.url().as_str(), upstream.url("/x"));
    assert_eq!(answer.text().await.unwrap(), "paid");
}

#[tokio::test(start_paused = true)]
async fn short_answers_can_be_read_to_their_end_before_they_are_trusted() {
    let broken = Reply::ok("paid in full").truncate_at(4);
    let upstream = Upstream::script([broken, Reply::ok("paid in full")]).await;
    let service = redial::stack(Policy::default())
        .attempts(BufferAnswerLayer::new(1_024, SECOND))
        .layer(ReqwestTransport::from(Client::new()));
    let request = http::Request::get(upstream.url("/")).body(reqwest::Body::default()).unwrap();
    let answer = soon(service.oneshot(request)).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "paid in full");
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_post_is_repeated_after_a_refused_connection_only() {
    let upstream = Upstream::script([Reply::ok("paid"), Reply::status(503)]).await;
    let elsewhere = MapRequestLayer::new(|mut request: http::Request<_>| {
        if request.extensions().get::<AttemptNumber>().is_none() {
            *request.uri_mut() = format!("http://{}/", refused_addr()).parse().unwrap();
        }
        request
    });
    let service = redial::stack(Policy::default())
        .attempts(elsewhere)
        .layer(ReqwestTransport::new(Client::new()));
    let request = post(&upstream.url("/"), "one order");
    let answer = soon(service.clone().oneshot(request)).await.unwrap();
    assert_eq!(answer.extensions().get(), Some(&Attempts(2)));
    let answer = soon(service.oneshot(post(&upstream.url("/"), "another"))).await.unwrap();
    assert_eq!((answer.status().as_u16(), upstream.requests().len()), (503, 2));
    assert_eq!(upstream.requests()[1].body, "another");
}

#[tokio::test(start_paused = true)]
async fn a_post_is_not_repeated_when_the_target_of_its_redirect_is_down() {
    let nowhere = format!("http://{}/", refused_addr());
    let upstream = Upstream::script([Reply::status(303).header("location", nowhere)]).await;
    for body in ["one order", ""] {
        let service = standard();
        let error = soon(service.oneshot(post(&upstream.url("/"), body))).await.unwrap_err();
        assert_eq!(error.fault(), Fault::ConnectionRefused);
        assert_eq!(error.evidence(), Evidence::MaybeApplied);
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_bring_its_own_policy_here_too() {
    let upstream = Upstream::script([Reply::status(503), Reply::ok("paid")]).await;
    let service = standard();
    let mut request = post(&upstream.url("/"), "one order");
    let own = Policy { is_idempotent: true, ..Policy::default() };
    request.extensions_mut().insert(Arc::new(own));
    assert_eq!(soon(service.oneshot(request)).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_request_that_was_reqwests_holds() {
    let upstream = Upstream::script([Reply::hang()]).await;
    let request = Client::new().post(upstream.url("/")).timeout(SECOND).build().unwrap();
    let request = http::Request::try_from(request).unwrap();
    let service = standard();
    let error = soon(service.oneshot(request)).await.unwrap_err();
    assert_eq!((error.fault(), error.is_rejection()), (Fault::AttemptTimeout, false));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_cancels_the_request() {
    let upstream = Arc::new(Upstream::script([Reply::hang()]).await);
    let url = upstream.url("/");
    let call = tokio::spawn(ReqwestTransport::new(Client::new()).oneshot(post(&url, "one order")));
    upstream.until(|upstream| upstream.requests().len() == 1).await;
    call.abort();
    upstream.until(|upstream| upstream.connections_open() == 0).await;
    assert!(upstream.requests()[0].abandoned);
}
