//! Headers commit a call, unless the first frame is looked at as well.

use redial_testkit::{H2Reply, Reason, Upstream};
use redial_tonic::{CodeSet, stack};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    client::Client,
    policy,
    server::{Act, Server},
};

/// Headers first, then a failure without a message.
fn late() -> Act {
    Act::Stream(vec![Err(Status::unavailable("after the headers"))])
}

#[tokio::test(start_paused = true)]
async fn headers_commit_a_call_by_default() {
    let server = Server::start([late(), Act::Say("hello")]).await;
    let error = Client::new(stack(policy()), server.address).say("").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "after the headers"));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peek_sees_a_failure_that_comes_before_any_message() {
    let server = Server::start([late(), late(), Act::Say("hello")]).await;
    let mut client = Client::new(stack(policy().with_peek(true)), server.address);
    assert_eq!(client.say("").await.unwrap(), "hello");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_peek_saw_arrives_as_it_came() {
    let server = Server::start([
        Act::Stream(vec![Ok("one"), Ok("two")]),
        Act::Stream(vec![]),
        Act::Stream(vec![Err(Status::not_found("no such thing"))]),
    ])
    .await;
    let mut client = Client::new(stack(policy().with_peek(true)), server.address);
    let mut messages = client.watch().await.unwrap();
    assert_eq!(messages.message().await.unwrap().as_deref(), Some("one"));
    assert_eq!(messages.message().await.unwrap().as_deref(), Some("two"));
    assert_eq!(messages.message().await.unwrap(), None);
    let mut nothing = client.watch().await.unwrap();
    assert_eq!(nothing.message().await.unwrap(), None);
    assert!(nothing.trailers().await.unwrap().is_some(), "a success keeps its trailers");
    let error = client.watch().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "no such thing"));
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_before_any_message_is_a_failed_attempt_for_a_peek() {
    let broken = || H2Reply::status(200).body("never sent").reset_at(0, Reason::INTERNAL_ERROR);
    let message = [&[0, 0, 0, 0, 3][..], b"yes"].concat();
    let answer = || H2Reply::status(200).body(message.clone()).trailer("grpc-status", "0");
    let codes = CodeSet::of(&[Code::Internal]);
    let upstream = Upstream::h2_script([broken(), answer()]).await;
    let mut client = Client::new(stack(policy().with_codes(codes)), upstream.addr());
    assert_eq!(client.say("").await.unwrap_err().code(), Code::Internal);
    let upstream = Upstream::h2_script([broken(), answer()]).await;
    let peeking = policy().with_codes(codes).with_peek(true);
    assert_eq!(Client::new(stack(peeking), upstream.addr()).say("").await.unwrap(), "yes");
}

#[tokio::test(start_paused = true)]
async fn a_peek_does_not_wait_for_a_server_that_waits_for_us() {
    let server = Server::start([Act::Relay]).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut client = Client::new(stack(policy().with_peek(true)), server.address);
    // The headers are here before anything was said; a peek would wait for ever.
    let mut messages = client.talk(ReceiverStream::new(receiver)).await.unwrap();
    sender.send("one".to_owned()).await.unwrap();
    assert_eq!(messages.message().await.unwrap().as_deref(), Some("one"));
    drop(sender);
    assert_eq!(messages.message().await.unwrap(), None);
}
