//! One key for each call, on the caller's side.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, Method, Request};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    key::{IdempotencyKey, KeyDialect},
    provider::Provider,
};
use crate::http::IDEMPOTENCY_KEY;

/// Wraps services in [`IdempotencyKeys`]: each call gets one key, the caller's own or a new one.
///
/// It belongs outside of everything that repeats or redirects, so that every attempt and every hedge carries
/// the very same bytes. `POST` and `PATCH` get a key, unless [`methods`](Self::methods) says otherwise.
///
/// A key helps only where the server honors it, and nothing in a request or an answer tells. So a generated
/// key by itself does *not* make a call one that may be repeated after the server may have acted; that takes
/// [`honored_by`](Self::honored_by). A key that the caller put there is taken as the caller's word that the
/// server honors it.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use redial::{
///     BoxError, RetryLayer,
///     core::Policy,
///     idempotency::{IdempotencyKeyLayer, Provider},
/// };
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # use http_body_util::Empty;
/// let transport = service_fn(|request: Request<_>| async move {
///     let key = request.headers()["idempotency-key"].to_str()?;
///     assert!(key.len() == 38 && key.starts_with('"'), "a UUID in quotes");
///     Ok::<_, BoxError>(Response::new(Empty::<bytes::Bytes>::new()))
/// });
/// let client = ServiceBuilder::new()
///     .layer(IdempotencyKeyLayer::new().honored_by(Provider::DRAFT))
///     .layer(RetryLayer::new(Policy::default()))
///     .service(transport);
/// let request = Request::post("http://shop.example/orders").body(Empty::<bytes::Bytes>::new())?;
/// assert_eq!(client.oneshot(request).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct IdempotencyKeyLayer {
    settings: Arc<Settings>,
}

/// A service that gives each request a key that has none.
#[derive(Clone, Debug)]
pub struct IdempotencyKeys<S> {
    inner: S,
    settings: Arc<Settings>,
}

#[derive(Clone, Debug)]
struct Settings {
    methods: Vec<Method>,
    field: HeaderName,
    dialect: KeyDialect,
    provider: Option<Provider>,
}

/// Travels with a request that has a key: who honors it, if anybody is known to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeySent {
    pub(crate) honored_by: Option<Provider>,
}

impl IdempotencyKeyLayer {
    /// Creates a layer that sends keys as the draft writes them, to a server of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        let settings = Settings {
            methods: vec![Method::POST, Method::PATCH],
            field: IDEMPOTENCY_KEY.clone(),
            dialect: KeyDialect::Quoted,
            provider: None,
        };
        Self { settings: Arc::new(settings) }
    }

    /// Declares that the server honors keys by these rules: calls with a key may be repeated as if their
    /// method were idempotent, failures that the server keeps are not repeated, and its 409 is waited for.
    ///
    /// Sets the field and the dialect as well; to differ from the provider's, set them after this.
    #[must_use]
    pub fn honored_by(self, provider: Provider) -> Self {
        self.with(|settings| {
            settings.provider = Some(provider);
            settings.dialect = provider.dialect;
            if let Some(field) = provider.field_name() {
                settings.field = field;
            }
        })
    }

    /// Sets which methods get a key. `POST` and `PATCH` unless set.
    #[must_use]
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.with(|settings| settings.methods = methods.into_iter().collect())
    }

    /// Sets the field that carries the key. `Idempotency-Key` unless set.
    #[must_use]
    pub fn field(self, field: HeaderName) -> Self {
        self.with(|settings| settings.field = field)
    }

    /// Sets how a generated key is written. In quotes unless set.
    #[must_use]
    pub fn dialect(self, dialect: KeyDialect) -> Self {
        self.with(|settings| settings.dialect = dialect)
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }
}

impl Default for IdempotencyKeyLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for IdempotencyKeyLayer {
    type Service = IdempotencyKeys<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyKeys { inner, settings: Arc::clone(&self.settings) }
    }
}

impl<S, B> Service<Request<B>> for IdempotencyKeys<S>
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
        if self.settings.methods.contains(request.method()) {
            self.settings.put_key(&mut request);
        }
        self.inner.call(request)
    }
}

impl Settings {
    fn put_key<B>(&self, request: &mut Request<B>) {
        let honored_by = if request.headers().contains_key(&self.field) {
            Some(self.provider.unwrap_or(Provider::DRAFT))
        } else {
            let key = IdempotencyKey::generate().to_field(self.dialect);
            request.headers_mut().insert(self.field.clone(), key);
            self.provider
        };
        request.extensions_mut().insert(KeySent { honored_by });
    }
}
