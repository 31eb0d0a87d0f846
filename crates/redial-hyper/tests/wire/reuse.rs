//! Connections that are kept, that died meanwhile, and that are not shared.

use redial::Fresh;
use redial_testkit::{Reply, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;

/// A server whose connections answer one request each, promise to stay, and die; by a reset if
/// `is_reset`. Returns its URL, and how many POST requests came and how many connections are dead.
async fn dying(is_reset: bool) -> (String, tokio::sync::watch::Receiver<(usize, usize)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (counts, seen) = tokio::sync::watch::channel((0, 0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counts = counts.clone();
            tokio::spawn(async move {
                if serve_one(stream, is_reset).await.is_ok_and(|is_post| is_post) {
                    counts.send_modify(|(posts, _)| *posts += 1);
                }
                counts.send_modify(|(_, dead)| *dead += 1);
            });
        }
    });
    (url, seen)
}

async fn serve_one(mut stream: TcpStream, is_reset: bool) -> std::io::Result<bool> {
    let mut request = Vec::new();
    let ends = |request: &[u8]| {
        let is_get = request.starts_with(b"GET");
        request.ends_with(if is_get { &b"\r\n\r\n"[..] } else { b"one order" })
    };
    while !ends(&request) {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(false);
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
    if is_reset {
        stream.set_zero_linger()?;
    }
    drop(stream);
    Ok(request.starts_with(b"POST"))
}

#[tokio::test]
async fn a_post_over_a_dead_connection_arrives_exactly_once_every_time() {
    for is_reset in [false, true] {
        let (url, mut seen) = dying(is_reset).await;
        let transport = transport();
        for nth in 1..=50 {
            // Every one of these finds the connection of the one before it dead.
            let answer = send(&transport, post(url.clone())).await.unwrap();
            assert_eq!(answer.status(), 200);
            drop(text_of_any(answer).await);
            seen.wait_for(|(_, dead)| *dead == nth).await.unwrap();
        }
        assert_eq!(*seen.borrow(), (50, 50));
    }
}

/// Reads the body, which a reset may have overtaken.
async fn text_of_any(answer: Response<Body>) -> Result<Bytes, Error> {
    answer.into_body().collect().await.map(http_body_util::Collected::to_bytes)
}

#[tokio::test]
async fn several_dead_connections_cost_one_new_one() {
    const IDLE: usize = 8;
    let held = std::sync::Arc::new(tokio::sync::Barrier::new(IDLE));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (accepted, mut seen) = tokio::sync::watch::channel((0, 0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            accepted.send_modify(|(connections, _)| *connections += 1);
            let (accepted, held) = (accepted.clone(), held.clone());
            tokio::spawn(async move {
                let nth = accepted.borrow().0;
                if nth <= IDLE {
                    // All are in use at once, so that none serves two.
                    held.wait().await;
                }
                let is_post = serve_one(stream, nth % 2 == 0).await?;
                accepted.send_modify(|(_, posts)| *posts += usize::from(is_post));
                std::io::Result::Ok(())
            });
        }
    });
    let transport = transport();
    let mut calls = JoinSet::new();
    for _ in 0..IDLE {
        let (transport, url) = (transport.clone(), url.clone());
        calls.spawn(
            async move { drop(text_of_any(send(&transport, get(url)).await.unwrap()).await) },
        );
    }
    calls.join_all().await;
    assert_eq!(seen.borrow_and_update().0, IDLE);
    send(&transport, post(url)).await.unwrap();
    seen.wait_for(|seen| *seen == (IDLE + 1, 1)).await.unwrap();
}

#[tokio::test]
async fn a_restarted_server_is_reached_without_a_scratch() {
    let upstream = Upstream::script([Reply::ok("a").die()]).await;
    let transport = transport();
    for nth in 1..=20 {
        assert_eq!(text(send(&transport, post(upstream.url("/"))).await.unwrap()).await, "a");
        upstream.until(|upstream| upstream.connections_open() == 0).await;
        assert_eq!(upstream.requests().len(), nth);
    }
    assert_eq!(upstream.connections(), 20);
}

