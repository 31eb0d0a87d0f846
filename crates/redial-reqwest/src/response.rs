//! Between reqwest's responses and those of `http`.

use std::mem;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use redial::{Attempts, BoxError};
use reqwest::ResponseBuilderExt;

/// Turns what came out of a stack of layers into a response of reqwest, with its URL.
///
/// The URL is the one that answered, after redirects, if the answer came from a
/// [`ReqwestTransport`](crate::ReqwestTransport).
///
/// # Examples
///
/// ```
/// use http_body_util::Full;
/// use redial_reqwest::into_response;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), reqwest::Error> {
/// let answer = http::Response::new(Full::<bytes::Bytes>::from("{}"));
/// assert_eq!(into_response(answer).text().await?, "{}");
/// # Ok(())
/// # }
/// ```
pub fn into_response<B>(response: Response<B>) -> reqwest::Response
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Sync + 'static,
{
    response.map(reqwest::Body::wrap).into()
}

/// Returns how many attempts an answer took.
#[must_use]
pub fn attempts(response: &reqwest::Response) -> u32 {
    response.extensions().get().map_or(1, |Attempts(attempts)| *attempts)
}

/// Turns a response of reqwest into one of `http`, whose extensions keep its URL.
pub(crate) fn from_reqwest(response: reqwest::Response) -> Response<reqwest::Body> {
    let url = response.url().clone();
    let mut response = Response::from(response);
    // reqwest's mark for a URL is its secret, and a builder the only one who may leave it.
    let mut builder = http::response::Builder::new();
    if let Some(extensions) = builder.extensions_mut() {
        *extensions = mem::take(response.extensions_mut());
    }
    let mut builder = builder.url(url);
    if let Some(extensions) = builder.extensions_mut() {
        *response.extensions_mut() = mem::take(extensions);
    }
    response
}
