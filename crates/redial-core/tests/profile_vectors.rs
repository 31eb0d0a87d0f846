//! Other projects' test vectors for AWS's retry quota (AQ) and for defaults (DF), and, against the very
//! policy of each profile, the vectors of the project that it is named after: exact, as far as our
//! building blocks go. `vectors/README.md` lists what is left out, and why.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read should stop the test")]
#![expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]

#[path = "support/vectors.rs"]
mod support;

use std::time::{Duration, Instant};

use redial_core::{
    Attempt, Backoff, BreakerPolicy, Budget, BudgetPolicy, Class, Decision, Fault, Growth,
    Idempotency, Jitter, Policy, Profile, Progress, Reading, RetryPolicy, Stop, TokenBudget,
    Tokens, Verdict, Withdrawal,
};
use serde_json::{Value, json};
use support::{
    Outcome::{self, Checked, LeftOut},
    run, vectors,
};

const ZERO: Duration = Duration::ZERO;

#[test]
fn quota_vectors_hold() {
    run("AQ", 18, |id, _, inputs, expected| match id {
        // A success that a retry brought is worth the refund to AWS, and the deposit, too, to us.
        "AQ-030" => LeftOut,
        "AQ-003" => {
            let quota = Quota::new(inputs);
            let cost = quota.policy.cost_of(Class::Server);
            assert_eq!(json!(whole(cost)), expected["cost"], "{id}");
            assert!(quota.budget.withdraw_after(Class::Server, quota.now));
            assert_eq!(json!(quota.capacity()), expected["after_acquire"], "{id}");
            Checked
        }
        "AQ-034" => refilled(id, inputs, expected),
        "AQ-047" | "AQ-048" | "AQ-049" | "AQ-054" => fractions(id, inputs, expected),
        _ if expected.get("steps").is_some() => failing_call(id, inputs, expected),
        _ => operations(id, inputs, expected),
    });
}

#[test]
fn default_vectors_hold() {
    let policy = Profile::Polly.policy();
    run("DF", 4, |id, _, inputs, expected| {
        let ours = match inputs["default_of"].as_str().unwrap() {
            "delay_s" => policy.retry.rule(Class::Server).backoff.initial().as_secs(),
            "total_timeout_s" => policy.deadline.unwrap().as_secs(),
            "attempt_timeout_s" => policy.attempt_timeout.unwrap().as_secs(),
            // Of the breaker, which the profile leaves to the policy.
            "breaker_min_throughput" => BreakerPolicy::default().min_calls().into(),
            _ => return LeftOut,
        };
        assert_eq!(json!(ours), expected["value"], "{id}");
        Checked
    });
}

#[test]
fn cenkaltis_vectors_hold_for_the_profile() {
    let policy = Profile::Cenkalti.policy();
    let backoff = waits(&policy, Class::Server);
    let checked = of("cenkalti/backoff", |id, inputs, expected| {
        if let Some(retry) = inputs["request"].as_u64().filter(|_| expected["stop"] != true) {
            let (retry, (low, high)) = (retry.try_into().unwrap(), &limits(&expected["range_s"]));
            near(id, backoff.ceiling(retry), seconds(&expected["interval_s"]));
            let bounds = backoff.bounds(retry);
            near(id, bounds.0, *low);
            near(id, bounds.1, *high);
        } else if expected["stop"] == true {
            let elapsed = inputs["elapsed_s"].as_u64().unwrap_or(15 * 60 + 1);
            let remaining = policy.deadline.unwrap().saturating_sub(Duration::from_secs(elapsed));
            let late = Attempt { remaining: Some(remaining), number: 10, ..failed(Class::Server) };
            let decision = policy.retry.decide(&late, None, 0);
            assert_eq!(decision, Decision::Stop(Stop::Deadline), "{id}");
        } else if inputs["default_of"] == "max_elapsed_min" {
            let minutes = policy.deadline.unwrap().as_secs() / 60;
            assert_eq!(json!(minutes), expected["value"], "{id}");
        } else {
            return false;
        }
        true
    });
    assert_eq!(checked.len(), 9, "{checked:?}");
    assert!(checked.iter().any(|id| id == "BO-038"), "`vectors.rs` leaves it to this test");
}

