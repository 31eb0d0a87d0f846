use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use proptest::prelude::*;
use redial_core::{Backoff, Deadline, Jitter, Policy, RetryPolicy};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};

use super::*;
use crate::{
    Baggage, BoxError, DeadlineLayer, InboundLayer, RetryLayer, Trace, http::read_time_left,
};

const MS: Duration = Duration::from_millis(1);

fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

/// What a request with `headers` looks like below the layer, within `context`.
async fn sent(
    layer: PropagateLayer,
    context: &CallContext,
    headers: HeaderMap,
) -> Result<HeaderMap, BoxError> {
    let echo =
        service_fn(async |request: Request<()>| Ok::<_, BoxError>(request.headers().clone()));
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    context.clone().carry(layer.layer(echo).oneshot(request)).await
}

fn within(left: Duration) -> CallContext {
    CallContext::default().with_deadline(Deadline::after(clock::now(), left))
}

fn traced() -> CallContext {
    let headers = fields(&[
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "vendor=1"),
        ("baggage", "tenant=7"),
    ]);
    let context = CallContext::default().with_trace(Trace::read(&headers).unwrap());
    context.with_baggage(Baggage::read(&headers).unwrap())
}

#[tokio::test(start_paused = true)]
async fn without_a_context_nothing_is_written() {
    let layer = PropagateLayer::new().with_envoy();
    let headers = sent(layer, &CallContext::default(), HeaderMap::new()).await.unwrap();
    assert!(headers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_time_left_is_told_to_each_in_its_own_words() {
    let left = MS * 1_500 + Duration::from_micros(700);
    let headers = sent(PropagateLayer::new(), &within(left), HeaderMap::new()).await.unwrap();
    assert_eq!(headers, fields(&[("redial-timeout-ms", "1500")]));
    let grpc = fields(&[("content-type", "application/grpc+proto")]);
    let headers = sent(PropagateLayer::new().with_envoy(), &within(left), grpc).await.unwrap();
    assert_eq!(headers["redial-timeout-ms"], "1500");
    assert_eq!(headers["x-envoy-expected-rq-timeout-ms"], "1500");
    assert_eq!(headers["grpc-timeout"], "1500700u");
}

#[tokio::test(start_paused = true)]
async fn what_the_request_asks_for_holds_where_it_is_less() {
    for (asked, told) in [("200", "200"), ("2000", "900"), ("later", "900")] {
        let headers = fields(&[("redial-timeout-ms", asked)]);
        let headers = sent(PropagateLayer::new(), &within(MS * 900), headers).await.unwrap();
        assert_eq!(headers["redial-timeout-ms"], told);
    }
}

#[tokio::test(start_paused = true)]
async fn with_less_than_a_unit_left_nothing_is_sent() {
    let left = MS - Duration::from_micros(1);
    let error = sent(PropagateLayer::new(), &within(left), HeaderMap::new()).await.unwrap_err();
    let rejection = error.downcast::<Rejection>().unwrap();
    assert_eq!(*rejection, Rejection::DeadlineExceeded { after: left });
    assert!(sent(PropagateLayer::new(), &within(MS), HeaderMap::new()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn trace_and_baggage_go_along_unless_the_request_has_its_own() {
    let headers = sent(PropagateLayer::new(), &traced(), HeaderMap::new()).await.unwrap();
    let parent = headers["traceparent"].to_str().unwrap();
    assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && parent.ends_with("-01"));
    assert!(!parent.contains("b7ad6b7169203331"), "the parent of the request that came in");
    assert_eq!(headers["tracestate"], "vendor=1");
    assert_eq!(headers["baggage"], "tenant=7");

    let own = fields(&[
        ("traceparent", "00-11111111111111111111111111111111-2222222222222222-00"),
        ("baggage", "mine=1"),
    ]);
    let headers = sent(PropagateLayer::new(), &traced(), own.clone()).await.unwrap();
    assert_eq!(headers, own, "not even the state of another trace");

    let broken = fields(&[("traceparent", "nonsense"), ("tracestate", "of=it")]);
    let headers = sent(PropagateLayer::new(), &traced(), broken).await.unwrap();
    assert_eq!(headers["tracestate"], "vendor=1");
    assert_ne!(headers["traceparent"], "nonsense");
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_back_is_not_told() {
    let layer = PropagateLayer::new().without_baggage().without_trace();
    assert!(sent(layer, &traced(), HeaderMap::new()).await.unwrap().is_empty());
    let layer = PropagateLayer::new().without_baggage();
    let headers = sent(layer, &traced(), HeaderMap::new()).await.unwrap();
    assert!(headers.contains_key("traceparent") && !headers.contains_key("baggage"));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_says_what_is_left_then_and_is_a_span_of_its_own() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let busy = service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<_>| {
            seen.lock().unwrap().push(request.headers().clone());
            async {
                tokio::time::sleep(MS * 20).await;
                let answer = Response::builder().status(503).body(Full::<Bytes>::default());
                Ok::<_, BoxError>(answer.unwrap())
            }
        }
    });
    let backoff = Backoff::fixed(MS * 100).jitter(Jitter::None).unwrap();
    let retry = RetryPolicy::default().backoff(backoff).max_retries(2);
    let policy = Policy { retry, ..Policy::default() };
    let client = (DeadlineLayer::new(MS * 1_000), RetryLayer::new(policy), PropagateLayer::new());
    let request = Request::get("http://shop.example/").body(Full::<Bytes>::default()).unwrap();
    traced().carry(client.layer(busy).oneshot(request)).await.unwrap();

    let seen = seen.lock().unwrap();
    let field = |name: &str| -> Vec<_> {
        seen.iter().map(|headers| headers[name].to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(field("redial-timeout-ms"), ["1000", "880", "760"]);
    let parents = field("traceparent");
    let traces: Vec<&str> = parents.iter().map(|parent| &parent[..35]).collect();
    assert_eq!(traces, [&parents[0][..35]; 3]);
    assert!(parents[0] != parents[1] && parents[1] != parents[2] && parents[0] != parents[2]);
}

/// What a hop was told, and for how long it then worked before it called the next.
#[derive(Clone, Copy, Debug)]
struct Hop {
    works: Duration,
    has_envoy: bool,
    is_grpc: bool,
    own: Option<Duration>,
}

type Client = BoxCloneSyncService<Request<Full<Bytes>>, (), Infallible>;
type Told = Arc<Mutex<Vec<Option<Duration>>>>;

/// The server of the first of `hops`, which calls that of the second, and so on.
fn chain(hops: &[Hop], told: &Told) -> Client {
    let Some((&hop, rest)) = hops.split_first() else {
        let told = Arc::clone(told);
        return BoxCloneSyncService::new(service_fn(move |request: Request<Full<Bytes>>| {
            note(&told, &request);
            async { Ok(()) }
        }));
    };
    let next = chain(rest, told)
        .map_err(|error| -> BoxError { match error {} })
        .map_response(|()| empty());
    let mut outbound = PropagateLayer::new();
    if hop.has_envoy {
        outbound = outbound.with_envoy();
    }
    let next = (DeadlineLayer::new(hop.own), outbound).layer(BoxCloneSyncService::new(next));
    let handler = service_fn(move |request: Request<Full<Bytes>>| {
        let next = next.clone();
        async move {
            tokio::time::sleep(hop.works).await;
            let mut onward = Request::new(request.into_body());
            if hop.is_grpc {
                let grpc = HeaderValue::from_static("application/grpc");
                onward.headers_mut().insert(CONTENT_TYPE, grpc);
            }
            let answer: Result<_, BoxError> = next.oneshot(onward).await;
            drop(answer);
            Ok::<_, Infallible>(empty())
        }
    });
    let told = Arc::clone(told);
    let server = InboundLayer::new().layer(handler).map_request(move |request| {
        note(&told, &request);
        request
    });
    BoxCloneSyncService::new(server.map_response(|_| ()))
}

fn empty() -> Response<Full<Bytes>> {
    Response::new(Full::default())
}

fn note(told: &Told, request: &Request<Full<Bytes>>) {
    told.lock().unwrap().push(read_time_left(request.headers(), |_| unreachable!()));
}

prop_compose! {
    fn hops()(
        works in 0_u64..400_000,
        has_envoy: bool,
        is_grpc: bool,
        own in proptest::option::of(1_u64..2_000),
    ) -> Hop {
        let own = own.map(Duration::from_millis);
        Hop { works: Duration::from_micros(works), has_envoy, is_grpc, own }
    }
}

proptest! {
    #[test]
    fn no_hop_is_told_more_than_its_caller_had_less_what_it_spent(
        left in 1_u64..2_000,
        hops in proptest::collection::vec(hops(), 1..7),
    ) {
        let told = Told::default();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut request = Request::new(Full::default());
            tell_time_left(request.headers_mut(), &TIMEOUT_MS, Duration::from_millis(left));
            chain(&hops, &told).oneshot(request).await.unwrap();
        });
        let told = told.lock().unwrap();
        prop_assert!(!told.is_empty());
        for (pair, hop) in told.windows(2).zip(&hops) {
            let (received, sent) = (pair[0].unwrap(), pair[1].unwrap());
            // The timers of the runtime are accurate to a millisecond, and never early.
            prop_assert!(sent + hop.works <= received, "{hop:?}: {received:?}, {sent:?}");
            prop_assert!(hop.own.is_none_or(|own| sent <= own));
            prop_assert!(!sent.is_zero());
        }
        // A hop that is never called was not called because there was no time left.
        if told.len() <= hops.len() {
            let spent: Duration = hops[..told.len()].iter().map(|hop| hop.works + MS * 2).sum();
            let own = hops[..told.len()].iter().filter_map(|hop| hop.own).min();
            let had = own.unwrap_or(Duration::MAX).min(Duration::from_millis(left));
            prop_assert!(had <= spent + MS, "{told:?}");
        }
    }
}
