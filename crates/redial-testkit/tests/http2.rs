//! What a client of an HTTP/2 script sees, by the `h2` client.

#![expect(clippy::unwrap_used, reason = "a test whose client fails should stop")]

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response};
use redial_testkit::{H2Reply, Reason, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::Instant,
};

#[tokio::test]
async fn streams_are_answered_in_order_of_arrival() {
    let last = H2Reply::status(200).body("data").trailer("grpc-status", "0");
    let upstream =
        Upstream::h2_script([H2Reply::status(503).header("retry-after", "2"), last]).await;
    let mut client = Client::connect(&upstream).await;

    let first = client.post("/a?b=c", "body").await.unwrap();
    assert_eq!(
        (first.status().as_u16(), &first.headers()["retry-after"]),
        (503, &"2".parse().unwrap())
    );
    assert!(first.body().is_end_stream());
    for _ in 0..2 {
        let next = client.get("/").await.unwrap();
        let (body, trailers) = read(next).await.unwrap();
        assert_eq!((&body[..], &trailers["grpc-status"]), (&b"data"[..], &"0".parse().unwrap()));
    }

    let requests = upstream.requests();
    assert_eq!((requests[0].method.as_str(), requests[0].target.as_str()), ("POST", "/a?b=c"));
    assert_eq!(requests[0].header(":authority"), Some("test"));
    assert_eq!((&requests[0].body[..], requests[0].complete), (&b"body"[..], true));
    let places = requests.iter().map(|r| (r.connection, r.nth, r.stream_id));
    assert_eq!(places.collect::<Vec<_>>(), [(1, 1, Some(1)), (1, 2, Some(3)), (1, 3, Some(5))]);
}

#[tokio::test]
async fn a_handler_sees_the_whole_request() {
    let upstream =
        Upstream::h2_with(|request| H2Reply::status(200).body(request.body.clone())).await;
    let mut client = Client::connect(&upstream).await;
    // Several windows long: flow control has to be kept up on both sides.
    let long = "x".repeat(300_000);
    let (body, _) = read(client.post("/", &long).await.unwrap()).await.unwrap();
    assert_eq!(body.len(), long.len());
}

