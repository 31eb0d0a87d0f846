//! Our own refusals, as a caller of tonic's sees them.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use redial::Rejection;
use redial_tonic::{GrpcError, rejection_of, stack};
use tonic::Code;
use tower::{Layer, Service};

use crate::{
    client::Client,
    policy,
    server::{Act, Server},
};

/// Refuses every attempt, in the place of a breaker or a limit.
#[derive(Clone)]
struct Refuse<S>(S, Rejection);

impl<S, R> Service<R> for Refuse<S>
where
    S: Service<R, Error: From<Rejection>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::future::Ready<Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, _: R) -> Self::Future {
        std::future::ready(Err(self.1.into()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_ours_has_its_code_is_not_repeated_and_can_be_told_from_the_servers() {
    let after = Duration::from_secs(1);
    let table = [
        (Rejection::BreakerOpen { retry_after: Some(after) }, Code::Unavailable),
        (Rejection::RateLimited { retry_after: after }, Code::ResourceExhausted),
        (Rejection::BulkheadFull { in_flight_max: 1 }, Code::ResourceExhausted),
        (Rejection::DeadlineExceeded { after }, Code::DeadlineExceeded),
    ];
    for (rejection, code) in table {
        let server = Server::start([Act::Say("hello")]).await;
        let refuse = tower::layer::layer_fn(move |service| Refuse(service, rejection));
        // In the place of the layer that sets fields: below retries, above the transport.
        let layers = stack(policy()).layers(|layers| layers.attempts(refuse));
        let started = tokio::time::Instant::now();
        let error = Client::new(layers, server.address).say("").await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, &rejection.to_string()[..]));
        assert_eq!(rejection_of(&error), Some(&rejection));
        assert!(started.elapsed().is_zero(), "{rejection}: repeated");
        assert_eq!(server.seen().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_ours_passes_through_a_second_stack_as_it_is() {
    let server = Server::start([Act::Say("hello")]).await;
    let refuse = tower::layer::layer_fn(|service| Refuse(service, Rejection::Throttled));
    let inner = stack(policy()).layers(|layers| layers.attempts(refuse));
    let both = tower::layer::layer_fn(move |channel| stack(policy()).layer(inner.layer(channel)));
    let error = Client::new(both, server.address).say("").await.unwrap_err();
    assert_eq!(rejection_of(&error), Some(&Rejection::Throttled));
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.is::<GrpcError>());
}
