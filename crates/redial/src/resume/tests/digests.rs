use http::HeaderName;

use super::*;

fn digest(bytes: &[u8]) -> HeaderValue {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let item = sfv::ItemSerializer::new().bare_item(digest.as_ref()).finish();
    HeaderValue::try_from(format!("sha-256={item}")).unwrap()
}

/// A server of ten digits, which announces the digest of `of`.
fn server(name: &'static str, of: &[u8], breaks: &[usize]) -> Server {
    let server = Server::new("0123456789", breaks.iter().copied());
    let field = (HeaderName::from_static(name), digest(of));
    server.with(|file| file.says.extend([field]));
    server
}

const DIGITS: &[u8] = b"0123456789";
const WRONG: Rejection = Rejection::WrongDigest { algorithm: "sha-256" };

#[tokio::test(start_paused = true)]
async fn what_was_put_together_is_held_against_the_digest_of_the_first_answer() {
    for name in ["repr-digest", "content-digest"] {
        for breaks in [&[][..], &[0], &[3], &[9], &[3, 2, 1], &[0, 4, 0]] {
            let (bytes, error) = server(name, DIGITS, breaks).read(5).await;
            assert!(error.is_none() && bytes == DIGITS, "{breaks:?}: {bytes:?}, {error:?}");
            let (bytes, error) = server(name, b"0123456780", breaks).read(5).await;
            assert_eq!(rejection(error), WRONG, "{breaks:?}");
            assert!(bytes.len() < DIGITS.len(), "the last bytes are not handed on: {bytes:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_digest_says_what_is_wrong_and_is_not_asked_for_again() {
    let server = server("repr-digest", b"something else", &[4]);
    let error = server.read(10).await.1.unwrap();
    assert_eq!(
        error.to_string(),
        "the answer's body does not have the sha-256 digest that was announced (RFC 9530)"
    );
    assert_eq!(server.with(|file| file.requests.len()), 2);
    assert_eq!(WRONG.name(), "wrong_digest");
    assert_eq!(crate::Diagnose::diagnose(&WRONG).fault, redial_core::Fault::ResponseTruncated);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_decoded_on_its_way_is_not_held_against_a_digest() {
    for (coding, expected) in [(None, None), (Some("gzip"), None), (Some("identity"), Some(WRONG))]
    {
        let server = server("repr-digest", b"the encoded bytes", &[]);
        server.with(|file| file.has_length = false);
        let mut request = get();
        if let Some(coding) = coding {
            let coding = HeaderValue::from_static(coding);
            request.headers_mut().insert(header::ACCEPT_ENCODING, coding);
        }
        let client = ResumeLayer::new(ResumePolicy::default()).layer(server.client());
        let (bytes, error) = read(client.oneshot(request).await.unwrap().into_body()).await;
        assert_eq!(bytes, DIGITS, "its end is known when it comes");
        assert_eq!(error.map(|error| rejection(Some(error))), expected, "{coding:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_held_against_a_digest_is_over_when_that_is_known() {
    for (of, expected) in [(&b""[..], None), (b"0", Some(WRONG))] {
        let server = Server::new("", []);
        server.with(|file| file.says.insert("repr-digest", digest(of)));
        let client = ResumeLayer::new(ResumePolicy::default()).layer(server.client());
        let mut body = Box::pin(client.oneshot(get()).await.unwrap().into_body());
        assert!(!body.is_end_stream());
        let error = body.frame().await.and_then(Result::err);
        assert_eq!(error.map(|error| rejection(Some(error))), expected);
        assert!(body.is_end_stream());
    }
    let client = ResumeLayer::new(ResumePolicy::default());
    let client = client.layer(server("repr-digest", DIGITS, &[]).client());
    let mut body = Box::pin(client.oneshot(get()).await.unwrap().into_body());
    for length in [4, 4, 2] {
        assert!(!body.is_end_stream());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), length);
    }
    assert_eq!(body.size_hint().exact(), Some(0), "the digest was right with the last byte");
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn without_the_layer_nothing_is_looked_at() {
    let server = server("repr-digest", b"something else", &[]);
    let (bytes, error) = server.read(0).await;
    assert!(error.is_none() && bytes == DIGITS);
}
