//! Other projects' test vectors for rate limiters (RT), where our decision agrees with theirs.
//! `vectors/README.md` lists what is left out, and why.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read should stop the test")]
#![expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use redial_core::{RateLimitPolicy, RateLimiter};
use serde_json::Value;

/// Whether a vector applies to us; those that do have been checked.
enum Outcome {
    Checked,
    LeftOut,
}
use Outcome::{Checked, LeftOut};

#[test]
fn rate_limiter_vectors_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let vectors = fs::read_to_string(root.join("vectors.jsonl")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let vectors = vectors.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut seen, mut wrong) = (0, Vec::<String>::new());
    for vector in vectors.filter(|vector| vector["family"] == "RT") {
        let (id, source) = (vector["id"].as_str().unwrap(), vector["source"].as_str().unwrap());
        let is_listed = readme.split(|c: char| !c.is_alphanumeric() && c != '-').any(|w| w == id);
        let outcome = check(id, source, &vector["inputs"], &vector["expected"]);
        if matches!(outcome, LeftOut) != is_listed {
            wrong.push(id.to_owned());
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "the README must list what is left out, and only that: {wrong:?}");
    assert_eq!(seen, 15, "every vector of the family is looked at");
}

fn check(id: &str, source: &str, inputs: &Value, expected: &Value) -> Outcome {
    match source.split(['/', '@']).nth(1).unwrap() {
        "failsafe-go" => failsafe(id, inputs, expected),
        "resilience4j" => resilience4j(id, inputs, expected),
        "botocore" => botocore(id, inputs, expected),
        _ => LeftOut,
    }
}

fn failsafe(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    if let Some(moments) = inputs["acquire_at_ns"].as_array() {
        let (limiter, start) = limiter(1, nanos(&inputs["interval_ns"]), 1);
        let waits = moments.iter().map(|at| {
            let slot = limiter.reserve(start + nanos(at), Duration::from_secs(1)).unwrap();
            Value::from(u64::try_from(slot.wait().as_nanos()).unwrap())
        });
        assert_eq!(waits.collect::<Value>(), expected["wait_ns"], "{id}");
        return Checked;
    }
    // Of those whose state comes from earlier acquisitions, the one that has none of them.
    if inputs["kind"] == "bursty" && expected["wait_ms"] == 0 {
        let permits = number(&inputs["permits_per_period"]);
        let period = Duration::from_millis(inputs["period_ms"].as_u64().unwrap());
        let (limiter, start) = limiter(permits, period, permits);
        let at = start + Duration::from_millis(inputs["at_ms"].as_u64().unwrap());
        assert!(limiter.try_acquire_many(number(&inputs["permits"]), at).is_ok(), "{id}");
        assert_eq!(limiter.available(at), number(&expected["available"]), "{id}");
        return Checked;
    }
    LeftOut
}

fn resilience4j(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let cycle = nanos(&inputs["cycle_ns"]);
    let (limiter, start) = limiter(1, cycle, number(&inputs["limit"]));
    let at = start + cycle;
    let acquire = || limiter.reserve(at, cycle).map(|slot| slot.wait());
    if let Some(waits) = expected["nanos_to_wait"].as_array() {
        for wait in waits {
            assert!(acquire().is_ok(), "{id}");
            assert_eq!(limiter.wait(at), nanos(wait), "{id}");
        }
        let (later, then) = (at + cycle + Duration::from_nanos(10), &expected["at 2C+10"]);
        assert_eq!(limiter.available(later), number(&then["available"]), "{id}");
        assert_eq!(limiter.wait(later), nanos(&then["nanos_to_wait"]), "{id}");
        return Checked;
    }
    assert_eq!(
        [acquire().ok(), acquire().ok(), acquire().ok()],
        [Some(Duration::ZERO), Some(cycle), None]
    );
    let (later, then) = (at + cycle * 5 + Duration::from_nanos(10), &expected["at 6C+10"]);
    assert_eq!(limiter.available(later), number(&then["available"]), "{id}");
    assert_eq!(limiter.wait(later), nanos(&then["nanos_to_wait"]), "{id}");
    Checked
}

fn botocore(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let Some(rate) = inputs["rate"].as_f64() else { return LeftOut };
    let policy = RateLimitPolicy::new(1, Duration::from_secs_f64(1.0 / rate)).unwrap();
    if let Some(most) = expected.get("max_capacity") {
        assert_eq!(policy.most_at_once(), number(most), "{id}");
        return Checked;
    }
    let now = Instant::now();
    let limiter = RateLimiter::new(&policy, now);
    assert!(limiter.try_acquire_many(number(&inputs["acquire"]), now).is_err(), "{id}");
    Checked
}

fn limiter(permits: u32, per: Duration, burst: u32) -> (RateLimiter, Instant) {
    let (start, policy) = (Instant::now(), RateLimitPolicy::new(permits, per).unwrap());
    (RateLimiter::new(&policy.burst(burst).unwrap(), start), start)
}

fn nanos(value: &Value) -> Duration {
    Duration::from_nanos(value.as_u64().unwrap())
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}
