//! Other projects' test vectors for adaptive limits (AL), where ours agree with theirs.
//! `vectors/README.md` lists what is left out, and why. Those about quantiles belong to
//! `hedge_vectors.rs`.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read should stop the test")]
#![expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]

#[path = "../src/adaptive/average.rs"]
mod average;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use average::MovingAverage;
use redial_core::{
    AdaptiveLimit, AdaptivePolicy, Health, InvalidAdaptiveLimit, LimitAlgorithm, LimitPermit,
    LimitRound,
};
use serde_json::Value;

/// About quantiles: run by `hedge_vectors.rs`, which has those.
const QUANTILES: [&str; 3] = ["AL-053", "AL-055", "AL-057"];

/// Whether a vector applies to us; those that do have been checked.
enum Outcome {
    Checked,
    LeftOut,
}
use Outcome::{Checked, LeftOut};

#[test]
fn adaptive_limit_vectors_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let vectors = fs::read_to_string(root.join("vectors.jsonl")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let vectors = vectors.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut seen, mut checked, mut wrong) = (0, 0, Vec::<String>::new());
    for vector in vectors.filter(|vector| vector["family"] == "AL") {
        let id = vector["id"].as_str().unwrap();
        if QUANTILES.contains(&id) {
            continue;
        }
        let is_listed = readme.split(|c: char| !c.is_alphanumeric() && c != '-').any(|w| w == id);
        let outcome = check(
            id,
            vector["source"].as_str().unwrap(),
            vector["test"].as_str().unwrap(),
            &vector["inputs"],
            &vector["expected"],
        );
        if matches!(outcome, LeftOut) != is_listed {
            wrong.push(id.to_owned());
        }
        checked += usize::from(matches!(outcome, Checked));
        seen += 1;
    }
    assert!(wrong.is_empty(), "the README must list what is left out, and only that: {wrong:?}");
    assert_eq!((seen, checked), (29, 15), "every vector but those about quantiles is looked at");
}

fn check(id: &str, source: &str, test: &str, inputs: &Value, expected: &Value) -> Outcome {
    if source.contains("Test.java") && test.contains("imit") || inputs["fixed_limit"].is_u64() {
        return netflix_limit(id, inputs, expected);
    }
    if source.contains("ExpAvg") || source.contains("average_test") {
        return average(id, inputs, expected);
    }
    if source.contains("AIMDLimitTest") {
        return aimd(id, inputs, expected);
    }
    if source.contains("Gradient2Limit") {
        return gradient2(id, inputs, expected);
    }
    if test == "record decrease" {
        // Their limiter has seen answers without load before; ours is told of 1 s.
        return vegas(id, 20.0, Duration::from_secs(1), inputs, expected);
    }
    LeftOut
}

fn netflix_limit(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    if let Some(fixed) = inputs["fixed_limit"].as_u64() {
        return fixed_limit(id, u32::try_from(fixed).unwrap(), inputs, expected);
    }
    let Some(samples) = inputs["samples"].as_array() else { return LeftOut };
    if inputs.get("decrease").is_some() {
        return LeftOut;
    }
    let (baseline, _) = sample(&samples[0]);
    vegas(id, inputs["initial"].as_f64().unwrap(), baseline, inputs, expected)
}

/// The first of Netflix's samples only tells of the latency without load, as do our first windows.
fn vegas(id: &str, initial: f64, baseline: Duration, inputs: &Value, expected: &Value) -> Outcome {
    let max = inputs["max"].as_u64().map_or(1_000, |max| u32::try_from(max).unwrap());
    let policy = policy(LimitAlgorithm::Vegas, 1, 10, max);
    let mut limit = initial;
    let samples = inputs["samples"].as_array().unwrap().iter().map(sample);
    let mut is_baseline = id != "AL-032";
    for ((latency, in_flight_max), wanted) in samples.zip(expected["limits"].as_array().unwrap()) {
        if !is_baseline {
            limit = policy.next_limit(limit, &LimitRound { in_flight_max, baseline, latency });
        }
        is_baseline = false;
        near(id, limit, wanted);
    }
    Checked
}

fn aimd(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let initial = inputs["initial"].as_u64().map(|n| u32::try_from(n).unwrap()).unwrap();
    let max = inputs["max"].as_u64().map_or(200, |n| u32::try_from(n).unwrap());
    let policy = policy(LimitAlgorithm::Aimd, 1, initial, max);
    let now = Instant::now();
    let limit = AdaptiveLimit::new(&policy.with_window(Duration::ZERO, 1).unwrap(), now);
    if inputs.get("max").is_some() {
        let permits = (0..initial).map(|_| LimitPermit::try_acquire(&limit, now).unwrap());
        for permit in permits.collect::<Vec<_>>() {
            permit.record(Health::Well, false, now);
        }
    }
    assert_eq!(u64::from(limit.limit()), expected["limit"].as_u64().unwrap(), "{id}");
    Checked
}

