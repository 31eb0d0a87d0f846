//! The line of calls that wait for a connection.

use std::{
    error::Error as _,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use redial::Fresh;
use redial_core::{Evidence, Fault};
use redial_hyper::PoolExhausted;
use redial_testkit::{Reply, Upstream};
use tokio::task::JoinSet;

use super::*;

/// Long enough not to be sent in one piece with its head.
const BODY_BYTES: usize = 256 << 10;

fn one_connection() -> Transport {
    Transport::builder().max_open_per_host(1).build().unwrap()
}

/// Lets a call begin, and stand in line if it has to.
async fn begin<F: Future + Unpin>(call: &mut F) {
    let begun = poll_fn(|cx| Poll::Ready(Pin::new(&mut *call).poll(cx).is_pending())).await;
    assert!(begun, "the call did not have to wait");
}

#[tokio::test]
async fn calls_are_served_in_the_order_of_arrival() {
    let upstream = Upstream::script([Reply::ok("x").after(Duration::from_millis(3))]).await;
    let transport = one_connection();
    let mut calls = JoinSet::new();
    for nth in 0..20 {
        let (transport, url) = (transport.clone(), upstream.url(&format!("/{nth}")));
        let mut call = Box::pin(transport.oneshot(get(&url)));
        begin(&mut call).await;
        calls.spawn(async move { text(call.await.unwrap()).await });
    }
    calls.join_all().await;
    let paths: Vec<_> = upstream.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(paths, (0..20).map(|nth| format!("/{nth}")).collect::<Vec<_>>());
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_call_that_gives_up_leaves_the_line() {
    let upstream = Upstream::script([Reply::hang()]).await;
    let transport = one_connection();
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let (transport, url) = (transport.clone(), upstream.url("/"));
        calls.spawn(async move { send(&transport, &url).await.map(drop) });
    }
    until(&transport, |total| total.waiting == 9).await;
    calls.abort_all();
    while calls.join_next().await.is_some() {}
    until(&transport, |total| (total.waiting, total.open) == (0, 0)).await;
    let total = total(&transport);
    assert_eq!((total.waits, total.closed.abandoned, total.created), (10, 1, 1));
}

#[tokio::test]
async fn a_full_line_refuses_at_once_and_a_wait_ends() {
    let upstream = Upstream::script([Reply::hang()]).await;
    let after = Duration::from_millis(100);
    let limited = Transport::builder().max_open_per_host(1).max_waiting_per_host(1);
    let transport = limited.acquire_timeout(after).build().unwrap();
    let mut first = Box::pin(transport.clone().oneshot(get(&upstream.url("/"))));
    begin(&mut first).await;
    let held = tokio::spawn(first);
    upstream.until(|upstream| upstream.requests().len() == 1).await;
    let mut second = Box::pin(transport.clone().oneshot(get(&upstream.url("/"))));
    begin(&mut second).await;

    let refused = send(&transport, &upstream.url("/")).await.unwrap_err();
    let timed_out = in_time(second).await.unwrap_err();
    let full = PoolExhausted::QueueFull { max_waiting_per_host: 1 };
    for (error, why) in [(refused, full), (timed_out, PoolExhausted::Timeout { after })] {
        assert_eq!(
            (error.fault(), error.proof().evidence()),
            (Fault::Rejected, Evidence::NeverSent)
        );
        assert_eq!(error.source().unwrap().downcast_ref(), Some(&why), "{error:?}");
    }
    assert_eq!((total(&transport).rejected, upstream.requests().len()), (2, 1));
    held.abort();
}

#[tokio::test]
async fn a_connection_granted_to_a_call_that_is_gone_goes_to_the_next() {
    let upstream = Upstream::script([Reply::ok(vec![b'x'; BODY_BYTES])]).await;
    let transport = one_connection();
    let first = send(&transport, &upstream.url("/")).await.unwrap();
    let mut second = Box::pin(transport.clone().oneshot(get(&upstream.url("/"))));
    let mut third = Box::pin(transport.clone().oneshot(get(&upstream.url("/"))));
    begin(&mut second).await;
    begin(&mut third).await;
    assert_eq!(total(&transport).waiting, 2);
    text(first).await;
    // The second has the connection now, and does not know it yet.
    until(&transport, |total| total.waiting == 1).await;
    drop(second);
    assert_eq!(text(in_time(third).await.unwrap()).await.len(), BODY_BYTES);
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 2));
}

#[tokio::test]
async fn a_connection_made_for_a_call_that_is_gone_is_kept() {
    let upstream = Upstream::script([Reply::ok("x")]).await;
    let transport = one_connection();
    let mut gone = Box::pin(transport.clone().oneshot(get(&upstream.url("/gone"))));
    begin(&mut gone).await;
    drop(gone);
    until(&transport, |total| (total.idle, total.waiting, total.calls) == (1, 0, 0)).await;
    assert_eq!(text(send(&transport, &upstream.url("/")).await.unwrap()).await, "x");
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 1));
}

#[tokio::test]
async fn whatever_comes_first_serves_a_waiting_call() {
    let upstream = Upstream::script([Reply::ok(vec![b'x'; BODY_BYTES])]).await;
    let transport = Transport::builder().max_open_per_host(2).build().unwrap();
    let first = send(&transport, &upstream.url("/")).await.unwrap();
    let mut second = Box::pin(transport.clone().oneshot(get(&upstream.url("/"))));
    begin(&mut second).await;
    assert_eq!(total(&transport).dialing, 1);
    text(first).await;
    assert_eq!(text(in_time(second).await.unwrap()).await.len(), BODY_BYTES);
    until(&transport, |total| (total.idle, total.open) == (2, 2)).await;
}

#[tokio::test]
async fn a_fresh_connection_has_its_place_in_the_line_and_is_nobody_elses() {
    let upstream = Upstream::script([Reply::ok("x")]).await;
    let transport = one_connection();
    for nth in 1..=5 {
        text(send(&transport, &upstream.url("/")).await.unwrap()).await;
        let mut fresh = get(&upstream.url("/fresh"));
        fresh.extensions_mut().insert(Fresh);
        text(in_time(transport.clone().oneshot(fresh)).await.unwrap()).await;
        until(&transport, |total| total.open == 0).await;
        let closed = total(&transport).closed;
        assert_eq!((closed.fresh, closed.limit, closed.sum()), (nth, nth, 2 * nth));
    }
    assert_eq!(upstream.connections(), 10);
}

#[tokio::test]
async fn a_host_that_refuses_fails_each_call_once() {
    let transport = Transport::builder().max_open_per_host(3).build().unwrap();
    let url = format!("http://{}/", redial_testkit::refused_addr());
    let mut calls = JoinSet::new();
    for _ in 0..30 {
        let (transport, url) = (transport.clone(), url.clone());
        calls.spawn(async move { send(&transport, &url).await.unwrap_err().fault() });
    }
    assert_eq!(calls.join_all().await, [Fault::ConnectionRefused; 30]);
    let total = total(&transport);
    assert_eq!((total.open, total.waiting, total.failed, total.created), (0, 0, 30, 0));
}
