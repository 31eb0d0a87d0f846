use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::uri::Authority;
use redial_core::{
    Abandoned, Assessment, Backoff, BreakerState, Health, Jitter, Policy, TripReason, Window,
};
use tokio::time::advance;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{BoxError, PolicyCell};

const SECOND: Duration = Duration::from_secs(1);

/// Opens on two failures in a row for 5 s, then 10 s; one probe decides.
fn policy() -> BreakerPolicy {
    let open = Backoff::exponential(SECOND * 5, 2.0, SECOND * 60).unwrap();
    BreakerPolicy::default()
        .with_consecutive_failures(2)
        .with_open(open.jitter(Jitter::None).unwrap())
        .and_then(|policy| policy.with_probes(1))
        .and_then(|policy| policy.with_probe_successes(1))
        .unwrap()
}

/// An upstream that answers as its request says, and counts the requests that it sees.
#[derive(Clone, Default)]
struct Upstream {
    seen: Arc<AtomicU32>,
}

impl Upstream {
    fn serve<A>(
        &self,
        layer: &BreakerLayer<A>,
    ) -> impl Service<Request<u16>, Response = Response<()>, Error = BoxError> + Clone + use<A>
    where
        A: Assess<(), BoxError>,
    {
        let seen = Arc::clone(&self.seen);
        layer.layer(service_fn(move |request: Request<u16>| {
            seen.fetch_add(1, Ordering::Relaxed);
            async move {
                let status = *request.body();
                match status {
                    0 => pending().await,
                    1 => tokio::time::sleep(SECOND * 3).await,
                    _ => {}
                }
                let response = Response::builder().status(if status < 100 { 200 } else { status });
                let wish = (status == 503).then_some("30");
                let response = match wish {
                    Some(wish) => response.header("retry-after", wish),
                    None => response,
                };
                Ok(response.body(()).unwrap())
            }
        }))
    }

    fn seen(&self) -> u32 {
        self.seen.load(Ordering::Relaxed)
    }
}

fn request(host: &str, status: u16) -> Request<u16> {
    Request::get(format!("http://{host}/a")).body(status).unwrap()
}

async fn send<S>(client: &S, status: u16) -> Result<u16, Rejection>
where
    S: Service<Request<u16>, Response = Response<()>, Error = BoxError> + Clone,
{
    let outcome = client.clone().oneshot(request("shop.example", status)).await;
    match outcome {
        Ok(response) => Ok(response.status().as_u16()),
        Err(error) => Err(*error.downcast::<Rejection>().unwrap()),
    }
}

fn refused_for(seconds: u64) -> Result<u16, Rejection> {
    Err(Rejection::BreakerOpen { retry_after: Some(Duration::from_secs(seconds)) })
}

fn shop() -> Authority {
    Authority::from_static("shop.example")
}

