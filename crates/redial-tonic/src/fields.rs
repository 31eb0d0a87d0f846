//! The fields that gRPC wants on each attempt: how much time is left, and how many attempts there were.

use std::task::{Context, Poll};

use http::{HeaderName, HeaderValue, Request};
use redial::{AttemptNumber, current_deadline, http::tell_grpc_timeout};
use tower_layer::Layer;
use tower_service::Service;

use crate::clock;

/// Wraps services in [`AttemptFields`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptFieldsLayer;

/// A service that sets `grpc-timeout` and `grpc-previous-rpc-attempts` on each attempt.
///
/// `grpc-timeout` is the time left until [`current_deadline`], rounded down, or what the request
/// carries where that is less; without a deadline it stays as it is. `grpc-previous-rpc-attempts`
/// is the number of attempts before this one, and absent on the first (gRFC A6). Belongs below
/// whatever repeats.
#[derive(Clone, Debug)]
pub struct AttemptFields<S> {
    inner: S,
}

impl<S> Layer<S> for AttemptFieldsLayer {
    type Service = AttemptFields<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptFields { inner }
    }
}

impl<S> AttemptFields<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<Request<B>> for AttemptFields<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let number = request.extensions().get::<AttemptNumber>().map_or(1, |number| number.0);
        let headers = request.headers_mut();
        if 1 < number {
            headers.insert(PREVIOUS_ATTEMPTS.clone(), HeaderValue::from(number - 1));
        }
        if let Some(deadline) = current_deadline() {
            tell_grpc_timeout(headers, deadline.remaining(clock::now()));
        }
        self.inner.call(request)
    }
}

static PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::pin, task::Waker, time::Duration};

    use http::HeaderMap;
    use redial::with_deadline;
    use redial_core::Deadline;
    use tower::{ServiceExt, service_fn};

    use super::*;

    async fn sent(request: Request<()>) -> HeaderMap {
        let echo =
            service_fn(async |request: Request<()>| Ok::<_, Infallible>(request.headers().clone()));
        AttemptFieldsLayer.layer(echo).oneshot(request).await.unwrap()
    }

    fn within(left: Duration, request: Request<()>) -> String {
        let deadline = Deadline::after(clock::now(), left);
        let sent = pin!(sent(request));
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(headers) = with_deadline(deadline, || sent.poll(&mut cx)) else {
            unreachable!("the echo answers at once");
        };
        headers["grpc-timeout"].to_str().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn only_attempts_after_the_first_say_how_many_there_were() {
        assert!(sent(Request::new(())).await.is_empty());
        for number in [2, 3] {
            let mut request = Request::new(());
            request.extensions_mut().insert(AttemptNumber(number));
            let headers = sent(request).await;
            assert_eq!(headers["grpc-previous-rpc-attempts"], (number - 1).to_string());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_left_is_written_or_what_the_caller_asked_for_where_that_is_less() {
        let asking = |timeout| Request::builder().header("grpc-timeout", timeout).body(()).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(within(second, Request::new(())), "1000000u");
        assert_eq!(within(second, asking("300m")), "300000u");
        assert_eq!(within(second, asking("5S")), "1000000u");
        assert_eq!(within(second, asking("nonsense")), "1000000u");
        assert_eq!(within(Duration::ZERO, asking("5S")), "1n");
        assert_eq!(sent(asking("5S")).await["grpc-timeout"], "5S", "without a deadline");
    }
}
