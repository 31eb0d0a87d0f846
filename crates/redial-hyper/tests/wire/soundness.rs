//! The promise of the evidence, under load: what is said never to have been sent never arrived, and
//! nothing arrives twice.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use redial_core::Evidence;
use redial_testkit::{H2Reply, Reply, Upstream};
use tokio::task::JoinSet;

use super::*;

/// Sends numbered orders from several callers at once, and compares what each was told with what
/// the server received.
async fn evidence_holds(transport: Transport, upstream: Upstream) {
    const CALLERS: usize = 8;
    const CALLS: usize = 60;
    let url: Arc<str> = upstream.url("/orders").into();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (transport, url) = (transport.clone(), Arc::clone(&url));
        callers.spawn(async move {
            let mut told = Vec::new();
            for call in 0..CALLS {
                let order = format!("{caller}-{call}");
                let body = Full::new(Bytes::from(order.clone()));
                let request = Request::post(&*url).body(body).unwrap();
                let error = match send(&transport, request).await {
                    Ok(answer) => answer.into_body().collect().await.err(),
                    Err(error) => Some(error),
                };
                told.push((order, error));
            }
            told
        });
    }
    let told: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    assert_eq!(told.len(), CALLERS * CALLS);
    let mut arrived: HashMap<Bytes, usize> = HashMap::new();
    for received in upstream.requests() {
        *arrived.entry(received.body).or_default() += 1;
    }
    for (order, error) in told {
        let times = arrived.get(order.as_bytes()).copied().unwrap_or_default();
        match error.as_ref().map(|error| error.proof().evidence()) {
            None | Some(Evidence::Applied) => assert_eq!(times, 1, "{order}: {error:?}"),
            Some(Evidence::MaybeApplied) => assert!(times <= 1, "{order}: {error:?}"),
            Some(Evidence::NeverSent | Evidence::RejectedUnprocessed) => {
                assert_eq!(times, 0, "{order}: {error:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_evidence_is_sound_on_a_server_that_drops_connections() {
    let turn = AtomicUsize::new(0);
    let upstream = Upstream::with(move |_| match turn.fetch_add(1, Ordering::Relaxed) % 8 {
        0 => Reply::reset(),
        1 => Reply::close_without_answer(),
        2 => Reply::ok("bye").close(),
        3 => Reply::ok("0123456789").truncate_at(3),
        4 | 5 => Reply::ok("kept, but not for long").die(),
        _ => Reply::ok("kept"),
    });
    evidence_holds(transport(), upstream.await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_evidence_is_sound_on_a_server_that_drops_connections() {
    let turn = AtomicUsize::new(0);
    let upstream = Upstream::h2_with(move |_| match turn.fetch_add(1, Ordering::Relaxed) % 16 {
        0 => H2Reply::close_without_answer(),
        1 => H2Reply::status(200).close(),
        2 => H2Reply::reset(redial_testkit::Reason::INTERNAL_ERROR),
        _ => H2Reply::status(200).body("kept"),
    });
    evidence_holds(h2c(), upstream.await).await;
}
