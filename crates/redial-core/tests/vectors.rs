//! Other projects' test vectors for backoff (BO), budgets (BG), token buckets (TB) and throttles
//! (TH), where our decision agrees with theirs. `vectors/README.md` lists what is left out, and why.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read should stop the test")]
#![expect(clippy::float_cmp, reason = "whole billionths are shown exactly")]
#![expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]

#[path = "support/vectors.rs"]
mod support;

use std::time::{Duration, Instant};

use redial_core::{
    Attempt, Backoff, Budget, BudgetPolicy, Class, Decision, Entropy, Growth, Idempotency, Jitter,
    Reading, RetryPolicy, Stop, Throttle, TokenBucket, Tokens, Verdict, WindowBucket, WindowBudget,
};
use serde_json::Value;
use support::{
    Outcome::{self, Checked, LeftOut},
    run,
};

const ZERO: Duration = Duration::ZERO;

#[test]
fn backoff_vectors_hold() {
    run("BO", 147, backoff);
}

#[test]
fn budget_vectors_hold() {
    run("BG", 17, budget);
}

#[test]
fn token_bucket_vectors_hold() {
    run("TB", 3, token_bucket);
}

#[test]
fn throttle_vectors_hold() {
    run("TH", 11, throttle);
}

fn backoff(id: &str, source: &str, inputs: &Value, expected: &Value) -> Outcome {
    let project = source.split(['/', '@']).nth(1).unwrap();
    match project {
        "undici" => {
            exact(id, schedule(inputs, "min_ms", "max_ms"), number(inputs, "attempt"), expected)
        }
        "backoff" => cenkalti(id, inputs, expected),
        "go-retryablehttp" => exact(
            id,
            schedule(inputs, "min_s", "max_s"),
            number(inputs, "attempt_index") + 1,
            expected,
        ),
        "retry-go" => avast(id, inputs, expected),
        "go-retry" => sethvargo(id, inputs, expected),
        "failsafe-go" => {
            let retry = number(inputs, "retries_so_far") + 1;
            exact(id, schedule(inputs, "delay_s", "max_s"), retry, expected)
        }
        "Polly" => polly(id, inputs, expected),
        "cockatiel" if inputs["jitter"] == "none" => exact(
            id,
            schedule(inputs, "initial_ms", "max_ms"),
            number(inputs, "call") + 1,
            expected,
        ),
        "tenacity" => tenacity(id, inputs, expected),
        "botocore" => {
            let first = span(inputs, "base_s").unwrap_or(Duration::from_secs(1));
            let doubling =
                Backoff::exponential(first, 2.0, span(inputs, "max_s").unwrap()).unwrap();
            exact(id, doubling, number(inputs, "attempt"), expected)
        }
        "smithy-rs" => smithy(id, inputs, expected),
        "finagle" => finagle(id, inputs, expected),
        "envoy" => envoy(id, inputs, expected),
        "proposal" => {
            let backoff = schedule(inputs, "initial_s", "max_s");
            let spread = backoff.jitter(Jitter::Proportional(0.2)).unwrap();
            range(id, spread.bounds(number(inputs, "retry")), expected)
        }
        "resilience4j" => {
            exact(id, schedule(inputs, "initial_ms", "cap_ms"), number(inputs, "attempt"), expected)
        }
        "specifications" => exact(
            id,
            schedule(inputs, "base_ms", "max_ms"),
            number(inputs, "attempt") + 1,
            expected,
        ),
        _ => LeftOut,
    }
}

