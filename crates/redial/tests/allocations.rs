//! A call that succeeds allocates nothing of its own but the copy of the head that a retry would
//! need.

#[path = "support/road.rs"]
mod road;

use redial::{
    AdaptiveLimitLayer, BulkheadLayer, ChaosLayer, Omit, PolicyCell, PropagateLayer, ResumeLayer,
    RetryLayer, StallTimeoutLayer,
    core::{
        AdaptivePolicy, BulkheadPolicy, ChaosPolicy, ChaosRule, Policy, ResumePolicy, StallPolicy,
    },
};
use road::{Ideal, call, request};
use tower::Layer;

/// The allocations of one warm call with `fields` header fields in its request.
fn allocations<S>(client: &mut S, fields: usize) -> u64
where
    S: tower::Service<http::Request<http_body_util::Empty<bytes::Bytes>>>,
{
    assert!(call(client, request(fields)), "the first call opens the origin's budget");
    let sent = request(fields);
    allocation_counter::measure(|| assert!(call(client, sent))).count_total
}

fn copy_of_a_head(fields: usize) -> u64 {
    let (head, _) = request(fields).into_parts();
    allocation_counter::measure(|| drop(head.clone())).count_total
}

#[tokio::test]
async fn a_retry_layer_costs_the_copy_of_the_head() {
    for fields in [0, 1, 6] {
        let bare = allocations(&mut Ideal, fields);
        let mut client = RetryLayer::new(Policy::default()).layer(Ideal);
        let added = allocations(&mut client, fields) - bare;
        assert!(added <= copy_of_a_head(fields), "{fields} fields: {added}");
        assert!(fields != 0 || added == 0, "without fields there is nothing to copy: {added}");
    }
}

#[tokio::test]
async fn the_whole_stack_costs_no_more() {
    for fields in [0, 6] {
        let policy =
            Policy { deadline: Some(std::time::Duration::from_secs(9)), ..Policy::default() };
        let mut client = redial::stack(policy).layer(Ideal);
        let added = allocations(&mut client, fields);
        assert!(added <= copy_of_a_head(fields), "{fields} fields: {added}");
    }
    let mut client = redial::stack(Policy::default()).retries(Omit).layer(Ideal);
    assert_eq!(allocations(&mut client, 6), 0);
}

#[tokio::test]
async fn chaos_that_does_nothing_and_a_stall_detector_cost_no_allocation() {
    let elsewhere = ChaosRule::new().host("else.example").and_then(ChaosRule::reset);
    let policy = elsewhere.and_then(|rule| ChaosPolicy::default().rule(rule));
    let layers =
        [ChaosLayer::new(PolicyCell::new(Policy::default())), ChaosLayer::new(policy.unwrap())];
    for layer in layers {
        assert_eq!(allocations(&mut layer.layer(Ideal), 6), 0);
    }
    let mut client = StallTimeoutLayer::new(StallPolicy::default()).layer(Ideal);
    assert_eq!(allocations(&mut client, 6), 0);
}

#[tokio::test]
async fn a_download_that_may_go_on_costs_the_copy_of_the_head() {
    for fields in [0, 6] {
        let mut client = ResumeLayer::new(ResumePolicy::default()).layer(Ideal);
        // The copy lives in a box.
        assert!(allocations(&mut client, fields) <= 1 + copy_of_a_head(fields));
        let mut client = ResumeLayer::new(None).layer(Ideal);
        assert_eq!(allocations(&mut client, fields), 0);
    }
}

#[tokio::test]
async fn limits_on_what_is_in_flight_cost_none() {
    let mut client = BulkheadLayer::new(BulkheadPolicy::default()).layer(Ideal);
    assert_eq!(allocations(&mut client, 6), 0);
    let mut client = AdaptiveLimitLayer::new(AdaptivePolicy::default()).layer(Ideal);
    assert_eq!(allocations(&mut client, 6), 0);
}

#[tokio::test]
async fn a_context_that_is_not_there_costs_none() {
    for fields in [0, 6] {
        let layer = PropagateLayer::new().with_envoy();
        assert_eq!(allocations(&mut layer.layer(Ideal), fields), 0);
    }
}
