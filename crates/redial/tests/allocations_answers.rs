//! What is not cached, and what does not fail, allocates nothing.

#[path = "support/road.rs"]
mod road;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use redial::{
    CacheLayer, FallbackLayer,
    core::{CachePolicy, FallbackPolicy},
};
use road::{Ideal, call, request};
use tower::{Layer, Service};

fn allocations<S>(client: &mut S, request: impl Fn() -> Request<Empty<Bytes>>) -> u64
where
    S: Service<Request<Empty<Bytes>>>,
{
    assert!(call(client, request()), "the first call opens what has to be opened");
    let sent = request();
    allocation_counter::measure(|| assert!(call(client, sent))).count_total
}

fn post() -> Request<Empty<Bytes>> {
    let mut request = request(6);
    *request.method_mut() = Method::POST;
    request
}

#[tokio::test]
async fn a_call_that_passes_a_cache_allocates_nothing() {
    let mut without = CacheLayer::new(None).layer(Ideal);
    assert_eq!(allocations(&mut without, || request(6)), 0);
    let mut with = CacheLayer::new(CachePolicy::default()).layer(Ideal);
    assert_eq!(allocations(&mut with, post), 0);
}

#[tokio::test]
async fn a_call_that_succeeds_under_a_fixed_fallback_allocates_nothing() {
    let mut with = FallbackLayer::new(Arc::new(FallbackPolicy::default())).layer(Ideal);
    assert_eq!(allocations(&mut with, || request(6)), 0);
    let mut without = FallbackLayer::new(None).layer(Ideal);
    assert_eq!(allocations(&mut without, || request(6)), 0);
}