fn cenkalti(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    if inputs.get("max_interval_ms").is_some() {
        let share = inputs["randomization"].as_f64().unwrap();
        let backoff = schedule(inputs, "initial_ms", "max_interval_ms");
        let spread = backoff.jitter(Jitter::Proportional(share)).unwrap();
        assert_eq!(spread.ceiling(number(inputs, "call")), span(expected, "interval_ms").unwrap());
        return range(id, spread.bounds(number(inputs, "call")), expected);
    }
    if let Some(current) = inputs.get("current") {
        let fixed = Backoff::fixed(Duration::from_nanos(current.as_u64().unwrap()));
        let spread = fixed.jitter(Jitter::Proportional(inputs["rf"].as_f64().unwrap())).unwrap();
        let delay = spread.delay(1, ZERO, draw(inputs["rand"].as_f64().unwrap()));
        assert_eq!(delay, Duration::from_nanos(expected["value"].as_u64().unwrap()), "{id}");
        return Checked;
    }
    if expected["stop"] == true {
        let failed = Reading::new(Verdict::Transient(Class::Other));
        let late = Attempt { remaining: Some(ZERO), ..Attempt::first(failed, Idempotency::Safe) };
        let decision = RetryPolicy::default().decide(&late, None, u64::MAX);
        assert_eq!(decision, Decision::Stop(Stop::Deadline), "{id}");
        return Checked;
    }
    if inputs.get("request").is_some() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::exponential(second / 2, 1.5, second * 60).unwrap();
        let spread = backoff.jitter(Jitter::Proportional(0.5)).unwrap();
        let retry = number(inputs, "request");
        near(id, spread.ceiling(retry), span(expected, "interval_s").unwrap());
        let (low, high) = spread.bounds(retry);
        near(id, low, seconds(&expected["range_s"][0]));
        near(id, high, seconds(&expected["range_s"][1]));
        return Checked;
    }
    // `profile_vectors.rs` holds it.
    if inputs["default_of"] == "max_elapsed_min" { Checked } else { LeftOut }
}

fn avast(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    if inputs.get("base_ms").is_some() {
        let backoff = schedule(inputs, "base_ms", "max_ms");
        return range(id, backoff.bounds(number(inputs, "n") + 1), expected);
    }
    if inputs.get("delay_ns").is_some() {
        let delay = Duration::from_nanos(inputs["delay_ns"].as_u64().unwrap());
        let doubling = Backoff::exponential(delay, 2.0, Duration::from_nanos(u64::MAX)).unwrap();
        let wanted = Duration::from_nanos(expected["delay_ns"].as_u64().unwrap());
        assert_eq!(doubling.ceiling(number(inputs, "n")), wanted, "{id}");
        return Checked;
    }
    LeftOut
}

fn sethvargo(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    if inputs["kind"] == "exponential" {
        let base = Duration::from_nanos(inputs["base_ns"].as_u64().unwrap());
        let longest = Duration::from_nanos(i64::MAX as u64);
        let doubling = Backoff::exponential(base, 2.0, longest).unwrap();
        for (retry, wanted) in (1..).zip(expected["delays_ns"].as_array().unwrap()) {
            let wanted = Duration::from_nanos(wanted.as_u64().unwrap());
            assert_eq!(doubling.ceiling(retry), wanted, "{id}: retry {retry}");
        }
        return Checked;
    }
    if let Some(percent) = inputs["percent"].as_f64() {
        let fixed = Backoff::fixed(span(inputs, "base_ms").unwrap());
        let spread = fixed.jitter(Jitter::Proportional(percent / 100.0)).unwrap();
        return range(id, spread.bounds(1), expected);
    }
    if inputs["max"] == 0 {
        let policy = RetryPolicy::default().max_retries(0);
        let failed = Reading::new(Verdict::Transient(Class::Other));
        let decision = policy.decide(&Attempt::first(failed, Idempotency::Safe), None, 0);
        assert_eq!(decision, Decision::Stop(Stop::RetriesExhausted), "{id}");
        return Checked;
    }
    LeftOut
}

fn polly(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let kind = inputs["type"].as_str().unwrap_or_default();
    let first = span(inputs, "base_s").unwrap_or_default();
    let max = span(inputs, "max_s").unwrap_or(Duration::from_secs(86_400));
    let growth = match kind.trim_end_matches("+jitter") {
        "constant" => Growth::Fixed,
        "linear" => Growth::Linear,
        "exponential" if !kind.ends_with("+jitter") => Growth::Exponential(2.0),
        _ => return LeftOut,
    };
    // A first wait above the longest is a contradiction to us, and V2 jitter an algorithm of theirs.
    let Ok(backoff) = Backoff::new(growth, first, max) else { return LeftOut };
    let share = if kind.ends_with("+jitter") { 0.25 } else { 0.0 };
    let spread = backoff.jitter(Jitter::Proportional(share)).unwrap();
    let retry = inputs["attempt"].as_u64().map_or(1, |attempt| u32::try_from(attempt).unwrap() + 1);
    let delay = spread.delay(retry, ZERO, draw(inputs["rand"].as_f64().unwrap_or(0.5)));
    near(id, delay, span(expected, "delay_s").unwrap());
    Checked
}