fn gradient2(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let number = |key: &str| u32::try_from(inputs[key].as_u64().unwrap()).unwrap();
    let (min, max) = (number("min"), number("max"));
    let policy = policy(LimitAlgorithm::Gradient2, min, min, max)
        .with_tolerance(inputs["tolerance"].as_f64().unwrap())
        .unwrap();
    let round = LimitRound {
        in_flight_max: number("inflight"),
        baseline: Duration::from_millis(number("long_rtt").into()),
        latency: Duration::from_millis(number("short_rtt").into()),
    };
    let next = policy.next_limit(inputs["estimated"].as_f64().unwrap(), &round);
    near(id, next, &expected["new_limit"]);
    Checked
}

fn average(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let number = |key: &str| u32::try_from(inputs[key].as_u64().unwrap()).unwrap();
    let warmup = number("warmup");
    if warmup == 0 {
        // An average that begins at zero; ours begins at its first value.
        return LeftOut;
    }
    let mut average = MovingAverage::new(number("window"), warmup);
    if let Some(values) = inputs["values"].as_array() {
        values.iter().for_each(|value| average.add(value.as_f64().unwrap()));
        near(id, average.value().unwrap().round(), &expected["rounded_avg"]);
        return Checked;
    }
    // Their samples count up from 10.
    (10..=number("sample")).for_each(|value| average.add(value.into()));
    near(id, average.value().unwrap(), &expected["avg"]);
    average.set(1.0);
    near(id, average.value().unwrap(), &Value::from(1.0));
    Checked
}

fn fixed_limit(id: &str, fixed: u32, inputs: &Value, expected: &Value) -> Outcome {
    let now = Instant::now();
    let limit = AdaptiveLimit::new(&policy(LimitAlgorithm::Aimd, fixed, fixed, fixed), now);
    let acquires = inputs["acquires"].as_u64().unwrap();
    let mut granted: Vec<_> =
        (0..acquires).filter_map(|_| LimitPermit::try_acquire(&limit, now).ok()).collect();
    assert_eq!(u64::try_from(granted.len()).unwrap(), expected["granted"].as_u64().unwrap());
    drop(granted.pop());
    let again = LimitPermit::try_acquire(&limit, now).is_ok();
    assert_eq!(Some(again), expected["release_then_acquire"].as_bool(), "{id}");
    Checked
}

#[test]
fn steps_that_were_computed_from_the_papers_hold() {
    let vegas = policy(LimitAlgorithm::Vegas, 1, 20, 1_000);
    for (millis, wanted) in [(10, 26.0), (11, 21.0), (12, 20.0), (14, 20.0), (20, 19.0)] {
        let next = step(&vegas, 20.0, 10, millis);
        assert!((next - wanted).abs() < 1e-9, "{millis} ms: {next}");
    }
    let gradient2 = policy(LimitAlgorithm::Gradient2, 1, 20, 200);
    for (limit, millis, wanted) in
        [(20.0, 10, 20.8), (20.0, 20, 19.8), (20.0, 40, 18.8), (100.0, 30, 90.8)]
    {
        let next = step(&gradient2, limit, 10, millis);
        assert!((next - wanted).abs() < 1e-9, "{limit} at {millis} ms: {next}");
    }
}

#[test]
fn what_others_refuse_to_build_is_refused() {
    // CF-049, CF-055 and their like, as far as there is a counterpart.
    let policy = AdaptivePolicy::default();
    for (min, initial, max) in [(1, 0, 10), (0, 0, 10), (1, 2, 1), (5, 4, 9)] {
        let refused = policy.with_limits(min, initial, max);
        assert_eq!(refused, Err(InvalidAdaptiveLimit::Limits { min, initial, max }));
    }
    assert!(policy.with_tolerance(0.5).is_err());
}

fn step(policy: &AdaptivePolicy, limit: f64, baseline: u64, latency: u64) -> f64 {
    let round = LimitRound {
        in_flight_max: 100,
        baseline: Duration::from_millis(baseline),
        latency: Duration::from_millis(latency),
    };
    policy.next_limit(limit, &round)
}

fn policy(algorithm: LimitAlgorithm, min: u32, initial: u32, max: u32) -> AdaptivePolicy {
    AdaptivePolicy::default().with_algorithm(algorithm).with_limits(min, initial, max).unwrap()
}

/// Reads `10ms inflight 11` and `10s 5000`.
fn sample(text: &Value) -> (Duration, u32) {
    let words: Vec<&str> = text.as_str().unwrap().split(' ').collect();
    let latency = match words[0].strip_suffix("ms") {
        Some(millis) => Duration::from_millis(millis.parse().unwrap()),
        None => Duration::from_secs(words[0].trim_end_matches('s').parse().unwrap()),
    };
    (latency, words.last().unwrap().parse().unwrap())
}

fn near(id: &str, ours: f64, theirs: &Value) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() < 1e-9, "{id}: {ours}, {theirs}");
}
