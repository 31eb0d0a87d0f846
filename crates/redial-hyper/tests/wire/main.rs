//! The transport against real loopback sockets that fail on purpose.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

mod connecting;
mod decoding;
mod faults;
mod http2;
mod requests;
mod reuse;
mod soundness;
mod stale;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use redial_core::{Fault, Proof};
use redial_hyper::{Body, Error, Transport};
use tower::ServiceExt;

type Told = (Fault, Proof);

fn transport() -> Transport {
    Transport::builder().build().unwrap()
}

fn h2c() -> Transport {
    Transport::builder().http2_only(true).build().unwrap()
}

fn request(method: Method, url: String, body: &'static str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::from_static(body.as_bytes()));
    Request::builder().method(method).uri(url).body(body).unwrap()
}

fn get(url: String) -> Request<Full<Bytes>> {
    request(Method::GET, url, "")
}

fn post(url: String) -> Request<Full<Bytes>> {
    request(Method::POST, url, "one order")
}

/// Sends `request`; nothing in these tests takes seconds unless it hangs.
async fn send<B>(transport: &Transport, request: Request<B>) -> Result<Response<Body>, Error>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<redial::BoxError>,
{
    let answer = transport.clone().oneshot(request);
    tokio::time::timeout(HANGS, answer).await.expect("the call hangs")
}

async fn text(answer: Response<Body>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

/// Reads the body of an answer that is broken.
async fn broken(answer: Response<Body>) -> Error {
    let read = tokio::time::timeout(HANGS, answer.into_body().collect()).await;
    read.expect("the body hangs").expect_err("the body is whole")
}

fn told(error: &Error) -> Told {
    (error.fault(), error.proof())
}

const HANGS: Duration = Duration::from_secs(20);
