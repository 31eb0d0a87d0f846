//! Which calls are hedged, what their copies carry, who pays, and who is told.

use std::{collections::VecDeque, pin::Pin, sync::Mutex};

use http::{HeaderMap, Method};
use http_body::Frame;
use http_body_util::BodyExt;
use redial_core::Event;

use super::*;
use crate::observe::Call;

const SLOW: u64 = 9_000;

/// A body of several frames.
struct Pieces(VecDeque<Frame<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

async fn copies(policy: Policy, request: Request<Full<Bytes>>) -> Play {
    let play = Play::new([after(SLOW, status(200)), after(SLOW, status(200))]);
    let answer = HedgeLayer::new(policy).layer(play.clone()).oneshot(request).await;
    assert_eq!(answer.unwrap().status(), 200);
    play
}

#[tokio::test(start_paused = true)]
async fn a_post_is_sent_once_unless_it_has_a_key_or_is_declared_idempotent() {
    assert_eq!(copies(fixed(50), post()).await.hits(), 1);
    let declared = Policy { is_idempotent: true, ..fixed(50) };
    assert_eq!(copies(declared, post()).await.hits(), 2);
    let mut keyed = post();
    keyed.headers_mut().insert("idempotency-key", http::HeaderValue::from_static("\"k-1\""));
    let play = copies(fixed(50), keyed).await;
    let keys = play.heads().into_iter().map(|head| head.headers["idempotency-key"].clone());
    assert_eq!(keys.collect::<Vec<_>>(), ["\"k-1\"", "\"k-1\""], "the same key on every copy");
    assert_eq!(play.bodies(), ["one apple", "one apple"]);
}

#[tokio::test(start_paused = true)]
async fn idempotent_methods_are_hedged_and_upgrades_are_not() {
    for (method, hits) in [(Method::PUT, 2), (Method::DELETE, 2), (Method::PATCH, 1)] {
        let mut request = post();
        *request.method_mut() = method.clone();
        assert_eq!(copies(fixed(50), request).await.hits(), hits, "{method}");
    }
    let mut upgrade = get();
    upgrade.headers_mut().insert("upgrade", http::HeaderValue::from_static("websocket"));
    assert_eq!(copies(fixed(50), upgrade).await.hits(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_hedge_in_the_policy_everything_passes_as_it_is() {
    let policy = Policy { hedge: None, ..fixed(50) };
    assert_eq!(copies(policy.clone(), get()).await.hits(), 1);
    let mut own = get();
    own.extensions_mut().insert(Arc::new(fixed(50)));
    assert_eq!(copies(policy, own).await.hits(), 2, "a request's own policy rules");
    let cell = PolicyCell::new(fixed(50));
    let play = Play::new([after(SLOW, status(200)), after(SLOW, status(200))]);
    let client = HedgeLayer::new(cell.clone()).layer(play.clone());
    cell.switch(Policy { hedge: None, ..fixed(50) });
    client.oneshot(get()).await.unwrap();
    assert_eq!(play.hits(), 1, "a switch is followed at once");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_several_pieces_is_sent_once_and_whole() {
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-sum"),
        http::HeaderValue::from_static("42"),
    )]);
    let frames = ["one ", "apple"].map(|piece| Frame::data(Bytes::from(piece)));
    let frames = frames.into_iter().chain([Frame::trailers(trailers)]);
    let hits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&hits);
    let upstream = service_fn(move |request: Request<ReplayBody<_>>| {
        let seen = Arc::clone(&seen);
        async move {
            let body = request.into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned();
            seen.lock().unwrap().push((body.to_bytes(), trailers));
            tokio::time::sleep(millis(SLOW)).await;
            status(200)
        }
    });
    let body = Pieces(frames.collect());
    let request = Request::put("http://shop.example/").body(body).unwrap();
    HedgeLayer::new(fixed(50)).layer(upstream).oneshot(request).await.unwrap();
    let seen = hits.lock().unwrap().clone();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].0, "one apple");
    assert_eq!(seen[0].1.as_ref().unwrap()["x-sum"], "42");
}

#[tokio::test(start_paused = true)]
async fn copies_after_the_first_carry_their_number_and_the_answer_says_how_many_there_were() {
    let play = Play::new([after(SLOW, status(200)), after(10, status(200))]);
    let answer = HedgeLayer::new(fixed(50)).layer(play.clone()).oneshot(get()).await.unwrap();
    let numbers = play.heads().into_iter().map(|head| head.extensions.get().copied());
    assert_eq!(numbers.collect::<Vec<_>>(), [None, Some(AttemptNumber(2))]);
    assert_eq!(answer.extensions().get(), Some(&Attempts(2)));
    let answer = HedgeLayer::new(fixed(50)).layer(Play::new([])).oneshot(get()).await.unwrap();
    assert_eq!(answer.extensions().get::<Attempts>(), None);
}

