mod digests;

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt, Empty};
use proptest::prelude::*;
use redial_core::{Backoff, Event, Jitter, Policy};
use tokio::time::Instant;
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};

use super::*;
use crate::{
    BoxError, DeadlineLayer, Fresh, PolicyCell, Rejection, current_deadline,
    observe::Call,
    scripted::{Script, Step},
};

const SECOND: Duration = Duration::from_secs(1);
const RESET: Step = Step::Fail(io::ErrorKind::ConnectionReset);

type Client = BoxCloneSyncService<Request<OnceBody<Empty<Bytes>>>, Response<Script>, BoxError>;

/// A server of one file, which breaks off as it is told to.
#[derive(Clone)]
struct Server {
    file: Arc<Mutex<File>>,
}

struct File {
    bytes: Bytes,
    tag: &'static str,
    has_ranges: bool,
    /// After how many bytes each answer breaks off; then none does.
    breaks: VecDeque<usize>,
    /// The sizes of pieces.
    sizes: Vec<usize>,
    /// What is answered first to requests that go on.
    failures: VecDeque<Result<u16, io::ErrorKind>>,
    requests: Vec<HeaderMap>,
    /// What else the head of a whole answer says.
    says: HeaderMap,
    has_length: bool,
}

impl Server {
    fn new(bytes: impl Into<Bytes>, breaks: impl IntoIterator<Item = usize>) -> Self {
        let file = File {
            bytes: bytes.into(),
            tag: "\"v1\"",
            has_ranges: true,
            breaks: breaks.into_iter().collect(),
            sizes: vec![4],
            failures: VecDeque::new(),
            requests: Vec::new(),
            says: HeaderMap::new(),
            has_length: true,
        };
        Self { file: Arc::new(Mutex::new(file)) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut File) -> T) -> T {
        work(&mut self.file.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn client(&self) -> Client {
        let server = self.clone();
        BoxCloneSyncService::new(service_fn(move |request: Request<OnceBody<Empty<Bytes>>>| {
            let answer = server.with(|file| file.answer(&request));
            async { answer }
        }))
    }

    /// Reads the whole file through a layer that goes on at once.
    async fn read(&self, resumes: u32) -> (Bytes, Option<BoxError>) {
        let at_once = Backoff::fixed(Duration::ZERO);
        let policy = ResumePolicy::default().max_resumes(resumes).backoff(at_once);
        let service = ResumeLayer::new(policy).layer(self.client());
        read(service.oneshot(get()).await.unwrap().into_body()).await
    }
}

impl File {
    fn answer(
        &mut self,
        request: &Request<OnceBody<Empty<Bytes>>>,
    ) -> Result<Response<Script>, BoxError> {
        self.requests.push(request.headers().clone());
        let is_fresh = request.extensions().get::<Fresh>().is_some();
        assert!(
            is_fresh || !request.headers().contains_key(header::IF_RANGE),
            "not over the same connection"
        );
        if is_fresh {
            match self.failures.pop_front() {
                Some(Ok(status)) => {
                    let answer = Response::builder().status(status).body(Script::default());
                    return Ok(answer.unwrap());
                }
                Some(Err(kind)) => return Err(io::Error::from(kind).into()),
                None => {}
            }
        }
        let is_same = request.headers().get(header::IF_RANGE).is_none_or(|tag| tag == self.tag);
        let range = request.headers().get(RANGE).filter(|_| self.has_ranges && is_same);
        let first = range.map(|range| {
            let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
            range.strip_suffix('-').unwrap().parse::<usize>().unwrap()
        });
        let rest = self.bytes.slice(first.unwrap_or_default()..);
        let answer = Response::builder().header("etag", self.tag);
        let answer = match first {
            None => answer.header("content-length", rest.len()),
            Some(first) => {
                let (last, length) = (self.bytes.len() - 1, self.bytes.len());
                answer.status(206).header("content-range", format!("bytes {first}-{last}/{length}"))
            }
        };
        let body = match self.breaks.pop_front() {
            Some(at) => Script::pieces(&rest.slice(..at.min(rest.len())), &self.sizes).then(RESET),
            None => Script::pieces(&rest, &self.sizes),
        };
        let mut answer = answer.body(body).unwrap();
        if first.is_none() {
            answer.headers_mut().extend(self.says.clone());
        }
        if !self.has_length {
            answer.headers_mut().remove(header::CONTENT_LENGTH);
        }
        Ok(answer)
    }
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("http://a.example/file").body(Empty::new()).unwrap()
}

async fn read(body: impl Body<Data = Bytes, Error = BoxError>) -> (Bytes, Option<BoxError>) {
    let (mut bytes, mut body) = (Vec::new(), std::pin::pin!(body));
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend(frame.into_data().unwrap_or_default()),
            Err(error) => return (bytes.into(), Some(error)),
        }
    }
    assert!(body.is_end_stream());
    (bytes.into(), None)
}

