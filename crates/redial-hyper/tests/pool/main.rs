//! The pool on real sockets: its limits, its line, what it closes and what it counts.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

mod age;
mod leaks;
mod limits;
mod line;
mod poison;
mod server;
mod streams;
mod stress;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use redial_hyper::{Body, Error, PoolCounts, Transport};
use tower::ServiceExt;

fn get(url: &str) -> Request<Empty<Bytes>> {
    Request::get(url).body(Empty::new()).unwrap()
}

async fn send(transport: &Transport, url: &str) -> Result<Response<Body>, Error> {
    in_time(transport.clone().oneshot(get(url))).await
}

async fn text(answer: Response<Body>) -> String {
    let body = in_time(answer.into_body().collect()).await.unwrap();
    String::from_utf8(body.to_bytes().into()).unwrap()
}

fn total(transport: &Transport) -> PoolCounts {
    transport.pool().snapshot().total
}

/// Waits until the counts are as they should be.
async fn until(transport: &Transport, condition: impl Fn(&PoolCounts) -> bool) {
    let holds = async {
        while !condition(&total(transport)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let ended = tokio::time::timeout(HANGS, holds).await;
    assert!(ended.is_ok(), "it never came to that: {:#?}", total(transport));
}

/// Nothing in these tests takes seconds unless it hangs.
async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(HANGS, future).await.expect("it hangs")
}

const HANGS: Duration = Duration::from_secs(20);
