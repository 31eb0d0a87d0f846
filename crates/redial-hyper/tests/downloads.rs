//! Long downloads over connections that are cut again and again.
//!
//! A gibibyte of them takes some seconds; `REDIAL_DOWNLOAD_MIB=64` makes that less.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use redial::{
    Call, Rejection, ResumeLayer, RetryLayer,
    core::{Backoff, Entropy, Event, Policy, ResumePolicy},
};
use redial_hyper::{Error, Transport};
use redial_testkit::{Reply, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Layer, ServiceExt};

/// A file that is nowhere in memory: the same bytes over and over, in a period that no buffer has.
#[derive(Clone)]
struct Pattern {
    period: Bytes,
    length: u64,
}

impl Pattern {
    fn new(length: u64) -> Self {
        let entropy = Entropy::seeded(SEED);
        let words = (0..PERIOD_BYTES.div_ceil(8)).flat_map(|_| entropy.draw().to_le_bytes());
        Self { period: words.take(PERIOD_BYTES).collect(), length }
    }

    /// The bytes from `at` to the end of the period, or of the file.
    fn from(&self, at: u64) -> Bytes {
        let begin = usize::try_from(at % PERIOD_BYTES as u64).unwrap();
        let left = usize::try_from(self.length - at).unwrap_or(usize::MAX);
        let end = self.period.len().min(begin.saturating_add(left));
        self.period.slice(begin..end)
    }

    /// Whether `bytes` are those at `at`.
    fn has(&self, mut at: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.from(at);
            let count = expected.len().min(bytes.len());
            if count == 0 || expected[..count] != bytes[..count] {
                return false;
            }
            (at, bytes) = (at + count as u64, &bytes[count..]);
        }
        true
    }

    fn digest(&self) -> String {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut at = 0;
        while at < self.length {
            let bytes = self.from(at);
            context.update(&bytes);
            at += bytes.len() as u64;
        }
        let digest = context.finish();
        format!("sha-256={}", sfv::ItemSerializer::new().bare_item(digest.as_ref()).finish())
    }
}

/// A server of a pattern, which cuts the connection wherever a byte of `cuts` would be next.
#[derive(Clone)]
struct Server {
    pattern: Pattern,
    digest: String,
    cuts: Arc<Mutex<VecDeque<u64>>>,
    /// Where each request wanted to begin.
    asked: Arc<Mutex<Vec<u64>>>,
}

impl Server {
    async fn start(pattern: Pattern, cuts: impl IntoIterator<Item = u64>) -> (Self, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(Mutex::new(cuts.into_iter().collect()));
        let digest = pattern.digest();
        let server = Self { pattern, digest, cuts, asked: Arc::default() };
        let served = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = served.clone();
                // A client that has gone is no failure of the server.
                tokio::spawn(async move { drop(server.serve(stream).await) });
            }
        });
        (server, address)
    }

    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let range = field("range: bytes=").and_then(|range| range.strip_suffix('-'));
        let first: u64 = range.map_or(0, |first| first.parse().unwrap());
        assert!(first == 0 || field("if-range: ") == Some("\"v1\""), "{head}");
        self.asked.lock().unwrap().push(first);
        let length = self.pattern.length;
        let (status, range) = match first {
            0 => ("200 OK", String::new()),
            _ => {
                let range = format!("content-range: bytes {first}-{}/{length}\r\n", length - 1);
                ("206 Partial Content", range)
            }
        };
        let (left, digest) = (length - first, &self.digest);
        let answer = format!(
            "HTTP/1.1 {status}\r\netag: \"v1\"\r\nrepr-digest: {digest}\r\n{range}content-length: {left}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await?;
        let cut = self.next_cut(first);
        let mut at = first;
        while at < cut {
            let bytes = self.pattern.from(at);
            let count = usize::try_from(cut - at).unwrap_or(usize::MAX).min(bytes.len());
            stream.write_all(&bytes[..count]).await?;
            at += count as u64;
        }
        // Every other cut is a reset, which takes what is on its way along; not the head, though.
        if cut < length && cut % 2 == 1 && first + (1 << 16) < cut {
            stream.set_zero_linger()?;
        }
        Ok(())
    }

    /// Takes the next cut that is not behind us.
    fn next_cut(&self, first: u64) -> u64 {
        let cut = self.cuts.lock().unwrap().pop_front();
        cut.map_or(self.pattern.length, |cut| cut.max(first))
    }
}

fn at_once(resumes: u32) -> ResumePolicy {
    ResumePolicy::default().max_resumes(resumes).backoff(Backoff::fixed(Duration::ZERO))
}