#[tokio::test(start_paused = true)]
async fn a_failure_changes_the_next_copy_where_it_calls_for_it() {
    let play = Play::new([after(1, broken(Fault::ConnectionReset)), after(1, status(200))]);
    HedgeLayer::new(fixed(50)).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!(play.heads()[1].extensions.get(), Some(&Fresh), "not that connection again");
    let play = Play::new([after(1, broken(Fault::ConnectionReset)), after(1, status(503))]);
    HedgeLayer::new(four_copies()).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!(play.heads()[2].extensions.get::<Fresh>(), None, "a 503 came over a good one");
    let play = Play::new([after(1, status(417)), after(1, status(200))]);
    let mut request = get();
    request.headers_mut().insert("expect", http::HeaderValue::from_static("100-continue"));
    let answer = HedgeLayer::new(fixed(50)).layer(play.clone()).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!play.heads()[1].headers.contains_key("expect"));
}

fn with_tokens(initial: u32, hedge: HedgePolicy) -> Policy {
    let tokens = TokenBudget {
        initial: Some(Tokens::whole(initial)),
        floor_per_second: Tokens::ZERO,
        ..TokenBudget::default()
    };
    Policy { budget: BudgetPolicy::Tokens(tokens), ..hedged(hedge) }
}

fn left(budgets: &Budgets, policy: &Policy) -> f64 {
    let uri = Uri::from_static("http://shop.example/");
    let left = budgets.with(&uri, policy, |budget| budget.available(clock::now()));
    left.unwrap().as_f64()
}

#[tokio::test(start_paused = true)]
async fn a_hedge_costs_a_token_and_one_that_wins_gets_it_back() {
    let (budgets, policy) = (Budgets::new(), with_tokens(1, HedgePolicy::fixed(millis(50))));
    let layer = HedgeLayer::new(policy.clone()).budgets(budgets.clone());
    let play = Play::new([after(SLOW, status(200)), after(10, status(200))]);
    layer.layer(play).oneshot(get()).await.unwrap();
    let after_win = left(&budgets, &policy);
    assert_eq!(after_win.to_string(), "1.1", "refunded, and a tenth for the success");
    let play = Play::new([after(60, status(200)), after(SLOW, status(200))]);
    layer.layer(play).oneshot(get()).await.unwrap();
    assert_eq!(left(&budgets, &policy).to_string(), "0.2");
    let play = Play::new([after(SLOW, status(200)), after(10, status(200))]);
    let answer = layer.layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!((answer.status().as_u16(), play.hits()), (200, 1), "no token, no hedge");
}

