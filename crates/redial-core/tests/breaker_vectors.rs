//! Other projects' test vectors for breakers (CB), where a policy of ours agrees with theirs.
//! `vectors/README.md` lists what is left out, and why.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read should stop the test")]

#[path = "support/breaker.rs"]
mod bench;
#[path = "support/vectors.rs"]
mod support;

use std::time::Duration;

use bench::{Bench, only, waits};
use redial_core::{BreakerState, Counts, Health, Sample, SlidingCounts, TripReason, Window};
use serde_json::{Value, json};
use support::{
    Outcome::{self, Checked, LeftOut},
    run,
};

const SECOND: Duration = Duration::from_secs(1);
const WELL: Sample = Sample { is_failure: false, is_slow: false };
const FAILED: Sample = Sample { is_failure: true, is_slow: false };
const FAILED_SLOW: Sample = Sample { is_failure: true, is_slow: true };

#[test]
fn breaker_vectors_hold() {
    run("CB", 75, |id, source, inputs, expected| {
        let project = source.split(['/', '@']).nth(1).unwrap();
        match project {
            "failsafe-go" => failsafe(id, inputs, expected),
            "Polly" => polly(id, inputs, expected),
            "resilience4j" if source.contains("/metrics/") => metrics(id, inputs, expected),
            "resilience4j" => resilience4j(id, expected),
            "cockatiel" => cockatiel(id, inputs, expected),
            "finagle" => finagle(id, inputs, expected),
            "linkerd2-proxy" => linkerd(id, inputs, expected),
            _ => LeftOut,
        }
    });
}

fn failsafe(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    if id == "CB-026" {
        let counts = SlidingCounts::new(calls(number(&inputs["window"])));
        for call in 0..50 {
            counts.enter(if call % 3 == 0 { WELL } else { FAILED }, 0, Duration::ZERO);
        }
        totals(id, counts.read(0, Duration::ZERO), expected);
        return Checked;
    }
    let config = inputs["config"].as_str().unwrap_or_default();
    // Where a share of the probes may fail, or several, other breakers wait where ours opens.
    let successes = match config {
        "defaults" => 1,
        "success 3" | "failure 2, success 3" => 3,
        _ => return LeftOut,
    };
    let policy = only().with_consecutive_failures(1).with_probe_successes(successes).unwrap();
    let mut bench = Bench::new(policy);
    if expected["from"] == "half-open" {
        bench.half_open();
    }
    let events = strings(&inputs["events"]);
    for (event, left) in events.iter().zip((0..events.len()).rev()) {
        bench.step(event);
        let key = if left == 0 { "final" } else { "all_but_last" };
        if let Some(state) = expected[key].as_str().or(expected["state"].as_str()) {
            assert_eq!(bench.shown(), state, "{id}: {event}");
        }
    }
    Checked
}

fn polly(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    match id {
        "CB-038" => {
            let ratio = inputs["threshold"].as_f64().unwrap();
            let policy = only().with_min_calls(number(&inputs["min_throughput"])).unwrap();
            let bench = Bench::new(policy.with_failure_ratio(ratio).unwrap());
            (0..8).for_each(|_| bench.ends(Health::Well));
            bench.ends(Health::Failed);
            assert_eq!(bench.breaker.state(), BreakerState::Closed);
            bench.ends(Health::Failed);
            assert_eq!(bench.breaker.state() == BreakerState::Open, expected["break"] == true);
        }
        "CB-041" | "CB-043" | "CB-044" => {
            let counts = SlidingCounts::new(Window::time(SECOND * 10).unwrap());
            let mut at = Duration::ZERO;
            for turn in 0..=number(&inputs["read_index"]) {
                counts.enter(if turn < 2 { FAILED } else { WELL }, 0, at);
                counts.enter(WELL, 0, at);
                at += SECOND * 2;
            }
            let read = counts.read(0, at);
            assert_eq!(json!(read.calls), expected["throughput"], "{id}");
            assert_eq!(json!(read.failures), expected["failures"], "{id}");
        }
        "CB-050" => {
            let span = Duration::from_millis(inputs["window_ms"].as_u64().unwrap());
            let counts = SlidingCounts::new(Window::time(span).unwrap());
            (0..2).for_each(|_| counts.enter(WELL, 0, Duration::ZERO));
            assert_eq!(json!(counts.read(0, span).calls), expected["throughput"], "{id}");
        }
        "CB-055" => {
            let mut bench = Bench::new(only());
            bench.half_open();
            bench.ends(Health::Well);
            assert_eq!(bench.shown(), expected["state"], "{id}");
        }
        "CB-059" | "CB-061" => {
            let bench = Bench::new(only().with_consecutive_failures(1));
            let straggler = bench.admit().unwrap();
            if inputs["state"] == "open" {
                bench.ends(Health::Failed);
            }
            bench.record(straggler, Health::Failed);
            assert_eq!(bench.shown(), expected["state"], "{id}");
        }
        "CB-066" => {
            let mut bench = Bench::new(only());
            bench.breaker.open(Some(Duration::MAX), bench.now);
            bench.now += SECOND * 86_400 * 365 * 100;
            assert!(bench.admit().is_err(), "{id}");
        }
        "CB-067" => {
            let bench = Bench::new(only());
            bench.breaker.open(None, bench.now);
            let refusal = bench.admit().unwrap_err();
            assert_eq!(json!(refusal.retry_after), expected["retry_after"], "{id}");
            assert_eq!(bench.breaker.snapshot(bench.now).last_trip, Some(TripReason::Manual));
        }
        _ => return LeftOut,
    }
    Checked
}

