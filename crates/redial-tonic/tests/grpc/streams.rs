//! Streams: what was sent is sent again, and what was answered is not asked for again.

use redial_tonic::stack;
use tonic::{Code, Status};

use crate::{
    client::Client,
    policy,
    server::{Act, Server},
};

async fn all(mut messages: tonic::Streaming<String>) -> (Vec<String>, Option<Status>) {
    let mut read = Vec::new();
    loop {
        match messages.message().await {
            Ok(Some(message)) => read.push(message),
            Ok(None) => return (read, None),
            Err(status) => return (read, Some(status)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_after_its_first_message_is_not_repeated() {
    let server =
        Server::start([Act::Stream(vec![Ok("one"), Err(Status::unavailable("gone"))])]).await;
    let mut client = Client::new(stack(policy().with_peek(true)), server.address);
    let (read, status) = all(client.watch().await.unwrap()).await;
    assert_eq!((read, status.unwrap().code()), (vec!["one".to_owned()], Code::Unavailable));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_requests_is_sent_again_from_its_start_with_its_end() {
    let failing = |count| Act::FailAfter(count, Status::unavailable("gone"));
    let server = Server::start([failing(1), failing(2), Act::Echo]).await;
    let messages = ["one", "two", "three"].map(str::to_owned);
    let mut client = Client::new(stack(policy()), server.address);
    let answer = client.talk(tokio_stream::iter(messages.clone())).await.unwrap();
    assert_eq!(all(answer).await.0, messages);
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1].messages, messages[..2]);
    assert_eq!((&seen[2].messages[..], seen[2].has_ended), (&messages[..], true));
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_requests_beyond_the_cap_is_sent_once() {
    let long = "x".repeat(60_000);
    let messages = vec![long.clone(), long];
    let server = Server::start([Act::FailAfter(2, Status::unavailable("gone"))]).await;
    let mut client = Client::new(stack(policy()), server.address);
    let error = client.talk(tokio_stream::iter(messages)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(server.seen().len(), 1);
}
