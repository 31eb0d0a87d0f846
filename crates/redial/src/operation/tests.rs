use std::{
    cell::{Cell, RefCell},
    sync::{Arc, Mutex},
};

use tokio::time::Instant as TokioInstant;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn steady(max_retries: u32) -> RepeatPolicy {
    let backoff = Backoff::fixed(MS * 100).jitter(Jitter::None).unwrap();
    RepeatPolicy { max_retries, backoff, deadline: None }
}

fn always(error: &'static str) -> impl FnMut() -> std::future::Ready<Result<(), &'static str>> {
    move || std::future::ready(Err(error))
}

#[test]
fn the_default_schedule_is_the_one_people_know() {
    let policy = RepeatPolicy::default();
    assert_eq!(policy.max_retries, 3);
    assert_eq!(policy.backoff.bounds(1), (MS * 250, MS * 750));
    assert_eq!(policy.backoff.ceiling(2), MS * 750);
    assert_eq!(policy.backoff.ceiling(100), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn transient_errors_are_retried_and_told() {
    let mut told = Vec::new();
    let mut attempts = 0;
    let started = TokioInstant::now();
    let op = || {
        attempts += 1;
        let attempt = attempts;
        async move { if attempt < 3 { Err("busy")? } else { Ok::<_, Failure<_>>(attempt) } }
    };
    let outcome = retry_notify(steady(5), op, |error, wait| told.push((*error, wait))).await;
    assert_eq!(outcome, Ok(3));
    assert_eq!(told, [("busy", MS * 100), ("busy", MS * 100)]);
    assert_eq!(started.elapsed(), MS * 200);
}

#[tokio::test(start_paused = true)]
async fn permanent_errors_and_the_last_one_come_as_they_are() {
    let mut attempts = 0;
    let mut run = |failure: Failure<&'static str>| {
        attempts += 1;
        std::future::ready(Err::<(), _>(failure))
    };
    let outcome = retry(steady(5), || run(Failure::permanent("gone"))).await;
    assert_eq!(outcome, Err("gone"));
    let outcome = retry(steady(2), || run(Failure::Transient("busy"))).await;
    assert_eq!(outcome, Err("busy"));
    assert_eq!(attempts, 1 + 3);
}

#[tokio::test(start_paused = true)]
async fn all_errors_are_kept_when_asked_for() {
    let numbers = Arc::new(Mutex::new(0..));
    let op = move || std::future::ready(Err::<(), _>(numbers.lock().unwrap().next()));
    let failed = retrying(op).max_retries(2).delay(MS).last_error_only(false).await.unwrap_err();
    assert_eq!(failed.errors(), [Some(0), Some(1), Some(2)]);
    assert_eq!((failed.attempts(), failed.stop()), (3, Stop::RetriesExhausted));
    assert_eq!(failed.into_last(), Some(Some(2)));

    let failed = retrying(always("busy")).max_retries(2).delay(MS).await.unwrap_err();
    assert_eq!((failed.errors(), failed.attempts()), (&["busy"][..], 3));
    assert_eq!(failed.to_string(), "failed after 3 attempts, no retries are left: busy");
}

#[tokio::test(start_paused = true)]
async fn what_the_predicate_refuses_is_permanent() {
    let failed = retrying(always("fatal")).retry_if(|error| *error != "fatal").await.unwrap_err();
    assert_eq!((failed.attempts(), failed.stop()), (1, Stop::Permanent));
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let started = TokioInstant::now();
    let retrying = retrying(always("busy")).max_retries(99).delay(MS * 100).deadline(MS * 250);
    let failed = retrying.await.unwrap_err();
    assert_eq!((failed.attempts(), failed.stop()), (3, Stop::Deadline));
    assert_eq!(started.elapsed(), MS * 200);
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_the_waits() {
    let run = |seed| async move {
        let started = TokioInstant::now();
        let _ = retrying(always("busy")).seed(seed).await;
        started.elapsed()
    };
    assert_eq!(run(5).await, run(5).await);
    assert_ne!(run(5).await, run(6).await);
}

#[test]
fn a_thread_waits_by_sleeping() {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
    let start = Instant::now();
    let (now, calls) = (Cell::new(start), Cell::new(0));
    let waits = RefCell::new(Vec::new());
    let op = || {
        calls.set(calls.get() + 1);
        if calls.get() < 3 { Err("busy") } else { Ok(calls.get()) }
    };
    let sleep = |wait: Duration| {
        waits.borrow_mut().push(wait);
        now.set(now.get() + wait);
    };
    let retried = retrying_blocking(op).delay(MS * 50);
    assert_eq!(retried.call_blocking_with(|| now.get(), sleep), Ok(3));
    assert_eq!(*waits.borrow(), [MS * 50, MS * 50]);

    let failed = retrying_blocking(|| Err::<(), _>("busy"))
        .max_retries(99)
        .delay(MS * 50)
        .deadline(MS * 120)
        .notify(|_, _| {})
        .call_blocking_with(|| now.get(), sleep);
    assert_eq!(failed.unwrap_err().attempts(), 3);
}

#[test]
fn errors_of_errors_are_found() {
    let failed: Exhausted<std::io::Error> =
        retrying_blocking(|| Err::<(), _>(std::io::Error::other("disk")))
            .max_retries(0)
            .call_blocking()
            .unwrap_err();
    assert_eq!(StdError::source(&failed).unwrap().to_string(), "disk");
    let debug = format!("{:?}", retrying(always("x")));
    assert!(debug.starts_with("Retrying"));
}
