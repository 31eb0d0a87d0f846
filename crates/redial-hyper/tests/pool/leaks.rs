//! Calls that keep their connection.

use std::panic::Location;

use redial_hyper::{CallSite, Leak};
use redial_testkit::{Reply, Upstream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::Service;

use super::*;

const THRESHOLD: Duration = Duration::from_millis(40);

/// A transport, and what it reports.
fn watched() -> (Transport, UnboundedReceiver<Leak>) {
    let (sender, leaks) = unbounded_channel();
    let builder = Transport::builder().leak_after(THRESHOLD);
    let told = builder.on_leak(move |leak| drop(sender.send(leak.clone())));
    (told.build().unwrap(), leaks)
}

async fn unread() -> Upstream {
    Upstream::script([Reply::ok(vec![b'x'; 1 << 20])]).await
}

#[tokio::test]
async fn a_body_that_is_neither_read_nor_dropped_is_reported_once_with_its_place() {
    let upstream = unread().await;
    let (mut transport, mut leaks) = watched();
    let here = Location::caller();
    let answer = in_time(transport.call(get(&upstream.url("/")))).await.unwrap();
    let leak = in_time(leaks.recv()).await.unwrap();
    assert_eq!((leak.site.file(), leak.site.line()), (file!(), here.line() + 1));
    assert_eq!((&leak.origin, leak.span), (&upstream.url(""), None));
    assert!(THRESHOLD <= leak.age && leak.age < THRESHOLD * 20, "{leak:?}");

    tokio::time::sleep(THRESHOLD * 3).await;
    assert!(leaks.is_empty());
    assert_eq!((total(&transport).leaks, total(&transport).in_use), (1, 1));
    drop(answer);
    until(&transport, |total| (total.calls, total.open) == (0, 0)).await;
}

#[tokio::test]
async fn a_call_through_layers_is_reported_with_its_own_place_and_span() {
    let upstream = unread().await;
    let (transport, mut leaks) = watched();
    let log = tracing_subscriber::registry();
    let _log = tracing::subscriber::set_default(log);
    let (here, line) = (CallSite::here(), line!());
    let mut request = get(&upstream.url("/"));
    request.extensions_mut().insert(here);
    let call = tracing::info_span!("nightly_export").in_scope(|| transport.clone().call(request));
    let _answer = in_time(call).await.unwrap();
    let leak = in_time(leaks.recv()).await.unwrap();
    assert_eq!((leak.site.file(), leak.site.line()), (file!(), line));
    assert_eq!(leak.span.unwrap().0, "nightly_export");
}

#[tokio::test]
async fn a_call_that_ends_is_not_reported() {
    let upstream = Upstream::script([Reply::ok("x")]).await;
    let (transport, leaks) = watched();
    let answer = send(&transport, &upstream.url("/")).await.unwrap();
    text(answer).await;
    tokio::time::sleep(THRESHOLD * 3).await;
    assert!(leaks.is_empty() && total(&transport).leaks == 0);
}
