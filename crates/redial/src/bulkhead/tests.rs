use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{BoxError, DeadlineLayer, PolicyCell, clock, core::Policy};

const SECOND: Duration = Duration::from_secs(1);

fn policy(in_flight_max: u32, queue_max: u32, max_wait: Duration) -> BulkheadPolicy {
    BulkheadPolicy::new(in_flight_max).unwrap().with_queue(queue_max, max_wait).unwrap()
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn shop() -> Request<()> {
    get("http://shop.example/")
}

/// Answers after as long as the path says, in milliseconds.
fn sleepy()
-> impl Service<Request<()>, Response = Response<Empty<Bytes>>, Error = BoxError, Future: Send> + Clone
{
    service_fn(|request: Request<()>| async move {
        let millis = request.uri().path().trim_matches('/').parse().unwrap_or(1_000);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(Response::new(Empty::new()))
    })
}

fn rejection(error: BoxError) -> Rejection {
    *error.downcast::<Rejection>().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_places_is_refused_at_once_and_told_of() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let observe = move |call: &Call<'_>, event: &Event| {
        heard.lock().unwrap().push((call.uri.to_string(), *event));
    };
    let layer = BulkheadLayer::new(BulkheadPolicy::new(2).unwrap()).observe(observe);
    let client = layer.layer(sleepy());
    let running = [client.clone().oneshot(shop()), client.clone().oneshot(shop())];
    let running = running.map(tokio::spawn);
    tokio::task::yield_now().await;
    let started = clock::now();
    let error = client.clone().oneshot(shop()).await.unwrap_err();
    assert_eq!(rejection(error), Rejection::BulkheadFull { in_flight_max: 2 });
    assert_eq!(clock::now(), started);
    let refused = Event::Refused { by: "bulkhead_full" };
    assert_eq!(*told.lock().unwrap(), [("http://shop.example/".to_owned(), refused)]);
    for call in running {
        assert!(call.await.unwrap().is_ok());
    }
    assert!(client.oneshot(shop()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn places_are_shared_by_clones_and_kept_apart_by_origin_or_not() {
    for (scope, is_apart) in [(BulkheadScope::Origin, true), (BulkheadScope::All, false)] {
        let bulkheads = Bulkheads::new();
        let policy = BulkheadPolicy::new(1).unwrap().with_scope(scope);
        let layer = BulkheadLayer::new(policy).bulkheads(bulkheads.clone());
        let running = tokio::spawn(layer.layer(sleepy()).oneshot(shop()));
        tokio::task::yield_now().await;
        let authority = Authority::from_static("shop.example");
        let (here, all) = (bulkheads.in_flight(Some(&authority)), bulkheads.in_flight(None));
        assert_eq!((here, all), if is_apart { (1, 0) } else { (0, 1) });
        assert!(layer.clone().layer(sleepy()).oneshot(shop()).await.is_err(), "a clone");
        let other = layer.layer(sleepy()).oneshot(get("http://else.example/")).await;
        assert_eq!(other.is_ok(), is_apart, "{scope:?}");
        assert!(running.await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn calls_wait_in_the_order_in_which_they_came() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let inner = service_fn(move |request: Request<()>| {
        seen.lock().unwrap().push(request.uri().path().to_owned());
        async {
            tokio::time::sleep(SECOND).await;
            Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let client = BulkheadLayer::new(policy(1, 9, SECOND * 60)).layer(inner);
    let mut calls = Vec::new();
    for n in 0..6 {
        let request = get(&format!("http://shop.example/{n}"));
        calls.push(tokio::spawn(client.clone().oneshot(request)));
        tokio::task::yield_now().await;
    }
    // One that leaves the queue keeps nobody back.
    calls.remove(3).abort();
    let started = clock::now();
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    assert_eq!(clock::now() - started, SECOND * 5);
    assert_eq!(*order.lock().unwrap(), ["/0", "/1", "/2", "/4", "/5"]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_bounded_by_the_policy_and_a_queue_by_its_length() {
    let client = BulkheadLayer::new(policy(1, 1, SECOND * 2)).layer(sleepy());
    let running = tokio::spawn(client.clone().oneshot(get("http://shop.example/60000")));
    tokio::task::yield_now().await;
    let started = clock::now();
    let waiting = tokio::spawn(client.clone().oneshot(shop()));
    tokio::task::yield_now().await;
    let full = client.clone().oneshot(shop()).await.unwrap_err();
    assert_eq!(rejection(full), Rejection::BulkheadFull { in_flight_max: 1 });
    let late = rejection(waiting.await.unwrap().unwrap_err());
    assert_eq!(late, Rejection::BulkheadTimeout { in_flight_max: 1, after: SECOND * 2 });
    assert_eq!(clock::now() - started, SECOND * 2);
    running.abort();
    assert!(running.await.is_err());
    assert!(client.oneshot(shop()).await.is_ok(), "a call that is dropped gives its place back");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_beyond_the_deadline() {
    let bulkhead = BulkheadLayer::new(policy(1, 5, SECOND * 60));
    let running = tokio::spawn(bulkhead.layer(sleepy()).oneshot(get("http://shop.example/9000")));
    tokio::task::yield_now().await;
    let client = DeadlineLayer::new(SECOND * 3).layer(bulkhead.layer(sleepy()));
    let started = clock::now();
    let error = client.oneshot(shop()).await.unwrap_err();
    let after = SECOND * 3;
    assert_eq!(rejection(error), Rejection::BulkheadTimeout { in_flight_max: 1, after });
    assert_eq!(clock::now() - started, after);
    assert!(running.await.unwrap().is_ok());
}

/// A body that is fed from elsewhere.
struct Fed(mpsc::UnboundedReceiver<Result<Bytes, &'static str>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, &'static str>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(http_body::Frame::data)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_body_has_ended_failed_or_is_dropped() {
    let (bodies, next) = mpsc::unbounded_channel();
    let next = Arc::new(tokio::sync::Mutex::new(next));
    let inner = service_fn(move |_: Request<()>| {
        let next = Arc::clone(&next);
        async move { Ok::<_, BoxError>(Response::new(Fed(next.lock().await.recv().await.unwrap()))) }
    });
    let bulkheads = Bulkheads::new();
    let layer = BulkheadLayer::new(BulkheadPolicy::default()).bulkheads(bulkheads.clone());
    let client = layer.layer(inner);
    let in_flight = || bulkheads.in_flight(Some(&Authority::from_static("shop.example")));
    for end in ["whole", "dropped", "broken"] {
        let (feed, fed) = mpsc::unbounded_channel();
        bodies.send(fed).unwrap();
        let mut body = client.clone().oneshot(shop()).await.unwrap().into_body();
        feed.send(Ok(Bytes::from("half"))).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert_eq!(in_flight(), 1, "{end}");
        match end {
            "whole" => {
                drop(feed);
                assert!(body.frame().await.is_none());
            }
            "broken" => {
                feed.send(Err("reset")).unwrap();
                assert_eq!(body.frame().await.unwrap().unwrap_err(), "reset");
            }
            _ => drop(body),
        }
        assert_eq!(in_flight(), 0, "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_number_of_places_rules_at_once() {
    let with = |in_flight_max| Policy {
        bulkhead: Some(policy(in_flight_max, 9, SECOND * 60)),
        ..Policy::default()
    };
    let cell = PolicyCell::new(with(1));
    let bulkheads = Bulkheads::new();
    let layer = BulkheadLayer::new(cell.clone()).bulkheads(bulkheads.clone());
    let client = layer.layer(sleepy());
    let authority = Authority::from_static("shop.example");
    let spawn = || tokio::spawn(client.clone().oneshot(shop()));
    let mut calls = vec![spawn(), spawn(), spawn()];
    tokio::task::yield_now().await;
    let counts = || (bulkheads.in_flight(Some(&authority)), bulkheads.waiting(Some(&authority)));
    assert_eq!(counts(), (1, 2));
    cell.switch(with(4));
    calls.push(spawn());
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(counts(), (4, 0), "those who waited are in");
    cell.switch(with(1));
    calls.push(spawn());
    tokio::task::yield_now().await;
    assert_eq!(counts(), (4, 1), "nobody is turned out");
    cell.switch(Policy::default());
    assert!(client.clone().oneshot(shop()).await.is_ok(), "without a policy nothing is counted");
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    assert_eq!(counts(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_is_made_with_the_service_that_was_ready() {
    // `ConcurrencyLimit` panics when it is called without having been polled ready.
    let inner = tower::limit::ConcurrencyLimit::new(sleepy(), 8);
    let client = BulkheadLayer::new(policy(1, 8, SECOND * 60)).layer(inner);
    let calls: Vec<_> = (0..5).map(|_| tokio::spawn(client.clone().oneshot(shop()))).collect();
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn by_hand_a_place_can_be_waited_for() {
    let bulkhead = Bulkhead::new(policy(1, 1, SECOND));
    let permit = bulkhead.acquire().await.unwrap();
    let clone = bulkhead.clone();
    let waiting = tokio::spawn(async move { clone.acquire().await.map(drop) });
    tokio::task::yield_now().await;
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (1, 1));
    assert_eq!(bulkhead.acquire().await.unwrap_err().name(), "bulkhead_full");
    drop(permit);
    assert_eq!(bulkhead.try_acquire().unwrap_err().name(), "bulkhead_full", "it is promised");
    assert_eq!(waiting.await.unwrap(), Ok(()));
    let permit = bulkhead.try_acquire().unwrap();
    let error = bulkhead.acquire().await.unwrap_err();
    assert_eq!(error, Rejection::BulkheadTimeout { in_flight_max: 1, after: SECOND });
    drop(permit);
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
}

/// One call: when it comes, how long its answer and then its body take, and when its caller leaves.
#[derive(Clone, Debug)]
struct Plan {
    comes: u64,
    answers: u64,
    body: u64,
    leaves: u64,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (0_u64..50, 0_u64..20, 0_u64..20, 0_u64..60);
    let plan =
        plan.prop_map(|(comes, answers, body, leaves)| Plan { comes, answers, body, leaves });
    prop::collection::vec(plan, 1..60)
}

async fn carry_out(plans: Vec<Plan>, in_flight_max: u32, queue_max: u32) {
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let inner = {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        service_fn(move |request: Request<u64>| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                let counted = Counted(now);
                most.fetch_max(counted.0.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(*request.body())).await;
                Ok::<_, BoxError>(Response::new(Slow { counted: Some(counted) }))
            }
        })
    };
    let bulkheads = Bulkheads::new();
    let policy = policy(in_flight_max, queue_max, Duration::from_millis(15));
    let client = BulkheadLayer::new(policy).bulkheads(bulkheads.clone()).layer(inner);
    let tasks: Vec<_> = plans
        .into_iter()
        .map(|plan| {
            let client = client.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(plan.comes)).await;
                let call = async {
                    let request = Request::get("http://shop.example/").body(plan.answers).unwrap();
                    let Ok(answer) = client.oneshot(request).await else { return };
                    let mut body = answer.into_body();
                    tokio::time::sleep(Duration::from_millis(plan.body)).await;
                    while body.frame().await.is_some() {}
                };
                drop(tokio::time::timeout(Duration::from_millis(plan.leaves), call).await);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let authority = Authority::from_static("shop.example");
    assert!(most.load(Ordering::Relaxed) <= in_flight_max);
    assert_eq!(now.load(Ordering::Relaxed), 0);
    assert_eq!(bulkheads.in_flight(Some(&authority)), 0, "as many are given back as were taken");
    assert_eq!(bulkheads.waiting(Some(&authority)), 0);
}

struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body of one piece, which counts as in flight until it is over.
struct Slow {
    counted: Option<Counted>,
}

impl Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let is_first = self.counted.take().is_some();
        Poll::Ready(is_first.then(|| Ok(http_body::Frame::data(Bytes::from("all")))))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whoever_leaves_whenever_no_place_is_lost_and_none_is_taken_twice(
        plans in plans(),
        in_flight_max in 1_u32..5,
        queue_max in 1_u32..8,
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(carry_out(plans, in_flight_max, queue_max));
    }
}

#[test]
fn many_threads_lose_no_place() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build();
    let bulkhead = Bulkhead::new(policy(2, 64, SECOND * 60));
    let most = Arc::new(AtomicU32::new(0));
    runtime.unwrap().block_on(async {
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let (bulkhead, most) = (bulkhead.clone(), Arc::clone(&most));
                tokio::spawn(async move {
                    for round in 0..200 {
                        if (n + round) % 3 == 0 {
                            // Gives up at once, in the queue or just as the place comes.
                            let wait = bulkhead.acquire();
                            drop(tokio::time::timeout(Duration::ZERO, wait).await);
                            continue;
                        }
                        let permit = bulkhead.acquire().await.unwrap();
                        most.fetch_max(bulkhead.in_flight(), Ordering::Relaxed);
                        tokio::task::yield_now().await;
                        drop(permit);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert!(most.load(Ordering::Relaxed) <= 2);
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_whole_at_once_does_not_hold_its_place() {
    let inner = service_fn(|_: Request<()>| async {
        Ok::<_, BoxError>(Response::new(Full::new(Bytes::new())))
    });
    let client = BulkheadLayer::new(BulkheadPolicy::new(1).unwrap()).layer(inner);
    let answers =
        [client.clone().oneshot(shop()).await.unwrap(), client.oneshot(shop()).await.unwrap()];
    assert!(answers.iter().all(|answer| answer.body().is_end_stream()));
}