#[tokio::test(start_paused = true)]
async fn it_opens_refuses_without_a_call_and_closes_again() {
    let (upstream, layer) = (Upstream::default(), BreakerLayer::new(policy()));
    let client = upstream.serve(&layer);
    for _ in 0..2 {
        assert_eq!(send(&client, 500).await, Ok(500), "the upstream's outcome is untouched");
    }
    assert_eq!(send(&client, 200).await, refused_for(5));
    advance(SECOND * 2).await;
    assert_eq!(send(&client.clone(), 200).await, refused_for(3), "clones share it");
    assert_eq!(upstream.seen(), 2, "a refused call does not reach the upstream");
    advance(SECOND * 3).await;
    assert_eq!(send(&client, 502).await, Ok(502), "a probe");
    assert_eq!(send(&client, 200).await, refused_for(10));
    advance(SECOND * 10).await;
    assert_eq!(send(&client, 404).await, Ok(404), "what is wrong with the caller is no failure");
    assert_eq!(send(&client, 200).await, Ok(200));
    assert_eq!(upstream.seen(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_upstreams_wish_keeps_it_open() {
    let (upstream, layer) = (Upstream::default(), BreakerLayer::new(policy()));
    let client = upstream.serve(&layer);
    send(&client, 500).await.unwrap();
    send(&client, 503).await.unwrap();
    assert_eq!(send(&client, 200).await, refused_for(30));
}

#[tokio::test(start_paused = true)]
async fn every_origin_has_its_own() {
    let (upstream, layer) = (Upstream::default(), BreakerLayer::new(policy()));
    let client = upstream.serve(&layer);
    let _ = (send(&client, 500).await, send(&client, 500).await);
    assert!(send(&client, 200).await.is_err());
    let other = client.oneshot(request("other.example", 200)).await;
    assert_eq!(other.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn slow_answers_open_it_too() {
    let slow = policy().with_slow_calls(SECOND * 3, 1.0).unwrap().with_min_calls(2).unwrap();
    let breakers = Breakers::new();
    let layer = BreakerLayer::new(slow).breakers(breakers.clone());
    let client = Upstream::default().serve(&layer);
    let _ = (send(&client, 1).await, send(&client, 1).await);
    let snapshot = breakers.snapshot(&shop()).unwrap();
    assert_eq!(snapshot.last_trip, Some(TripReason::SlowRatio { slow: 2, calls: 2 }));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_gives_the_probes_place_back() {
    let (upstream, layer) = (Upstream::default(), BreakerLayer::new(policy()));
    let client = upstream.serve(&layer);
    let _ = (send(&client, 500).await, send(&client, 500).await);
    advance(SECOND * 5).await;
    {
        let probe = pin!(send(&client, 0));
        assert!(tokio::time::timeout(SECOND, probe).await.is_err(), "it hangs");
        let mut unpolled = client.clone();
        poll_fn(|cx| unpolled.poll_ready(cx)).await.unwrap();
        let call = unpolled.call(request("shop.example", 200));
        let other = Err(Rejection::BreakerOpen { retry_after: None });
        assert_eq!(send(&client, 200).await, other, "a call that is not polled yet holds it, too");
        drop(call);
    }
    assert_eq!(send(&client, 200).await, Ok(200), "it closes");
    assert_eq!(send(&client, 200).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn abandoned_attempts_count_as_failures_where_the_policy_says_so() {
    for (abandoned, state) in
        [(Abandoned::Ignore, BreakerState::Closed), (Abandoned::Failure, BreakerState::Open)]
    {
        let breakers = Breakers::new();
        let layer =
            BreakerLayer::new(policy().with_abandoned(abandoned)).breakers(breakers.clone());
        let client = Upstream::default().serve(&layer);
        for _ in 0..2 {
            let hung = tokio::time::timeout(SECOND, send(&client, 0)).await;
            assert!(hung.is_err());
        }
        assert_eq!(breakers.snapshot(&shop()).unwrap().state, state);
    }
}

type Story = Arc<Mutex<Vec<String>>>;

fn storied<A: Clone>(layer: BreakerLayer<A>) -> (BreakerLayer<A>, Story) {
    let story = Story::default();
    let teller = Arc::clone(&story);
    let tell = move |call: &Call<'_>, event: &Event| {
        assert_eq!((call.method.as_str(), call.uri.host()), ("GET", Some("shop.example")));
        let line = match event {
            Event::BreakerChanged { from, to, reason: Some(reason) } => {
                format!("{from} to {to}: {reason}")
            }
            Event::BreakerChanged { from, to, .. } => format!("{from} to {to}"),
            Event::Refused { by } | Event::WouldRefuse { by } => {
                format!("{} by {by}", event.name())
            }
            _ => String::from("?"),
        };
        teller.lock().unwrap().push(line);
    };
    (layer.observe(tell), story)
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_told_of_changes_and_refusals() {
    let (layer, story) = storied(BreakerLayer::new(policy()));
    let client = Upstream::default().serve(&layer);
    let _ = (send(&client, 500).await, send(&client, 500).await, send(&client, 200).await);
    advance(SECOND * 5).await;
    assert!(tokio::time::timeout(SECOND * 60, send(&client, 0)).await.is_err());
    send(&client, 200).await.unwrap();
    let expected = [
        "closed to open: 2 failures in a row",
        "refused by breaker_open",
        "open to half_open",
        "half_open to closed",
    ];
    assert_eq!(*story.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_hung_probe_is_told_as_well() {
    let (layer, story) = storied(BreakerLayer::new(policy()));
    let client = Upstream::default().serve(&layer);
    let _ = (send(&client, 500).await, send(&client, 500).await);
    advance(SECOND * 5).await;
    let mut probe = pin!(send(&client, 0));
    assert!(futures_poll(probe.as_mut()).await);
    advance(SECOND * 60).await;
    assert_eq!(send(&client, 200).await, refused_for(10));
    let expected = ["half_open to open: no probe ended in time", "refused by breaker_open"];
    assert_eq!(story.lock().unwrap()[2..], expected);
}

/// Polls once; returns whether it is still pending.
async fn futures_poll<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test(start_paused = true)]
async fn one_that_only_observes_lets_everything_through_and_says_so() {
    let (layer, story) = storied(BreakerLayer::new(policy().with_observe_only(true)));
    let client = Upstream::default().serve(&layer);
    for _ in 0..3 {
        assert_eq!(send(&client, 500).await, Ok(500));
    }
    let told = story.lock().unwrap().clone();
    assert_eq!(told, ["closed to open: 2 failures in a row", "would_refuse by breaker_open"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_there_is_no_breaker() {
    let breakers = Breakers::new();
    let layer = BreakerLayer::new(PolicyCell::new(Policy::default())).breakers(breakers.clone());
    let client = Upstream::default().serve(&layer);
    for _ in 0..100 {
        assert_eq!(send(&client, 500).await, Ok(500));
    }
    assert!(breakers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_switched_policy_keeps_what_is_open_open_and_a_request_may_bring_its_own() {
    let with = |breaker| Policy { breaker, ..Policy::default() };
    let cell = PolicyCell::new(with(Some(policy())));
    let breakers = Breakers::new();
    let layer = BreakerLayer::new(cell.clone()).breakers(breakers.clone());
    let client = Upstream::default().serve(&layer);
    let _ = (send(&client, 500).await, send(&client, 500).await);
    for window in [Window::time(SECOND * 30).unwrap(), Window::calls(500).unwrap()] {
        cell.switch(with(Some(policy().with_window(window).unwrap())));
        assert_eq!(send(&client, 200).await, refused_for(5), "{window}");
    }
    let mut own = request("shop.example", 200);
    own.extensions_mut().insert(Arc::new(with(None)));
    assert_eq!(client.clone().oneshot(own).await.unwrap().status(), 200);
    cell.switch(with(None));
    assert_eq!(send(&client, 200).await, Ok(200));
    let state = breakers.snapshots().into_iter().map(|(_, snapshot)| snapshot.state);
    assert_eq!(state.collect::<Vec<_>>(), [BreakerState::Open]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_gives_its_place_back_when_the_policy_is_gone_by_its_end() {
    let with = |breaker| Policy { breaker, ..Policy::default() };
    let cell = PolicyCell::new(with(Some(policy())));
    let breakers = Breakers::new();
    let layer = BreakerLayer::new(cell.clone()).breakers(breakers.clone());
    let client = Upstream::default().serve(&layer);
    let _ = (send(&client, 500).await, send(&client, 500).await);
    advance(SECOND * 5).await;
    let mut probe = pin!(send(&client, 1));
    assert!(futures_poll(probe.as_mut()).await);
    assert_eq!(breakers.snapshot(&shop()).unwrap().probes_out, 1);
    cell.switch(with(None));
    probe.await.unwrap();
    let snapshot = breakers.snapshot(&shop()).unwrap();
    assert_eq!((snapshot.state, snapshot.probes_out), (BreakerState::HalfOpen, 0));
}

#[tokio::test(start_paused = true)]
async fn a_requests_own_policy_rules_to_its_end() {
    let breakers = Breakers::new();
    let layer = BreakerLayer::new(PolicyCell::new(Policy::default())).breakers(breakers.clone());
    let client = Upstream::default().serve(&layer);
    let once = policy().with_consecutive_failures(1);
    let mut own = request("shop.example", 500);
    own.extensions_mut().insert(Arc::new(Policy { breaker: Some(once), ..Policy::default() }));
    client.clone().oneshot(own).await.unwrap();
    assert_eq!(breakers.snapshot(&shop()).unwrap().state, BreakerState::Open);
    assert_eq!(send(&client, 200).await, Ok(200), "others have no breaker");
    // A fixed policy does not look at it.
    let client = Upstream::default().serve(&BreakerLayer::new(policy()));
    let mut own = request("shop.example", 500);
    own.extensions_mut().insert(Arc::new(Policy { breaker: Some(once), ..Policy::default() }));
    client.clone().oneshot(own).await.unwrap();
    assert_eq!(send(&client, 200).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn a_hand_opens_one_origin_that_nobody_has_called_and_closes_it() {
    let breakers = Breakers::default();
    let layer = BreakerLayer::new(policy()).breakers(breakers.clone());
    let client = Upstream::default().serve(&layer);
    assert!(breakers.snapshot(&shop()).is_none() && breakers.close(&shop()).is_none());
    assert_eq!(breakers.open(&shop(), None).unwrap().to, BreakerState::Open);
    let forever = Err(Rejection::BreakerOpen { retry_after: None });
    assert_eq!(send(&client, 200).await, forever);
    assert!(breakers.open(&shop(), Some(SECOND)).is_none(), "it was open already");
    assert_eq!(send(&client, 200).await, refused_for(1));
    assert!(breakers.close(&shop()).is_some());
    assert_eq!(send(&client, 200).await, Ok(200));
    assert_eq!(breakers.find(&shop()).unwrap().state(), BreakerState::Closed);
    assert!(breakers.reset(&shop()).is_none());
    assert_eq!((breakers.len(), breakers.all().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_assessor_of_ones_own_says_what_a_failure_is() {
    let teapot = |outcome: &Result<Response<()>, BoxError>| -> Assessment {
        let is_teapot = outcome.as_ref().is_ok_and(|response| response.status() == 418);
        if is_teapot { Health::Failed.into() } else { Health::Well.into() }
    };
    let layer = BreakerLayer::new(policy()).assess(teapot);
    let client = Upstream::default().serve(&layer);
    let _ = (send(&client, 500).await, send(&client, 418).await, send(&client, 418).await);
    assert_eq!(send(&client, 200).await, refused_for(5));
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_the_open_times() {
    let open = Backoff::fixed(SECOND * 60).jitter(Jitter::Proportional(0.5)).unwrap();
    let spread = policy().with_open(open).unwrap();
    let mut waits = Vec::new();
    for seed in [7, 7, 8] {
        let client = Upstream::default().serve(&BreakerLayer::new(spread).seed(seed));
        let _ = (send(&client, 500).await, send(&client, 500).await);
        waits.push(send(&client, 200).await.unwrap_err());
    }
    assert_eq!(waits[0], waits[1]);
    assert_ne!(waits[1], waits[2]);
}