async fn get(url: String, resume: ResumeLayer) -> impl Body<Data = Bytes, Error = Error> {
    let transport = Transport::builder().build().unwrap();
    let client = resume.layer(RetryLayer::new(Policy::default()).layer(transport));
    let request = Request::get(url).header(header::ACCEPT_ENCODING, "identity");
    let answer = client.oneshot(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

#[tokio::test]
async fn a_download_that_is_cut_200_times_arrives_byte_exact() {
    let mib: u64 = std::env::var("REDIAL_DOWNLOAD_MIB").map_or(1_024, |mib| mib.parse().unwrap());
    let pattern = Pattern::new(mib << 20);
    let entropy = Entropy::seeded(SEED);
    let mut cuts: Vec<_> = (0..CUTS).map(|_| entropy.draw() % pattern.length).collect();
    cuts.sort_unstable();
    let (server, address) = Server::start(pattern.clone(), cuts.clone()).await;
    let resumed = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&resumed);
    let layer = ResumeLayer::new(at_once(CUTS)).observe(move |_: &Call<'_>, event: &Event| {
        let Event::Resumed { at } = event else { panic!("{event:?}") };
        note.lock().unwrap().push(*at);
    });
    let mut body = pin!(get(format!("http://{address}/file"), layer).await);
    let mut at = 0;
    while let Some(frame) = body.frame().await {
        let bytes = frame.unwrap().into_data().unwrap();
        assert!(pattern.has(at, &bytes), "at {at} of seed {SEED}: {cuts:?}");
        at += bytes.len() as u64;
    }
    assert_eq!(at, pattern.length);
    let (asked, resumed) = (server.asked.lock().unwrap(), resumed.lock().unwrap());
    assert_eq!((asked[0], &asked[1..]), (0, &resumed[..]), "each asked only for the rest");
    assert!(asked.is_sorted());
    assert_eq!(resumed.len(), cuts.len());
}

#[tokio::test]
async fn one_resume_too_few_is_an_error_after_the_right_bytes() {
    let pattern = Pattern::new(100_000);
    let (_, address) = Server::start(pattern.clone(), [10_000, 20_000, 30_000]).await;
    let layer = ResumeLayer::new(at_once(2));
    let mut body = pin!(get(format!("http://{address}/file"), layer).await);
    let mut at = 0;
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(frame) => {
                let bytes = frame.into_data().unwrap();
                assert!(pattern.has(at, &bytes));
                at += bytes.len() as u64;
            }
            Err(error) => break error,
        }
    };
    assert_eq!((at, error.fault()), (30_000, redial::core::Fault::ResponseTruncated));
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn whatever_byte_it_breaks_off_at_the_body_is_whole() {
    const LENGTH: usize = 120;
    let file = Pattern::new(LENGTH as u64).from(0);
    for cut in 0..LENGTH {
        let whole = file.clone();
        let upstream = Upstream::with(move |request| {
            let answer = Reply::file(request, whole.clone(), "\"v1\"");
            if request.header("range").is_none() { answer.truncate_at(cut) } else { answer }
        })
        .await;
        // From byte 0 on there is no range to tell the second request by.
        let resumes = u32::from(0 < cut);
        let body = get(upstream.url("/file"), ResumeLayer::new(at_once(resumes))).await;
        let read = body.collect().await;
        match cut {
            0 => assert!(read.is_err()),
            _ => assert_eq!(read.unwrap().to_bytes(), file, "cut at {cut}"),
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_was_announced_ends_with_an_error() {
    let pattern = Pattern::new(300_000);
    let digest = Pattern::new(299_999).digest();
    let whole: Bytes = {
        let mut bytes = Vec::new();
        while bytes.len() < 300_000 {
            bytes.extend_from_slice(&pattern.from(bytes.len() as u64));
        }
        bytes.into()
    };
    for cut in [None, Some(100_000)] {
        let (whole, digest) = (whole.clone(), digest.clone());
        let upstream = Upstream::with(move |request| {
            let answer = Reply::file(request, whole.clone(), "\"v1\"");
            let answer = answer.header("repr-digest", digest.clone());
            match cut.filter(|_| request.header("range").is_none()) {
                Some(cut) => answer.truncate_at(cut),
                None => answer,
            }
        })
        .await;
        let body = get(upstream.url("/file"), ResumeLayer::new(at_once(3))).await;
        let error = body.collect().await.unwrap_err();
        let wrong = Rejection::WrongDigest { algorithm: "sha-256" };
        assert_eq!(error.rejection(), Some(&wrong), "{error}");
    }
}

const CUTS: u32 = 200;
const SEED: u64 = 0x5eed_0001;
/// A prime number.
const PERIOD_BYTES: usize = 1_000_003;
