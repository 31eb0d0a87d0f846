//! A call that is answered at once allocates nothing of its own but the copy of the head that a
//! hedge would need; and nothing at all where there is no hedge.

#[path = "support/road.rs"]
mod road;

use redial::{
    HedgeLayer,
    core::{HedgePolicy, Policy},
};
use road::{Ideal, call, request};
use tower::Layer;

/// The allocations of one warm call with `fields` header fields in its request.
fn allocations<S>(client: &mut S, fields: usize) -> u64
where
    S: tower::Service<http::Request<http_body_util::Empty<bytes::Bytes>>>,
{
    assert!(call(client, request(fields)), "the first call opens the origin's state");
    let sent = request(fields);
    allocation_counter::measure(|| assert!(call(client, sent))).count_total
}

fn copy_of_a_head(fields: usize) -> u64 {
    let (head, _) = request(fields).into_parts();
    allocation_counter::measure(|| drop(head.clone())).count_total
}

#[tokio::test]
async fn a_hedge_layer_costs_the_copy_of_the_head() {
    let policies = [HedgePolicy::default(), HedgePolicy::fixed(std::time::Duration::ZERO)];
    for hedge in policies {
        for fields in [0, 1, 6] {
            let policy = Policy { hedge: Some(hedge), ..Policy::default() };
            let added = allocations(&mut HedgeLayer::new(policy).layer(Ideal), fields);
            // The copy lives in a box.
            assert!(added <= 1 + copy_of_a_head(fields), "{fields} fields: {added}");
        }
    }
}

#[tokio::test]
async fn without_a_hedge_the_layer_costs_nothing() {
    for fields in [0, 6] {
        let mut client = HedgeLayer::new(Policy::default()).layer(Ideal);
        assert_eq!(allocations(&mut client, fields), 0);
    }
}