fn resilience4j(id: &str, expected: &Value) -> Outcome {
    let policy = only()
        .with_failure_ratio(0.5)
        .and_then(|policy| policy.with_slow_calls(SECOND * 4, 0.5))
        .and_then(|policy| policy.with_window(Window::time(SECOND * 20).unwrap()))
        .and_then(|policy| policy.with_min_calls(5))
        .and_then(|policy| policy.with_probes(4))
        .and_then(|policy| policy.with_probe_successes(4))
        .unwrap();
    let mut bench = Bench::new(policy);
    match id {
        "CB-069" => {
            for event in ["S", "S", "S", "F", "F", "F"] {
                assert_eq!(bench.breaker.state(), BreakerState::Closed, "{id}");
                bench.step(event);
                bench.now += SECOND;
            }
            assert_eq!(bench.breaker.state(), BreakerState::Open, "{id}");
        }
        "CB-070" => {
            let ends = [
                (Health::Failed, 5_000),
                (Health::Well, 5_000),
                (Health::Failed, 100),
                (Health::Well, 100),
                (Health::Well, 5_000),
            ];
            for ((end, took), state) in ends.iter().zip(strings(&expected["state_after_each"])) {
                let admission = bench.admit().unwrap();
                bench.now += Duration::from_millis(*took);
                bench.record(admission, *end);
                assert_eq!(bench.shown(), state, "{id}");
            }
            let slow = expected["slow_calls"].as_u64().unwrap();
            let reason = TripReason::SlowRatio { slow, calls: 5 };
            assert_eq!(bench.breaker.snapshot(bench.now).last_trip, Some(reason), "{id}");
        }
        "CB-073" => {
            let half_an_hour = SECOND * 1_800;
            bench.breaker.open(Some(half_an_hour), bench.now);
            let waits = [Duration::ZERO, half_an_hour / 2, half_an_hour / 2 + SECOND];
            let results = waits.map(|wait| {
                bench.now += wait;
                bench.admit().is_ok()
            });
            assert_eq!(json!(results), expected["results"], "{id}");
        }
        "CB-080" => {
            bench.half_open();
            (0..4).for_each(|_| bench.ends(Health::Unknown));
            (0..4).for_each(|_| bench.ends(Health::Well));
            assert_eq!(bench.shown(), expected["state"], "{id}");
        }
        _ => return LeftOut,
    }
    Checked
}

/// Windows alone; what a row does not say about those before it follows from its result.
fn metrics(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let window = match inputs["time_window_s"].as_u64() {
        Some(seconds) => Window::time(Duration::from_secs(seconds)).unwrap(),
        None => calls(number(&inputs["count_window"])),
    };
    let counts = SlidingCounts::new(window);
    let step = number(&inputs["step"]);
    let last = match inputs["record"].as_str().unwrap() {
        "SUCCESS" => WELL,
        "ERROR" => FAILED,
        "SLOW_ERROR" => FAILED_SLOW,
        _ => return LeftOut,
    };
    let mut at = Duration::ZERO;
    match id {
        "CB-091" | "CB-096" | "CB-110" => {}
        // An error, and successes after it.
        "CB-095" => (1..step).for_each(|n| counts.enter(if n == 1 { FAILED } else { WELL }, 0, at)),
        "CB-116" => (1..step).for_each(|_| counts.enter(FAILED, 0, at)),
        // Three calls in the first second, and one in each of the next.
        _ => {
            for earlier in 1..step {
                at += if 3 < earlier { SECOND } else { Duration::ZERO };
                counts.enter(if matches!(earlier, 1 | 6) { FAILED } else { WELL }, 0, at);
            }
        }
    }
    at += SECOND * inputs["advance_s"].as_u64().map_or(0, |seconds| seconds.try_into().unwrap());
    counts.enter(last, 0, at);
    totals(id, counts.read(0, at), expected);
    Checked
}