#[test]
fn pollys_vectors_hold_for_the_profiles_growth_and_jitter() {
    let policy = Profile::Polly.policy();
    let own = waits(&policy, Class::Server);
    let checked = of("App-vNext/Polly", |id, inputs, expected| {
        let (Some(kind), Some(base)) = (inputs["type"].as_str(), inputs["base_s"].as_f64()) else {
            return false;
        };
        let first = Duration::from_secs_f64(base);
        let (growth, jitter) = match kind {
            "exponential" => (own.growth(), Jitter::None),
            "constant+jitter" => (Growth::Fixed, own.spread()),
            "linear+jitter" => (Growth::Linear, own.spread()),
            _ => return false,
        };
        // A first wait above the longest one is a contradiction to us.
        if inputs.get("max_s").is_some() {
            return false;
        }
        let backoff = Backoff::new(growth, first, own.max()).unwrap().jitter(jitter).unwrap();
        let attempt = inputs["attempt"].as_u64().unwrap_or_default();
        let draw = share(inputs["rand"].as_f64().unwrap_or_default());
        let delay = backoff.delay(u32::try_from(attempt).unwrap() + 1, ZERO, draw);
        near(id, delay, seconds(&expected["delay_s"]));
        true
    });
    assert_eq!(checked.len(), 7, "{checked:?}");
}

#[test]
fn grpcs_vectors_hold_for_the_profile() {
    let policy = Profile::GrpcA6.policy();
    let BudgetPolicy::Throttle(throttle) = policy.budget else { panic!("{:?}", policy.budget) };
    let now = Instant::now();
    let fresh = || Budget::new(&policy.budget, policy.retry.most_retries(), now);
    let checked = of("grpc/proposal", |id, inputs, expected| {
        if inputs.get("initial_s").is_some() {
            let own = waits(&policy, Class::Server);
            let (first, max) = (seconds(&inputs["initial_s"]), seconds(&inputs["max_s"]));
            let backoff = Backoff::new(own.growth(), first, max).unwrap();
            let bounds = backoff.jitter(own.spread()).unwrap().bounds(1);
            assert_eq!(bounds, limits(&expected["range_s"]), "{id}");
            return true;
        }
        match inputs["rule"].as_str().unwrap_or_default() {
            "maxAttempts > 5" => {
                assert_eq!(expected["value"], "treated as 5", "{id}");
                let attempts = attempts_of_a_call_that_fails(&policy.retry);
                assert!(attempts <= 5, "{id}: {attempts}");
            }
            "maxTokens range" => {
                assert_eq!(expected["value"], "(0,1000]", "{id}");
                assert!(Tokens::ZERO < throttle.max && throttle.max <= Tokens::whole(1_000));
            }
            "retry allowed iff" => {
                let budget = fresh();
                let grants = (1..=whole(throttle.max)).map(|_| {
                    budget.deposit(&Reading::new(Verdict::Transient(Class::Server)));
                    let left = budget.available(now).unwrap();
                    (throttle.max < left.saturating_add(left), budget.withdraw(now))
                });
                for (is_more_than_half, is_granted) in grants {
                    assert_eq!(is_granted, is_more_than_half, "{id}");
                }
            }
            "initial tokens" => {
                assert_eq!(expected["value"], "maxTokens", "{id}");
                assert_eq!(fresh().available(now), Some(throttle.max), "{id}");
            }
            _ => return false,
        }
        true
    });
    assert_eq!(checked.len(), 5, "{checked:?}");
    let max = whole(throttle.max);
    let of_go = of("grpc/grpc-go", |_, inputs, _| inputs["max_tokens"].as_u64() == Some(max));
    assert_eq!(of_go.len(), 4, "the size of the account that grpc-go's tests have: {of_go:?}");
}

