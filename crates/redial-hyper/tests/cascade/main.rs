//! Deadlines and cancellation through three servers on real sockets: an edge that calls a middle that calls a
//! leaf. Real time: a paused clock would jump to the deadline while sockets are waited for.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

mod example;
mod hops;
mod server;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use http::{Request, StatusCode};
use redial::{CallContext, InboundLayer, Rejection, Trace, core::Deadline};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    hops::{Hops, empty, get, plain, send},
    server::{Act, Server, Wire},
};

const MS: Duration = Duration::from_millis(1);

/// One test over HTTP/1.1 and one over HTTP/2.
macro_rules! over_both {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn over_http1() {
                super::$name(Wire::Http1).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn over_http2() {
                super::$name(Wire::Http2).await;
            }
        }
    )*};
}

over_both! {
    each_hop_has_less_time_than_the_one_above
    a_caller_that_goes_away_stops_the_leaf
    when_the_time_is_up_nobody_works_any_more
    a_request_that_arrives_too_late_never_reaches_a_handler
    a_hop_without_time_left_does_not_call_the_next
    an_answer_whose_time_is_up_breaks_off_at_every_hop
    one_trace_goes_through_all_hops
}

/// A context with this much time left.
fn within(left: Duration) -> CallContext {
    CallContext::default().with_deadline(Deadline::after(now(), left))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn each_hop_has_less_time_than_the_one_above(wire: Wire) {
    let hops = Hops::start(wire, Act::Answer).await;
    let answer = within(MS * 300).carry(send(&plain(wire), get(&hops.edge))).await.unwrap();
    assert_eq!(answer, (StatusCode::OK, "done".to_owned()));
    let told = hops.all().map(|server| server.seen()[0].told.unwrap());
    assert!(told[2] < told[1] && told[1] < told[0] && told[0] < 300, "{told:?}");
    let left = hops.all().map(|server| server.seen()[0].left.unwrap());
    assert!(left[2] < left[1] && left[1] < left[0] && left[0] < MS * 300, "{left:?}");
}

async fn a_caller_that_goes_away_stops_the_leaf(wire: Wire) {
    let hops = Hops::start(wire, Act::Hang).await;
    let mut took = Vec::new();
    for round in 1..=ROUNDS {
        let (client, request) = (plain(wire), get(&hops.edge));
        let call = tokio::spawn(async move { send(&client, request).await });
        hops.leaf.until_seen(round).await;
        let cancelled = now();
        call.abort();
        hops.leaf.until_dropped(round).await;
        took.push(hops.leaf.dropped()[round - 1] - cancelled);
        hops.until_nobody_works().await;
    }
    took.sort();
    println!("{wire:?}: from the edge's caller to the leaf: {took:?}");
    // Most of it is this machine's scheduling: the median tells what the hops add.
    assert!(took[ROUNDS / 2] < MS * 50, "{took:?}");
    assert_eq!(hops.all().map(|server| server.seen().len()), [ROUNDS; 3], "nobody asked again");
}

async fn when_the_time_is_up_nobody_works_any_more(wire: Wire) {
    let hops = Hops::start(wire, Act::Hang).await;
    let started = now();
    // The client tells how long it waits, and then does not go: all that ends the work is the time.
    let request = Request::get(&hops.edge.url).header("redial-timeout-ms", "200");
    let answer = send(&plain(wire), request.body(empty()).unwrap()).await.unwrap();
    assert_eq!(answer.0, StatusCode::GATEWAY_TIMEOUT);
    hops.until_nobody_works().await;
    assert!(MS * 150 <= started.elapsed(), "{:?}", started.elapsed());
    assert_eq!(hops.all().map(|server| server.seen().len()), [1; 3], "and nobody asked again");
    for server in hops.all() {
        let over = server.dropped()[0].saturating_duration_since(started + MS * 200);
        assert!(over < MS * 100, "{over:?} after the time was up");
    }
}

async fn a_request_that_arrives_too_late_never_reaches_a_handler(wire: Wire) {
    let layer = InboundLayer::new().min(MS * 20);
    let server = Server::start(wire, layer, Act::Answer).await;
    for (left, status) in [("0", 504), ("19", 504), ("5000", 200)] {
        let request = Request::get(&server.url).header("redial-timeout-ms", left);
        let answer = send(&plain(wire), request.body(empty()).unwrap()).await.unwrap();
        assert_eq!(answer.0, status, "{left} ms");
    }
    assert_eq!(server.seen().len(), 1);
}

async fn a_hop_without_time_left_does_not_call_the_next(wire: Wire) {
    let leaf = Server::start(wire, InboundLayer::new(), Act::Answer).await;
    let client = plain(wire);
    let error = within(MS / 2).carry(send(&client, get(&leaf))).await.unwrap_err();
    let rejection = error.downcast_ref().and_then(redial_hyper::Error::rejection);
    assert!(matches!(rejection, Some(Rejection::DeadlineExceeded { .. })), "{error:?}");
    assert!(leaf.seen().is_empty());
}

async fn an_answer_whose_time_is_up_breaks_off_at_every_hop(wire: Wire) {
    let hops = Hops::start(wire, Act::AnswerForEver).await;
    let request = Request::get(&hops.edge.url).header("redial-timeout-ms", "200");
    let error = send(&plain(wire), request.body(empty()).unwrap()).await.unwrap_err();
    assert!(redial::chain::find::<redial_hyper::Error>(error.as_ref()).is_some(), "{error:?}");
    hops.until_nobody_works().await;
}

async fn one_trace_goes_through_all_hops(wire: Wire) {
    let hops = Hops::start(wire, Act::Answer).await;
    let trace = Trace::start();
    let request = Request::get(&hops.edge.url).header("baggage", "tenant=blue");
    let request = request.body(empty()).unwrap();
    let context = CallContext::default().with_trace(trace.clone());
    context.carry(send(&plain(wire), request)).await.unwrap();
    let seen = hops.all().map(|server| server.seen()[0].clone());
    let parents: HashSet<_> = seen.iter().map(|seen| seen.parent.clone().unwrap()).collect();
    assert_eq!(parents.len(), 3, "each call is a span of its own");
    for seen in seen {
        assert_eq!(seen.trace, Some(trace.id()));
        assert_eq!(seen.baggage.as_deref(), Some("tenant=blue"));
    }
}

/// hyper waits for the rest of the body only when somebody wants it, so it does not see this caller go. The
/// deadline ends the work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_leaves_the_body_unread_is_ended_by_its_time_at_the_latest() {
    let server = Server::start(Wire::Http1, InboundLayer::new(), Act::HangUnread).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head =
        "POST / HTTP/1.1\r\nhost: leaf\r\ncontent-length: 9\r\nredial-timeout-ms: 150\r\n\r\n";
    stream.write_all(format!("{head}123").as_bytes()).await.unwrap();
    server.until_seen(1).await;
    drop(stream);
    server.until_dropped(1).await;
}

/// A half-closed connection is a closed one to hyper, as to most servers: this caller gets no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_closes_its_half_has_gone() {
    let server = Server::start(Wire::Http1, InboundLayer::new(), Act::Hang).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: leaf\r\n\r\n").await.unwrap();
    server.until_seen(1).await;
    stream.shutdown().await.unwrap();
    server.until_dropped(1).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "");
}

const ROUNDS: usize = 9;
