//! "The Tail at Scale", as a test: ten replicas whose answers take 10 ms on average, exponentially
//! distributed, and one in a hundred twenty times as long. Time is paused and every draw is seeded,
//! so that each run is the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use redial::{
    HedgeLayer, ReplayBody,
    core::{Entropy, HedgePolicy, Policy},
};
use tokio::{sync::Mutex, time::Instant};
use tower::{Layer, ServiceExt, service_fn};

type Body = Empty<Bytes>;

const REQUESTS: u32 = 30_000;
const REPLICAS: usize = 10;
/// 10 ms, of which one in a hundred counts twenty times.
const MEAN_SECONDS: f64 = 0.010;
const WORK_SECONDS: f64 = MEAN_SECONDS * (0.99 + 0.01 * 20.0);

/// What came out of a run.
#[derive(Debug)]
struct Tail {
    p999: Duration,
    extra: f64,
}

#[tokio::test(start_paused = true)]
async fn hedging_halves_the_tail_for_a_twentieth_of_extra_calls() {
    for load in [0.1, 0.6] {
        let plain = run(load, Policy { hedge: None, ..Policy::default() }).await;
        let hedge = Some(HedgePolicy::default());
        let hedged = run(load, Policy { hedge, ..Policy::default() }).await;
        let ratio = hedged.p999.as_secs_f64() / plain.p999.as_secs_f64();
        let told = format!("load {load}: {plain:?}, {hedged:?}, ratio {ratio:.2}");
        assert!(ratio <= 0.5, "{told}");
        assert!(hedged.extra <= 0.06, "{told}");
        assert!(plain.extra <= 0.0, "{told}");
    }
}

async fn run(load: f64, policy: Policy) -> Tail {
    let sent = Arc::new(AtomicU32::new(0));
    let replicas: Arc<[Mutex<()>]> = (0..REPLICAS).map(|_| Mutex::new(())).collect();
    let (entropy, tally) = (Arc::new(Entropy::seeded(7)), Arc::clone(&sent));
    let upstream = service_fn(move |_: Request<ReplayBody<Body>>| {
        tally.fetch_add(1, Ordering::Relaxed);
        let (replicas, entropy) = (Arc::clone(&replicas), Arc::clone(&entropy));
        async move {
            let replica = &replicas[usize::try_from(entropy.draw() % 10).unwrap()];
            let is_straggler = share(&entropy) < 0.01;
            let work = exponential(&entropy, MEAN_SECONDS) * if is_straggler { 20.0 } else { 1.0 };
            // First come, first served; who is dropped leaves the queue.
            let _turn = replica.lock().await;
            tokio::time::sleep(Duration::from_secs_f64(work)).await;
            Ok::<_, io::Error>(Response::new(Body::new()))
        }
    });
    let client = HedgeLayer::new(policy).layer(upstream);
    #[expect(clippy::cast_precision_loss, reason = "ten")]
    let gap_seconds = WORK_SECONDS / (load * REPLICAS as f64);
    let (arrivals, mut calls) = (Entropy::seeded(11), tokio::task::JoinSet::new());
    let (started, mut at) = (Instant::now(), 0.0);
    for _ in 0..REQUESTS {
        at += exponential(&arrivals, gap_seconds);
        tokio::time::sleep_until(started + Duration::from_secs_f64(at)).await;
        let request = Request::get("http://shop.example/").body(Body::new()).unwrap();
        let (call, began) = (client.clone().oneshot(request), Instant::now());
        calls.spawn(async move {
            call.await.unwrap();
            began.elapsed()
        });
    }
    let mut took = calls.join_all().await;
    took.sort_unstable();
    let sent = sent.load(Ordering::Relaxed);
    Tail {
        p999: took[took.len() - took.len() / 1_000 - 1],
        extra: f64::from(sent - REQUESTS) / f64::from(REQUESTS),
    }
}

fn exponential(entropy: &Entropy, mean: f64) -> f64 {
    -mean * (1.0 - share(entropy)).ln()
}

/// A share of all draws, below 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits")]
fn share(entropy: &Entropy) -> f64 {
    (entropy.draw() >> 11) as f64 / (1_u64 << 53) as f64
}