#[tokio::test(start_paused = true)]
async fn without_a_token_a_failure_is_shown_at_once_even_where_a_wait_was_wished() {
    let policy = with_tokens(0, HedgePolicy::fixed(millis(50)));
    for failure in [status(503), wishing(503, "retry-after", "1")] {
        let play = Play::new([after(10, failure)]);
        let client = HedgeLayer::new(policy.clone()).layer(play.clone());
        let answer = client.oneshot(get()).await.unwrap();
        assert_eq!((answer.status().as_u16(), play.now(), play.hits()), (503, 10, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_counts_calls_is_told_of_each() {
    let window = WindowBudget::new(0.5, 0.0, millis(10_000)).unwrap();
    let policy = Policy { budget: BudgetPolicy::Window(window), ..fixed(50) };
    let layer = HedgeLayer::new(policy);
    let mut hits = Vec::new();
    for _ in 0..4 {
        let play = Play::new([after(100, status(200)), after(100, status(200))]);
        layer.layer(play.clone()).oneshot(get()).await.unwrap();
        hits.push(play.hits());
    }
    assert_eq!(hits, [1, 2, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_we_refuse_ourselves_does_not_end_the_call() {
    let full = || broken(Rejection::BulkheadFull { in_flight_max: 1 }.diagnose().fault);
    let play = Play::new([after(1_000, status(200)), after(1, full())]);
    let answer = HedgeLayer::new(four_copies()).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!((answer.status().as_u16(), play.now(), play.hits()), (200, 1_000, 2));
    let play = Play::new([after(1, full())]);
    HedgeLayer::new(four_copies()).layer(play.clone()).oneshot(get()).await.unwrap_err();
    assert_eq!(play.hits(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_another_copy_of_ours_may_have_caused_does_not_end_the_call() {
    let key = ("idempotency-key", http::HeaderValue::from_static("\"k-1\""));
    for (method, code) in
        [(Method::DELETE, 404), (Method::PUT, 412), (Method::POST, 409), (Method::PUT, 423)]
    {
        let mut request = post();
        *request.method_mut() = method.clone();
        request.headers_mut().insert(key.0, key.1.clone());
        let play = Play::new([after(1_000, status(201)), after(10, status(code))]);
        let client = HedgeLayer::new(four_copies()).layer(play.clone());
        let answer = client.oneshot(request).await.unwrap();
        assert_eq!((answer.status().as_u16(), play.hits()), (201, 2), "{method} {code}");
    }
    let play = Play::new([after(1_000, status(201)), after(10, status(400))]);
    let mut delete = get();
    *delete.method_mut() = Method::DELETE;
    let answer = HedgeLayer::new(four_copies()).layer(play.clone()).oneshot(delete).await.unwrap();
    assert_eq!((answer.status().as_u16(), play.now()), (400, 510), "that one is the request's own");
}

#[tokio::test(start_paused = true)]
async fn a_copy_waits_until_the_service_is_ready_for_it() {
    let play = Play::new([after(1_000, status(200)), after(10, status(204))]);
    let limited = tower::ServiceBuilder::new().concurrency_limit(1).service(play.clone());
    let client = HedgeLayer::new(fixed(50)).layer(limited);
    assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(play.hits(), 1, "the second copy was still waiting for its turn");

    let limited = tower::ServiceBuilder::new().concurrency_limit(2).service(play.clone());
    let client = HedgeLayer::new(fixed(50)).layer(limited);
    play.clear();
    play.put(Put::Both(after(100, status(200))));
    client.clone().oneshot(get()).await.unwrap();
    let mut client = client;
    assert!(client.ready().await.is_ok(), "every permit came back");
}

#[tokio::test(start_paused = true)]
async fn every_copy_sees_the_deadline() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&seen);
    let upstream = service_fn(move |_: Request<ReplayBody<Full<Bytes>>>| {
        book.lock().unwrap().push(current_deadline().is_some());
        let book = Arc::clone(&book);
        async move {
            tokio::time::sleep(millis(100)).await;
            book.lock().unwrap().push(current_deadline().is_some());
            status(200)
        }
    });
    let client = DeadlineLayer::new(millis(SLOW)).layer(HedgeLayer::new(fixed(50)).layer(upstream));
    client.oneshot(get()).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [true; 3]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_every_copy() {
    let play = Play::new([(); 4].map(|()| after(SLOW, status(200))));
    let call = HedgeLayer::new(four_copies()).layer(play.clone()).oneshot(get());
    let cut = tokio::time::timeout(millis(1_100), call).await;
    assert!(cut.is_err());
    assert_eq!((play.out(), play.dropped(), play.hits()), (0, 3, 3));
}

fn listening(policy: Policy) -> (HedgeLayer, Arc<Mutex<Vec<Event>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&told);
    let observe = move |_: &Call<'_>, event: &Event| book.lock().unwrap().push(*event);
    (HedgeLayer::new(policy).observe(observe), told)
}

fn names(told: &Mutex<Vec<Event>>) -> Vec<&'static str> {
    told.lock().unwrap().iter().map(Event::name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_loser_is_no_failure_in_what_observers_are_told() {
    let (layer, told) = listening(fixed(50));
    let play = Play::new([after(SLOW, status(200)), after(10, status(200))]);
    layer.layer(play).oneshot(get()).await.unwrap();
    let steps = ["attempt_started", "hedged", "attempt_started", "attempt_ended", "hedge_settled"];
    assert_eq!(names(&told), [&steps[..], &["succeeded"]].concat());
    let told = told.lock().unwrap();
    let cause = redial_core::HedgeCause::Delay;
    assert_eq!(told[1], Event::Hedged { attempt: 2, after: millis(50), cause });
    let Event::AttemptEnded { attempt, took, status, .. } = told[3] else { panic!("{told:?}") };
    assert_eq!((attempt, took, status), (2, millis(10), Some(200)), "from its own start");
    assert_eq!(told[4], Event::HedgeSettled { winner: 2, cancelled: 1 });
    assert_eq!(told[5], Event::Succeeded { attempts: 2 });
}

#[tokio::test(start_paused = true)]
async fn observers_are_told_why_a_call_was_given_up() {
    let cases = [
        (fixed(50), vec![after(1, status(500)), after(1, status(500))], Stop::RetriesExhausted),
        (fixed(50), vec![after(1, status(404))], Stop::Permanent),
        (
            with_tokens(0, HedgePolicy::fixed(millis(50))),
            vec![after(1, status(500))],
            Stop::BudgetExhausted,
        ),
        (fixed(50), vec![after(1, wishing(503, "retry-after", "999"))], Stop::PushbackTooLong),
    ];
    for (policy, script, stop) in cases {
        let (layer, told) = listening(policy);
        let attempts = u32::try_from(script.len()).unwrap();
        layer.layer(Play::new(script)).oneshot(get()).await.unwrap();
        let last = told.lock().unwrap().last().copied();
        assert_eq!(last, Some(Event::GaveUp { attempts, stop }));
    }
    let (layer, told) = listening(fixed(50));
    let call = layer.layer(Play::new([after(SLOW, status(200))])).oneshot(get());
    assert!(tokio::time::timeout(millis(10), call).await.is_err());
    let last = told.lock().unwrap().last().copied();
    assert_eq!(last, Some(Event::GaveUp { attempts: 1, stop: Stop::Cancelled }));
}
