//! An upstream's life, and the address where there is none.

#![expect(clippy::unwrap_used, reason = "a test whose client fails should stop")]

#[path = "common/client.rs"]
mod client;

use std::io::ErrorKind;

use redial_testkit::{Reply, Upstream, refused_addr};
use tokio::net::TcpStream;

use crate::client::{GET, read_all, read_until, send};

#[tokio::test]
async fn a_refused_address_refuses_and_is_never_given_twice() {
    let (one, other) = (refused_addr(), refused_addr());
    assert_ne!(one, other);
    for address in [one, other] {
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_upstream_is_gone_with_its_connections() {
    let upstream = Upstream::script([Reply::hang()]).await;
    let address = upstream.addr();
    let mut stream = send(&upstream, GET).await;
    upstream.until(|upstream| upstream.requests().len() == 1).await;
    upstream.stop().await;

    let (answer, ended) = read_all(&mut stream).await;
    assert!(answer.is_empty() && ended.is_ok());
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_dropped_upstream_closes_its_connections() {
    let upstream = Upstream::script([Reply::ok("!")]).await;
    let mut stream = send(&upstream, GET).await;
    read_until(&mut stream, "!").await;
    drop(upstream);
    let (rest, ended) = read_all(&mut stream).await;
    assert!(rest.is_empty() && ended.is_ok());
}

#[tokio::test]
async fn urls_name_the_port() {
    let upstream = Upstream::script([Reply::ok("!")]).await;
    let expected = format!("http://127.0.0.1:{}/a?b=c", upstream.addr().port());
    assert_eq!(upstream.url("/a?b=c"), expected);
}

#[tokio::test]
#[should_panic(expected = "a script needs at least one reply")]
async fn an_empty_script_is_refused() {
    let _ = Upstream::script([]).await;
}
