//! What is repeated, how often, and after how long.

use std::time::Duration;

use redial::core::{BudgetPolicy, Policy, Throttle};
use redial_tonic::{CodeSet, GrpcPolicy, GrpcPolicyCell, MethodSet, stack};
use tonic::{Code, Request, Status, metadata::MetadataMap};

use crate::{
    MS, base,
    client::Client,
    policy,
    server::{Act, Server},
};

fn unavailable() -> Act {
    Act::Fail(Status::unavailable("restarting"))
}

fn pushing_back(status: &Status, value: &str) -> Act {
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-retry-pushback-ms", value.parse().unwrap());
    Act::Fail(Status::with_metadata(status.code(), status.message(), metadata))
}

/// The waits between the calls that the server saw.
fn waits(server: &Server) -> Vec<Duration> {
    let at: Vec<_> = server.seen().iter().map(|seen| seen.at).collect();
    at.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Equal, but for the timer that rounds up to its next millisecond.
fn is_near(waits: &[Duration], wanted: &[u32]) -> bool {
    let is_close = |(wait, ms): (&Duration, &u32)| MS * *ms <= *wait && *wait <= MS * (*ms + 2);
    waits.len() == wanted.len() && waits.iter().zip(wanted).all(is_close)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_unavailable_twice_succeeds_and_the_server_knows_its_past() {
    let server = Server::start([unavailable(), unavailable(), Act::Say("hello")]).await;
    let mut client = Client::new(stack(policy()), server.address);
    let answer = client.hello(Request::new("it is me".to_owned())).await.unwrap();
    assert_eq!(answer.extensions().get(), Some(&redial::Attempts(3)));
    assert_eq!(answer.into_inner(), "hello");
    let previous: Vec<_> = server.seen().into_iter().map(|seen| seen.previous_attempts).collect();
    assert_eq!(previous, [None, Some("1".to_owned()), Some("2".to_owned())]);
    assert_eq!(server.seen()[2].messages, ["it is me"], "the message was sent again");
    assert!(is_near(&waits(&server), &[100, 200]), "{:?}", waits(&server));
    assert!(server.seen().iter().all(|seen| seen.timeout.is_none()), "no deadline, no field");
}

#[tokio::test(start_paused = true)]
async fn a_success_is_sent_once_and_says_nothing_of_attempts() {
    let server = Server::start([Act::Say("hello")]).await;
    let mut client = Client::new(stack(policy()), server.address);
    let answer = client.hello(Request::new(String::new())).await.unwrap();
    assert_eq!(answer.extensions().get::<redial::Attempts>(), None);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn codes_that_are_not_listed_are_final_and_arrive_untouched() {
    let status = Status::with_details(Code::InvalidArgument, "no name", vec![1, 2].into());
    let server = Server::start([Act::Fail(status)]).await;
    let error = Client::new(stack(policy()), server.address).say("").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "no name"));
    assert_eq!(error.details(), [1, 2]);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_retries_run_out_the_servers_own_last_word_is_returned() {
    let server = Server::start([unavailable()]).await;
    let error = Client::new(stack(policy()), server.address).say("").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "restarting"));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn more_than_five_attempts_are_never_made() {
    let retry = base().retry.max_retries(9);
    let eager = GrpcPolicy::new(Policy { retry, budget: BudgetPolicy::Unlimited, ..base() });
    let server = Server::start([unavailable()]).await;
    Client::new(stack(eager), server.address).say("").await.unwrap_err();
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn pushback_is_waited_for_exactly_and_the_backoff_starts_over() {
    let pushback = pushing_back(&Status::unavailable(""), "730");
    let script = [unavailable(), unavailable(), pushback, unavailable(), Act::Say("hello")];
    let server = Server::start(script).await;
    let patient = GrpcPolicy::new(Policy { retry: base().retry.max_retries(4), ..base() });
    assert_eq!(Client::new(stack(patient), server.address).say("").await.unwrap(), "hello");
    let waits = waits(&server);
    assert!(is_near(&waits, &[100, 200, 730, 100]), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn pushback_that_is_negative_or_no_number_ends_the_call() {
    for value in ["-1", "soon", "1.5"] {
        let server = Server::start([pushing_back(&Status::unavailable("full"), value)]).await;
        let error = Client::new(stack(policy()), server.address).say("").await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unavailable, "full"));
        assert_eq!(server.seen().len(), 1, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn exhaustion_is_retried_only_where_the_server_names_the_wait() {
    let exhausted = Status::resource_exhausted("quota");
    let script = [pushing_back(&exhausted, "50"), Act::Fail(exhausted.clone())];
    let server = Server::start(script).await;
    let error = Client::new(stack(policy()), server.address).say("").await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(is_near(&waits(&server), &[50]), "{:?}", waits(&server));

    let strict = policy().with_exhausted_pushback(false);
    let server = Server::start([pushing_back(&exhausted, "50")]).await;
    Client::new(stack(strict), server.address).say("").await.unwrap_err();
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_throttle_stops_retries_and_counts_a_word_against_them_as_a_failure() {
    let throttle = BudgetPolicy::Throttle(Throttle::new(4.0, 0.1).unwrap());
    let throttled = GrpcPolicy::new(Policy { budget: throttle, ..base() });
    let server = Server::start([unavailable()]).await;
    Client::new(stack(throttled.clone()), server.address).say("").await.unwrap_err();
    assert_eq!(server.seen().len(), 2, "4 tokens: 3 are more than half, 2 are not");

    let script = [pushing_back(&Status::unavailable(""), "-1"), unavailable()];
    let server = Server::start(script).await;
    let mut client = Client::new(stack(throttled), server.address);
    client.say("").await.unwrap_err();
    client.say("").await.unwrap_err();
    assert_eq!(server.seen().len(), 2, "the first call cost a token too");
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_not_declared_is_not_repeated_on_hope() {
    let reads = policy().with_idempotent(MethodSet::of(["/test.Greeter/Watch"]).unwrap());
    let server = Server::start([unavailable(), Act::Stream(vec![Ok("one")])]).await;
    let mut client = Client::new(stack(reads), server.address);
    assert_eq!(client.say("").await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.seen().len(), 1);

    let reads = policy().with_idempotent(MethodSet::of(["/test.Greeter/W*"]).unwrap());
    let server = Server::start([unavailable(), Act::Stream(vec![Ok("one")])]).await;
    let mut messages = Client::new(stack(reads), server.address).watch().await.unwrap();
    assert_eq!(messages.message().await.unwrap().as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn a_request_may_bring_a_policy_of_its_own() {
    let server = Server::start([unavailable()]).await;
    let mut client = Client::new(stack(policy()), server.address);
    let mut request = Request::new(String::new());
    let strict = Policy { is_idempotent: false, ..base() };
    request.extensions_mut().insert(std::sync::Arc::new(strict));
    client.hello(request).await.unwrap_err();
    assert_eq!(server.seen().len(), 1, "UNAVAILABLE proves nothing");
}

#[tokio::test(start_paused = true)]
async fn a_switched_policy_rules_for_the_next_call() {
    let cell = GrpcPolicyCell::new(policy());
    let server = Server::start([Act::Fail(Status::aborted("conflict"))]).await;
    let mut client = Client::new(stack(cell.clone()), server.address);
    client.say("").await.unwrap_err();
    cell.switch(policy().with_codes(CodeSet::of(&[Code::Aborted])));
    client.say("").await.unwrap_err();
    assert_eq!(server.seen().len(), 1 + 4);
}