fn tenacity(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let adds_jitter = inputs["jitter_s"].as_f64().is_some_and(|jitter| 0.0 < jitter);
    let is_absurd = inputs["multiplier"].as_f64().is_some_and(|multiplier| 1e9 < multiplier);
    if inputs.get("min").is_some() || adds_jitter || is_absurd {
        return LeftOut;
    }
    let first = Duration::from_secs_f64(inputs["multiplier"].as_f64().unwrap_or(1.0));
    let max = inputs["max"].as_f64().map_or(Duration::from_secs(86_400), Duration::from_secs_f64);
    let backoff = Backoff::exponential(first, 2.0, max).unwrap();
    let retry = number(inputs, "attempt");
    if let Some(samples) = inputs["samples"].as_u64() {
        let entropy = Entropy::seeded(7);
        let sum: f64 =
            (0..samples).map(|_| backoff.delay(retry, ZERO, entropy.draw()).as_secs_f64()).sum();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let mean = sum / samples as f64;
        let (wanted, tolerance) = (expected["mean_s"].as_f64(), expected["tolerance"].as_f64());
        assert!((mean - wanted.unwrap()).abs() <= tolerance.unwrap(), "{id}: {mean}");
        return Checked;
    }
    if expected.get("range_s").is_some() {
        return range(id, backoff.bounds(retry), expected);
    }
    exact(id, backoff, retry, expected)
}

fn smithy(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    // `profile_vectors.rs` holds these: the first wait depends on the mode and on what failed.
    if inputs.get("error").is_some() {
        return Checked;
    }
    let first = span(inputs, "initial_s").or(span(inputs, "initial_ms")).unwrap();
    let max = span(inputs, "max_s").or(span(inputs, "max_ms")).unwrap();
    let doubling = Backoff::exponential(first, 2.0, max).unwrap();
    let counts_from_zero = inputs.get("spec").is_none();
    exact(id, doubling, number(inputs, "attempt") + u32::from(counts_from_zero), expected)
}

fn finagle(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let Some(delays) = expected["delays_ms"].as_array() else { return LeftOut };
    let first = span(inputs, "start_ms").unwrap();
    let backoff = match inputs["f"].as_str() {
        Some("+1ms") => Backoff::new(Growth::Linear, first, Duration::from_secs(1)),
        Some(_) => return LeftOut,
        None => Backoff::exponential(first, 2.0, span(inputs, "max_ms").unwrap()),
    };
    for (retry, wanted) in (1..).zip(delays) {
        let wanted = Duration::from_millis(wanted.as_u64().unwrap());
        assert_eq!(backoff.unwrap().ceiling(retry), wanted, "{id}: retry {retry}");
    }
    Checked
}

/// Envoy draws by `rand % interval`, which we do not; its wait must be one that ours may be.
fn envoy(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let Some(first) = span(inputs, "base_ms") else { return LeftOut };
    if inputs["max_ms"] == "u64::MAX" {
        let longest = Duration::from_millis(u64::MAX);
        let doubling = Backoff::exponential(first, 2.0, longest).unwrap();
        assert_eq!(doubling.ceiling(101), longest, "{id}");
        return Checked;
    }
    let (Some(max), Some(delay)) = (span(inputs, "max_ms"), span(expected, "delay_ms")) else {
        return LeftOut;
    };
    let retry =
        inputs.get("call").map_or_else(|| number(inputs, "retry"), |_| number(inputs, "call"));
    let (low, high) = Backoff::exponential(first, 2.0, max).unwrap().bounds(retry);
    assert!(low <= delay && delay < high, "{id}: {low:?} <= {delay:?} < {high:?}");
    Checked
}

