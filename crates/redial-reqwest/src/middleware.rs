//! Redial as a middleware of `reqwest-middleware`.

use std::{fmt, future::poll_fn};

use bytes::Bytes;
use http::{Extensions, Request, Response, Uri};
use http_body::Body;
use redial::{BoxError, PolicyCell, Rejection};
use reqwest_middleware::{Middleware, Next};
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    error::Error,
    relay::{Desk, Relay, RequestBody},
    response::into_response,
};

/// A middleware that runs layers of Redial around the middlewares after it and the client.
///
/// Every attempt passes through the middlewares after this one, with the extensions of the call;
/// those before it see one call. What the last attempt left in the extensions is there when the
/// call is over, and with it, after more than one attempt, [`Attempts`](redial::Attempts), whether
/// there is an answer or not.
///
/// Policies of single requests are an `Arc<Policy>` in their extensions.
///
/// What failed upstream comes out as it came: an error of reqwest stays
/// [`reqwest_middleware::Error::Reqwest`]. Our own refusals are found with [`rejection`].
///
/// # Cancellation
///
/// Dropping the call drops the attempt or the wait that it is in; nothing is sent any more.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use redial::core::Policy;
/// use redial_reqwest::RedialMiddleware;
/// use redial_testkit::{Reply, Upstream};
/// use reqwest_middleware::ClientBuilder;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), reqwest_middleware::Error> {
/// let upstream = Upstream::script([Reply::status(503), Reply::ok("paid")]).await;
/// let client = ClientBuilder::new(reqwest::Client::new())
///     .with(RedialMiddleware::new(Policy::default()))
///     .build();
///
/// // A POST is not repeated after a 503, unless somebody says that it may be.
/// let may_repeat = Arc::new(Policy { is_idempotent: true, ..Policy::default() });
/// let request = client.post(upstream.url("/orders")).with_extension(may_repeat);
/// let answer = request.body("one order").send().await?;
/// assert_eq!(redial_reqwest::attempts(&answer), 2);
/// assert_eq!(answer.text().await?, "paid");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedialMiddleware {
    /// Boxed, as every middleware of reqwest is: callers are spared the type that names all layers.
    service: BoxCloneSyncService<Request<RequestBody>, Response<reqwest::Body>, Error>,
}

impl RedialMiddleware {
    /// Creates a middleware of the standard stack under `policy`: a fixed one, or one that can be
    /// switched while calls are running.
    pub fn new(policy: impl Into<PolicyCell>) -> Self {
        Self::layered(&redial::stack(policy))
    }

    /// Creates a middleware of any layers: a stack that was changed, or one of one's own.
    ///
    /// # Examples
    ///
    /// ```
    /// use redial::{LogEvents, Omit, RetryLayer, core::Policy};
    /// use redial_reqwest::RedialMiddleware;
    ///
    /// let lean = RedialMiddleware::layered(&redial::stack(Policy::default()).calls(Omit));
    /// let bare = RedialMiddleware::layered(&RetryLayer::new(Policy::default()).observe(LogEvents));
    /// # let _ = (lean, bare);
    /// ```
    pub fn layered<L, T>(layer: &L) -> Self
    where
        L: Layer<Relay>,
        L::Service: Service<Request<RequestBody>, Response = Response<T>, Error = Error>,
        L::Service: Clone + Send + Sync + 'static,
        <L::Service as Service<Request<RequestBody>>>::Future: Send,
        T: Body<Data = Bytes, Error: Into<BoxError>> + Send + Sync + 'static,
    {
        let service = layer.layer(Relay::new());
        let wrapped = |answer: Response<T>| answer.map(reqwest::Body::wrap);
        Self { service: BoxCloneSyncService::new(service.map_response(wrapped)) }
    }
}

#[async_trait::async_trait]
impl Middleware for RedialMiddleware {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        let Ok(uri) = Uri::try_from(request.url().as_str()) else {
            // What reqwest cannot send either, it says in its own words.
            return next.run(request, extensions).await;
        };
        let mut service = self.service.clone();
        let ready = poll_fn(|cx| service.poll_ready(cx)).await;
        ready.map_err(Error::into_middleware)?;
        let (desk, request) = Desk::open(request, uri, extensions);
        let outcome = desk.run(service.call(request), &next, extensions).await;
        outcome.map(into_response).map_err(Error::into_middleware)
    }
}

/// Returns our own refusal, if `error` is one: a timeout of Redial's, a deadline, an open breaker.
#[must_use]
pub fn rejection(error: &reqwest_middleware::Error) -> Option<&Rejection> {
    match error {
        reqwest_middleware::Error::Middleware(error) => error.downcast_ref(),
        reqwest_middleware::Error::Reqwest(_) => None,
    }
}

impl fmt::Debug for RedialMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedialMiddleware").finish_non_exhaustive()
    }
}
