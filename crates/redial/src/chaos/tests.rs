use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use redial_core::{ChaosRule, Cut, InvalidChaos, Latency, Pace};
use tokio::time::Instant;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{
    BoxError, Diagnose, PolicyCell,
    scripted::{Script, Step},
};

const SECOND: Duration = Duration::from_secs(1);

type Pending = Pin<Box<dyn Future<Output = Outcome<Full<Bytes>, BoxError>> + Send>>;

/// A server that counts its requests, and a client whose calls meet chaos.
#[derive(Clone)]
struct World {
    layer: ChaosLayer,
    served: Arc<AtomicUsize>,
}

impl World {
    fn new(layer: ChaosLayer) -> Self {
        Self { layer, served: Arc::default() }
    }

    fn get(&self, uri: &str) -> Pending {
        self.send(Request::get(uri).body(()).unwrap())
    }

    fn send(&self, request: Request<()>) -> Pending {
        let served = Arc::clone(&self.served);
        let service = service_fn(move |_: Request<()>| {
            served.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, BoxError>(Response::new(Full::<Bytes>::from("0123456789"))) }
        });
        Box::pin(self.layer.layer(service).oneshot(request))
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

fn policy(rule: Result<ChaosRule, InvalidChaos>) -> ChaosPolicy {
    ChaosPolicy::default().rule(rule.unwrap()).unwrap().seed(7)
}

fn world(rule: Result<ChaosRule, InvalidChaos>) -> World {
    World::new(ChaosLayer::new(policy(rule)))
}

fn slow(delay: Duration) -> Result<ChaosRule, InvalidChaos> {
    Ok(ChaosRule::new().latency(Latency::fixed(delay)))
}

fn rejection(error: &BoxError) -> Rejection {
    *error.downcast_ref::<Rejection>().unwrap()
}

/// Reads a body to its end, or to its error.
async fn read<E>(body: impl Body<Data = Bytes, Error = E>) -> (Vec<u8>, Option<E>) {
    let (mut bytes, mut body) = (Vec::new(), std::pin::pin!(body));
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap()),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_or_a_rule_or_enabled_nothing_happens() {
    let off = policy(ChaosRule::new().reset()).enabled(false);
    let layers = [
        ChaosLayer::new(None::<Arc<ChaosPolicy>>),
        ChaosLayer::new(ChaosPolicy::default()),
        ChaosLayer::new(off),
        ChaosLayer::new(PolicyCell::new(Policy::default())),
    ];
    for layer in layers {
        let answer = World::new(layer).get("http://a.example/").await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "0123456789");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_three_get_a_status_with_its_fields_and_an_empty_body() {
    let rule = ChaosRule::new().first(3).and_then(|rule| rule.status(503));
    let world = world(rule.and_then(|rule| rule.header("Retry-After", "2")));
    for _ in 0..3 {
        let answer = world.get("http://a.example/").await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "2");
        assert!(answer.body().is_end_stream());
        assert_eq!(answer.body().size_hint().exact(), Some(0));
        assert_eq!(read(answer.into_body()).await.0, b"");
    }
    assert_eq!(world.served(), 0);
    assert_eq!(world.get("http://a.example/").await.unwrap().status(), 200);
    assert_eq!(world.served(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reset_comes_before_or_after_the_server_has_acted_and_nobody_can_tell() {
    for (is_after, served) in [(false, 0), (true, 1)] {
        let world = world(ChaosRule::new().after(is_after).reset());
        let error = world.get("http://a.example/").await.unwrap_err();
        assert_eq!(rejection(&error), Rejection::InjectedReset);
        assert_eq!(error.diagnose(), redial_core::Fault::ConnectionReset.into());
        assert_eq!(world.served(), served);
    }
    let world = world(ChaosRule::new().after(true).status(502));
    assert_eq!(world.get("http://a.example/").await.unwrap().status(), 502);
    assert_eq!(world.served(), 1);
}

#[tokio::test(start_paused = true)]
async fn delays_are_as_long_as_they_are_and_those_of_zero_meet_no_timer() {
    let started = Instant::now();
    world(slow(SECOND * 3)).get("http://a.example/").await.unwrap();
    assert_eq!(started.elapsed(), SECOND * 3);
    // Polled once: a timer would be pending.
    let none = world(slow(Duration::ZERO).and_then(ChaosRule::reset));
    let call = std::pin::pin!(none.get("http://a.example/"));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(call.poll(&mut cx).is_ready());
}

/// CH-009: a piece that is delayed when its toxic is removed goes on at once, and is not lost.
#[tokio::test(start_paused = true)]
async fn turned_off_it_lets_go_of_everything_at_once() {
    let switch = ChaosSwitch::new();
    let rule = slow(SECOND * 3_600).and_then(|rule| rule.slow_body(Pace::pause(SECOND * 3_600)?));
    let rule = rule.and_then(|rule| rule.truncate(Cut::after(5)));
    let world = World::new(ChaosLayer::new(policy(rule)).switch(switch.clone()));
    let started = Instant::now();
    let call = tokio::spawn(world.get("http://a.example/"));
    tokio::time::sleep(SECOND).await;
    assert!(!call.is_finished() && world.served() == 0);
    switch.turn(false);
    let answer = call.await.unwrap().unwrap();
    assert_eq!((started.elapsed(), world.served()), (SECOND, 1));
    assert_eq!(read(answer.into_body()).await.0, b"0123456789", "neither slowed nor cut");
    switch.turn(true);
    let answer = tokio::spawn(world.get("http://a.example/"));
    tokio::time::sleep(SECOND * 3_600).await;
    let reading = tokio::spawn(read(answer.await.unwrap().unwrap().into_body()));
    tokio::time::sleep(SECOND).await;
    assert!(!reading.is_finished());
    switch.turn(false);
    let (bytes, error) = reading.await.unwrap();
    assert_eq!((bytes.as_slice(), error.is_none()), (b"0123456789".as_slice(), true));
    assert_eq!(started.elapsed(), SECOND * 3_602);
    assert_eq!(format!("{switch:?}"), "ChaosSwitch { is_on: false }");
}

#[tokio::test(start_paused = true)]
async fn another_policy_lets_go_of_a_delayed_call_within_a_moment() {
    let chaos = Some(Arc::new(policy(slow(SECOND * 3_600))));
    let cell = PolicyCell::new(Policy { chaos, ..Policy::default() });
    let world = World::new(ChaosLayer::new(cell.clone()));
    let started = Instant::now();
    let call = tokio::spawn(world.get("http://a.example/"));
    tokio::time::sleep(SECOND).await;
    assert!(!call.is_finished());
    cell.switch(Policy::default());
    call.await.unwrap().unwrap();
    assert!(started.elapsed() <= SECOND + SECOND / 5);
}

#[tokio::test(start_paused = true)]
async fn counts_survive_a_switch_to_an_equal_policy_and_to_another_and_back() {
    let once = || policy(ChaosRule::new().first(1).and_then(|rule| rule.status(500)));
    let with = |chaos| Policy { chaos: Some(Arc::new(chaos)), ..Policy::default() };
    let cell = PolicyCell::new(with(once()));
    let world = World::new(ChaosLayer::new(cell.clone()));
    let status = async || world.get("http://a.example/").await.unwrap().status().as_u16();
    assert_eq!(status().await, 500);
    cell.switch(with(once()));
    assert_eq!(status().await, 200);
    for n in 400..500 {
        cell.switch(with(policy(ChaosRule::new().first(1).and_then(|rule| rule.status(n)))));
        assert_eq!([status().await, status().await], [n, 200]);
    }
    assert_eq!(world.layer.shared.armed.load().len(), POLICIES_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_bring_its_own_policy_and_a_host_field() {
    let world = World::new(ChaosLayer::new(PolicyCell::new(Policy::default())));
    let chaos = policy(ChaosRule::new().host("shop.example").and_then(|rule| rule.status(418)));
    let own = Arc::new(Policy { chaos: Some(Arc::new(chaos)), ..Policy::default() });
    for (host, status) in [("shop.example:80", 418), ("else.example", 200)] {
        let mut request = Request::get("/").header("host", host).body(()).unwrap();
        request.extensions_mut().insert(Arc::clone(&own));
        assert_eq!(world.send(request).await.unwrap().status(), status);
    }
    let mut request = Request::get("http://shop.example@else.example/").body(()).unwrap();
    request.extensions_mut().insert(own);
    assert_eq!(world.send(request).await.unwrap().status(), 200, "that is a user's name");
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_done_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&told);
    let rules = [
        slow(SECOND).and_then(|rule| rule.path("/a")?.status(500)),
        ChaosRule::new().path("/b").and_then(ChaosRule::reset),
        ChaosRule::new()
            .truncate(Cut::after(3))
            .and_then(|rule| rule.slow_body(Pace::bytes_per_second(100)?)),
    ];
    let policy = rules
        .into_iter()
        .fold(ChaosPolicy::default(), |policy, rule| policy.rule(rule.unwrap()).unwrap());
    let layer = ChaosLayer::new(policy).observe(move |call: &Call<'_>, event: &Event| {
        if let Event::Injected { what } = event {
            note.lock().unwrap().push(format!("{} {what}", call.uri.path()));
        }
    });
    let world = World::new(layer);
    for path in ["/a", "/b", "/c"] {
        let _ = world.get(path).await;
    }
    let expected = ["/a latency", "/a status", "/b reset", "/c truncated", "/c slow_body"];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_sequence() {
    let outcomes = async |seed: u64| {
        let rule = ChaosRule::new().rate(0.4).and_then(|rule| rule.status(500)).unwrap();
        let policy = ChaosPolicy::default().rule(rule).unwrap().seed(seed);
        let world = World::new(ChaosLayer::new(policy));
        let mut statuses = Vec::new();
        for _ in 0..200 {
            statuses.push(world.get("/").await.unwrap().status().as_u16());
        }
        statuses
    };
    assert_eq!(outcomes(3).await, outcomes(3).await);
    assert_ne!(outcomes(3).await, outcomes(4).await);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_takes_the_time_that_its_bytes_are_worth() {
    for (pace, whole) in [
        (Pace::bytes_per_second(4), SECOND * 10 / 4),
        (Pace::bytes_per_second(1_000), SECOND / 100),
        (Pace::pause(SECOND * 7), SECOND * 7),
    ] {
        let world = world(pace.and_then(|pace| ChaosRule::new().slow_body(pace)));
        let body = world.get("http://a.example/").await.unwrap().into_body();
        let started = Instant::now();
        let (bytes, error) = read(body).await;
        assert_eq!((bytes.as_slice(), error.is_none()), (b"0123456789".as_slice(), true));
        assert_eq!(started.elapsed(), whole);
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_of_a_body_that_does_not_tell_its_length_is_one_of_its_first_piece() {
    let pieces = Script::pieces(&Bytes::from_static(b"0123456789"), &[4, 6]);
    for (length, kept) in [(None, 2), (Some(10), 5)] {
        let body = Script { length, ..pieces.clone() };
        let rule = Cut::share(0.5).and_then(|cut| ChaosRule::new().truncate(cut));
        let service = ChaosLayer::new(policy(rule)).layer(service_fn(move |_: Request<()>| {
            let body = body.clone();
            async { Ok::<_, BoxError>(Response::new(body)) }
        }));
        let answer = service.oneshot(Request::new(())).await.unwrap();
        assert!(!answer.body().is_end_stream());
        assert_eq!(read(answer.into_body()).await.0.len(), kept);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_servers_own_and_trailers_come_through() {
    let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("x"))]);
    let steps = [Step::Trailers(trailers.clone()), Step::Fail(std::io::ErrorKind::BrokenPipe)];
    let rule = ChaosRule::new().truncate(Cut::after(5));
    let service = ChaosLayer::new(policy(rule)).layer(service_fn(move |_: Request<()>| {
        let body = Script::new(steps.clone());
        async { Ok::<_, BoxError>(Response::new(body)) }
    }));
    let mut body = service.oneshot(Request::new(())).await.unwrap().into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.trailers_ref(), Some(&trailers));
    assert!(body.frame().await.unwrap().unwrap_err().is::<std::io::Error>());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_is_delayed_or_never_sent_gives_its_place_back() {
    let rules = [slow(SECOND), ChaosRule::new().status(500), ChaosRule::new().after(true).reset()];
    for rule in rules {
        let one = tower::limit::ConcurrencyLimitLayer::new(1);
        let service = one.layer(service_fn(|_: Request<()>| async {
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::from("0123456789")))
        }));
        let mut service = ChaosLayer::new(policy(rule)).layer(service);
        for _ in 0..3 {
            let call = service.ready().await.unwrap().call(Request::new(()));
            let _ = tokio::time::timeout(SECOND / 2, call).await;
        }
    }
}

proptest! {
    #[test]
    fn a_cut_is_exact_however_the_body_comes(
        sizes in prop::collection::vec(1_usize..40, 1..6),
        length in 0_usize..400,
        at in 0_u64..300,
        speed in prop::option::of(1_u64..2_000),
    ) {
        let whole: Bytes = (0..=255).cycle().take(length).collect();
        let mut rule = ChaosRule::new().truncate(Cut::after(at)).unwrap();
        if let Some(speed) = speed {
            rule = rule.slow_body(Pace::bytes_per_second(speed).unwrap()).unwrap();
        }
        let body = Script::pieces(&whole, &sizes);
        let service = ChaosLayer::new(policy(Ok(rule))).layer(service_fn(move |_: Request<()>| {
            let body = body.clone();
            async { Ok::<_, BoxError>(Response::new(body)) }
        }));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let (bytes, error) = runtime.block_on(async {
            read(service.oneshot(Request::new(())).await.unwrap().into_body()).await
        });
        let kept = whole.len().min(usize::try_from(at).unwrap());
        prop_assert_eq!(&bytes, &whole[..kept]);
        let is_cut = at <= u64::try_from(whole.len()).unwrap();
        let cut = is_cut.then_some(Rejection::InjectedCut { at });
        prop_assert_eq!(error.map(|error| rejection(&error)), cut);
    }
}
