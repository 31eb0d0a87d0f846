//! Before there is a connection: nothing can have been sent.

use std::net::SocketAddr;

use redial_testkit::{Reply, Upstream, refused_addr};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_sent() {
    let address = refused_addr();
    let error = send(&transport(), post(format!("http://{address}/"))).await.unwrap_err();
    assert_eq!(told(&error), (Fault::ConnectionRefused, Proof::NoConnection));
    assert_eq!(error.to_string(), format!("http://{address} refused the connection"));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told_from_a_server_that_does_not_answer() {
    let url = "http://nonexistent.invalid/";
    let error = send(&transport(), post(url.to_owned())).await.unwrap_err();
    assert_eq!(told(&error), (Fault::Dns, Proof::NoConnection), "{error:?}");
    assert_eq!(error.to_string(), "the name in http://nonexistent.invalid could not be resolved");
}

#[tokio::test]
async fn a_full_backlog_is_a_connect_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let patience = Duration::from_millis(100);
    while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    let transport = Transport::builder().connect_timeout(patience).build().unwrap();
    for is_fresh in [false, true] {
        let mut request = post(format!("http://{address}/"));
        if is_fresh {
            request.extensions_mut().insert(redial::Fresh);
        }
        let error = send(&transport, request).await.unwrap_err();
        assert_eq!(told(&error), (Fault::ConnectTimeout, Proof::NoConnection), "{error:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_connect_timeout_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let timeout = Duration::from_millis(50);
    let transport = Transport::builder().connect_timeout(timeout).build().unwrap();
    let error = send(&transport, post(url)).await.unwrap_err();
    assert_eq!(told(&error), (Fault::ConnectTimeout, Proof::NoConnection), "{error:?}");
}

#[tokio::test]
async fn waiting_for_another_calls_connection_counts_as_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let timeout = Duration::from_millis(80);
    let transport = Transport::builder().connect_timeout(timeout).http2_only(true).build().unwrap();
    let begun = tokio::time::Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (transport, request) = (transport.clone(), post(url.clone()));
        calls.spawn(async move { send(&transport, request).await.map(drop) });
    }
    for error in calls.join_all().await {
        assert_eq!(error.unwrap_err().fault(), Fault::ConnectTimeout);
    }
    assert!(begun.elapsed() < 4 * timeout, "one after the other: {:?}", begun.elapsed());
}

#[tokio::test]
async fn overrides_come_before_the_resolver_and_the_other_family_is_tried() {
    let upstream = Upstream::script([Reply::ok("here")]).await;
    let dead: SocketAddr = ([0, 0, 0, 0, 0, 0, 0, 1], refused_addr().port()).into();
    let transport =
        Transport::builder().resolve("Shop.Test", dead).resolve("shop.test", upstream.addr());
    let transport = transport.build().unwrap();
    let answer = send(&transport, get("http://shop.test/".to_owned())).await.unwrap();
    assert_eq!(text(answer).await, "here");
    assert_eq!(upstream.requests()[0].header("host"), Some("shop.test"));

    let refused = Transport::builder().resolve("shop.test", dead).build().unwrap();
    let error = send(&refused, get("http://shop.test/".to_owned())).await.unwrap_err();
    assert_eq!(error.proof(), Proof::NoConnection, "{error:?}");
}
