//! HTTP/2: what a stream's end proves.

use std::sync::Arc;

use redial::Fresh;
use redial_core::Evidence;
use redial_testkit::{H2Reply, Reason, Reply, Upstream};
use tokio::task::JoinHandle;

use super::*;

/// Starts calls one by one, so that their streams have the numbers 1, 3, 5, ….
async fn start(
    transport: &Transport,
    upstream: &Arc<Upstream>,
    calls: usize,
) -> Vec<JoinHandle<Result<Response<Body>, Error>>> {
    let mut started = Vec::new();
    let before = upstream.requests().len();
    for nth in 1..=calls {
        let (transport, request) = (transport.clone(), post(upstream.url("/")));
        started.push(tokio::spawn(async move { send(&transport, request).await }));
        upstream.until(|upstream| upstream.requests().len() == before + nth).await;
    }
    started
}

async fn ended(call: JoinHandle<Result<Response<Body>, Error>>) -> Told {
    told(&call.await.unwrap().expect_err("the call got an answer"))
}

#[tokio::test]
async fn resets_are_told_apart_by_their_reason() {
    let table = [
        (Reason::REFUSED_STREAM, (Fault::RefusedStream, Proof::RefusedStream)),
        (Reason::CANCEL, (Fault::StreamReset, Proof::Sent)),
        (Reason::INTERNAL_ERROR, (Fault::StreamReset, Proof::Sent)),
        (Reason::ENHANCE_YOUR_CALM, (Fault::StreamReset, Proof::Sent)),
    ];
    for (reason, expected) in table {
        let upstream = Upstream::h2_script([H2Reply::reset(reason)]).await;
        let error = send(&h2c(), post(upstream.url("/"))).await.unwrap_err();
        assert_eq!(told(&error), expected, "{reason:?}: {error:?}");
        assert_eq!(upstream.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_goaway_disowns_the_streams_above_it_and_no_others() {
    let script = [
        H2Reply::hang(),
        H2Reply::hang(),
        H2Reply::close_without_answer().goaway(3, Reason::NO_ERROR),
    ];
    let upstream = Arc::new(Upstream::h2_script(script).await);
    let mut calls = start(&h2c(), &upstream, 3).await;
    let (above, at, below) = (calls.pop().unwrap(), calls.pop().unwrap(), calls.pop().unwrap());
    assert_eq!(ended(above).await, (Fault::Goaway, Proof::Goaway));
    assert_eq!(ended(at).await, (Fault::ConnectionClosed, Proof::Sent));
    assert_eq!(ended(below).await, (Fault::ConnectionClosed, Proof::Sent));
}

#[tokio::test]
async fn a_goaway_with_an_error_proves_no_more_than_one_without() {
    let goaway = H2Reply::close_without_answer().goaway(1, Reason::INTERNAL_ERROR);
    let upstream = Arc::new(Upstream::h2_script([H2Reply::hang(), goaway]).await);
    let mut calls = start(&h2c(), &upstream, 2).await;
    let (above, at) = (calls.pop().unwrap(), calls.pop().unwrap());
    assert_eq!(ended(above).await, (Fault::Goaway, Proof::Goaway));
    let (fault, proof) = ended(at).await;
    assert_eq!(proof.evidence(), Evidence::MaybeApplied, "{fault}");
    assert_ne!(fault, Fault::Goaway);
}

#[tokio::test]
async fn a_warning_that_the_server_will_go_retries_nothing() {
    let warned = H2Reply::status(200).goaway(MAX_STREAM, Reason::NO_ERROR).after(MOMENT).body("a");
    let upstream = Arc::new(Upstream::h2_script([warned, H2Reply::status(200).body("b")]).await);
    let transport = h2c();
    assert_eq!(text(send(&transport, post(upstream.url("/"))).await.unwrap()).await, "a");
    for _ in 0..3 {
        assert_eq!(text(send(&transport, post(upstream.url("/"))).await.unwrap()).await, "b");
    }
    let connections: Vec<_> = upstream.requests().iter().map(|r| r.connection).collect();
    assert_eq!((connections.len(), upstream.connections()), (4, 2), "{connections:?}");
}

#[tokio::test]
async fn a_connection_on_its_way_out_ends_what_it_has_and_gets_nothing_new() {
    let last = H2Reply::status(200).goaway(3, Reason::NO_ERROR);
    let script = [H2Reply::status(200).body("slow").after(10 * MOMENT), last, H2Reply::status(200)];
    let upstream = Arc::new(Upstream::h2_script(script).await);
    let transport = h2c();
    let slow = start(&transport, &upstream, 1).await.pop().unwrap();
    send(&transport, post(upstream.url("/"))).await.unwrap();
    for _ in 0..3 {
        send(&transport, post(upstream.url("/"))).await.unwrap();
    }
    assert_eq!(text(slow.await.unwrap().unwrap()).await, "slow");
    let connections: Vec<_> = upstream.requests().iter().map(|r| r.connection).collect();
    assert_eq!((upstream.connections(), connections.len()), (2, 5), "{connections:?}");
}

#[tokio::test]
async fn calls_that_meet_a_connection_that_goes_away_all_arrive_once() {
    let goaway = H2Reply::status(200).goaway(1, Reason::NO_ERROR).close();
    let upstream = Arc::new(Upstream::h2_script([goaway, H2Reply::status(200)]).await);
    let transport = h2c();
    send(&transport, post(upstream.url("/"))).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (transport, request) = (transport.clone(), post(upstream.url("/")));
        calls.spawn(async move { send(&transport, request).await.map(drop) });
    }
    while let Some(ended) = calls.join_next().await {
        // One whose stream was opened before the frame was read is told so; the others go unharmed.
        if let Err(error) = ended.unwrap() {
            assert!(error.proof().evidence().is_unapplied(), "{error:?}");
        }
    }
    assert!(upstream.connections() <= 3, "{}", upstream.connections());
}

#[tokio::test]
async fn a_connection_that_dies_without_a_goaway_proves_nothing() {
    let upstream = Upstream::h2_script([H2Reply::close_without_answer()]).await;
    let error = send(&h2c(), post(upstream.url("/"))).await.unwrap_err();
    assert_eq!(told(&error), (Fault::ConnectionClosed, Proof::Sent), "{error:?}");
}

#[tokio::test]
async fn a_dead_shared_connection_is_replaced_without_a_word() {
    let upstream = Upstream::h2_script([H2Reply::status(200).body("a").close()]).await;
    let transport = h2c();
    for nth in 1..=20 {
        let answer = send(&transport, post(upstream.url("/"))).await.unwrap();
        assert_eq!(text(answer).await, "a");
        upstream.until(|upstream| upstream.connections_open() == 0).await;
        assert_eq!((upstream.requests().len(), upstream.connections()), (nth, nth));
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_truncated() {
    let table = [
        H2Reply::status(200).body("0123456789").reset_at(4, Reason::INTERNAL_ERROR),
        H2Reply::status(200).body("0123456789").reset_at(4, Reason::CANCEL),
        H2Reply::status(200).header("content-length", "10").body("0123").trailer("x", "y"),
    ];
    for reply in table {
        let upstream = Upstream::h2_script([reply.clone()]).await;
        let answer = send(&h2c(), get(upstream.url("/"))).await.unwrap();
        let error = broken(answer).await;
        assert_eq!(error.proof(), Proof::Answered, "{reply:?}: {error:?}");
        let is_cut = matches!(error.fault(), Fault::ResponseTruncated | Fault::Protocol);
        assert!(is_cut, "{reply:?}: {error:?}");
    }
}

#[tokio::test]
async fn many_calls_share_one_connection_from_the_first_on() {
    let upstream = Upstream::h2_script([H2Reply::status(200).body("x").after(MOMENT)]).await;
    let transport = h2c();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (transport, request) = (transport.clone(), post(upstream.url("/")));
        calls.spawn(async move {
            let answer = send(&transport, request).await.unwrap();
            assert_eq!(answer.version(), http::Version::HTTP_2);
            text(answer).await
        });
    }
    assert!(calls.join_all().await.iter().all(|body| body == "x"));
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 50));

    let mut fresh = post(upstream.url("/"));
    fresh.extensions_mut().insert(Fresh);
    text(send(&transport, fresh).await.unwrap()).await;
    assert_eq!(upstream.connections(), 2);
    upstream.until(|upstream| upstream.connections_open() == 1).await;
}

#[tokio::test]
async fn dropping_a_call_resets_its_stream_and_leaves_the_others() {
    let upstream =
        Arc::new(Upstream::h2_script([H2Reply::hang(), H2Reply::status(200).body("b")]).await);
    let transport = h2c();
    let call = start(&transport, &upstream, 1).await.pop().unwrap();
    call.abort();
    upstream.until(|upstream| upstream.requests()[0].abandoned).await;
    assert_eq!(text(send(&transport, post(upstream.url("/"))).await.unwrap()).await, "b");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn the_wrong_version_is_no_valid_answer() {
    let http1 = Upstream::script([Reply::ok("x")]).await;
    let error = send(&h2c(), post(http1.url("/"))).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Protocol, "{error:?}");
    let http2 = Upstream::h2_script([H2Reply::status(200)]).await;
    let error = send(&transport(), post(http2.url("/"))).await.unwrap_err();
    assert!(matches!(error.fault(), Fault::Protocol | Fault::ConnectionClosed), "{error:?}");
}

const MAX_STREAM: u32 = (1 << 31) - 1;
const MOMENT: Duration = Duration::from_millis(10);