fn cockatiel(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    match id {
        "CB-121" => {
            let counts = SlidingCounts::new(calls(number(&inputs["size"])));
            for call in 0..9 {
                counts.enter(if call % 3 == 0 { FAILED } else { WELL }, 0, Duration::ZERO);
            }
            let samples = expected["samples"].as_array().unwrap();
            let failures = samples.iter().filter(|sample| **sample == false).count();
            let read = counts.read(0, Duration::ZERO);
            assert_eq!(json!([read.calls, read.failures]), json!([samples.len(), failures]));
        }
        "CB-124" => {
            let policy = only().with_window(calls(50)).and_then(|p| p.with_min_calls(50)).unwrap();
            let bench = Bench::new(policy.with_failure_ratio(0.5).unwrap());
            (0..24).for_each(|_| bench.ends(Health::Well));
            (0..26).for_each(|_| bench.ends(Health::Failed));
            assert_eq!(bench.breaker.state() == BreakerState::Open, expected["opens"] == true);
        }
        "CB-126" => {
            let span = Duration::from_millis(inputs["duration_ms"].as_u64().unwrap());
            let slice = Duration::from_millis(expected["window_ms"].as_u64().unwrap());
            assert_eq!(slice * number(&expected["windows"]), span, "{id}");
            let counts = SlidingCounts::new(Window::time(span).unwrap());
            let moment = Duration::from_nanos(1);
            let entries = [Duration::ZERO, slice - moment, slice];
            entries.into_iter().for_each(|at| counts.enter(WELL, 0, at));
            let reads = [span - moment, span].map(|at| counts.read(0, at).calls);
            assert_eq!(reads, [3, 1], "{id}: both of the first slice leave together");
        }
        "CB-131" => {
            let span = Duration::from_millis(inputs["duration_ms"].as_u64().unwrap());
            let seconds = u32::try_from(span.as_secs()).unwrap();
            let policy = only()
                .with_window(Window::time(span).unwrap())
                .and_then(|policy| policy.with_min_calls(number(&inputs["min_rps"]) * seconds))
                .and_then(|policy| policy.with_failure_ratio(0.5));
            let mut bench = Bench::new(policy.unwrap());
            for _ in 0..10 {
                bench.ends(Health::Failed);
                bench.now += Duration::from_millis(500);
            }
            assert_eq!(bench.breaker.state() == BreakerState::Open, expected["opens"] == true);
        }
        _ => return LeftOut,
    }
    Checked
}

fn finagle(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let policy = match id {
        "CB-133" | "CB-134" => only().with_consecutive_failures(number(&inputs["n"])),
        "CB-136" => only()
            .with_window(calls(number(&inputs["window"])))
            .and_then(|policy| policy.with_min_calls(number(&inputs["window"])))
            .and_then(|policy| policy.with_failure_ratio(inputs["rate"].as_f64().unwrap()))
            .unwrap(),
        _ => return LeftOut,
    };
    let mut bench = Bench::new(policy.with_open(waits(5, 5)).unwrap());
    let events = if id == "CB-136" { vec!["F"; 5] } else { strings(&inputs["events"]) };
    for (event, dead) in events.into_iter().zip(expected["mark_dead_s"].as_array().unwrap()) {
        match event {
            "revived" => assert_eq!(bench.breaker.reset(bench.now), None),
            event => bench.step(event),
        }
        let refusal = bench.admit().err();
        let span = refusal.and_then(|refusal| refusal.retry_after);
        assert_eq!(span.map(|span| span.as_secs()), dead.as_u64(), "{id}: {event}");
    }
    Checked
}

