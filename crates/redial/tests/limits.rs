//! What a call costs that a rate limit and a throttle let through: nothing on the heap.

#[path = "support/road.rs"]
mod road;

use std::time::Duration;

use redial::{
    RateLimitLayer, ThrottleLayer,
    core::{FieldName, RateKey, RateLimitPolicy, ThrottlePolicy},
};
use road::{Ideal, call, request};
use tower::Layer;

fn allocations<S>(mut client: S) -> u64
where
    S: tower::Service<http::Request<http_body_util::Empty<bytes::Bytes>>>,
{
    assert!(call(&mut client, request(6)), "the first call opens the origin's state");
    let sent = request(6);
    allocation_counter::measure(|| assert!(call(&mut client, sent))).count_total
}

#[tokio::test]
async fn a_call_within_the_rate_allocates_nothing() -> Result<(), redial::BoxError> {
    let policy = RateLimitPolicy::new(1_000, Duration::from_secs(1))?;
    let policy = policy.max_wait(Duration::from_secs(1))?;
    for key in [RateKey::Origin, RateKey::All, RateKey::Field(FieldName::new("accept")?)] {
        assert_eq!(allocations(RateLimitLayer::new(policy.key(key)).layer(Ideal)), 0, "{key}");
    }
    let by_path = RateLimitLayer::new(policy).key_by(|head| head.uri.path().as_bytes().into());
    assert_eq!(allocations(by_path.layer(Ideal)), 0);
    assert_eq!(allocations(RateLimitLayer::new(None).layer(Ideal)), 0);
    Ok(())
}

#[tokio::test]
async fn an_attempt_that_is_not_throttled_allocates_nothing() {
    assert_eq!(allocations(ThrottleLayer::new(ThrottlePolicy::default()).layer(Ideal)), 0);
    assert_eq!(allocations(ThrottleLayer::new(None).layer(Ideal)), 0);
}
