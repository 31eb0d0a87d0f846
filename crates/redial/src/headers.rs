//! Header fields that every attempt carries.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tower_layer::Layer;
use tower_service::Service;

/// Wraps services in [`SetHeaders`].
///
/// # Examples
///
/// ```
/// use http::{HeaderValue, header};
/// use redial::SetHeadersLayer;
///
/// let layer = SetHeadersLayer::new()
///     .set(header::ACCEPT, HeaderValue::from_static("application/json"))
///     .default_to(header::USER_AGENT, HeaderValue::from_static("shop/1.0"));
/// # let _ = layer;
/// ```
#[derive(Clone, Debug, Default)]
pub struct SetHeadersLayer {
    /// None where nothing is set: then a clone of the service costs nothing.
    fields: Option<Arc<Fields>>,
}

#[derive(Clone, Debug, Default)]
struct Fields {
    set: HeaderMap,
    default: HeaderMap,
}

/// A service that sets header fields on each request: some always, some where the caller set none.
#[derive(Clone, Debug)]
pub struct SetHeaders<S> {
    fields: Option<Arc<Fields>>,
    inner: S,
}

impl SetHeadersLayer {
    /// Creates a layer that sets nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a field on every request, whatever the caller set it to.
    #[must_use]
    pub fn set(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields().set.insert(name, value);
        self
    }

    /// Sets a field on requests that do not have it.
    #[must_use]
    pub fn default_to(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields().default.insert(name, value);
        self
    }

    fn fields(&mut self) -> &mut Fields {
        Arc::make_mut(self.fields.get_or_insert_default())
    }
}

impl<S> Layer<S> for SetHeadersLayer {
    type Service = SetHeaders<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SetHeaders { inner, fields: self.fields.clone() }
    }
}

impl<S, B> Service<Request<B>> for SetHeaders<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        match &self.fields {
            None => self.inner.call(request),
            Some(fields) => call_with_fields(&mut self.inner, fields, request),
        }
    }
}

/// Apart from `call`, so that where nothing is set the request is not even moved.
#[inline(never)]
fn call_with_fields<S, B>(inner: &mut S, fields: &Fields, mut request: Request<B>) -> S::Future
where
    S: Service<Request<B>>,
{
    let headers = request.headers_mut();
    for (name, value) in &fields.default {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    for (name, value) in &fields.set {
        headers.insert(name, value.clone());
    }
    inner.call(request)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::header::{ACCEPT, USER_AGENT};
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn fields_are_set_always_or_where_there_is_none() {
        let echo = service_fn(|request: Request<()>| async move {
            Ok::<_, Infallible>(request.headers().clone())
        });
        let service = SetHeadersLayer::new()
            .set(ACCEPT, HeaderValue::from_static("a"))
            .default_to(USER_AGENT, HeaderValue::from_static("b"))
            .layer(echo);
        let request = Request::builder().header(ACCEPT, "mine").header(USER_AGENT, "mine");
        let headers = service.clone().oneshot(request.body(()).unwrap()).await.unwrap();
        assert_eq!(
            (&headers[ACCEPT], &headers[USER_AGENT]),
            (&"a".parse().unwrap(), &"mine".parse().unwrap())
        );
        let headers = service.oneshot(Request::new(())).await.unwrap();
        assert_eq!(headers[USER_AGENT], "b");
    }
}
