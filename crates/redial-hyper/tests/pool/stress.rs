//! Calls that are given up at any point leave nothing behind.
//!
//! `REDIAL_POOL_CALLS` sets how many calls are made; a million take a few minutes:
//! `REDIAL_POOL_CALLS=1000000 cargo test --release -p redial-hyper --test pool stress`.

use std::{
    env,
    future::{Future, poll_fn},
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use redial::Fresh;
use tokio::task::JoinSet;

use super::*;
use crate::server::Server;

const OPEN_MAX: usize = 24;

/// Splitmix64: enough to choose with, and its seed repeats it.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Goes on with `future` as often as it is woken, but at most `polls` times.
async fn for_a_while<F: Future>(future: F, polls: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Makes one call. Gives it up, or its body, at any point, four times out of ten.
async fn call(transport: &Transport, url: &str, draw: &mut Draw) -> bool {
    let mut request = get(url);
    if draw.below(50) == 0 {
        request.extensions_mut().insert(Fresh);
    }
    let call = transport.clone().oneshot(request);
    let answer = match draw.below(10) {
        0 | 1 => for_a_while(call, draw.below(6)).await,
        2 => {
            let soon = Duration::from_micros(draw.below(3000));
            tokio::time::timeout(soon, call).await.ok()
        }
        _ => Some(call.await),
    };
    let Some(answer) = answer else { return false };
    let body = answer.unwrap().into_body().collect();
    let polls = if draw.below(10) == 0 { draw.below(4) } else { u64::MAX };
    for_a_while(body, polls).await.is_some_and(|body| body.unwrap().to_bytes().len() == 32_000)
}

async fn nothing_stays_behind(streams_max: Option<u32>) {
    let calls = env::var("REDIAL_POOL_CALLS").map_or(20_000, |calls| calls.parse().unwrap());
    let seed = RandomState::new().hash_one(streams_max);
    println!("{calls} calls, seed {seed}");
    let server = Server::start(streams_max, usize::MAX >> 4, 32_000).await;
    let builder = Transport::builder().max_open(OPEN_MAX).max_lifetime(Duration::from_secs(1));
    let waits = builder.acquire_timeout(HANGS).http2_only(streams_max.is_some());
    let transport = waits.build().unwrap();
    let (left, whole) = (Arc::new(AtomicUsize::new(calls)), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for nth in 0..200 {
        let (transport, server) = (transport.clone(), Arc::clone(&server));
        let (left, whole) = (Arc::clone(&left), Arc::clone(&whole));
        let mut draw = Draw(seed.wrapping_add(nth));
        workers.spawn(async move {
            let more = |left: usize| left.checked_sub(1);
            while left.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
                let is_whole = call(&transport, &server.url, &mut draw).await;
                whole.fetch_add(usize::from(is_whole), Ordering::Relaxed);
                let total = total(&transport);
                assert!(total.open <= OPEN_MAX, "{total:?}");
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    until(&transport, |total| (total.in_use, total.dialing) == (0, 0)).await;
    let total = total(&transport);
    println!("{} whole, {total:#?}", whole.load(Ordering::Relaxed));
    assert_eq!((total.calls, total.waiting, total.rejected, total.leaks), (0, 0, 0, 0));
    assert_eq!(total.created - total.closed.sum(), total.open as u64);
    assert!(calls / 2 < whole.load(Ordering::Relaxed));

    text(send(&transport, &server.url).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_given_up_anywhere_leave_no_connection_in_use() {
    nothing_stays_behind(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_given_up_anywhere_leave_no_stream_in_use() {
    nothing_stays_behind(Some(8)).await;
}