#[test]
fn envoys_vectors_hold_for_the_profile() {
    let policy = Profile::Envoy.policy();
    let backoff = waits(&policy, Class::Server);
    let checked = of("envoyproxy/envoy", |id, inputs, expected| {
        if inputs["max_is_default_10x"] == true {
            // The longest wait is ten times the first unless it is set.
            assert_eq!(backoff.max(), backoff.initial() * 10, "{id}");
            let (first, max) = (millis(&inputs["base_ms"]), millis(&inputs["max_ms"]));
            let theirs = Backoff::new(backoff.growth(), first, max).unwrap();
            let theirs = theirs.jitter(backoff.spread()).unwrap();
            assert!(first != backoff.initial() || theirs == backoff, "{id}");
            let retry = inputs["retry"].as_u64().unwrap().try_into().unwrap();
            let (low, high) = theirs.bounds(retry);
            let delay = millis(&expected["delay_ms"]);
            assert!(low <= delay && delay < high, "{id}: {low:?} <= {delay:?} < {high:?}");
            return true;
        }
        match (inputs["retry_on"].as_str(), inputs["status"].as_u64()) {
            (Some("5xx"), Some(status)) if inputs.as_object().unwrap().len() == 2 => {
                let status = u16::try_from(status).unwrap();
                let is_repeated = policy.triggers.statuses.contains(status);
                assert_eq!(is_repeated, expected["decision"] == "Yes", "{id}");
                true
            }
            _ => false,
        }
    });
    assert_eq!(checked.len(), 6, "{checked:?}");
    assert!(policy.triggers.faults.contains(Fault::ConnectionReset));
}

#[test]
fn awss_vectors_hold_for_the_profile() {
    let policy = Profile::Aws.policy();
    let fast = waits(&policy, Class::Server);
    let of_botocore = of("boto/botocore", |id, inputs, expected| {
        if inputs["spec"] != "2.1" || inputs.get("attempt").is_none() {
            return false;
        }
        assert_eq!(fast.initial(), seconds(&inputs["base_s"]), "{id}");
        assert_eq!(fast.max(), seconds(&inputs["max_s"]), "{id}");
        let retry = inputs["attempt"].as_u64().unwrap().try_into().unwrap();
        // The vectors' generator always draws 1.
        assert_eq!(fast.delay(retry, ZERO, u64::MAX), seconds(&expected["delay_s"]), "{id}");
        true
    });
    assert_eq!(of_botocore.len(), 7, "{of_botocore:?}");
    let of_smithy = of("smithy-lang/smithy-rs", |id, inputs, expected| {
        let backoff = match inputs["error"].as_str() {
            Some("throttling v2.1") => waits(&policy, Class::Throttled),
            Some("non-throttling v2.0") => legacy(3).rule(Class::Server).backoff,
            _ => return false,
        };
        let delay = backoff.delay(1, ZERO, u64::MAX);
        assert_eq!(delay, millis(&expected["delay_ms"]), "{id}");
        true
    });
    assert_eq!(of_smithy, ["BO-304", "BO-306"], "`vectors.rs` leaves these to this test");
}

/// AWS's account for retries as a vector has it, and the retries that it pays for.
struct Quota {
    retry: RetryPolicy,
    policy: TokenBudget,
    budget: Budget,
    now: Instant,
}

impl Quota {
    /// Mode 2.1 is the profile; 2.0 is slower and takes 5 for a retry, whatever failed.
    fn new(inputs: &Value) -> Self {
        let aws = Profile::Aws.policy();
        let BudgetPolicy::Tokens(current) = aws.budget else { panic!("{:?}", aws.budget) };
        let capacity = inputs["capacity"].as_u64().or(inputs["initial"].as_u64());
        let initial = capacity.map_or(current.initial, |capacity| Some(tokens(capacity)));
        // An account of AWS is never larger than the one of 500; what a vector says is in it, and the
        // small ones are full.
        let is_small = inputs["capacity"].as_u64().is_some_and(|capacity| capacity < 100);
        let max = if is_small { initial.unwrap() } else { current.max };
        let (cost, attempts) = (tokens(5), inputs["max_attempts"].as_u64().unwrap_or(3));
        let (retry, policy) = if inputs["spec"] == "2.1" {
            (aws.retry, TokenBudget { initial, max, ..current })
        } else {
            (legacy(attempts), TokenBudget { initial, max, cost, throttled_cost: cost, ..current })
        };
        let now = Instant::now();
        let budget = Budget::new(&BudgetPolicy::Tokens(policy), retry.most_retries(), now);
        Self { retry, policy, budget, now }
    }

