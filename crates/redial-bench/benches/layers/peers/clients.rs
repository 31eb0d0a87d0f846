//! Retries that are tied to a client: over a server of their own, beside their own base.

use std::sync::Arc;

use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};

use crate::{
    Case, Shared,
    road::{Requests, Shape, poll},
};

pub(crate) const CASES: &[Case] = &[
    Case {
        group: "reqwest",
        name: "reqwest-middleware alone",
        make: |shape| drive(shape, |builder| builder),
    },
    Case {
        group: "reqwest",
        name: "reqwest-retry",
        make: |shape| {
            let policy = ExponentialBackoff::builder().build_with_max_retries(3);
            drive(shape, |builder| builder.with(RetryTransientMiddleware::new_with_policy(policy)))
        },
    },
];

/// Answers by itself: nothing is sent.
struct Canned;

#[async_trait::async_trait]
impl Middleware for Canned {
    async fn handle(
        &self,
        _: Request,
        _: &mut http::Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        Ok(http::Response::new("").into())
    }
}

fn drive(shape: Shape, with: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Shared {
    let builder = with(ClientBuilder::new(reqwest::Client::new()));
    let client: ClientWithMiddleware = builder.with_arc(Arc::new(Canned)).build();
    let asked = Requests::new(shape).make();
    Box::new(move || {
        let (client, asked) = (client.clone(), asked.clone());
        Box::new(move || {
            let request = Request::try_from(asked.clone().map(|_| "")).ok();
            let call = request.map(|request| client.execute(request));
            assert!(matches!(call.and_then(poll), Some(Ok(_))), "a call ended badly");
        })
    })
}
