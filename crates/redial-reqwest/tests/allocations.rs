//! What a call that succeeds at once costs in allocations, over a chain that answers by itself.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

use std::time::Duration;

use http::Extensions;
use redial::core::Policy;
use redial_reqwest::RedialMiddleware;
use reqwest::{Client, Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};

/// Answers everything, without a network.
struct Canned;

#[async_trait::async_trait]
impl Middleware for Canned {
    async fn handle(
        &self,
        _: Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        Ok(http::Response::new("").into())
    }
}

fn count(client: &ClientWithMiddleware, method: &str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let call = || {
        let request = client.request(method.parse().unwrap(), "http://shop.example/orders");
        runtime.block_on(request.body("one order").send()).unwrap()
    };
    call();
    allocation_counter::measure(|| drop(call())).count_total
}

#[test]
fn a_call_that_succeeds_at_once_costs_few_allocations() {
    let bare = ClientBuilder::new(Client::new()).with(Canned).build();
    let policy = Policy { attempt_timeout: Some(Duration::from_secs(30)), ..Policy::default() };
    let full = ClientBuilder::new(Client::new())
        .with(RedialMiddleware::new(policy.clone()))
        .with(Canned)
        .build();
    let retry = redial::RetryLayer::new(policy);
    let only = ClientBuilder::new(Client::new())
        .with(RedialMiddleware::layered(&retry))
        .with(Canned)
        .build();
    for (method, most) in [("GET", 30), ("POST", 33)] {
        let base = count(&bare, method);
        for client in [&full, &only] {
            let added = count(client, method) - base;
            assert!(added <= most, "{method}: {added} above the {base} of a bare chain");
        }
    }
}