fn budget(id: &str, source: &str, inputs: &Value, expected: &Value) -> Outcome {
    let now = Instant::now();
    if let Some(ops) = inputs["ops"].as_array() {
        let ratio = inputs["percent"].as_f64().unwrap();
        let window = WindowBudget::new(ratio, 0.0, Duration::from_secs(1)).unwrap();
        let budget = Budget::new(&BudgetPolicy::Window(window), 3, now);
        let (mut at, mut results) = (now, Vec::new());
        for op in ops {
            match op.as_str().unwrap() {
                "deposit" => budget.deposit_call(at),
                "withdraw" => results.push(Value::from(budget.withdraw(at))),
                wait => at += Duration::from_millis(digits(wait)),
            }
        }
        assert_eq!(Value::from(results), expected["results"], "{id}");
        return Checked;
    }
    if let Some(requests) = inputs["requests"].as_u64() {
        let floor = inputs["min_per_s"].as_f64().unwrap();
        let window = Duration::from_secs(inputs["ttl_s"].as_u64().unwrap_or(10));
        let window = WindowBudget::new(inputs["percent"].as_f64().unwrap(), floor, window).unwrap();
        let budget = Budget::new(&BudgetPolicy::Window(window), 3, now);
        let initial = budget.available(now).unwrap().as_f64();
        assert_eq!(initial, expected["initial_balance"].as_f64().unwrap_or(0.0), "{id}");
        let retries = (0..requests).filter(|_| {
            budget.deposit_call(now);
            budget.withdraw(now)
        });
        let wanted = expected["retries"].as_u64().or(expected["correct_retries"].as_u64());
        assert_eq!(u64::try_from(retries.count()).unwrap(), wanted.unwrap(), "{id}");
        return Checked;
    }
    if source.starts_with("twitter/finagle") && inputs["default_of"] == "percent" {
        let ratio = WindowBudget::default().ratio.as_f64();
        assert_eq!(ratio, expected["value"].as_f64().unwrap(), "{id}");
        return Checked;
    }
    LeftOut
}

fn token_bucket(id: &str, _: &str, inputs: &Value, expected: &Value) -> Outcome {
    let ops = inputs["ops"].as_array().unwrap().iter().map(|op| op.as_str().unwrap());
    let (mut results, mut counts) = (Vec::new(), Vec::new());
    let mut elapsed = ZERO;
    if let Some(limit) = inputs["limit"].as_u64() {
        let bucket = TokenBucket::new(tokens(limit), Tokens::ZERO, Tokens::ZERO);
        for op in ops {
            match op.split_once(' ').unwrap() {
                ("put", n) => bucket.put(tokens(digits(n))),
                (_, n) => results.push(Value::from(bucket.take(tokens(digits(n)), elapsed))),
            }
            counts.push(Value::from(bucket.available(elapsed).nanos() / Tokens::ONE.nanos()));
        }
        assert_eq!(Value::from(counts), expected["counts"], "{id}");
        assert_eq!(Value::from(results), expected["get_results"], "{id}");
        return Checked;
    }
    let window = Duration::from_secs(inputs["ttl_s"].as_u64().unwrap());
    let bucket = WindowBucket::new(window, tokens(inputs["reserve"].as_u64().unwrap()));
    for op in ops {
        match op.split_once(' ') {
            Some(("put", n)) => bucket.put(tokens(digits(n)), elapsed),
            Some((_, n)) => results.push(Value::from(bucket.take(tokens(digits(n)), elapsed))),
            None => elapsed += Duration::from_secs(digits(op)),
        }
    }
    assert_eq!(Value::from(results), expected["results"], "{id}");
    Checked
}

fn throttle(id: &str, _: &str, inputs: &Value, expected: &Value) -> Outcome {
    match inputs["rule"].as_str() {
        Some("maxTokens range") => {
            assert!(Throttle::new(0.0, 0.1).is_err() && Throttle::new(1_000.1, 0.1).is_err());
            assert!(Throttle::new(1_000.0, 0.1).is_ok(), "{id}");
        }
        Some("retry allowed iff" | "initial tokens") => {
            let now = Instant::now();
            let policy = BudgetPolicy::Throttle(Throttle::new(2.0, 0.1).unwrap());
            let budget = Budget::new(&policy, 3, now);
            assert_eq!(budget.available(now), Some(tokens(2)), "{id}");
            assert!(budget.withdraw(now));
            budget.deposit(&Reading::new(Verdict::Throttled));
            assert!(!budget.withdraw(now), "half is not more than half");
        }
        // `hedge_vectors.rs` holds these.
        Some(rule) if rule.contains("hedg") => {}
        Some(_) => return LeftOut,
        None => grpc_calls(id, inputs, expected),
    }
    Checked
}