    fn capacity(&self) -> u64 {
        whole(self.budget.available(self.now).unwrap())
    }

    /// Does what the layer does when a call ends well: the deposit, and the refund of a retry.
    fn succeed(&self, paid: Option<Class>) {
        self.budget.deposit(&Reading::SUCCESS);
        if let Some(class) = paid {
            self.budget.refund_after(class, self.now);
        }
    }
}

/// Fails a call until nothing more is done about it, and compares the waits and what is left.
fn failing_call(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let mut quota = Quota::new(inputs);
    let wanted = expected["steps"].as_array().unwrap();
    if let Some(millis) = inputs["max_backoff_ms"].as_u64() {
        let fast = quota.retry.rule(Class::Server).backoff;
        let max = Duration::from_millis(millis);
        let shorter = Backoff::new(fast.growth(), fast.initial(), max).unwrap();
        let retries = u32::try_from(wanted.len()).unwrap() - 1;
        quota.retry = quota.retry.backoff(shorter).max_retries(retries);
    }
    let (mut attempt, mut steps) = (failed(Class::Server), Vec::new());
    let stop = loop {
        let withdrawal = Withdrawal::new(&quota.budget, quota.now);
        let decision = quota.retry.decide(&attempt, Some(withdrawal), u64::MAX);
        attempt.number += 1;
        attempt.progress = attempt.progress.after(decision, &attempt.reading);
        match decision {
            Decision::Retry { after, .. } => {
                steps.push(json!([format!("{after:?}"), quota.capacity()]));
            }
            Decision::Stop(stop) => break stop,
        }
    };
    steps.push(json!(["stop", quota.capacity()]));
    assert_eq!(&steps, wanted, "{id}");
    let is_poor = quota.capacity() < whole(quota.policy.cost);
    assert_eq!(stop == Stop::BudgetExhausted, is_poor, "{id}: {stop}");
    Checked
}

/// Acquires and releases, one after the other.
fn operations(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let quota = Quota::new(inputs);
    let (mut paid, mut capacities, mut results) = (None, Vec::new(), Vec::new());
    for op in inputs["ops"].as_array().unwrap() {
        match op.as_str().unwrap() {
            "release after 400" => {
                let invalid = Verdict::Permanent(Class::InvalidRequest);
                quota.budget.deposit(&Reading::new(invalid));
            }
            op if op.starts_with("release") => quota.succeed(paid.take()),
            op => {
                let is_throttled = op.ends_with("throttling");
                let class = if is_throttled { Class::Throttled } else { Class::Server };
                results.push(quota.budget.withdraw_after(class, quota.now));
                paid = Some(class);
            }
        }
        capacities.push(quota.capacity());
    }
    let wanted = expected.get("capacity").or(expected.get("capacity_after_each"));
    match wanted.unwrap_or(&Value::Null) {
        Value::Array(wanted) => assert_eq!(&json!(capacities), &json!(wanted), "{id}"),
        Value::Null => assert_eq!(json!(results), expected["results"], "{id}"),
        wanted => assert_eq!(json!(capacities.last()), *wanted, "{id}"),
    }
    Checked
}

/// Empties the account with retries, and fills it again with calls that go well at once.
fn refilled(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let quota = Quota::new(inputs);
    while quota.budget.withdraw(quota.now) {}
    assert_eq!(quota.capacity(), 0, "{id}");
    let (words, full) = (&expected["steps"][0][0], expected["steps"][0][1].as_u64().unwrap());
    assert_eq!(words, "20 first-try successes refill 1 each", "{id}");
    for success in 1..=20 {
        quota.succeed(None);
        assert_eq!(quota.capacity(), success, "{id}");
    }
    assert_eq!(quota.capacity(), full, "{id}");
    Checked
}

