//! A request on its way out: its target in the form of each version, its body in one type.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Uri, Version,
    header::HOST,
    uri::{Authority, PathAndQuery},
};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use redial::BoxError;

use crate::origin::{InvalidTarget, Origin};

/// Where a request goes and under which name; the same for every connection that it may be sent
/// over.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) origin: Origin,
    path: PathAndQuery,
    host: HeaderValue,
}

/// The caller's body as hyper gets it; empty ones cost nothing.
pub(crate) struct Outgoing {
    body: Option<Pin<Box<dyn Body<Data = Bytes, Error = SendBodyError> + Send>>>,
}

/// Keeps the error with which the caller's body failed: over HTTP/2 hyper reports only the reset
/// that follows from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failure {
    kept: Option<Arc<OnceLock<SendBodyError>>>,
}

/// The caller's body failed while it was being sent.
#[derive(Clone, Debug)]
pub(crate) struct SendBodyError {
    cause: Arc<BoxError>,
}

impl Target {
    /// Takes the target out of `request`: its URI, and the `Host` that the caller set, if any.
    pub(crate) fn take<B>(request: &mut Request<B>) -> Result<Self, InvalidTarget> {
        if request.method() == Method::CONNECT {
            return Err(InvalidTarget::Tunnel);
        }
        let origin = Origin::of(request.uri())?;
        let root = || PathAndQuery::from_static("/");
        let path = request.uri().path_and_query().cloned().unwrap_or_else(root);
        let host = request.headers_mut().remove(HOST);
        let host = host.unwrap_or_else(|| origin.authority().clone());
        Ok(Self { origin, path, host })
    }

    /// Writes the target into `request` as HTTP/1.1 or HTTP/2 wants it: origin-form and a `Host`
    /// field (RFC 9112 §3.2), or all of it in pseudo-header fields and no `Host` (RFC 9113 §8.3.1).
    pub(crate) fn write<B>(&self, request: &mut Request<B>, is_h2: bool) {
        if is_h2 {
            let named = Authority::try_from(self.host.as_bytes()).ok();
            let named = named.and_then(|authority| self.origin.uri(authority, Some(&self.path)));
            if let Some(uri) = named {
                request.headers_mut().remove(HOST);
                *request.uri_mut() = uri;
                *request.version_mut() = Version::HTTP_2;
                return;
            }
        }
        *request.uri_mut() = Uri::from(self.path.clone());
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(HOST, self.host.clone());
    }
}

impl Outgoing {
    /// Takes in the caller's body.
    pub(crate) fn new<B>(body: B) -> (Self, Failure)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return (Self { body: None }, Failure::default());
        }
        let kept = Arc::new(OnceLock::new());
        let watched = Watched { body, kept: Arc::clone(&kept) };
        (Self { body: Some(Box::pin(watched)) }, Failure { kept: Some(kept) })
    }
}

impl Failure {
    /// Returns the error with which the body failed, if it did.
    pub(crate) fn get(&self) -> Option<&SendBodyError> {
        self.kept.as_ref()?.get()
    }
}

pin_project! {
    struct Watched<B> {
        #[pin]
        body: B,
        kept: Arc<OnceLock<SendBodyError>>,
    }
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = SendBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendBodyError>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                let error = SendBodyError { cause: Arc::new(error.into()) };
                this.kept.get_or_init(|| error.clone());
                error
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = SendBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendBodyError>>> {
        match &mut self.body {
            Some(body) => body.as_mut().poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
    }
}

impl fmt::Display for SendBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the caller's body reported an error")
    }
}

impl Error for SendBodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.cause)
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("is_empty", &self.body.is_none()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, host: Option<&str>) -> Request<()> {
        let mut request = Request::builder().uri(uri).version(Version::HTTP_10);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn each_version_gets_its_own_form_and_one_host() {
        let table = [
            (
                "http://u:p@a.example:80/x?y=1",
                None,
                "/x?y=1",
                "a.example",
                "http://a.example/x?y=1",
            ),
            ("http://a.example", None, "/", "a.example", "http://a.example/"),
            (
                "https://a.example:8443?q",
                None,
                "/?q",
                "a.example:8443",
                "https://a.example:8443/?q",
            ),
            ("http://127.0.0.1:9/x", Some("b.example"), "/x", "b.example", "http://b.example/x"),
        ];
        for (uri, host, form1, host1, form2) in table {
            let mut request = request(uri, host);
            let target = Target::take(&mut request).unwrap();
            for _ in 0..2 {
                target.write(&mut request, true);
                assert_eq!(
                    (request.uri().to_string().as_str(), request.version()),
                    (form2, Version::HTTP_2)
                );
                assert!(!request.headers().contains_key(HOST));
                target.write(&mut request, false);
                assert_eq!(
                    (request.uri().to_string().as_str(), request.version()),
                    (form1, Version::HTTP_11)
                );
                assert_eq!(request.headers().get_all(HOST).iter().collect::<Vec<_>>(), [host1]);
            }
        }
    }

    #[test]
    fn a_tunnel_is_not_made() {
        let mut request = request("http://a.example:80", None);
        *request.method_mut() = Method::CONNECT;
        assert_eq!(Target::take(&mut request).unwrap_err(), InvalidTarget::Tunnel);
    }
}