#[tokio::test]
async fn a_refused_stream_says_so_and_the_connection_goes_on() {
    let script = [H2Reply::refused_stream(), H2Reply::reset(Reason::CANCEL), H2Reply::status(200)];
    let upstream = Upstream::h2_script(script).await;
    let mut client = Client::connect(&upstream).await;
    for reason in [Reason::REFUSED_STREAM, Reason::CANCEL] {
        let error = client.get("/").await.unwrap_err();
        assert!(error.is_reset() && error.is_remote());
        assert_eq!(error.reason(), Some(reason));
    }
    assert_eq!(client.get("/").await.unwrap().status(), 200);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_body_is_reset_after_that_many_bytes() {
    let reply = H2Reply::status(200).body("hello").reset_at(3, Reason::INTERNAL_ERROR);
    let upstream = Upstream::h2_script([reply]).await;
    let mut client = Client::connect(&upstream).await;
    let mut body = client.get("/").await.unwrap().into_body();
    assert_eq!(&body.data().await.unwrap().unwrap()[..], b"hel");
    let error = body.data().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test(start_paused = true)]
async fn goaway_disowns_later_streams_and_lets_earlier_ones_finish() {
    let slow = H2Reply::status(200).body("done").after(Duration::from_secs(30));
    let script = [slow, H2Reply::hang().goaway(1, Reason::NO_ERROR)];
    let upstream = Upstream::h2_script(script).await;
    let mut client = Client::connect(&upstream).await;

    let first = client.send("/first", "");
    let disowned = client.get("/second").await.unwrap_err();
    assert!(disowned.is_go_away() && disowned.is_remote());
    assert_eq!(disowned.reason(), Some(Reason::NO_ERROR));
    let (body, _) = read(first.await.unwrap()).await.unwrap();
    assert_eq!(&body[..], b"done");
    upstream.until(|upstream| upstream.connections_open() == 0).await;
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn goaway_may_come_with_an_answer_and_the_end() {
    let reply = H2Reply::status(200).body("last").goaway(1, Reason::NO_ERROR).close();
    let upstream = Upstream::h2_script([reply]).await;
    let mut client = Client::connect(&upstream).await;
    let (body, _) = read(client.get("/").await.unwrap()).await.unwrap();
    assert_eq!(&body[..], b"last");
    upstream.until(|upstream| upstream.connections_open() == 0).await;
    assert!(client.driver.await.unwrap().is_ok());
}

#[tokio::test]
async fn goaway_is_on_the_wire_as_scripted_and_the_end_follows() {
    let reply = H2Reply::close_without_answer().goaway(0, Reason::ENHANCE_YOUR_CALM);
    let upstream = Upstream::h2_script([reply]).await;
    let mut stream = TcpStream::connect(upstream.addr()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // SETTINGS
    // HEADERS of stream 1, ended: GET, http, / from HPACK's static table.
    stream.write_all(&[0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84]).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    assert!(bytes.windows(goaway.len()).any(|window| window == goaway), "{bytes:?}");
    assert!(!frame_types(&bytes).contains(&3), "no RST_STREAM before the end: {bytes:?}");
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_takes_all_its_streams_along() {
    let upstream = Upstream::h2_script([H2Reply::hang(), H2Reply::close_without_answer()]).await;
    let mut client = Client::connect(&upstream).await;
    let first = client.send("/", "");
    let error = client.get("/").await.unwrap_err();
    assert!(!error.is_reset() && !error.is_go_away(), "{error:?}");
    assert!(first.await.is_err());
    assert!(upstream.requests().iter().all(|received| !received.abandoned));
}

#[tokio::test]
async fn a_stream_that_the_client_gave_up_is_kept_as_abandoned() {
    let upstream = Upstream::h2_script([H2Reply::hang(), H2Reply::status(200)]).await;
    let mut client = Client::connect(&upstream).await;
    let pending = client.send("/", "");
    upstream.until(|upstream| upstream.requests().len() == 1).await;
    drop(pending);
    upstream.until(|upstream| upstream.requests()[0].abandoned).await;
    assert_eq!(client.get("/").await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_goes_abandons_its_streams() {
    let upstream = Upstream::h2_script([H2Reply::hang()]).await;
    let mut client = Client::connect(&upstream).await;
    let _pending = client.send("/", "");
    upstream.until(|upstream| upstream.requests().len() == 1).await;
    client.driver.abort();
    upstream.until(|upstream| upstream.connections_open() == 0).await;
    assert!(upstream.requests()[0].abandoned);
}

#[tokio::test]
async fn a_body_is_open_until_the_client_took_it_in() {
    let upstream = Upstream::h2_script([H2Reply::status(200).body("x".repeat(200_000))]).await;
    let mut client = Client::connect(&upstream).await;
    let answer = client.get("/").await.unwrap();
    assert_eq!(upstream.bodies_open(), 1);
    drop(answer);
    upstream.until(|upstream| upstream.bodies_open() == 0).await;
    assert!(upstream.requests()[0].abandoned);
}

#[tokio::test(start_paused = true)]
async fn a_slow_stream_does_not_delay_those_after_it() {
    let slow = H2Reply::status(200).after(Duration::from_secs(30));
    let upstream = Upstream::h2_script([slow, H2Reply::status(204)]).await;
    let mut client = Client::connect(&upstream).await;
    let start = Instant::now();
    let first = client.send("/", "");
    assert_eq!(client.get("/").await.unwrap().status(), 204);
    assert_eq!(start.elapsed().as_secs(), 0);
    assert_eq!(first.await.unwrap().status(), 200);
    assert_eq!(start.elapsed().as_secs(), 30);
}

struct Client {
    requests: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

type Answer = Result<Response<h2::RecvStream>, h2::Error>;

impl Client {
    async fn connect(upstream: &Upstream) -> Self {
        let stream = TcpStream::connect(upstream.addr()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        Self { requests, driver: tokio::spawn(connection) }
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(path, "").await
    }

    async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.send(path, body).await
    }

    fn send(&mut self, path: &str, body: &str) -> ResponseFuture {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let request = Request::builder().method(method).uri(format!("http://test{path}"));
        let request = request.body(()).unwrap();
        let (answer, mut stream) = self.requests.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
        }
        answer
    }
}

async fn read(answer: Response<h2::RecvStream>) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let (mut body, mut bytes) = (answer.into_body(), Vec::new());
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, body.trailers().await?.unwrap_or_default()))
}

fn frame_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        types.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        bytes = &rest[length..];
    }
    types
}