#[tokio::test]
async fn a_post_that_was_written_to_a_kept_connection_is_not_repeated() {
    let upstream = Upstream::script([Reply::ok("a"), Reply::reset(), Reply::ok("b")]).await;
    let transport = transport();
    text(send(&transport, post(upstream.url("/1"))).await.unwrap()).await;
    let error = send(&transport, post(upstream.url("/2"))).await.unwrap_err();
    assert_eq!(told(&error), (Fault::ConnectionReset, Proof::Sent));
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.connection == requests[0].connection));
}

#[tokio::test]
async fn a_kept_connection_that_is_reset_at_the_first_byte_counts_as_sent() {
    let upstream = Upstream::script([Reply::ok("a"), Reply::reset_unread(0), Reply::ok("b")]).await;
    let transport = transport();
    text(send(&transport, post(upstream.url("/1"))).await.unwrap()).await;
    let error = send(&transport, post(upstream.url("/2"))).await.unwrap_err();
    assert_eq!(told(&error), (Fault::ConnectionReset, Proof::Sent));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn connections_are_kept_and_a_fresh_one_is_not_shared() {
    let upstream = Upstream::script([Reply::ok("hello")]).await;
    let transport = transport();
    for _ in 0..3 {
        text(send(&transport, get(upstream.url("/"))).await.unwrap()).await;
    }
    assert_eq!(upstream.connections(), 1);

    let mut fresh = get(upstream.url("/fresh"));
    fresh.extensions_mut().insert(Fresh);
    text(send(&transport, fresh).await.unwrap()).await;
    assert_eq!(upstream.connections(), 2);
    upstream.until(|upstream| upstream.connections_open() == 1).await;

    text(send(&transport, get(upstream.url("/"))).await.unwrap()).await;
    let connections: Vec<_> = upstream.requests().iter().map(|r| r.connection).collect();
    assert!(connections[4] == connections[0] && connections[3] != connections[0]);
}

#[tokio::test]
async fn connection_close_is_obeyed() {
    let upstream = Upstream::script([Reply::ok("bye").close()]).await;
    let transport = transport();
    for nth in 1..=3 {
        assert_eq!(text(send(&transport, post(upstream.url("/"))).await.unwrap()).await, "bye");
        assert_eq!(upstream.connections(), nth);
    }
}

#[tokio::test]
async fn idle_connections_are_bounded_in_number_and_time() {
    let upstream = Upstream::script([Reply::ok("x").after(Duration::from_millis(20))]).await;
    let idle = Duration::from_millis(60);
    let transport = Transport::builder().max_idle_per_host(2).idle_timeout(idle).build().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let (transport, request) = (transport.clone(), get(upstream.url("/")));
        calls.spawn(async move { text(send(&transport, request).await.unwrap()).await });
    }
    calls.join_all().await;
    upstream.until(|upstream| upstream.connections_open() <= 2).await;
    assert_eq!(upstream.connections(), 6);
    upstream.until(|upstream| upstream.connections_open() == 0).await;
}

#[tokio::test]
async fn what_nobody_asked_for_ends_a_kept_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(first.read_buf(&mut request).await.unwrap(), 0);
        }
        first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na").await.unwrap();
        first
            .write_all(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let (second, _) = listener.accept().await.unwrap();
        serve_one(second, false).await.unwrap();
        drop(first);
    });
    let transport = transport();
    assert_eq!(text(send(&transport, get(url.clone())).await.unwrap()).await, "a");
    let answer = send(&transport, post(url)).await.unwrap();
    assert_eq!(answer.status(), 200);
    server.await.unwrap();
}

#[tokio::test]
async fn dropping_a_call_closes_its_connection() {
    let upstream = Upstream::script([Reply::hang()]).await;
    let transport = transport();
    let call = tokio::spawn({
        let request = post(upstream.url("/"));
        async move { send(&transport, request).await.map(drop) }
    });
    upstream.until(|upstream| upstream.requests().len() == 1).await;
    call.abort();
    upstream.until(|upstream| upstream.connections_open() == 0).await;
    assert!(upstream.requests()[0].abandoned);
}

#[tokio::test]
async fn dropping_half_a_body_closes_its_connection() {
    let slow = Reply::ok(vec![b'x'; 1 << 20]).slow(1024, Duration::from_millis(5));
    let upstream = Upstream::script([slow]).await;
    let answer = send(&transport(), get(upstream.url("/"))).await.unwrap();
    drop(answer);
    upstream.until(|upstream| upstream.connections_open() == 0).await;
}
