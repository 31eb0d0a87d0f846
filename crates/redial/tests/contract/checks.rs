//! What every layer owes to the service below it and to the caller above it.

#![expect(clippy::unwrap_used, reason = "a call that ends badly breaks the contract")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt, limit::ConcurrencyLimit};

use crate::probe::{Broken, Probe};

pub(crate) type Asked = Request<Full<Bytes>>;

/// A request that is not idempotent, so that nothing repeats it.
pub(crate) fn request() -> Asked {
    Request::post("http://shop.example/orders").body(Full::from("one")).unwrap()
}

/// Holds a layer to the contract: `over` wraps a probe in it, `over_limited` a probe that takes one call at a
/// time.
pub(crate) async fn check<S, L, A, B>(
    over: impl Fn(Probe) -> S,
    over_limited: impl Fn(ConcurrencyLimit<Probe>) -> L,
) where
    S: Service<Asked, Response = http::Response<A>, Error = Broken> + Clone + Send + 'static,
    S::Future: Send,
    A: Body<Data = Bytes> + Send + 'static,
    L: Service<Asked, Response = http::Response<B>, Error = Broken> + Clone + Send + 'static,
    L::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
{
    the_inner_service_is_called_only_when_it_is_ready(&over).await;
    outcomes_come_through_as_they_are(&over).await;
    a_call_that_is_dropped_leaves_nothing_behind(&over).await;
    clones_work_side_by_side(&over).await;
    a_service_that_takes_one_call_at_a_time_serves_all(&over_limited).await;
}

async fn the_inner_service_is_called_only_when_it_is_ready<S, A>(over: &impl Fn(Probe) -> S)
where
    S: Service<Asked, Response = http::Response<A>, Error = Broken> + Clone + Send + 'static,
    S::Future: Send,
    A: Send + 'static,
{
    let probe = Probe::new();
    probe.shut(true);
    let service = over(probe.clone());
    let call = tokio::spawn(service.clone().oneshot(request()));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(probe.calls(), 0, "called before it was ready");
    probe.shut(false);
    // Whoever waited for it is woken; a layer that polls by a timer would not end within this.
    let ended = tokio::time::timeout(Duration::from_millis(1), call).await;
    assert_eq!(ended.expect("not woken").unwrap().unwrap().status(), 207);
    assert_eq!(probe.calls(), 1);
    probe.assert_kept();
}

async fn outcomes_come_through_as_they_are<S, A>(over: &impl Fn(Probe) -> S)
where
    S: Service<Asked, Response = http::Response<A>, Error = Broken>,
    A: Body<Data = Bytes>,
{
    let probe = Probe::new();
    let answer = over(probe.clone()).oneshot(request()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-upstream"]),
        (207, &"mine".parse().unwrap())
    );
    let body = answer.into_body().collect().await.ok().expect("a body that breaks").to_bytes();
    assert_eq!(body, "untouched");
    probe.fail(true);
    let error = over(probe.clone()).oneshot(request()).await.err();
    assert_eq!(error, Some(Broken::Upstream), "the upstream's own error");
    assert_eq!(probe.calls(), 2, "nothing was repeated");
    probe.assert_kept();
}

async fn a_call_that_is_dropped_leaves_nothing_behind<S, A>(over: &impl Fn(Probe) -> S)
where
    S: Service<Asked, Response = http::Response<A>, Error = Broken> + Clone,
{
    let probe = Probe::new();
    let service = over(probe.clone());
    for _ in 0..300 {
        probe.hang(true);
        let call = service.clone().oneshot(request());
        let late = tokio::time::timeout(Duration::from_millis(1), call).await;
        assert!(late.is_err(), "the upstream hangs");
        assert_eq!(probe.in_flight(), 0, "what was dropped goes on");
    }
    probe.hang(false);
    let answer = service.oneshot(request()).await.unwrap();
    assert_eq!(answer.status(), 207, "permits were not given back");
    probe.assert_kept();
}

async fn clones_work_side_by_side<S, A>(over: &impl Fn(Probe) -> S)
where
    S: Service<Asked, Response = http::Response<A>, Error = Broken> + Clone + Send + 'static,
    S::Future: Send,
    A: Send + 'static,
{
    let probe = Probe::new();
    probe.hang(true);
    let service = over(probe.clone());
    let calls = [(); 4].map(|()| tokio::spawn(service.clone().oneshot(request())));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(probe.in_flight(), 4);
    probe.hang(false);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), 207);
    }
    probe.assert_kept();
}

async fn a_service_that_takes_one_call_at_a_time_serves_all<S, A>(
    over: &impl Fn(ConcurrencyLimit<Probe>) -> S,
) where
    S: Service<Asked, Response = http::Response<A>, Error = Broken> + Clone + Send + 'static,
    S::Future: Send,
    A: Send + 'static,
{
    let probe = Probe::new();
    let service = over(ConcurrencyLimit::new(probe.clone(), 1));
    let calls = [(); 8].map(|()| tokio::spawn(service.clone().oneshot(request())));
    for call in calls {
        let ended = tokio::time::timeout(Duration::from_secs(1), call).await;
        assert_eq!(ended.expect("a permit is kept").unwrap().unwrap().status(), 207);
    }
    probe.assert_kept();
}
