use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use http::{HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{BoxError, Rejection, TraceId, current_trace};

const MS: Duration = Duration::from_millis(1);

type Fields<'a> = &'a [(&'static str, &'static str)];

/// What a handler saw, and what became of it.
#[derive(Default)]
struct Handler {
    works: Duration,
    left: Mutex<Vec<Option<Duration>>>,
    trace: Mutex<Option<TraceId>>,
    baggage: Mutex<Option<String>>,
    dropped: AtomicU32,
}

struct Guard(Arc<Handler>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Handler {
    fn working(works: Duration) -> Arc<Self> {
        Arc::new(Self { works, ..Self::default() })
    }

    async fn handle(self: Arc<Self>) -> Result<Response<Full<Bytes>>, Infallible> {
        let _guard = Guard(Arc::clone(&self));
        let left = current_deadline().map(|deadline| deadline.remaining(clock::now()));
        self.left.lock().unwrap().push(left);
        *self.trace.lock().unwrap() = current_trace();
        let context = CallContext::current();
        *self.baggage.lock().unwrap() = context.baggage().map(|all| all.as_str().to_owned());
        tokio::time::sleep(self.works).await;
        Ok(Response::new(Full::from("done")))
    }

    fn left(&self) -> Vec<Option<Duration>> {
        self.left.lock().unwrap().clone()
    }
}

fn request(fields: Fields<'_>) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in fields {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
        request.headers_mut().append(name, value);
    }
    request
}

async fn ask(
    layer: InboundLayer,
    handler: &Arc<Handler>,
    fields: Fields<'_>,
) -> Response<InboundBody<Full<Bytes>>> {
    let handler = Arc::clone(handler);
    let service = layer.layer(service_fn(move |_| Arc::clone(&handler).handle()));
    service.oneshot(request(fields)).await.unwrap()
}

async fn text(answer: Response<InboundBody<Full<Bytes>>>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_handler_has_the_time_that_its_caller_gave() {
    let handler = Handler::working(MS * 299);
    let answer = ask(InboundLayer::new(), &handler, &[("redial-timeout-ms", "300")]).await;
    assert_eq!((answer.status(), text(answer).await.as_str()), (StatusCode::OK, "done"));
    assert_eq!(handler.left(), [Some(MS * 300)]);
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_up_the_handler_is_dropped_and_the_caller_is_told() {
    let handler = Handler::working(MS * 1_000);
    let started = tokio::time::Instant::now();
    let layer = InboundLayer::new().named("orders").unwrap();
    let answer = ask(layer, &handler, &[("redial-timeout-ms", "300")]).await;
    assert_eq!(started.elapsed(), MS * 300);
    assert_eq!(handler.dropped.load(Ordering::Relaxed), 1);
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(
        answer.headers()["proxy-status"],
        "orders; error=http_response_timeout; details=\"the caller's time is up\""
    );
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let bytes = answer.body().size_hint().exact();
    let text = text(answer).await;
    assert!(text.contains("\"status\":504"), "{text}");
    assert_eq!(bytes, u64::try_from(text.len()).ok());
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_says_when_its_time_is_up_is_not_the_reason() {
    for (works, status) in [(MS * 99, 500), (MS * 100, 504)] {
        let handler = service_fn(move |_| async move {
            tokio::time::sleep(works).await;
            Ok::<_, BoxError>(Response::builder().status(500).body(Full::<Bytes>::default())?)
        });
        let service = InboundLayer::new().layer(handler);
        let answer = service.oneshot(request(&[("redial-timeout-ms", "100")])).await.unwrap();
        assert_eq!(answer.status(), status, "{works:?}");
    }
    for (works, is_up) in [(MS * 98, false), (MS * 99, true), (MS * 100, true)] {
        let handler = service_fn(move |_| async move {
            tokio::time::sleep(works).await;
            Err::<Response<Full<Bytes>>, BoxError>("no time for another attempt".into())
        });
        let service = InboundLayer::new().layer(handler);
        let outcome = service.oneshot(request(&[("redial-timeout-ms", "100")])).await;
        assert_eq!(outcome.is_ok_and(|answer| answer.status() == 504), is_up, "{works:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_too_late_never_reaches_the_handler() {
    let handler = Handler::working(Duration::ZERO);
    let table = [("0", MS), ("0", Duration::ZERO), ("49", MS * 50)];
    for (left, min) in table {
        let layer = InboundLayer::new().min(min);
        let answer = ask(layer, &handler, &[("redial-timeout-ms", left)]).await;
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT, "{left}");
        assert_eq!(
            answer.headers()["proxy-status"],
            "redial; error=http_response_timeout; details=\"too little time left to begin\""
        );
    }
    assert!(handler.left().is_empty());
    let layer = InboundLayer::new().min(MS * 50);
    assert_eq!(ask(layer, &handler, &[("redial-timeout-ms", "50")]).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_is_told_by_its_status() {
    let handler = Handler::working(MS * 1_000);
    for timeout in ["100m", "1n"] {
        let fields = [("content-type", "application/grpc"), ("grpc-timeout", timeout)];
        let answer = ask(InboundLayer::new(), &handler, &fields).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["grpc-status"], "4");
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        assert!(answer.body().is_end_stream(), "trailers only");
    }
    assert_eq!(handler.left(), [Some(MS * 100)], "one nanosecond is too late");
}

#[tokio::test(start_paused = true)]
async fn the_shortest_field_rules_up_to_the_maximum_and_malformed_ones_do_not() {
    let hour = Duration::from_secs(3_600);
    let table: [(Fields<'_>, Option<Duration>); 6] = [
        (&[("redial-timeout-ms", "900"), ("grpc-timeout", "700m")], Some(MS * 700)),
        (&[("x-envoy-expected-rq-timeout-ms", "20"), ("grpc-timeout", "1S")], Some(MS * 20)),
        (&[("redial-timeout-ms", "999999999999999")], Some(hour)),
        (&[("redial-timeout-ms", "soon")], None),
        (&[("redial-timeout-ms", "-5"), ("grpc-timeout", "8S")], Some(MS * 8_000)),
        (&[], None),
    ];
    for (fields, left) in table {
        let handler = Handler::working(Duration::ZERO);
        ask(InboundLayer::new(), &handler, fields).await;
        assert_eq!(handler.left(), [left], "{fields:?}");
    }
    let handler = Handler::working(Duration::ZERO);
    let layer = InboundLayer::new().max(MS * 500).default_to(MS * 200);
    for (fields, left) in [(&[("grpc-timeout", "2S")][..], 500), (&[], 200)] {
        ask(layer.clone(), &handler, fields).await;
        assert_eq!(handler.left().last(), Some(&Some(MS * left)));
    }
}

#[tokio::test(start_paused = true)]
async fn within_a_call_that_has_a_deadline_the_earlier_one_rules() {
    let handler = Handler::working(MS * 1_000);
    let outer = CallContext::default().with_deadline(Deadline::after(clock::now(), MS * 100));
    let inner = ask(InboundLayer::new(), &handler, &[("redial-timeout-ms", "300")]);
    assert_eq!(outer.clone().carry(inner).await.status(), 504);
    assert_eq!(handler.left(), [Some(MS * 100)]);
    let passed = ask(InboundLayer::new(), &handler, &[]);
    assert_eq!(outer.carry(passed).await.status(), 504, "its time is up before it begins");
    assert_eq!(handler.left().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_the_trace_and_the_baggage_of_its_caller() {
    let parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let handler = Handler::working(Duration::ZERO);
    let fields = [parent, ("baggage", "tenant=7,,a=b")];
    ask(InboundLayer::new(), &handler, &fields).await;
    let seen = || (*handler.trace.lock().unwrap(), handler.baggage.lock().unwrap().clone());
    let (trace, baggage) = seen();
    assert_eq!(trace.unwrap().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(baggage.as_deref(), Some("tenant=7,a=b"));

    ask(InboundLayer::new().untrusted(), &handler, &fields).await;
    let (own, baggage) = seen();
    assert!(own.is_some() && own != trace && baggage.is_none());

    for fields in [&[][..], &[("traceparent", "nonsense"), ("tracestate", "a=1")]] {
        ask(InboundLayer::new(), &handler, fields).await;
        assert!(seen().0.is_some_and(|id| Some(id) != trace && Some(id) != own), "a new one");
        ask(InboundLayer::new().without_new_traces(), &handler, fields).await;
        assert_eq!(seen().0, None);
    }
}

/// A body without an end: a piece at each tick, or always one more.
struct Endless {
    ticks: Option<tokio::time::Interval>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        assert!(current_deadline().is_some(), "a body belongs to its call");
        if let Some(ticks) = &mut self.ticks {
            ready!(ticks.poll_tick(cx));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
    }
}

async fn endless(is_slow: bool, fields: Fields<'_>) -> Pin<Box<InboundBody<Endless>>> {
    let handler = service_fn(async |_| {
        let ticks = is_slow.then(|| tokio::time::interval(MS * 100));
        Ok::<_, Infallible>(Response::new(Endless { ticks }))
    });
    let answer = InboundLayer::new().layer(handler).oneshot(request(fields)).await.unwrap();
    Box::pin(answer.into_body())
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_begun_breaks_off() {
    let started = tokio::time::Instant::now();
    let mut body = endless(true, &[("redial-timeout-ms", "250")]).await;
    for _ in 0..3 {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "piece");
    }
    let error: BoxError = body.frame().await.unwrap().unwrap_err();
    let rejection = error.downcast::<Rejection>().unwrap();
    assert_eq!(*rejection, Rejection::DeadlineExceeded { after: MS * 250 });
    assert_eq!(started.elapsed(), MS * 250);
    assert!(body.frame().await.is_none(), "what made it is gone");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_grpc_that_has_begun_ends_in_a_status() {
    let fields = [("content-type", "application/grpc"), ("grpc-timeout", "50m")];
    let mut body = endless(true, &fields).await;
    assert!(body.frame().await.unwrap().unwrap().is_data());
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "4");
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_always_has_more_breaks_off_all_the_same() {
    let mut body = endless(false, &[("redial-timeout-ms", "250")]).await;
    assert!(body.frame().await.unwrap().is_ok());
    tokio::time::advance(MS * 250).await;
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_whole_is_whole_also_after_the_time_was_up() {
    let handler = Handler::working(Duration::ZERO);
    let answer = ask(InboundLayer::new(), &handler, &[("redial-timeout-ms", "250")]).await;
    let mut body = answer.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    tokio::time::advance(MS * 300).await;
    assert!(body.frame().await.is_none());
}