fn grpc_calls(id: &str, inputs: &Value, expected: &Value) {
    let now = Instant::now();
    let (max, ratio) = (inputs["max_tokens"].as_f64(), inputs["token_ratio"].as_f64());
    let policy = BudgetPolicy::Throttle(Throttle::new(max.unwrap(), ratio.unwrap()).unwrap());
    let budget = Budget::new(&policy, 3, now);
    let successes = inputs["server_success_at_attempt_index"].as_array().unwrap();
    let is_success = |index: u64| successes.iter().any(|at| at.as_u64() == Some(index));
    let (mut index, mut status) = (0, "OK");
    for _ in 0..inputs["call_number"].as_u64().unwrap() {
        for attempt in 1..=inputs["max_attempts"].as_u64().unwrap() {
            let failed = Reading::new(Verdict::Transient(Class::Server));
            let reading = if is_success(index) { Reading::SUCCESS } else { failed };
            budget.deposit(&reading);
            index += 1;
            status = if reading == Reading::SUCCESS { "OK" } else { "UNAVAILABLE" };
            let is_last = attempt == inputs["max_attempts"].as_u64().unwrap();
            if status == "OK" || is_last || !budget.withdraw(now) {
                break;
            }
        }
    }
    assert_eq!(status, expected["status"], "{id}");
    assert_eq!(index - 1, expected["last_attempt_index"].as_u64().unwrap(), "{id}");
    let left = budget.available(now).unwrap().as_f64();
    assert_eq!(left, expected["tokens_after"].as_f64().unwrap(), "{id}");
}

fn schedule(inputs: &Value, initial: &str, max: &str) -> Backoff {
    let factor =
        ["factor", "multiplier", "exponent"].into_iter().find_map(|key| inputs[key].as_f64());
    let (initial, max) = (span(inputs, initial).unwrap(), span(inputs, max).unwrap());
    Backoff::exponential(initial, factor.unwrap_or(2.0), max).unwrap()
}

fn exact(id: &str, backoff: Backoff, retry: u32, expected: &Value) -> Outcome {
    let wanted = span(expected, "delay_ms").or(span(expected, "delay_s")).unwrap();
    assert_eq!(backoff.ceiling(retry), wanted, "{id}");
    Checked
}

fn range(id: &str, bounds: (Duration, Duration), expected: &Value) -> Outcome {
    let keys = ["delay_range_ms", "delay_ms_range", "range_ms", "range_s"];
    let key = keys.into_iter().find(|key| expected.get(key).is_some()).unwrap();
    let unit = if key.ends_with("_s") { 1.0 } else { 1e-3 };
    let limit = |n: usize| expected[key][n].as_f64().unwrap() * unit;
    near(id, bounds.0, Duration::from_secs_f64(limit(0)));
    near(id, bounds.1, Duration::from_secs_f64(limit(1)));
    Checked
}

/// Equal, to the rounding of the vector's own figures.
fn near(id: &str, ours: Duration, theirs: Duration) {
    assert!(
        ours.abs_diff(theirs) <= theirs / 500 + Duration::from_millis(1),
        "{id}: {ours:?}, {theirs:?}"
    );
}

fn span(value: &Value, key: &str) -> Option<Duration> {
    let unit = if key.ends_with("_ms") { 1e-3 } else { 1.0 };
    value[key].as_f64().map(|number| Duration::from_secs_f64(number * unit))
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs_f64(value.as_f64().unwrap())
}

fn number(value: &Value, key: &str) -> u32 {
    u32::try_from(value[key].as_u64().unwrap()).unwrap()
}

fn digits(text: &str) -> u64 {
    text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

fn tokens(count: u64) -> Tokens {
    Tokens::whole(u32::try_from(count).unwrap())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of all draws"
)]
fn draw(share: f64) -> u64 {
    (share * u64::MAX as f64) as u64
}