/// AWS moves whole permits out of a fraction that it keeps beside them; ours is one number.
fn fractions(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let reward = inputs["fractional"].as_f64().or(inputs["success_reward"].as_f64()).unwrap();
    let policy = TokenBudget {
        deposit: Tokens::try_from(reward).unwrap(),
        initial: Some(Tokens::ZERO),
        floor_per_second: Tokens::ZERO,
        ..TokenBudget::default()
    };
    let now = Instant::now();
    let budget = Budget::new(&BudgetPolicy::Tokens(policy), 3, now);
    let successes = (0..inputs["successes"].as_u64().unwrap_or(1)).map(|_| {
        budget.deposit(&Reading::SUCCESS);
        whole(budget.available(now).unwrap())
    });
    let available: Vec<u64> = successes.collect();
    if let Some(wanted) = expected.get("available_after_each") {
        assert_eq!(&json!(available), wanted, "{id}");
        return Checked;
    }
    let permits = (0..).take_while(|_| budget.withdraw(now)).count();
    assert_eq!(json!(permits), expected["permits_added"], "{id}");
    let remaining = budget.available(now).unwrap();
    let wanted = Tokens::try_from(expected["remaining"].as_f64().unwrap()).unwrap();
    assert_eq!(remaining, wanted, "{id}");
    Checked
}

/// Standard mode 2.0: from 1 s, up to 20 s.
fn legacy(max_attempts: u64) -> RetryPolicy {
    let (second, retries) = (Duration::from_secs(1), u32::try_from(max_attempts - 1).unwrap());
    let backoff = Backoff::exponential(second, 2.0, second * 20).unwrap();
    RetryPolicy::default().max_retries(retries).backoff(backoff)
}

fn attempts_of_a_call_that_fails(retry: &RetryPolicy) -> u32 {
    let made = (1..100).take_while(|&number| {
        let progress = Progress::after_retries(number - 1);
        let attempt = Attempt { number, progress, ..failed(Class::Server) };
        matches!(retry.decide(&attempt, None, 0), Decision::Retry { .. })
    });
    1 + u32::try_from(made.count()).unwrap()
}

fn failed(class: Class) -> Attempt {
    Attempt::first(Reading::new(Verdict::Transient(class)), Idempotency::Safe)
}

fn waits(policy: &Policy, class: Class) -> Backoff {
    policy.retry.rule(class).backoff
}

/// Returns the ids of the project's vectors that `check` knows how to check.
fn of(project: &str, check: impl Fn(&str, &Value, &Value) -> bool) -> Vec<String> {
    let all = vectors();
    let theirs = all.iter().filter(|vector| {
        vector["source"].as_str().is_some_and(|source| source.starts_with(project))
    });
    let checked = theirs.filter_map(|vector| {
        let id = vector["id"].as_str().unwrap();
        check(id, &vector["inputs"], &vector["expected"]).then(|| id.to_owned())
    });
    checked.collect()
}

/// Equal, to the rounding of the vector's own figures.
fn near(id: &str, ours: Duration, theirs: Duration) {
    let is_near = ours.abs_diff(theirs) <= theirs / 500 + Duration::from_millis(1);
    assert!(is_near, "{id}: {ours:?}, {theirs:?}");
}

fn limits(range: &Value) -> (Duration, Duration) {
    (seconds(&range[0]), seconds(&range[1]))
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs_f64(value.as_f64().unwrap())
}

fn millis(value: &Value) -> Duration {
    Duration::from_millis(value.as_u64().unwrap())
}

fn tokens(count: u64) -> Tokens {
    Tokens::whole(u32::try_from(count).unwrap())
}

/// Returns how many whole tokens that is.
fn whole(tokens: Tokens) -> u64 {
    tokens.nanos() / Tokens::ONE.nanos()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of all draws"
)]
fn share(share: f64) -> u64 {
    (share * u64::MAX as f64) as u64
}
