use std::{pin::pin, sync::Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use redial_core::{Assessment, Health};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{BoxError, PolicyCell, core::Policy};

const MILLI: Duration = Duration::from_millis(1);
const SHOP: Authority = Authority::from_static("shop.example");

/// Closes a window after each attempt that ends.
fn policy(min: u32, initial: u32, max: u32) -> AdaptivePolicy {
    let policy = AdaptivePolicy::default().with_limits(min, initial, max).unwrap();
    policy.with_window(Duration::ZERO, 1).unwrap()
}

/// Asks for an answer with `status` after `millis`.
fn get(status: u16, millis: u64) -> Request<()> {
    Request::get(format!("http://shop.example/{status}/{millis}")).body(()).unwrap()
}

fn upstream()
-> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = BoxError, Future: Send> + Clone
{
    service_fn(|request: Request<()>| async move {
        let mut words = request.uri().path().split('/').skip(1);
        let status = words.next().unwrap().parse::<u16>().unwrap();
        let millis = words.next().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(Response::builder().status(status).body(Full::from("body")).unwrap())
    })
}

#[tokio::test(start_paused = true)]
async fn an_attempt_beyond_the_limit_is_refused_at_once_and_told_of() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let observe = move |call: &Call<'_>, event: &Event| {
        heard.lock().unwrap().push((call.uri.path().to_owned(), *event));
    };
    let client = AdaptiveLimitLayer::new(policy(1, 2, 9)).observe(observe).layer(upstream());
    let running = [get(200, 10), get(200, 10)].map(|get| tokio::spawn(client.clone().oneshot(get)));
    tokio::task::yield_now().await;
    let error = client.clone().oneshot(get(200, 10)).await.unwrap_err();
    let rejection = *error.downcast::<Rejection>().unwrap();
    assert_eq!(rejection, Rejection::LimitReached { limit: 2 });
    let refused = ("/200/10".to_owned(), Event::Refused { by: "limit_reached" });
    assert_eq!(*told.lock().unwrap(), [refused]);
    for call in running {
        assert!(call.await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_in_flight_until_its_body_ends_and_clones_share_the_limit() {
    let limits = AdaptiveLimits::new();
    let layer = AdaptiveLimitLayer::new(policy(1, 2, 2)).limits(limits.clone());
    assert_eq!((limits.limit(&SHOP), limits.in_flight(&SHOP)), (None, 0));
    let whole = layer.layer(upstream()).oneshot(get(200, 1)).await.unwrap();
    let dropped = layer.clone().layer(upstream()).oneshot(get(200, 1)).await.unwrap();
    assert_eq!((limits.limit(&SHOP), limits.in_flight(&SHOP)), (Some(2), 2));
    assert_eq!(limits.authorities(), [SHOP]);
    assert!(layer.layer(upstream()).oneshot(get(200, 1)).await.is_err());
    assert_eq!(whole.into_body().collect().await.unwrap().to_bytes(), "body");
    assert_eq!(limits.in_flight(&SHOP), 1);
    drop(dropped);
    assert_eq!(limits.in_flight(&SHOP), 0);
}

#[tokio::test(start_paused = true)]
async fn overload_moves_the_limit_and_is_told_of() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let observe = move |_: &Call<'_>, event: &Event| heard.lock().unwrap().push(*event);
    let client = AdaptiveLimitLayer::new(policy(1, 20, 200)).observe(observe).layer(upstream());
    for status in [200, 500, 404, 429, 503] {
        assert!(client.clone().oneshot(get(status, 1)).await.is_ok());
        tokio::time::sleep(10 * MILLI).await;
    }
    let changed = |from, to| Event::LimitChanged { from, to };
    assert_eq!(*told.lock().unwrap(), [changed(20, 18), changed(18, 16)]);
}

#[tokio::test(start_paused = true)]
async fn what_an_outcome_says_can_be_told_otherwise() {
    let limits = AdaptiveLimits::new();
    let assess = |outcome: &Result<Response<Full<Bytes>>, BoxError>| -> Assessment {
        let is_teapot = outcome.as_ref().is_ok_and(|answer| answer.status() == 418);
        if is_teapot { Health::Overloaded.into() } else { Health::Well.into() }
    };
    let layer = AdaptiveLimitLayer::new(policy(1, 20, 200)).assess(assess).limits(limits.clone());
    let client = layer.layer(upstream());
    assert!(client.clone().oneshot(get(503, 1)).await.is_ok());
    assert_eq!(limits.limit(&SHOP), Some(20));
    tokio::time::sleep(10 * MILLI).await;
    assert!(client.oneshot(get(418, 1)).await.is_ok());
    assert_eq!(limits.limit(&SHOP), Some(18));
}

#[tokio::test(start_paused = true)]
async fn dropping_an_attempt_gives_its_place_back_wherever_it_is() {
    let limits = AdaptiveLimits::new();
    let layer = AdaptiveLimitLayer::new(policy(1, 20, 200)).limits(limits.clone());
    let mut client = layer.layer(upstream());
    drop(client.call(get(200, 5)));
    assert_eq!(limits.in_flight(&SHOP), 0, "never polled");
    {
        let mut attempt = pin!(client.call(get(200, 5)));
        assert!(tokio::time::timeout(MILLI, &mut attempt).await.is_err());
        assert_eq!(limits.in_flight(&SHOP), 1);
    }
    assert_eq!(limits.in_flight(&SHOP), 0, "half-way");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_slower_than_its_callers_are_patient_is_noticed() {
    let limits = AdaptiveLimits::new();
    let policy = policy(1, 10, 10).with_probe_interval(Duration::from_secs(3_600)).unwrap();
    let layer = AdaptiveLimitLayer::new(policy).limits(limits.clone());
    let client = layer.layer(upstream());
    let wave = |millis| {
        let calls = (0..10).map(|_| {
            let call = client.clone().oneshot(get(200, millis));
            tokio::spawn(tokio::time::timeout(200 * MILLI, call))
        });
        calls.collect::<Vec<_>>()
    };
    for millis in [10; 20].into_iter().chain([5_000; 20]) {
        for call in wave(millis) {
            drop(call.await.unwrap());
        }
    }
    assert_eq!(limits.in_flight(&SHOP), 0);
    assert!(limits.limit(&SHOP).unwrap() < 10, "{:?}", limits.limit(&SHOP));
}

#[tokio::test(start_paused = true)]
async fn policies_can_be_switched_and_what_is_in_flight_stays_counted() {
    let with = |adaptive_limit| Policy { adaptive_limit, ..Policy::default() };
    let cell = PolicyCell::new(with(Some(policy(1, 5, 200))));
    let limits = AdaptiveLimits::new();
    let layer = AdaptiveLimitLayer::new(cell.clone()).limits(limits.clone());
    let client = layer.layer(upstream());
    let held = client.clone().oneshot(get(200, 1)).await.unwrap();
    cell.switch(with(Some(policy(1, 2, 2))));
    let more = client.clone().oneshot(get(200, 1)).await.unwrap();
    assert_eq!((limits.limit(&SHOP), limits.in_flight(&SHOP)), (Some(2), 2));
    assert!(client.clone().oneshot(get(200, 1)).await.is_err());
    cell.switch(with(None));
    assert!(client.oneshot(get(200, 1)).await.is_ok(), "without a policy nothing is refused");
    drop((held, more));
    assert_eq!(limits.in_flight(&SHOP), 0);
}

#[tokio::test(start_paused = true)]
async fn errors_pass_as_they_came() {
    let inner = service_fn(|_: Request<()>| async {
        Err::<Response<Empty<Bytes>>, BoxError>("gone".into())
    });
    let limits = AdaptiveLimits::new();
    let layer = AdaptiveLimitLayer::new(policy(1, 5, 200)).limits(limits.clone());
    let error = layer.layer(inner).oneshot(get(200, 1)).await.unwrap_err();
    assert_eq!(error.to_string(), "gone");
    assert_eq!((limits.in_flight(&SHOP), limits.baseline(&SHOP)), (0, None));
}
