//! Connections that fail: what is known about the request, and what follows.

use redial::core::{Fault, Policy};
use redial_testkit::{H2Reply, Reason, Upstream};
use redial_tonic::{CodeSet, GrpcPolicy, MethodSet, stack};
use tokio::net::TcpListener;
use tonic::Code;

use crate::{
    base,
    client::Client,
    policy,
    server::{Act, Server},
};

/// One message of three bytes, and a status.
fn answer() -> H2Reply {
    let message = [&[0, 0, 0, 0, 3][..], b"yes"].concat();
    let reply = H2Reply::status(200).header("content-type", "application/grpc");
    reply.body(message).trailer("grpc-status", "0")
}

/// No method may be repeated on hope, so that whatever is repeated was proven unprocessed.
fn careful() -> GrpcPolicy {
    policy().with_idempotent(MethodSet::of::<&str>([]).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_yet_is_called_again() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let mut client = Client::new(stack(careful()), address);
    let started = tokio::time::Instant::now();
    let error = client.say("").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("refused"), "{error}");
    assert!(crate::MS * 700 <= started.elapsed(), "three retries were made");

    let later = async {
        tokio::time::sleep(crate::MS * 150).await;
        Server::over(TcpListener::bind(address).await.unwrap(), [Act::Say("hello")])
    };
    let mut client = Client::new(stack(careful()), address);
    let (answer, server) = tokio::join!(client.say(""), later);
    assert_eq!(answer.unwrap(), "hello");
    assert!(server.seen()[0].previous_attempts.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_killed_and_comes_back_is_found_again() {
    let upstream = Upstream::h2_script([answer()]).await;
    let address = upstream.addr();
    let mut client = Client::new(stack(careful()), address);
    assert_eq!(client.say("").await.unwrap(), "yes");
    upstream.stop().await;
    let back = async {
        tokio::time::sleep(crate::MS * 50).await;
        Server::over(TcpListener::bind(address).await.unwrap(), [Act::Say("back")])
    };
    let (answer, _server) = tokio::join!(client.say(""), back);
    assert_eq!(answer.unwrap(), "back", "over a connection of its own");
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_is_repeated_at_once_whatever_the_method() {
    let upstream = Upstream::h2_script([H2Reply::refused_stream(), answer()]).await;
    let started = tokio::time::Instant::now();
    let mut client = Client::new(stack(careful().with_codes(CodeSet::EMPTY)), upstream.addr());
    assert_eq!(client.say("it is me").await.unwrap(), "yes");
    assert_eq!(upstream.requests().len(), 2);
    assert!(started.elapsed().is_zero(), "without a wait");
    assert_eq!(&upstream.requests()[1].body[5..], b"it is me");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_goaway_disowns_is_repeated_whatever_the_method() {
    // Stream 1 is answered; stream 3 is above the last one that the server names.
    let script = [answer(), H2Reply::hang().goaway(1, Reason::NO_ERROR), answer()];
    let upstream = Upstream::h2_script(script).await;
    let mut client = Client::new(stack(careful()), upstream.addr());
    assert_eq!(client.say("first").await.unwrap(), "yes");
    assert_eq!(client.say("second").await.unwrap(), "yes");
    assert_eq!(upstream.requests().len(), 3);
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_another_kind_is_repeated_only_by_declaration() {
    let script = || [H2Reply::reset(Reason::CANCEL), answer()];
    let upstream = Upstream::h2_script(script()).await;
    let error = Client::new(stack(policy()), upstream.addr()).say("").await.unwrap_err();
    assert_eq!(error.code(), Code::Cancelled, "the reason has a code, which is not listed");
    assert_eq!(upstream.requests().len(), 1);

    let codes = CodeSet::of(&[Code::Cancelled]);
    let upstream = Upstream::h2_script(script()).await;
    let mut client = Client::new(stack(policy().with_codes(codes)), upstream.addr());
    assert_eq!(client.say("").await.unwrap(), "yes");
    let upstream = Upstream::h2_script(script()).await;
    let mut client = Client::new(stack(careful().with_codes(codes)), upstream.addr());
    client.say("").await.unwrap_err();
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_under_a_request_leaves_it_in_doubt() {
    let script = || [H2Reply::close_without_answer(), answer()];
    let upstream = Upstream::h2_script(script()).await;
    let mut client = Client::new(stack(policy()), upstream.addr());
    assert_eq!(client.say("").await.unwrap(), "yes", "the code set is the declaration");

    let upstream = Upstream::h2_script(script()).await;
    let error = Client::new(stack(careful()), upstream.addr()).say("").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(upstream.requests().len(), 1);
    let told = std::error::Error::source(&error).unwrap();
    let told = told.downcast_ref::<redial_tonic::GrpcError>().unwrap();
    assert_eq!(redial::Diagnose::diagnose(told).fault, Fault::ConnectionClosed);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_not_grpc_count_as_the_code_that_http_stands_for() {
    let table =
        [(401, Code::Unauthenticated, 1), (404, Code::Unimplemented, 1), (500, Code::Unknown, 1)];
    let retried = [(502, Code::Unavailable, 4), (503, Code::Unavailable, 4)];
    for (status, code, attempts) in table.into_iter().chain(retried) {
        let server = Server::start([Act::Http(status)]).await;
        let error = Client::new(stack(policy()), server.address).say("").await.unwrap_err();
        assert_eq!((error.code(), server.seen().len()), (code, attempts), "{status}");
    }
    // A gateway's word is HTTP's: it names the wait in a field of HTTP.
    let busy = H2Reply::status(503).header("retry-after", "7");
    let upstream = Upstream::h2_script([busy, answer()]).await;
    let started = tokio::time::Instant::now();
    assert_eq!(Client::new(stack(policy()), upstream.addr()).say("").await.unwrap(), "yes");
    assert!(crate::MS * 7_000 <= started.elapsed());
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_repeated_where_its_code_is_listed() {
    let hasty = Policy { attempt_timeout: Some(crate::MS * 50), ..base() };
    let codes = CodeSet::of(&[Code::DeadlineExceeded]);
    for (codes, attempts) in [(CodeSet::UNAVAILABLE, 1), (codes, 2)] {
        let server = Server::start([Act::Hang, Act::Say("hello")]).await;
        let policy = GrpcPolicy::new(hasty.clone()).with_codes(codes);
        let answer = Client::new(stack(policy), server.address).say("").await;
        assert_eq!(server.seen().len(), attempts);
        match answer {
            Ok(text) => assert_eq!(text, "hello"),
            Err(error) => assert_eq!(error.code(), Code::DeadlineExceeded),
        }
        server.until_dropped(1).await;
    }
}
