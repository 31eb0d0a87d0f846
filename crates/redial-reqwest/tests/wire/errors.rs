//! What each kind of failure is called, and what it proves.

use std::{error::Error as _, future};

use http_body_util::{BodyExt, Full};
use redial::Rejection;
use redial_core::Proof;
use reqwest::dns::{Name, Resolve, Resolving};
use tower::ServiceExt;

use super::*;

async fn fail(client: Client, url: &str) -> Error {
    let request = http::Request::post(url).body(Full::<bytes::Bytes>::from("one order")).unwrap();
    soon(ReqwestTransport::new(client).oneshot(request)).await.unwrap_err()
}

fn told(error: &Error) -> (Fault, Proof) {
    (error.fault(), error.proof())
}

/// Knows no name, or never answers.
struct Resolver {
    is_silent: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, _: Name) -> Resolving {
        if self.is_silent {
            return Box::pin(future::pending());
        }
        Box::pin(future::ready(Err("no such name".into())))
    }
}

fn resolving(is_silent: bool) -> Client {
    let resolver = Arc::new(Resolver { is_silent });
    Client::builder().dns_resolver(resolver).connect_timeout(SECOND).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_nothing_was_sent() {
    let refused = fail(Client::new(), &format!("http://{}/", refused_addr())).await;
    let unknown = fail(resolving(false), "http://shop.example/").await;
    let silent = fail(resolving(true), "http://shop.example/").await;
    assert_eq!(told(&refused), (Fault::ConnectionRefused, Proof::NoConnection));
    assert_eq!(told(&unknown), (Fault::Dns, Proof::NoConnection));
    assert_eq!(told(&silent), (Fault::ConnectTimeout, Proof::NoConnection));
    for error in [&refused, &unknown, &silent] {
        assert!(error.is_connect() && !error.is_rejection());
        assert_eq!(error.evidence(), Evidence::NeverSent);
    }
    assert!(silent.is_timeout() && !refused.is_timeout());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_refused_connections_at_once_are_all_known_to_have_sent_nothing() {
    let client = Client::builder().resolve_to_addrs("shop.example", &[refused_addr(); 2]);
    let client = client.build().unwrap();
    let url = format!("http://shop.example:{}/", refused_addr().port());
    let calls = (0..100).map(|_| {
        let (client, url) = (client.clone(), url.clone());
        tokio::spawn(async move { told(&fail(client, &url).await) })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), (Fault::ConnectionRefused, Proof::NoConnection));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_not_answered_may_have_been_applied() {
    let table = [
        (Reply::reset(), Fault::ConnectionReset),
        (Reply::close_without_answer(), Fault::ConnectionClosed),
        (Reply::garbage("no http at all\r\n\r\n"), Fault::Protocol),
        (Reply::hang(), Fault::AttemptTimeout),
    ];
    for (reply, fault) in table {
        let upstream = Upstream::script([reply]).await;
        let client = Client::builder().timeout(SECOND).build().unwrap();
        let error = fail(client, &upstream.url("/")).await;
        assert_eq!(told(&error), (fault, Proof::Sent), "{error:?}");
        assert_eq!(error.is_timeout(), fault == Fault::AttemptTimeout);
        assert!(!error.is_connect());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_sent_never_was() {
    for url in ["/relative", "ftp://127.0.0.1/"] {
        let error = fail(Client::new(), url).await;
        assert_eq!(told(&error), (Fault::InvalidRequest, Proof::NothingWritten), "{url}");
        assert!(error.into_reqwest().unwrap().is_builder());
    }
}

#[tokio::test(start_paused = true)]
async fn redirects_without_end_are_answers() {
    let upstream = Upstream::script([Reply::status(302).header("location", "/again")]).await;
    let error = fail(Client::new(), &upstream.url("/")).await;
    assert_eq!(told(&error), (Fault::Other, Proof::Answered));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_was_applied() {
    let table = [
        (Reply::ok("paid in full").truncate_at(4), Fault::ResponseTruncated),
        (Reply::ok("paid in full").reset_at(4), Fault::ResponseTruncated),
        (Reply::ok("paid in full").slow(4, SECOND * 60), Fault::AttemptTimeout),
    ];
    for (reply, fault) in table {
        let upstream = Upstream::script([reply]).await;
        let client = Client::builder().timeout(SECOND * 5).build().unwrap();
        let request = http::Request::get(upstream.url("/")).body(reqwest::Body::default());
        let answer = ReqwestTransport::new(client).oneshot(request.unwrap());
        let body = soon(answer).await.unwrap().into_body();
        let error = Error::from(soon(body.collect()).await.unwrap_err());
        assert_eq!(told(&error), (fault, Proof::Answered), "{error:?}");
        assert_eq!(error.evidence(), Evidence::Applied);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_whose_request_nobody_watched_proves_little() {
    let sent = Client::new().get(format!("http://{}/", refused_addr())).send();
    let error = Error::from(soon(sent).await.unwrap_err());
    assert_eq!(told(&error), (Fault::ConnectionRefused, Proof::Sent));
}

#[tokio::test(start_paused = true)]
async fn an_error_names_the_server_and_none_of_its_secrets() {
    let address = refused_addr();
    let error = fail(Client::new(), &format!("http://{address}/orders?key=secret")).await;
    assert_eq!(error.to_string(), format!("http://{address} refused the connection"));
    assert!(error.source().is_some_and(|cause| cause.is::<reqwest::Error>()));
    assert!(error.as_reqwest().is_some_and(reqwest::Error::is_connect));
    assert!(error.into_reqwest().unwrap().url().unwrap().as_str().ends_with("key=secret"));
}

#[test]
fn a_rejection_stays_what_it_is() {
    let rejection = Rejection::AttemptTimeout { after: SECOND };
    let error = Error::from(rejection);
    assert_eq!(error.rejection(), Some(&rejection));
    assert!(error.is_rejection() && error.is_timeout() && !error.is_connect());
    assert_eq!(told(&error), (Fault::AttemptTimeout, Proof::Sent));
    assert_eq!(error.to_string(), rejection.to_string());
    let error = error.into_reqwest().unwrap_err();
    assert!(error.as_reqwest().is_none() && error.source().is_none());
    assert!(Error::from(Rejection::DeadlineExceeded { after: SECOND }).is_timeout());
    assert!(!Error::from(Rejection::Throttled).is_timeout());
}
