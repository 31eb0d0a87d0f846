//! What a request looks like when it arrives.

use http::Version;
use http::header::{HOST, HeaderValue};
use redial_testkit::{H2Reply, Received, Reply, Upstream};

use super::*;

fn all<'a>(received: &'a Received, name: &str) -> Vec<&'a str> {
    let named = received.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

#[tokio::test]
async fn any_version_and_an_absolute_uri_arrive_as_http1_wants_them() {
    let upstream = Upstream::script([Reply::ok("")]).await;
    let transport = transport();
    for version in
        [Version::HTTP_09, Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3]
    {
        let mut request = get(upstream.url("/path?query=1"));
        *request.version_mut() = version;
        let answer = send(&transport, request).await.unwrap();
        assert_eq!(answer.version(), Version::HTTP_11);
    }
    for received in upstream.requests() {
        assert_eq!(received.target, "/path?query=1");
        assert_eq!(all(&received, "host"), [upstream.addr().to_string()]);
        assert_eq!(all(&received, "accept-encoding"), ["gzip, br, zstd"]);
    }
}

#[tokio::test]
async fn a_host_of_the_callers_own_is_kept_and_is_the_only_one() {
    let http1 = Upstream::script([Reply::ok("")]).await;
    let http2 = Upstream::h2_script([H2Reply::status(200)]).await;
    for (transport, upstream, field) in
        [(transport(), &http1, "host"), (h2c(), &http2, ":authority")]
    {
        let mut request = get(upstream.url("/"));
        request.headers_mut().insert(HOST, HeaderValue::from_static("shop.example"));
        send(&transport, request).await.unwrap();
        let received = upstream.requests().remove(0);
        assert_eq!(all(&received, field), ["shop.example"]);
        assert_eq!(all(&received, "host").len(), usize::from(field == "host"));
    }
}

#[tokio::test]
async fn user_information_never_leaves() {
    let http1 = Upstream::script([Reply::ok("")]).await;
    let http2 = Upstream::h2_script([H2Reply::status(200)]).await;
    for (transport, upstream) in [(transport(), &http1), (h2c(), &http2)] {
        let url = upstream.url("/").replace("http://", "http://user:secret@");
        send(&transport, get(url)).await.unwrap();
        let received = upstream.requests().remove(0);
        assert!(!format!("{received:?}").contains("secret"), "{received:?}");
    }
}

#[tokio::test]
async fn informational_answers_are_skipped() {
    let reply = Reply::ok("late").informational(103).informational(102);
    let upstream = Upstream::script([reply]).await;
    let answer = send(&transport(), post(upstream.url("/"))).await.unwrap();
    assert_eq!((answer.status().as_u16(), text(answer).await.as_str()), (200, "late"));
}

#[tokio::test]
async fn bodies_and_trailers_pass_in_both_directions() {
    let http1 = Upstream::script([Reply::ok("x").trailer("sum", "1")]).await;
    let http2 = Upstream::h2_script([H2Reply::status(200).body("x").trailer("sum", "1")]).await;
    for (transport, upstream) in [(transport(), &http1), (h2c(), &http2)] {
        let answer = send(&transport, post(upstream.url("/"))).await.unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["sum"], "1");
        assert_eq!(body.to_bytes(), "x");
        let received = upstream.requests().remove(0);
        assert_eq!((received.method.as_str(), &received.body[..]), ("POST", &b"one order"[..]));
        assert_eq!(all(&received, "content-length"), ["9"]);
    }
}

#[tokio::test]
async fn connect_is_refused_before_anything_is_made() {
    let upstream = Upstream::script([Reply::ok("")]).await;
    let request = request(Method::CONNECT, upstream.addr().to_string(), "");
    let error = send(&transport(), request).await.unwrap_err();
    assert_eq!(told(&error), (Fault::InvalidRequest, Proof::NothingWritten));
    assert_eq!(upstream.connections(), 0);
}
