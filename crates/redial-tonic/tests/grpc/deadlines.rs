//! One deadline from the caller to the last server. Real time: a paused clock would jump to the
//! deadline while sockets are waited for. What is asserted is an order, not a length.

use std::time::Duration;

use http::HeaderValue;
use redial::core::Policy;
use redial_tonic::{CodeSet, GrpcPolicy, parse_grpc_timeout, rejection_of, stack};
use tonic::{Code, Request, Status};

use crate::{
    MS, base,
    client::Client,
    policy,
    server::{Act, Seen, Server},
};

fn within(deadline: Duration) -> GrpcPolicy {
    GrpcPolicy::new(Policy { deadline: Some(deadline), ..base() })
}

fn timeouts(server: &Server) -> Vec<Duration> {
    let parse = |seen: Seen| {
        let value = HeaderValue::from_str(&seen.timeout.unwrap()).unwrap();
        parse_grpc_timeout(&value).unwrap()
    };
    server.seen().into_iter().map(parse).collect()
}

#[tokio::test]
async fn each_attempt_tells_the_server_how_much_time_is_left() {
    let gone = || Act::Fail(Status::unavailable("gone"));
    let server = Server::start([gone(), gone(), Act::Say("hello")]).await;
    let mut client = Client::new(stack(within(MS * 20_000)), server.address);
    assert_eq!(client.say("").await.unwrap(), "hello");
    let left = timeouts(&server);
    assert!(left[0] <= MS * 20_000, "{left:?}");
    assert!(left[1] + MS * 100 <= left[0] && left[2] + MS * 200 <= left[1], "{left:?}");
}

#[tokio::test]
async fn what_the_caller_set_for_one_call_is_the_deadline_of_all_its_attempts() {
    let server = Server::start([Act::Fail(Status::unavailable("gone")), Act::Hang]).await;
    let mut client = Client::new(stack(within(MS * 20_000)), server.address);
    let mut request = Request::new(String::new());
    request.set_timeout(MS * 400);
    let error = client.hello(request).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let left = timeouts(&server);
    assert!(left[0] <= MS * 400 && left[1] + MS * 100 <= left[0], "{left:?}");
}

#[tokio::test]
async fn a_deadline_cancels_the_servers_handler_and_is_told_as_such() {
    let server = Server::start([Act::Hang]).await;
    let error = Client::new(stack(within(MS * 150)), server.address).say("").await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
    server.until_dropped(1).await;
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_call_at_the_server() {
    let server = Server::start([Act::Hang]).await;
    let mut client = Client::new(stack(policy()), server.address);
    let call = tokio::spawn(async move { client.say("").await });
    server.until_seen(1).await;
    call.abort();
    server.until_dropped(1).await;
}

#[tokio::test]
async fn a_deadline_ends_an_answer_that_has_begun() {
    let server = Server::start([Act::HangAfter("one")]).await;
    let mut client = Client::new(stack(within(MS * 150)), server.address);
    let mut messages = client.watch().await.unwrap();
    assert_eq!(messages.message().await.unwrap().as_deref(), Some("one"));
    let error = messages.message().await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
    server.until_dropped(1).await;
}

#[tokio::test]
async fn a_wait_that_would_outlast_the_deadline_is_not_begun() {
    let server = Server::start([Act::Fail(Status::unavailable("gone"))]).await;
    let mut client = Client::new(stack(within(MS * 90)), server.address);
    let error = client.say("").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "gone"));
    assert_eq!(rejection_of(&error), None);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_deadline_that_a_code_lists_is_a_deadline_all_the_same() {
    let server = Server::start([Act::Hang]).await;
    let eager = within(MS * 150).with_codes(CodeSet::of(&[Code::DeadlineExceeded]));
    let error = Client::new(stack(eager), server.address).say("").await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_servers_own_calls_inherit_the_deadline_of_its_caller() {
    let last = Server::start([Act::Hang]).await;
    let address = last.address;
    let forward = Act::Call(Box::new(move || {
        // A policy without a deadline: what time there is comes from the caller.
        let mut client = Client::new(stack(policy()), address);
        Box::pin(async move { client.say("from the one in the middle").await })
    }));
    let middle = Server::start([forward]).await;
    let mut client = Client::new(stack(within(MS * 300)), middle.address);
    let error = client.say("").await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let (outer, inner) = (timeouts(&middle)[0], timeouts(&last)[0]);
    assert!(inner < outer && outer <= MS * 300, "{inner:?}, {outer:?}");
    last.until_dropped(1).await;
    middle.until_dropped(1).await;
}

#[tokio::test]
async fn a_server_ends_a_call_whose_caller_set_a_timeout_but_keeps_waiting() {
    // Without layers, and over HTTP/2 that knows nothing of gRPC: only the server keeps the time.
    let server = Server::start([Act::Hang]).await;
    for (timeout, code) in [("120m", "4"), ("0m", "13"), ("1.5S", "13"), ("100000000m", "13")] {
        let answer = raw_call(&server, timeout).await;
        assert_eq!(answer.headers()["grpc-status"], code, "{timeout}");
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(server.seen().len(), 1, "a malformed timeout is answered before the handler");
    server.until_dropped(1).await;
}

#[tokio::test]
async fn the_layer_that_is_not_grpcs_alone_ends_a_call_as_well() {
    let server = Server::start_inbound([Act::Say("hello"), Act::Hang, Act::HangAfter("one")]).await;
    assert_eq!(Client::new(stack(policy()), server.address).say("").await.unwrap(), "hello");
    let answer = raw_call(&server, "120m").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["grpc-status"]),
        (200, &"4".parse().unwrap())
    );
    server.until_dropped(1).await;
    // An answer that has begun ends in trailers: the caller waits longer than it said.
    let mut trailers = raw_call(&server, "120m").await.into_body();
    while trailers.data().await.is_some() {}
    assert_eq!(trailers.trailers().await.unwrap().unwrap()["grpc-status"], "4");
    server.until_dropped(2).await;
}

async fn raw_call(server: &Server, timeout: &str) -> http::Response<h2::RecvStream> {
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/test.Greeter/Hello", server.address))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .body(())
        .unwrap();
    sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    answer.await.unwrap()
}
