//! How many connections there are, for one host and in all.

use redial_testkit::{Reply, Upstream};
use tokio::task::JoinSet;

use super::*;
use crate::server::Server;

#[tokio::test]
async fn no_more_connections_are_opened_than_may_be_and_every_call_gets_through() {
    let upstream = Upstream::script([Reply::ok("x").after(Duration::from_millis(5))]).await;
    let transport = Transport::builder().max_open_per_host(4).build().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let (transport, url) = (transport.clone(), upstream.url("/"));
        calls.spawn(async move { text(send(&transport, &url).await.unwrap()).await });
    }
    while let Some(body) = calls.join_next().await {
        assert_eq!(body.unwrap(), "x");
        assert!(total(&transport).open <= 4);
    }
    assert_eq!(upstream.connections(), 4);
    until(&transport, |total| total.in_use == 0).await;
    let total = total(&transport);
    assert_eq!((total.open, total.idle, total.calls, total.waiting), (4, 4, 0, 0));
    assert_eq!((total.created, total.waits, total.closed.sum()), (4, 40, 0));
    assert!(Duration::from_millis(5) <= total.wait_max && total.wait_max < total.wait_sum);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_busy_calls_open_no_connection_twice() {
    const OPEN: usize = 400;
    let server = Server::start(None, usize::MAX >> 4, 1024).await;
    let transport = Transport::builder().max_open_per_host(OPEN).build().unwrap();
    let mut workers = JoinSet::new();
    for _ in 0..512 {
        let (transport, server) = (transport.clone(), server.clone());
        workers.spawn(async move {
            for _ in 0..10 {
                assert_eq!(text(send(&transport, &server.url).await.unwrap()).await.len(), 1024);
            }
        });
    }
    workers.join_all().await;
    assert!(server.connections() <= OPEN, "{}", server.connections());
    assert_eq!(total(&transport).closed.sum(), 0);
}

#[tokio::test]
async fn a_burst_to_a_slow_server_gets_all_connections_that_may_be() {
    for patience in [Duration::from_millis(10), Duration::ZERO] {
        let server = Server::start(None, 0, 1).await;
        let builder = Transport::builder().max_open_per_host(100).patience(patience);
        let transport = builder.build().unwrap();
        let mut calls = JoinSet::new();
        for _ in 0..150 {
            let (transport, url) = (transport.clone(), server.url.clone());
            calls.spawn(async move { text(send(&transport, &url).await.unwrap()).await });
        }
        until(&transport, |total| (total.calls, total.waiting) == (100, 50)).await;
        server.answers.add_permits(150);
        assert_eq!(calls.join_all().await.len(), 150);
    }
}

#[tokio::test]
async fn a_server_that_closes_every_connection_is_sent_more_than_the_first_few() {
    let reply = || Reply::ok("x").close().after(Duration::from_millis(100));
    let upstream = Upstream::script([reply()]).await;
    let transport = Transport::builder().build().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let (transport, url) = (transport.clone(), upstream.url("/"));
        calls.spawn(async move { text(send(&transport, &url).await.unwrap()).await });
    }
    until(&transport, |total| 100 < total.calls).await;
    assert_eq!(calls.join_all().await.len(), 200);
}

#[tokio::test]
async fn a_patient_call_takes_a_connection_that_comes_back() {
    let server = Server::start(None, usize::MAX >> 4, 1).await;
    let transport = Transport::builder().patience(HANGS).build().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let (transport, url) = (transport.clone(), server.url.clone());
        calls.spawn(async move { text(send(&transport, &url).await.unwrap()).await });
    }
    assert_eq!(calls.join_all().await.len(), 200);
    assert_eq!(server.connections(), 64);
}

