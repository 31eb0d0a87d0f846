mod calls;
mod play;
mod promises;

use std::{future::Future, pin::pin, task::Waker};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use redial_core::{Fault, PushbackPolicy, Quantile, Stop, TokenBudget, Tokens, WindowBudget};
use tower::{ServiceExt, service_fn};

use self::play::{Play, Put, after, broken, get, hedged, millis, post, status, wishing};
use super::*;
use crate::{
    Attempts, DeadlineLayer, HedgeLayer, Rejection, current_deadline,
    diagnose::{AttemptNumber, Diagnosis, Fresh},
};

/// gRFC A6's example: four copies, half a second apart.
fn four_copies() -> Policy {
    hedged(HedgePolicy::fixed(millis(500)).with_max_hedges(3).unwrap())
}

fn fixed(delay: u64) -> Policy {
    hedged(HedgePolicy::fixed(millis(delay)))
}

#[tokio::test(start_paused = true)]
async fn copies_go_out_one_delay_after_another() {
    let play = Play::new([(); 4].map(|()| after(9_000, status(200))));
    let call = tokio::spawn(HedgeLayer::new(four_copies()).layer(play.clone()).oneshot(get()));
    let mut now = 0;
    for (at, out) in [(1, 1), (499, 1), (501, 2), (1_001, 3), (1_501, 4), (8_000, 4)] {
        tokio::time::sleep(millis(at - now)).await;
        now = at;
        assert_eq!(play.out(), out, "{at} ms");
    }
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
    assert_eq!(play.sent_at(), [0, 500, 1_000, 1_500]);
    assert_eq!((play.out(), play.ended(), play.dropped()), (0, 1, 3), "the losers were dropped");
}

