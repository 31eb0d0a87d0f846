//! HTTP/2: as many streams as the peer allows, and another connection for what is beyond.

use tokio::task::JoinSet;

use super::*;
use crate::server::Server;

const NO_LIMIT: usize = usize::MAX >> 4;

fn h2c() -> redial_hyper::Builder {
    Transport::builder().http2_only(true)
}

fn start(transport: &Transport, server: &Server, calls: usize) -> JoinSet<usize> {
    let mut started = JoinSet::new();
    for _ in 0..calls {
        let (transport, url) = (transport.clone(), server.url.clone());
        started.spawn(async move { text(send(&transport, &url).await.unwrap()).await.len() });
    }
    started
}

#[tokio::test]
async fn another_connection_is_made_at_the_peers_limit() {
    let server = Server::start(Some(2), 0, 1).await;
    let transport = h2c().build().unwrap();
    // All at once, before the peer has said anything.
    let calls = start(&transport, &server, 10);
    until(&transport, |total| (total.in_use, total.calls, total.waiting) == (5, 10, 0)).await;
    server.answers.add_permits(NO_LIMIT);
    assert_eq!(calls.join_all().await, [1; 10]);
    assert_eq!(server.connections(), 5);
    assert_eq!(server.streams_most.load(std::sync::atomic::Ordering::Relaxed), 2);
    until(&transport, |total| (total.idle, total.in_use, total.calls) == (5, 0, 0)).await;

    start(&transport, &server, 10).join_all().await;
    assert_eq!(server.connections(), 5);
}

#[tokio::test]
async fn calls_beyond_all_streams_wait() {
    let server = Server::start(Some(2), 0, 1).await;
    let transport = h2c().max_open_per_host(3).build().unwrap();
    let calls = start(&transport, &server, 50);
    until(&transport, |total| (total.open, total.calls, total.waiting) == (3, 6, 44)).await;
    server.answers.add_permits(NO_LIMIT);
    assert_eq!(calls.join_all().await, [1; 50]);
    assert_eq!(server.connections(), 3);
    assert_eq!(server.streams_most.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_generous_peer_gets_one_connection() {
    let server = Server::start(Some(500), NO_LIMIT, 1).await;
    let transport = h2c().build().unwrap();
    start(&transport, &server, 300).join_all().await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_stream_counts_until_its_body_has_ended() {
    let server = Server::start(Some(1), NO_LIMIT, 1 << 20).await;
    let transport = h2c().build().unwrap();
    let first = send(&transport, &server.url).await.unwrap();
    text(send(&transport, &server.url).await.unwrap()).await;
    assert_eq!(server.connections(), 2);
    text(first).await;
    text(send(&transport, &server.url).await.unwrap()).await;
    drop(send(&transport, &server.url).await.unwrap());
    until(&transport, |total| (total.calls, total.idle) == (0, 2)).await;
    assert_eq!(server.connections(), 2);
}