fn is_reset(error: &BoxError) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

fn rejection(error: Option<BoxError>) -> Rejection {
    *error.unwrap().downcast::<Rejection>().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_download_goes_on_where_it_broke_off_with_the_head_of_its_request() {
    let server = Server::new("0123456789abcdef", [6, 5]);
    let at_once = ResumePolicy::default().backoff(Backoff::fixed(Duration::ZERO));
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&told);
    let layer = ResumeLayer::new(at_once).observe(move |call: &Call<'_>, event: &Event| {
        note.lock().unwrap().push((call.uri.path().to_owned(), *event));
    });
    let mut request = get();
    request.headers_mut().insert("authorization", HeaderValue::from_static("mine"));
    let answer = layer.layer(server.client()).oneshot(request).await.unwrap();
    assert_eq!(answer.body().size_hint().exact(), Some(16));
    assert_eq!(read(answer.into_body()).await.0, "0123456789abcdef");
    let requests = server.with(|file| file.requests.clone());
    let field =
        |name: http::HeaderName| requests.iter().map(move |headers| headers.get(&name).cloned());
    let text = HeaderValue::from_static;
    let ranges = [None, Some(text("bytes=6-")), Some(text("bytes=11-"))];
    assert!(field(RANGE).eq(ranges));
    assert!(field(header::IF_RANGE).eq([None, Some(text("\"v1\"")), Some(text("\"v1\""))]));
    assert!(field(header::AUTHORIZATION).all(|value| value == Some(text("mine"))));
    let resumed = |at| (String::from("/file"), Event::Resumed { at });
    assert_eq!(*told.lock().unwrap(), [resumed(6), resumed(11)]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_a_clean_error_with_nothing_wrong_handed_on() {
    let server = Server::new("0123456789", [6]);
    let at_once = ResumePolicy::default().backoff(Backoff::fixed(Duration::ZERO));
    let service = ResumeLayer::new(at_once).layer(server.client());
    let answer = service.oneshot(get()).await.unwrap();
    server.with(|file| (file.tag, file.bytes) = ("\"v2\"", Bytes::from_static(b"ABCDEFGHIJ")));
    let (bytes, error) = read(answer.into_body()).await;
    assert_eq!(bytes, "012345");
    assert_eq!(
        error.as_ref().unwrap().to_string(),
        "the download broke off after 6 bytes, and was changed on the server meanwhile"
    );
    assert_eq!(rejection(error), Rejection::Changed { at: 6 });
}

#[tokio::test(start_paused = true)]
async fn a_server_without_ranges_starts_anew_while_nothing_was_handed_on() {
    let server = Server::new("0123456789", [0, 0, 4]);
    server.with(|file| file.has_ranges = false);
    let (bytes, error) = server.read(10).await;
    assert_eq!(bytes, "0123");
    assert!(is_reset(&error.unwrap()), "then the error stays what it is");
    assert_eq!(server.with(|file| file.requests.len()), 4);
}

#[tokio::test(start_paused = true)]
async fn starting_anew_needs_no_strong_tag_but_the_same_description() {
    let weak = Server::new("0123456789", [0]);
    weak.with(|file| file.tag = "W/\"v1\"");
    assert_eq!(weak.read(1).await.0, "0123456789");
    let longer = Server::new("0123456789", [0]);
    let at_once = ResumePolicy::default().backoff(Backoff::fixed(Duration::ZERO));
    let service = ResumeLayer::new(at_once).layer(longer.client());
    let answer = service.oneshot(get()).await.unwrap();
    longer.with(|file| file.bytes = Bytes::from_static(b"0123456789a"));
    assert_eq!(rejection(read(answer.into_body()).await.1), Rejection::Changed { at: 0 });
}

#[tokio::test(start_paused = true)]
async fn without_a_strong_tag_half_a_body_stays_half_a_body() {
    let server = Server::new("0123456789", [4]);
    server.with(|file| file.tag = "W/\"v1\"");
    let (bytes, error) = server.read(10).await;
    assert_eq!(bytes, "0123");
    assert!(is_reset(&error.unwrap()));
    assert_eq!(server.with(|file| file.requests.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_request_that_goes_on_count_and_the_first_error_stays() {
    let server = Server::new("0123456789", [4]);
    let failures = [Ok(503), Err(io::ErrorKind::ConnectionRefused), Ok(429)];
    server.with(|file| file.failures = failures.into());
    assert_eq!(server.read(4).await.0, "0123456789");
    let server = Server::new("0123456789", [4]);
    server.with(|file| file.failures = failures.into());
    let (bytes, error) = server.read(3).await;
    assert_eq!((bytes, is_reset(&error.unwrap())), (Bytes::from("0123"), true));
    assert_eq!(server.with(|file| file.requests.len()), 4);
    let gone = Server::new("0123456789", [4]);
    gone.with(|file| file.failures = [Ok(404)].into());
    assert!(is_reset(&gone.read(3).await.1.unwrap()));
    assert_eq!(gone.with(|file| file.requests.len()), 2, "that would fail alike");
}

#[tokio::test(start_paused = true)]
async fn waits_grow_while_nothing_comes_and_begin_anew_when_something_does() {
    let server = Server::new("0123456789", [2, 0, 0, 2, 0]);
    let doubling = Backoff::exponential(SECOND, 2.0, SECOND * 60).unwrap();
    let policy = ResumePolicy::default().backoff(doubling.jitter(Jitter::None).unwrap());
    let service = ResumeLayer::new(policy).layer(server.client());
    let started = Instant::now();
    let answer = service.oneshot(get()).await.unwrap();
    assert_eq!(read(answer.into_body()).await.0, "0123456789");
    assert_eq!(started.elapsed(), SECOND * (1 + 2 + 4 + 1 + 2));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_passes_the_deadline_is_not_begun_and_the_deadline_is_seen_below() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = Server::new("0123456789", [2, 2, 2, 2]);
    let note = (Arc::clone(&seen), server.client());
    let watched = service_fn(move |request| {
        note.0.lock().unwrap().push(current_deadline().is_some());
        note.1.clone().oneshot(request)
    });
    let backoff = Backoff::fixed(SECOND * 4).jitter(Jitter::None).unwrap();
    let policy = ResumePolicy::default().backoff(backoff);
    let service = DeadlineLayer::new(SECOND * 10).layer(ResumeLayer::new(policy).layer(watched));
    let started = Instant::now();
    let answer = service.oneshot(get()).await.unwrap();
    let (bytes, error) = read(answer.into_body()).await;
    assert_eq!((bytes, is_reset(&error.unwrap())), (Bytes::from("012345"), true));
    assert!(started.elapsed() <= SECOND * 8);
    assert_eq!(*seen.lock().unwrap(), [true; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_the_wrong_length_is_told_even_where_its_end_looks_clean() {
    for (sent, expected) in [("01234567", 8), ("0123456789ab", 12)] {
        let service = ResumeLayer::new(ResumePolicy::default()).layer(service_fn(move |_| async {
            let body = Script::pieces(&Bytes::from_static(sent.as_bytes()), &[4]);
            let answer = Response::builder().header("content-length", "10").body(body);
            Ok::<_, BoxError>(answer.unwrap())
        }));
        let answer = service.oneshot(get()).await.unwrap();
        let told = rejection(read(answer.into_body()).await.1);
        assert_eq!(told, Rejection::WrongLength { bytes: expected, announced: 10 });
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_last_byte_is_nobodys_to_repair() {
    let server = Server::new("0123456789", [10]);
    let (bytes, error) = server.read(10).await;
    assert_eq!((bytes, is_reset(&error.unwrap())), (Bytes::from("0123456789"), true));
    assert_eq!(server.with(|file| file.requests.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_sends_less_than_it_was_asked_for_is_asked_again() {
    let requests = Arc::new(Mutex::new(0_usize));
    let counted = Arc::clone(&requests);
    let service = service_fn(move |request: Request<OnceBody<Empty<Bytes>>>| {
        *counted.lock().unwrap() += 1;
        let is_first = !request.headers().contains_key(RANGE);
        let nth = *counted.lock().unwrap();
        async move {
            let whole = Bytes::from_static(b"0123456789");
            let answer = Response::builder().header("etag", "\"v1\"");
            let (answer, body) = if is_first {
                let body = Script::pieces(&whole.slice(..2), &[2]).then(RESET);
                (answer.header("content-length", "10"), body)
            } else {
                // Two bytes at a time.
                let first = (nth - 1) * 2;
                let range = format!("bytes {first}-{}/10", first + 1);
                let part = Script::pieces(&whole.slice(first..first + 2), &[1]);
                (answer.status(206).header("content-range", range), part)
            };
            Ok::<_, BoxError>(answer.body(body)?)
        }
    });
    let answer = ResumeLayer::new(ResumePolicy::default()).layer(service).oneshot(get()).await;
    assert_eq!(read(answer.unwrap().into_body()).await.0, "0123456789");
    assert_eq!(*requests.lock().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn everything_else_passes_as_it_is() {
    let requests: [fn(&mut Request<Empty<Bytes>>); 2] = [
        |request| *request.method_mut() = Method::POST,
        |request| {
            request.headers_mut().insert(RANGE, HeaderValue::from_static("bytes=0-"));
        },
    ];
    for change in requests {
        let server = Server::new("0123456789", [6]);
        let mut request = get();
        change(&mut request);
        let service = ResumeLayer::new(ResumePolicy::default()).layer(server.client());
        let (bytes, error) = read(service.oneshot(request).await.unwrap().into_body()).await;
        assert_eq!((bytes, is_reset(&error.unwrap())), (Bytes::from("012345"), true));
    }
    for policy in [None, Some(ResumePolicy::default().max_resumes(0))] {
        let server = Server::new("0123456789", [6]);
        let cell = PolicyCell::new(Policy { resume: policy, ..Policy::default() });
        let service = ResumeLayer::new(cell).layer(server.client());
        let answer = service.oneshot(get()).await.unwrap();
        assert!(is_reset(&read(answer.into_body()).await.1.unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_come_through_and_a_request_with_a_body_is_sent_with_it() {
    let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("x"))]);
    let sent = trailers.clone();
    let service = service_fn(move |request: Request<OnceBody<http_body_util::Full<Bytes>>>| {
        let sent = sent.clone();
        async move {
            let body = request.into_body();
            assert_eq!(body.size_hint().exact(), Some(2));
            let echo = body.collect().await?.to_bytes();
            let script = Script::new([Step::Data(echo), Step::Trailers(sent)]);
            Ok::<_, BoxError>(Response::new(script))
        }
    });
    let request = Request::get("/").body(http_body_util::Full::<Bytes>::from("hi")).unwrap();
    let answer = ResumeLayer::new(ResumePolicy::default()).layer(service).oneshot(request).await;
    let collected = answer.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
    assert_eq!(collected.to_bytes(), "hi");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_while_it_asks_for_more_gives_its_place_back() {
    let server = Server::new("0123456789", [4]);
    let slow = service_fn({
        let client = server.client();
        move |request: Request<_>| {
            let (client, is_first) = (client.clone(), request.headers().is_empty());
            async move {
                if !is_first {
                    tokio::time::sleep(SECOND * 60).await;
                }
                client.oneshot(request).await
            }
        }
    });
    let one = tower::limit::ConcurrencyLimitLayer::new(1);
    let at_once = ResumePolicy::default().backoff(Backoff::fixed(Duration::ZERO));
    let mut service = ResumeLayer::new(at_once).layer(one.layer(slow));
    let answer = service.ready().await.unwrap().call(get()).await.unwrap();
    let reading = tokio::time::timeout(SECOND, read(answer.into_body())).await;
    assert!(reading.is_err(), "it is still asking");
    let answer = service.ready().await.unwrap().call(get()).await.unwrap();
    assert_eq!(read(answer.into_body()).await.0, "0123456789");
}

proptest! {
    #[test]
    fn whatever_breaks_where_the_body_is_byte_exact_or_its_beginning(
        length in 0_usize..3_000,
        breaks in prop::collection::vec(0_usize..1_500, 0..8),
        sizes in prop::collection::vec(1_usize..700, 1..5),
        resumes in 0_u32..9,
    ) {
        let whole: Bytes = (0..=255).cycle().take(length).collect();
        let server = Server::new(whole.clone(), breaks);
        server.with(|file| file.sizes = sizes);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let (bytes, error) = runtime.block_on(server.read(resumes));
        let requests = server.with(|file| file.requests.len());
        prop_assert!(requests <= 1 + usize::try_from(resumes).unwrap(), "{} requests", requests);
        match error {
            None => prop_assert_eq!(bytes, whole),
            Some(error) => {
                prop_assert!(is_reset(&error));
                prop_assert_eq!(&bytes, &whole.slice(..bytes.len()));
                let is_used_up = requests == 1 + usize::try_from(resumes).unwrap();
                prop_assert!(is_used_up || bytes.len() == whole.len());
            }
        }
    }
}
