//! A request's head, kept for sending it again.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::classify::Asked;

/// What a head has beside its method and target, in a form that costs less to make, to move and to drop
/// than a second head: the fields stand in a plain list, of which a map is made for each retry.
pub(super) struct KeptHead {
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    pub(super) extensions: Extensions,
    version: Version,
}

impl KeptHead {
    #[inline]
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let fields = if headers.is_empty() { Vec::new() } else { copy(headers) };
        Self { extensions: request.extensions().clone(), version: request.version(), fields }
    }

    /// Returns the request again, to `uri` with `method`, and with `body`.
    pub(super) fn request<B>(&self, method: &Method, uri: &Uri, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.version_mut() = self.version;
        if !self.fields.is_empty() {
            request.headers_mut().reserve(self.fields.len());
            for (name, value) in &self.fields {
                request.headers_mut().append(name, value.clone());
            }
        }
        if !self.extensions.is_empty() {
            *request.extensions_mut() = self.extensions.clone();
        }
        request
    }

    pub(super) fn asked<'a>(&'a self, method: &'a Method, uri: &'a Uri) -> Asked<'a> {
        Asked::listed((method, uri), &self.fields, &self.extensions)
    }
}

fn copy(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        fields.push((name.clone(), value.clone()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, EXPECT};

    use super::*;

    #[test]
    fn a_head_comes_back_as_it_was_and_can_be_asked_meanwhile() {
        let request = Request::put("http://shop.example/a?b")
            .version(Version::HTTP_2)
            .header("x-twice", "1")
            .header("accept", "*/*")
            .header("x-twice", "2")
            .extension(7_u8);
        let request = request.body(()).unwrap();
        let kept = KeptHead::of(&request);
        let asked = kept.asked(request.method(), request.uri());
        assert_eq!(asked.header(&ACCEPT), Some(&HeaderValue::from_static("*/*")));
        assert_eq!(asked.header(&EXPECT), None);
        let back = kept.request(request.method(), request.uri(), ());
        assert_eq!((back.method(), back.uri()), (request.method(), request.uri()));
        assert_eq!((back.version(), back.headers()), (request.version(), request.headers()));
        assert_eq!(back.extensions().get::<u8>(), Some(&7));
    }
}
