//! reqwest under Redial, against real loopback sockets that fail on purpose.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

mod bodies;
mod errors;
mod examples;
mod http2;
mod layers;
mod redirects;
mod retries;
mod transport;

use std::{future::Future, sync::Arc, time::Duration};

use http::Extensions;
use redial::{AttemptNumber, Attempts, core::Policy};
use redial_core::{Evidence, Fault};
use redial_reqwest::{Error, RedialMiddleware, ReqwestTransport, attempts, rejection};
use redial_testkit::{H2Reply, Reason, Reply, Upstream, refused_addr};
use reqwest::{Client, Request, Response, Url};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};

const SECOND: Duration = Duration::from_secs(1);

/// A client whose calls pass through Redial and nothing else.
fn with_policy(policy: Policy) -> ClientWithMiddleware {
    ClientBuilder::new(Client::new()).with(RedialMiddleware::new(policy)).build()
}

fn client() -> ClientWithMiddleware {
    with_policy(Policy::default())
}

/// Makes every call's first attempt go to a port where nobody listens.
struct RefusedOnce;

#[async_trait::async_trait]
impl Middleware for RefusedOnce {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if extensions.get::<AttemptNumber>().is_none() {
            request.url_mut().set_port(Some(refused_addr().port())).unwrap();
        }
        next.run(request, extensions).await
    }
}

fn refused_once() -> ClientWithMiddleware {
    ClientBuilder::new(Client::new())
        .with(RedialMiddleware::new(Policy::default()))
        .with(RefusedOnce)
        .build()
}

/// Runs `call`, which takes no time on the real clock unless it hangs.
async fn soon<F: Future>(call: F) -> F::Output {
    tokio::time::timeout(SECOND * 3_600, call).await.expect("the call hangs")
}
