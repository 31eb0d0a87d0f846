//! Who is compared.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use redial::core::Policy;
use redial_hyper::Transport;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use tower::{Layer, Service, ServiceExt, retry::RetryLayer};

use crate::{
    load::{Figures, Load},
    tower_policy::TowerPolicy,
};

pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Load) -> Figures,
}

pub(crate) const CONTESTANTS: &[Contestant] = &[
    Contestant { name: "hyper-util", run: |load| load.run(hyper_util_client, ask) },
    Contestant {
        name: "tower retry over it",
        run: |load| {
            load.run(|| RetryLayer::new(TowerPolicy::new()).layer(hyper_util_client()), ask)
        },
    },
    Contestant { name: "reqwest", run: |load| load.run(reqwest::Client::new, ask_reqwest) },
    Contestant { name: "reqwest-retry", run: |load| load.run(reqwest_retry, ask_middleware) },
    Contestant { name: "redial transport", run: |load| load.run(transport, ask) },
    Contestant {
        name: "redial, standard stack",
        run: |load| {
            let policy = Policy { deadline: Some(HALF_A_MINUTE), ..Policy::default() };
            load.run(|| redial::stack(policy).layer(transport()), ask)
        },
    },
];

type Asked = Request<Empty<Bytes>>;

/// Sends one request and reads its answer to the end.
async fn ask<S, B>(mut client: S, uri: Uri) -> bool
where
    S: Service<Asked, Response = Response<B>>,
    B: Body,
{
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    let Ok(client) = client.ready().await else { return false };
    let Ok(answer) = client.call(request).await else { return false };
    answer.status().is_success() && answer.into_body().collect().await.is_ok()
}

async fn ask_reqwest(client: reqwest::Client, uri: Uri) -> bool {
    let Ok(answer) = client.get(uri.to_string()).send().await else { return false };
    answer.status().is_success() && answer.bytes().await.is_ok()
}

async fn ask_middleware(client: ClientWithMiddleware, uri: Uri) -> bool {
    let Ok(answer) = client.get(uri.to_string()).send().await else { return false };
    answer.status().is_success() && answer.bytes().await.is_ok()
}

fn hyper_util_client() -> Client<HttpConnector, Empty<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector)
}

fn reqwest_retry() -> ClientWithMiddleware {
    let policy = ExponentialBackoff::builder()
        .retry_bounds(Duration::ZERO, Duration::ZERO)
        .build_with_max_retries(3);
    let retry = RetryTransientMiddleware::new_with_policy(policy);
    ClientBuilder::new(reqwest::Client::new()).with(retry).build()
}

fn transport() -> Transport {
    Transport::builder().build().unwrap_or_else(|error| panic!("no transport: {error}"))
}

const HALF_A_MINUTE: Duration = Duration::from_secs(30);