#[tokio::test(start_paused = true)]
async fn a_failure_sends_the_next_copy_at_once_and_then_the_delay_holds_again() {
    for failure in [status(503), status(429), broken(Fault::ConnectionReset)] {
        let slow = || after(9_000, status(200));
        let play = Play::new([after(200, failure), slow(), slow()]);
        HedgeLayer::new(four_copies()).layer(play.clone()).oneshot(get()).await.unwrap();
        assert_eq!(play.sent_at(), [0, 200, 700, 1_200]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_every_copy_would_meet_ends_the_call_and_cancels_the_rest() {
    let play = Play::new([after(9_000, status(200)), after(100, status(404))]);
    let answer = HedgeLayer::new(four_copies()).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!((answer.status().as_u16(), play.now()), (404, 600));
    assert_eq!((play.out(), play.dropped()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn when_all_copies_fail_the_last_outcome_comes_as_it_is_and_nothing_more_is_sent() {
    let play = Play::new([after(700, status(500)), after(900, broken(Fault::ConnectionReset))]);
    let error = HedgeLayer::new(fixed(500)).layer(play.clone()).oneshot(get()).await.unwrap_err();
    assert_eq!((error.0, play.now()), (Fault::ConnectionReset, 1_400));
    assert_eq!(play.sent_at(), [0, 500]);

    let play = Play::new([after(10, status(500)), after(10, status(502)), after(10, status(504))]);
    let policy = hedged(HedgePolicy::fixed(millis(500)).with_max_hedges(2).unwrap());
    let answer = HedgeLayer::new(policy).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!((answer.status().as_u16(), play.now()), (504, 30));
    assert_eq!(answer.extensions().get(), Some(&Attempts(3)));
}

#[tokio::test(start_paused = true)]
async fn a_wish_of_the_upstream_moves_the_next_copy_and_then_the_delay_holds_again() {
    let pushed = wishing(503, "grpc-retry-pushback-ms", "1200");
    let play =
        Play::new([after(100, pushed), after(9_000, status(200)), after(9_000, status(200))]);
    let policy = hedged(HedgePolicy::fixed(millis(500)).with_max_hedges(2).unwrap());
    HedgeLayer::new(policy).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!(play.sent_at(), [0, 1_300, 1_800]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_never_undercut_and_its_jitter_only_adds() {
    let play = Play::new([after(100, wishing(429, "retry-after", "2"))]);
    HedgeLayer::new(fixed(500)).seed(7).layer(play.clone()).oneshot(get()).await.unwrap();
    let second = play.sent_at()[1];
    assert!((2_100..=2_600).contains(&second), "{second}");
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_no_more_stops_further_copies_and_those_that_are_out_may_win() {
    let refused = wishing(503, "grpc-retry-pushback-ms", "-1");
    let play = Play::new([after(2_000, status(200)), after(100, refused)]);
    let answer = HedgeLayer::new(four_copies()).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!((answer.status().as_u16(), play.now()), (200, 2_000));
    assert_eq!(play.sent_at(), [0, 500]);

    let play = Play::new([after(100, wishing(503, "x-should-retry", "false"))]);
    let answer = HedgeLayer::new(four_copies()).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!((answer.status().as_u16(), play.now(), play.hits()), (503, 100, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_is_too_long_shows_the_answer_at_once() {
    let wish = || Play::new([after(100, wishing(503, "retry-after", "3"))]);
    let mut policy = fixed(500);
    policy.retry = policy.retry.pushback(PushbackPolicy::new(millis(2_000), 0.0).unwrap());
    let play = wish();
    let answer = HedgeLayer::new(policy).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!((answer.status().as_u16(), play.now(), play.hits()), (503, 100, 1));

    let play = wish();
    let service = HedgeLayer::new(fixed(500)).layer(play.clone());
    let service = DeadlineLayer::new(millis(3_000)).layer(service);
    let answer = service.oneshot(get()).await.unwrap();
    assert_eq!((answer.status().as_u16(), play.now(), play.hits()), (503, 100, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_at_once_needs_no_timer() {
    let ready = service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async { status(200) });
    let client = HedgeLayer::new(Policy { hedge: Some(HedgePolicy::default()), ..fixed(1) });
    let mut client = client.layer(ready);
    // Outside the runtime, whoever makes a timer panics.
    let outside = std::thread::spawn(move || {
        let mut cx = Context::from_waker(Waker::noop());
        let call = pin!(client.call(get()));
        call.poll(&mut cx).is_ready()
    });
    assert!(outside.join().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_delay_of_nothing_sends_the_next_copy_without_a_timer() {
    let play = Play::new([after(50, status(200)), after(10, status(204))]);
    let answer = HedgeLayer::new(fixed(0)).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!((answer.status().as_u16(), play.sent_at()), (204, vec![0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_no_clock_can_hold_never_ends() {
    let play = Play::new([after(86_400_000, status(200))]);
    let policy = hedged(HedgePolicy::fixed(Duration::MAX));
    HedgeLayer::new(policy).layer(play.clone()).oneshot(get()).await.unwrap();
    assert_eq!(play.hits(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_delay_adapts_when_the_upstream_becomes_slower() {
    let play = Play::new([]);
    let layer = HedgeLayer::new(hedged(HedgePolicy::default()));
    let client = layer.layer(play.clone());
    for (latency, calls) in [(20, 300), (200, 300)] {
        for _ in 0..calls {
            play.put(Put::Both(after(latency, status(200))));
            // A clone shares what is known.
            client.clone().oneshot(get()).await.unwrap();
        }
        play.clear();
        let before = play.hits();
        play.put(Put::Both(after(9_000, status(200))));
        let started = play.now();
        client.clone().oneshot(get()).await.unwrap();
        let sent = play.sent_at()[before..].iter().map(|at| at - started).collect::<Vec<_>>();
        assert_eq!(sent.len(), 2, "{sent:?}");
        let slack = latency / 16 + 1;
        assert!(sent[1].abs_diff(latency) <= slack, "{latency} ms: {sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_origin_has_a_delay_of_its_own() {
    let play = Play::new([]);
    let client = HedgeLayer::new(hedged(HedgePolicy::default())).layer(play.clone());
    for _ in 0..200 {
        play.put(Put::One(after(20, status(200))));
        client.clone().oneshot(get()).await.unwrap();
    }
    let elsewhere = Request::get("http://else.example/").body(Full::default()).unwrap();
    let started = play.now();
    play.put(Put::Both(after(9_000, status(200))));
    client.clone().oneshot(elsewhere).await.unwrap();
    assert_eq!(play.sent_at().last().unwrap() - started, 500, "the initial delay");
}
