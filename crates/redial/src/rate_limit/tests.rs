use std::{
    future::{Ready, poll_fn, ready},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use http::Response;
use redial_core::{FieldName, Policy};
use tokio::time::Instant as Clock;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{BoxError, DeadlineLayer, PolicyCell};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Log = Arc<Mutex<Vec<(Duration, String)>>>;

fn ten_a_second() -> RateLimitPolicy {
    RateLimitPolicy::new(10, SECOND).unwrap()
}

fn to(uri: &'static str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn path(n: usize) -> Request<()> {
    Request::get(format!("http://shop.example/{n}")).body(()).unwrap()
}

/// A service that notes when each request came, and its path.
fn noting(
    log: &Log,
) -> impl Service<Request<()>, Response = Response<()>, Error = BoxError, Future: Send> + Clone + use<>
{
    let (log, started) = (Arc::clone(log), Clock::now());
    service_fn(move |request: Request<()>| {
        log.lock().unwrap().push((started.elapsed(), request.uri().path().to_owned()));
        ready(Ok(Response::new(())))
    })
}

async fn goes<S>(service: &S, request: Request<()>) -> Result<(), Rejection>
where
    S: Service<Request<()>, Response = Response<()>, Error = BoxError> + Clone,
{
    let outcome = service.clone().oneshot(request).await;
    outcome.map(|_| ()).map_err(|error| *error.downcast::<Rejection>().unwrap())
}

fn refused(retry_after: Duration) -> Result<(), Rejection> {
    Err(Rejection::RateLimited { retry_after })
}

#[tokio::test(start_paused = true)]
async fn a_call_above_the_rate_is_refused_and_told_when_to_come_again() {
    let log = Log::default();
    let service = RateLimitLayer::new(ten_a_second()).layer(noting(&log));
    assert_eq!(goes(&service, path(1)).await, Ok(()));
    assert_eq!(goes(&service, path(2)).await, refused(MILLI * 100));
    tokio::time::advance(MILLI * 99).await;
    assert_eq!(goes(&service, path(3)).await, refused(MILLI));
    tokio::time::advance(MILLI).await;
    assert_eq!(goes(&service, path(4)).await, Ok(()));
    assert_eq!(log.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_everything_goes() {
    let log = Log::default();
    let service = RateLimitLayer::new(None).layer(noting(&log));
    for n in 0..100 {
        assert_eq!(goes(&service, path(n)).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_go_evenly_and_in_the_order_in_which_they_came() {
    let log = Log::default();
    let policy = ten_a_second().max_wait(SECOND).unwrap();
    let service = RateLimitLayer::new(policy).layer(noting(&log));
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let mut service = service.clone();
            tokio::spawn(service.call(path(n)))
        })
        .collect();
    let mut refused = 0;
    for call in calls {
        refused += u32::from(call.await.unwrap().is_err());
    }
    assert_eq!(refused, 9, "one goes at once, ten fit in the second");
    let log = log.lock().unwrap();
    for (n, (at, path)) in log.iter().enumerate() {
        assert_eq!(path, &format!("/{n}"));
        assert_eq!(*at, MILLI * 100 * u32::try_from(n).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_turn_would_come_too_late_for_its_deadline_is_refused_at_once() {
    let log = Log::default();
    let policy = ten_a_second().max_wait(SECOND * 60).unwrap();
    let limits = RateLimits::new();
    let layer = RateLimitLayer::new(policy).limits(limits.clone());
    let service = layer.layer(noting(&log));
    assert_eq!(goes(&service, path(1)).await, Ok(()));
    let within = |span| {
        let inner = layer.layer(noting(&log));
        let body = |outcome: Result<Response<()>, BoxError>| {
            outcome.map(|response| response.map(|()| http_body_util::Empty::<bytes::Bytes>::new()))
        };
        DeadlineLayer::new(span).layer(inner.map_result(body)).oneshot(path(2))
    };
    let started = Clock::now();
    for span in [MILLI * 50, MILLI * 100] {
        let error = within(span).await.err().unwrap().downcast::<Rejection>().unwrap();
        assert_eq!(*error, Rejection::RateLimited { retry_after: MILLI * 100 });
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(within(MILLI * 101).await.is_ok());
    assert_eq!(started.elapsed(), MILLI * 100);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_that_waits_gives_its_turn_back() {
    let log = Log::default();
    let policy = ten_a_second().max_wait(SECOND).unwrap();
    let mut service = RateLimitLayer::new(policy).layer(noting(&log));
    assert_eq!(goes(&service, path(0)).await, Ok(()));
    let [first, second, third] = [1, 2, 3].map(|n| service.call(path(n)));
    drop(third);
    drop(second);
    let started = Clock::now();
    let fourth = service.call(path(4));
    drop(first);
    assert!(fourth.await.is_ok());
    assert_eq!(started.elapsed(), MILLI * 200, "the second turn; the first is lost");
    assert_eq!(goes(&service, path(5)).await, Ok(()));
    assert_eq!(started.elapsed(), MILLI * 300, "and no more than that one");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_started_keeps_its_turn_when_it_is_dropped() {
    let policy = ten_a_second().max_wait(SECOND).unwrap();
    let started =
        service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, BoxError>>());
    let mut service = RateLimitLayer::new(policy).layer(started);
    drop(service.call(path(0)));
    let waiting = service.call(path(1));
    assert!(tokio::time::timeout(MILLI * 150, waiting).await.is_err());
    let limits = &service.shared.limits;
    let wait = limits.origins.with(path(0).uri(), &policy, |limiter| limiter.wait(clock::now()));
    assert_eq!(wait, MILLI * 50);
}

#[tokio::test(start_paused = true)]
async fn each_origin_has_a_rate_of_its_own_unless_all_share_one() {
    let [own, shared] = [RateKey::Origin, RateKey::All]
        .map(|key| RateLimitLayer::new(ten_a_second().key(key)).layer(noting(&Log::default())));
    let origins = ["http://a.example/", "http://b.example/", "http://A.example/", "/"];
    let [mut of_own, mut of_shared] = [Vec::new(), Vec::new()];
    for origin in origins {
        of_own.push(goes(&own, to(origin)).await.is_ok());
        of_shared.push(goes(&shared, to(origin)).await.is_ok());
    }
    assert_eq!(of_own, [true, true, false, true]);
    assert_eq!(of_shared, [true, false, false, false]);
}

#[tokio::test(start_paused = true)]
async fn each_value_of_a_header_field_has_a_rate_of_its_own() {
    let name = FieldName::new("X-Tenant").unwrap();
    let policy = ten_a_second().key(RateKey::Field(name));
    let service = RateLimitLayer::new(policy).layer(noting(&Log::default()));
    let of = |tenant: Option<&str>| {
        let builder = Request::get("http://a.example/");
        match tenant {
            Some(tenant) => builder.header("x-tenant", tenant).body(()).unwrap(),
            None => builder.body(()).unwrap(),
        }
    };
    let mut went = Vec::new();
    for tenant in [Some("one"), Some("two"), Some("one"), None, None] {
        went.push(goes(&service, of(tenant)).await.is_ok());
    }
    assert_eq!(went, [true, true, false, true, false], "those without one share one");
    let [long, longer] = [256, 257].map(|length| "t".repeat(length));
    assert!(goes(&service, of(Some(&long))).await.is_ok());
    assert!(goes(&service, of(Some(&longer))).await.is_err(), "256 bytes tell keys apart");
}

#[tokio::test(start_paused = true)]
async fn a_key_can_be_any_function_of_the_head() {
    let layer = RateLimitLayer::new(ten_a_second()).key_by(|head| match head.uri.query() {
        Some(query) => query.as_bytes().into(),
        None => format!("{}", head.method).into_bytes().into(),
    });
    let service = layer.layer(noting(&Log::default()));
    let mut went = Vec::new();
    for uri in ["/?a", "/?b", "/other?a", "/", "/other", "/?GET"] {
        went.push(goes(&service, to(uri)).await.is_ok());
    }
    assert_eq!(went, [true, true, false, true, false, false]);
    let off = RateLimitLayer::new(None).key_by(|_| b"".into()).layer(noting(&Log::default()));
    assert!(goes(&off, path(1)).await.is_ok() && goes(&off, path(2)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn clones_and_clients_that_are_given_the_same_limits_keep_to_one_rate() {
    let limits = RateLimits::default();
    assert!(limits.is_empty());
    let [one, two] = [(), ()].map(|()| {
        let layer = RateLimitLayer::new(ten_a_second()).limits(limits.clone());
        layer.layer(noting(&Log::default()))
    });
    assert_eq!(goes(&one, path(1)).await, Ok(()));
    assert_eq!(goes(&one.clone(), path(2)).await, refused(MILLI * 100));
    assert_eq!(goes(&two, path(3)).await, refused(MILLI * 100));
    assert_eq!(format!("{limits:?}"), "RateLimits { len: 1 }");
}

#[tokio::test(start_paused = true)]
async fn routes_with_rates_of_their_own_do_not_stand_in_each_others_way() {
    let own = |permits| {
        let mut request = path(1);
        let rate_limit = Some(RateLimitPolicy::new(permits, SECOND).unwrap());
        request.extensions_mut().insert(Arc::new(Policy { rate_limit, ..Policy::default() }));
        request
    };
    let service = RateLimitLayer::new(PolicyCell::new(Policy::default()));
    let service = service.layer(noting(&Log::default()));
    let mut went = [0, 0];
    for _ in 0..1_000 {
        went[0] += u32::from(goes(&service, own(100)).await.is_ok());
        went[1] += u32::from(goes(&service, own(5)).await.is_ok());
        assert!(goes(&service, path(1)).await.is_ok(), "no rate rules here");
        tokio::time::advance(MILLI * 5).await;
    }
    assert!((500..=510).contains(&went[0]) && (24..=26).contains(&went[1]), "{went:?}");
    assert_eq!(service.shared.limits.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_switched_rules_at_once_and_brings_no_burst_with_it() {
    let with = |permits: u32, burst| {
        let policy = RateLimitPolicy::new(permits, SECOND).unwrap().burst(burst).unwrap();
        Policy { rate_limit: Some(policy), ..Policy::default() }
    };
    let cell = PolicyCell::new(with(10, 5));
    let service = RateLimitLayer::new(cell.clone()).layer(noting(&Log::default()));
    for _ in 0..5 {
        assert_eq!(goes(&service, path(1)).await, Ok(()));
    }
    cell.switch(with(20, 5));
    assert_eq!(goes(&service, path(1)).await, Ok(()), "one is always left");
    assert_eq!(goes(&service, path(1)).await, refused(MILLI * 50));
    cell.switch(with(10, 5));
    assert_eq!(goes(&service, path(1)).await, refused(MILLI * 100), "nothing was forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_tenants_do_not_fill_the_memory() {
    let limits = RateLimits::bounded(64);
    let layer = RateLimitLayer::new(ten_a_second()).limits(limits.clone());
    let service = layer.key_by(|head| head.uri.path().as_bytes().into());
    let service = service.layer(noting(&Log::default()));
    for n in 0..100_000 {
        assert_eq!(goes(&service, path(n)).await, Ok(()));
    }
    assert_eq!(limits.len(), 64);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&told);
    let observe = move |call: &Call<'_>, event: &Event| {
        note.lock().unwrap().push((call.uri.path().to_owned(), *event));
    };
    let layer = RateLimitLayer::new(ten_a_second()).observe(observe);
    let service = layer.layer(noting(&Log::default()));
    assert_eq!(goes(&service, path(1)).await, Ok(()));
    assert_eq!(goes(&service, path(2)).await, refused(MILLI * 100));
    let expected = ("/2".to_owned(), Event::Refused { by: "rate_limited" });
    assert_eq!(*told.lock().unwrap(), [expected]);
}

/// A service that is ready once for each time that it was asked.
struct Strict {
    is_ready: bool,
    calls: Arc<AtomicU32>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { is_ready: false, calls: Arc::clone(&self.calls) }
    }
}

#[derive(Debug)]
struct Refused;

impl From<Rejection> for Refused {
    fn from(_: Rejection) -> Self {
        Self
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<()>;
    type Error = Refused;
    type Future = Ready<Result<Response<()>, Refused>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(mem::take(&mut self.is_ready), "called without having been made ready");
        self.calls.fetch_add(1, Ordering::Relaxed);
        ready(Ok(Response::new(())))
    }
}

#[tokio::test(start_paused = true)]
async fn only_an_instance_that_was_made_ready_is_called_at_once_or_after_a_wait() {
    let strict = Strict { is_ready: false, calls: Arc::default() };
    let calls = Arc::clone(&strict.calls);
    let policy = ten_a_second().max_wait(SECOND).unwrap();
    let mut service = RateLimitLayer::new(policy).layer(strict);
    let mut waiting = Vec::new();
    for n in 0..5 {
        poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
        waiting.push(service.call(path(n)));
    }
    for call in waiting {
        call.await.unwrap();
    }
    assert_eq!(calls.load(Ordering::Relaxed), 5);
}