#[tokio::test]
async fn an_upstream_that_never_answers_takes_no_more_than_its_share() {
    let hangs = Reply::hang();
    let drips = Reply::ok(vec![b'x'; 1 << 20]).slow(1, Duration::from_secs(1));
    for reply in [hangs, drips] {
        let (slow, well) =
            (Upstream::script([reply]).await, Upstream::script([Reply::ok("x")]).await);
        let transport = Transport::builder().max_open(8).max_open_per_host(6).build().unwrap();
        let mut pinned = JoinSet::new();
        for _ in 0..50 {
            let (transport, url) = (transport.clone(), slow.url("/"));
            pinned.spawn(async move { send(&transport, &url).await?.into_body().collect().await });
        }
        slow.until(|slow| slow.requests().len() == 6).await;
        until(&transport, |total| total.waiting == 44).await;
        for _ in 0..100 {
            assert_eq!(text(send(&transport, &well.url("/")).await.unwrap()).await, "x");
        }
        assert_eq!((slow.connections(), well.connections()), (6, 1));
        assert_eq!(total(&transport).open, 7);

        drop(pinned);
        until(&transport, |total| (total.waiting, total.calls, total.open) == (0, 0, 1)).await;
        assert_eq!(total(&transport).closed.abandoned, 6);
    }
}

#[tokio::test]
async fn an_idle_connection_gives_way_to_a_call_to_another_host() {
    let hosts = [
        Upstream::script([Reply::ok("a")]).await,
        Upstream::script([Reply::ok("b")]).await,
        Upstream::script([Reply::ok("c")]).await,
    ];
    let transport = Transport::builder().max_open(2).build().unwrap();
    for _ in 0..3 {
        for host in &hosts {
            text(send(&transport, &host.url("/")).await.unwrap()).await;
            assert!(total(&transport).open <= 2);
        }
    }
    let total = total(&transport);
    assert_eq!((total.created, total.closed.limit), (9, 7), "{total:?}");
}

#[tokio::test]
async fn a_host_that_has_all_connections_gives_one_up_to_a_host_that_has_none() {
    let busy = Upstream::script([Reply::ok("x").after(Duration::from_millis(5))]).await;
    let other = Upstream::script([Reply::ok("y")]).await;
    let transport = Transport::builder().max_open(2).build().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let (transport, url) = (transport.clone(), busy.url("/"));
        calls.spawn(async move {
            loop {
                text(send(&transport, &url).await.unwrap()).await;
            }
        });
    }
    busy.until(|busy| 10 < busy.requests().len()).await;
    assert_eq!(text(send(&transport, &other.url("/")).await.unwrap()).await, "y");
    assert!(total(&transport).open <= 2);
}

#[tokio::test]
async fn idle_connections_are_limited_in_all_and_the_oldest_goes_first() {
    let hosts = [
        Upstream::script([Reply::ok("a")]).await,
        Upstream::script([Reply::ok("b")]).await,
        Upstream::script([Reply::ok("c")]).await,
    ];
    let transport = Transport::builder().max_idle(2).build().unwrap();
    for host in &hosts {
        text(send(&transport, &host.url("/")).await.unwrap()).await;
        until(&transport, |total| total.in_use == 0).await;
    }
    hosts[0].until(|host| host.connections_open() == 0).await;
    assert_eq!((hosts[1].connections_open(), hosts[2].connections_open()), (1, 1));
    assert_eq!((total(&transport).idle, total(&transport).closed.limit), (2, 1));
}

#[tokio::test]
async fn many_hosts_leave_a_bounded_trace() {
    let transport = Transport::builder().build().unwrap();
    let dead = redial_testkit::refused_addr();
    for nth in 0..3000 {
        // All of these are this machine (RFC 1122 §3.2.1.3), and refuse.
        let url = format!("http://127.1.{}.{}:{}/", nth / 250, nth % 250 + 1, dead.port());
        send(&transport, &url).await.unwrap_err();
    }
    let snapshot = transport.pool().snapshot();
    assert!(snapshot.origins.len() <= 1025, "{}", snapshot.origins.len());
    assert_eq!((snapshot.total.failed, snapshot.total.waits), (3000, 3000));
}

#[test]
fn a_pool_without_connections_cannot_be_built() {
    for builder in [Transport::builder().max_open(0), Transport::builder().max_open_per_host(0)] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.to_string(), "max_open and max_open_per_host must be at least 1");
    }
}