fn linkerd(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    if id == "CB-143" {
        transitions(inputs, expected);
        return Checked;
    }
    let config = inputs["config"].as_str().unwrap_or_default();
    let figure = |name: &str| {
        let parts = config.split(", ").filter_map(|part| part.split_once(' '));
        parts.into_iter().find(|(key, _)| *key == name).and_then(|(_, n)| n.parse::<f64>().ok())
    };
    let rate = figure("rate").map_or(0.0, |rate| if rate == 0.0 { 0.0 } else { 1.0 - rate });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and whole")]
    let whole = |name: &str| figure(name).unwrap_or_default() as u32;
    let policy = only()
        .with_consecutive_failures(whole("max"))
        .with_min_calls(whole("min"))
        .and_then(|policy| policy.with_failure_ratio(rate))
        .unwrap();
    match id {
        "CB-146" | "CB-148" | "CB-156" | "CB-157" | "CB-159" | "CB-163" => {
            let mut bench = Bench::new(policy);
            strings(&inputs["events"]).into_iter().for_each(|event| bench.steps(event));
            let is_open = bench.breaker.state() == BreakerState::Open;
            assert_eq!(is_open, expected["tripped"] == true || id == "CB-163", "{id}");
            if id == "CB-163" {
                assert_eq!(expected["reason"], "ConsecutiveFailures");
                let reason = TripReason::ConsecutiveFailures { failures: 3 };
                assert_eq!(bench.breaker.snapshot(bench.now).last_trip, Some(reason));
            }
        }
        "CB-150" | "CB-151" | "CB-154" => {
            let mut bench = Bench::new(only());
            bench.half_open();
            bench.ends(if id == "CB-151" { Health::Overloaded } else { Health::Well });
            let shown = if bench.shown() == "closed" { "passing" } else { "shut" };
            assert_eq!(shown, expected["state"], "{id}");
        }
        "CB-160" => {
            let mut bench = Bench::new(policy);
            for (event, tripped) in strings(&inputs["events"])
                .into_iter()
                .zip(expected["tripped_after_each"].as_array().unwrap())
            {
                bench.steps(event);
                assert_eq!(json!(bench.breaker.state() == BreakerState::Open), *tripped, "{id}");
            }
        }
        _ => return linkerd_window(id, expected),
    }
    Checked
}

/// Half of at least five within 10 s.
fn linkerd_window(id: &str, expected: &Value) -> Outcome {
    let half = only().with_failure_ratio(0.5).and_then(|policy| policy.with_min_calls(5)).unwrap();
    match id {
        "CB-166" => {
            let mut bench = Bench::new(half);
            let trips = ["F x4", "F"].map(|event| {
                bench.steps(event);
                bench.breaker.state() == BreakerState::Open
            });
            assert_eq!(json!(trips), expected["trip"], "{id}");
        }
        "CB-169" => {
            let mut bench = Bench::new(half.with_failure_ratio(0.9).unwrap());
            ["F x2", "+6s", "S x8"].into_iter().for_each(|event| bench.steps(event));
            let Counts { calls, failures, .. } = bench.breaker.snapshot(bench.now).counts;
            let ratio = json!(f64::from(u32::try_from(calls - failures).unwrap()) / 10.0);
            assert_eq!((calls, &ratio), (10, &expected["ratio"]), "{id}");
        }
        "CB-172" => {
            let trips = [Duration::from_micros(200), SECOND].map(|wait| {
                let mut bench = Bench::new(half);
                let failures = (1..=10).find(|_| {
                    bench.now += wait;
                    bench.ends(Health::Failed);
                    bench.breaker.state() == BreakerState::Open
                });
                failures.unwrap()
            });
            assert_eq!(json!(trips), expected["trip_at"], "{id}");
        }
        _ => return LeftOut,
    }
    Checked
}

fn transitions(inputs: &Value, expected: &Value) {
    let policy = only()
        .with_consecutive_failures(number(&inputs["max_failures"]))
        .with_open(waits(1, 100))
        .unwrap();
    let mut bench = Bench::new(policy);
    let mut straggler = bench.admit().ok();
    let mut permit = None;
    let events = strings(&inputs["events"]);
    for (event, state) in events.into_iter().zip(strings(&expected["state_after_each"])) {
        let end = if event.contains("502") { Health::Failed } else { Health::Well };
        match event {
            "straggler 200" => bench.record(straggler.take().unwrap(), end),
            "502 (probe)" | "200 (probe)" => bench.record(permit.take().unwrap(), end),
            event => bench.step(event),
        }
        match state {
            "1 permit" => {
                permit = bench.admit().ok();
                assert!(permit.is_some() && bench.admit().is_err(), "{event}");
            }
            "open-gate" => assert_eq!(bench.shown(), "closed", "{event}"),
            _ => assert!(bench.admit().is_err(), "{event}"),
        }
    }
}

fn totals(id: &str, read: Counts, expected: &Value) {
    let ours = [
        ("total", read.calls),
        ("count", read.calls),
        ("failed", read.failures),
        ("failures", read.failures),
        ("success", read.calls - read.failures),
        ("successes", read.calls - read.failures),
        ("slow", read.slow),
    ];
    for (key, count) in ours {
        if let Some(theirs) = expected[key].as_u64() {
            assert_eq!(count, theirs, "{id}: {key}");
        }
    }
}

fn calls(calls: u32) -> Window {
    Window::calls(calls).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}
