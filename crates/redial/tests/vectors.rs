//! Other projects' test vectors for Retry-After (RA), HTTP-date (HD), gRPC pushback (PB), RateLimit
//! fields (RL), classification (RC) and stop rules (ST), where our decision agrees with theirs.
//! `vectors/README.md` lists what is left out, and why.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read should stop the test")]

use std::{fs, path::Path, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use redial::{
    Diagnosis,
    core::{
        Attempt, Class, Decision, Fault, Idempotency, Policy, PushbackPolicy, Reading, StatusSet,
        Stop, Triggers, Verdict,
    },
    http::{Answer, idempotency_of, parse_http_date, rate_limits, read, retry_after, wish},
};
use serde_json::Value;

/// Whether a vector applies to us; those that do have been checked.
enum Outcome {
    Checked,
    LeftOut,
}
use Outcome::{Checked, LeftOut};

#[test]
fn retry_after_vectors_hold() {
    run("RA", 38, retry_after_vector);
}

#[test]
fn http_date_vectors_hold() {
    run("HD", 104, |id, inputs, expected| {
        // Dates that mean the past century were written when that was near.
        let date = inputs["value"].as_str().unwrap();
        let read = parse_http_date(date, 1_735_689_600);
        assert_eq!(read, expected["unix_s"].as_i64(), "{id}: {date}");
        Checked
    });
}

#[test]
fn grpc_pushback_vectors_hold() {
    run("PB", 5, |id, inputs, expected| {
        let headers = headers("grpc-retry-pushback-ms", &inputs["grpc-retry-pushback-ms"]);
        let wish = wish(&headers, || 0, true);
        match expected["delay_ms"].as_u64() {
            Some(millis) => {
                assert_eq!(wish.pushback.unwrap().wait(), Duration::from_millis(millis), "{id}");
            }
            None => assert_eq!((wish.pushback, wish.should_retry), (None, Some(false)), "{id}"),
        }
        Checked
    });
}

#[test]
fn ratelimit_vectors_hold() {
    run("RL", 4, |id, inputs, expected| {
        let Some(field) = inputs["field"].as_str() else { return LeftOut };
        let value = Value::from(field.strip_prefix("RateLimit: ").unwrap());
        let limits = rate_limits(&headers("ratelimit", &value));
        let [limit] = &limits[..] else { panic!("{id}: {limits:?}") };
        assert_eq!(limit.policy, expected["policy"].as_str().unwrap(), "{id}");
        assert_eq!(Some(limit.remaining), expected["remaining"].as_u64(), "{id}");
        assert_eq!(limit.reset.map(|reset| reset.as_secs()), expected["reset_s"].as_u64(), "{id}");
        let key = limit.partition_key.as_deref();
        assert_eq!(key, expected["partition_key"].as_str().map(str::as_bytes), "{id}");
        Checked
    });
}

#[test]
fn classification_vectors_hold() {
    run("RC", 66, classification);
}

#[test]
fn stop_vectors_hold() {
    run("ST", 7, |id, inputs, expected| {
        let seconds = |key: &str| inputs[key].as_f64().map(Duration::from_secs_f64);
        let Some(stops) = expected["stop"].as_bool().or(expected["stop_any"].as_bool()) else {
            return LeftOut;
        };
        let max_attempts = inputs["max_attempts"].as_u64().unwrap_or(4);
        let retries = u32::try_from(max_attempts).unwrap() - 1;
        let budget = seconds("max_elapsed_s").or(seconds("budget_s"));
        let number = u32::try_from(inputs["attempt"].as_u64().unwrap_or(1)).unwrap();
        let elapsed = seconds("elapsed_s").unwrap_or_default();
        let attempt = Attempt {
            number,
            remaining: budget.map(|budget| budget.saturating_sub(elapsed)),
            ..Attempt::first(Reading::new(Verdict::Transient(Class::Other)), Idempotency::Safe)
        };
        let decision = Policy::default().retry.max_retries(retries).decide(&attempt, None, 0);
        assert_eq!(matches!(decision, Decision::Stop(_)), stops, "{id}: {decision:?}");
        Checked
    });
}

fn retry_after_vector(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let envoy_format = inputs.get("format").is_some();
    let is_dialect = inputs.get("t_i_ms").is_some();
    let is_configured = ["respect_header", "honour"].iter().any(|key| inputs[key] == false);
    let chooses_cap = inputs.get("retry_after_max_s").is_some() || inputs.get("max_s").is_some();
    if let Some(millis) = inputs["x-amz-retry-after_ms"].as_str() {
        // The quota that the vector counts beside it is AWS's own.
        let wish = wish(&headers("x-amz-retry-after", &Value::from(millis)), || 0, false);
        let wish = PushbackPolicy::default().wish(wish.pushback).map(|wish| wish.wait());
        let own = inputs["own_backoff_s"].as_f64().map(Duration::from_secs_f64);
        let delay = expected["delay_s"].as_f64().map(Duration::from_secs_f64);
        assert_eq!(wish.or(own), delay, "{id}");
        return Checked;
    }
    if is_dialect {
        return LeftOut;
    }
    if is_configured {
        // Told not to look at the field, we do not.
        let policy = Policy::default().retry.pushback(PushbackPolicy::ignored());
        let wish = wish(&headers("retry-after", &inputs["retry_after"]), || 0, true);
        assert_eq!(policy.pushback_policy().wish(wish.pushback), None, "{id}");
        return Checked;
    }
    if inputs["status"] == 413 || inputs.get("enforceRetryRules").is_some() {
        return got(id, inputs, expected);
    }
    if envoy_format && inputs["format"] != "SECONDS" {
        return LeftOut;
    }
    let now = inputs["now"]
        .as_str()
        .map_or(1_750_000_000, |now| now.parse::<jiff::Timestamp>().unwrap().as_second());
    let values = ["retry_after_values", "retry_after", "value"].into_iter();
    let values =
        values.map(|key| &inputs[key]).find(|value| !value.is_null()).unwrap_or(&Value::Null);
    let values = relative_dates(values, now);
    if values.as_array().is_some_and(|values| 1 < values.len()) {
        return LeftOut;
    }
    let delay = retry_after(&headers("retry-after", &values), now);
    let unit = |key: &str| if key.ends_with("_ms") { 1 } else { 1_000 };
    let (key, wanted) = ["delay_ms", "delay_s", "sleep_ms"]
        .iter()
        .find_map(|key| expected.get(key).map(|wanted| (key, wanted)))
        .unwrap();
    if inputs["status"] == 200 {
        // The field is on a success: nothing is retried, so nothing waits.
        return Checked;
    }
    if let Some(range) = wanted.as_str() {
        let (low, high) = range.split_once("..").unwrap();
        let seconds = delay.unwrap().as_secs();
        assert!((low.parse().unwrap()..=high.parse().unwrap()).contains(&seconds), "{id}");
        return Checked;
    }
    let wanted = wanted.as_u64().map(|wanted| Duration::from_millis(wanted * unit(key)));
    if chooses_cap && delay != wanted {
        // Others shorten a wish to their cap; we give up on it.
        return LeftOut;
    }
    assert_eq!(delay, wanted, "{id}");
    Checked
}

/// got retries 413 only with Retry-After, and statuses only where they are listed.
fn got(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let limit = u32::try_from(inputs["limit"].as_u64().unwrap_or(2)).unwrap();
    let (status, statuses) = match inputs["statuses"][0].as_u64() {
        Some(first) => (first, StatusSet::EMPTY.with(429)),
        None => (inputs["status"].as_u64().unwrap(), Triggers::DEFAULT.statuses),
    };
    let policy = Policy {
        triggers: Triggers { statuses, ..Triggers::DEFAULT },
        retry: Policy::default().retry.max_retries(limit),
        ..Policy::default()
    };
    let headers = headers("retry-after", &relative_dates(&inputs["retry_after"], 1_750_000_000));
    let reading = answer(&policy, &Method::GET, status, &headers);
    let retries = (1..).take_while(|number| {
        let attempt = Attempt { number: *number, ..Attempt::first(reading, Idempotency::Safe) };
        matches!(policy.retry.decide(&attempt, None, 0), Decision::Retry { .. })
    });
    assert_eq!(Some(retries.count() as u64), expected["retries"].as_u64(), "{id}");
    Checked
}

fn classification(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    if let Some(list) = inputs["retry_on"].as_str() {
        return envoy(id, list, inputs, expected);
    }
    let transient = expected["transient"].as_bool().or(expected["retry"].as_bool());
    let case = inputs["case"].as_str().unwrap_or_default();
    let status = case.strip_prefix("status ").and_then(|code| code.parse().ok());
    let status = status.filter(|code| *code != 0).or(inputs["status"].as_u64());
    let names_error = ["error_code", "error"].iter().any(|key| inputs[key].is_string());
    let chooses = ["forcelist", "allowed_methods", "read", "connect", "total"]
        .iter()
        .any(|key| inputs.get(key).is_some());
    match (transient, status) {
        (Some(transient), Some(status)) if !names_error && !chooses => {
            let reading = answer(&Policy::default(), &Method::GET, status, &HeaderMap::new());
            let is_transient = !matches!(reading.verdict, Verdict::Success | Verdict::Permanent(_));
            assert_eq!(is_transient, transient, "{id}");
            Checked
        }
        (Some(retried), None) if case == "untrusted certificate" => {
            let reading = fault(Fault::TlsCertificate);
            assert_eq!(!matches!(reading.verdict, Verdict::Permanent(_)), retried, "{id}");
            Checked
        }
        (Some(retried), None) if case.starts_with("invalid header") => {
            let reading = fault(Fault::InvalidRequest);
            assert_eq!(!matches!(reading.verdict, Verdict::Permanent(_)), retried, "{id}");
            Checked
        }
        (Some(retried), None) if inputs["error"] == "TimeoutRejectedException" => {
            let reading = fault(Fault::AttemptTimeout);
            assert_eq!(!matches!(reading.verdict, Verdict::Permanent(_)), retried, "{id}");
            Checked
        }
        (Some(retried), None) if inputs.get("max_attempts").is_some() => {
            let retries = u32::try_from(inputs["max_attempts"].as_u64().unwrap()).unwrap() - 1;
            let number = u32::try_from(inputs["attempt"].as_u64().unwrap()).unwrap();
            let attempt =
                Attempt { number, ..Attempt::first(fault(Fault::Dns), Idempotency::Safe) };
            let decision = Policy::default().retry.max_retries(retries).decide(&attempt, None, 0);
            assert_eq!(matches!(decision, Decision::Retry { .. }), retried, "{id}");
            Checked
        }
        (Some(retried), Some(status)) if inputs["forcelist"] == "500..599" => {
            let listed = (500..600).fold(StatusSet::EMPTY, StatusSet::with);
            let policy = Policy {
                triggers: Triggers { statuses: listed, ..Triggers::NONE },
                ..Policy::default()
            };
            let reading = answer(&policy, &Method::GET, status, &HeaderMap::new());
            assert_eq!(!matches!(reading.verdict, Verdict::Permanent(_)), retried, "{id}");
            Checked
        }
        (Some(retried), Some(status)) if inputs["forcelist"].is_array() => {
            allowed_methods(id, inputs, status, retried)
        }
        _ => attempts(id, inputs, expected),
    }
}

/// urllib3's list of methods is our `idempotent`: with it, any method is repeated.
fn allowed_methods(id: &str, inputs: &Value, status: u64, retried: bool) -> Outcome {
    let method: Method = inputs["method"].as_str().unwrap().parse().unwrap();
    let code = u16::try_from(status).unwrap();
    let policy = Policy {
        triggers: Triggers { statuses: StatusSet::EMPTY.with(code), ..Triggers::NONE },
        is_idempotent: true,
        ..Policy::default()
    };
    let reading = answer(&policy, &method, status, &HeaderMap::new());
    let idempotency = idempotency_of(&method, &HeaderMap::new(), policy.is_idempotent);
    let decision = policy.retry.decide(&Attempt::first(reading, idempotency), None, 0);
    assert_eq!(matches!(decision, Decision::Retry { .. }), retried, "{id}");
    Checked
}

/// Limits for each kind of error, and one for all: the least of them rules.
fn limits(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let errors = inputs["errors"].as_array().unwrap();
    let kind = errors[0].as_str().unwrap().split(' ').next().unwrap();
    let limits = [kind, "total"].into_iter().filter_map(|key| inputs[key].as_u64());
    let Some(most) = limits.min() else { return LeftOut };
    let policy = Policy::default().retry.max_retries(u32::try_from(most).unwrap());
    let raises_at = (1..=u32::try_from(errors.len()).unwrap()).find(|number| {
        let attempt =
            Attempt { number: *number, ..Attempt::first(fault(Fault::Dns), Idempotency::Safe) };
        matches!(policy.decide(&attempt, None, 0), Decision::Stop(_))
    });
    assert_eq!(raises_at.map(u64::from), expected["raises_at"].as_u64(), "{id}");
    Checked
}

/// Envoy's number of retries, where a header may lower it.
fn num_retries(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let header = inputs["x-envoy-max-retries"].as_str().map(|retries| retries.parse().unwrap());
    let most =
        header.unwrap_or_else(|| u32::try_from(inputs["num_retries"].as_u64().unwrap()).unwrap());
    let policy = Policy { retry: Policy::default().retry.max_retries(most), ..Policy::default() };
    let status = inputs["always"].as_u64().or(inputs["status"].as_u64()).unwrap();
    let reading = answer(&policy, &Method::GET, status, &HeaderMap::new());
    let decide = |number| {
        let attempt = Attempt { number, ..Attempt::first(reading, Idempotency::Safe) };
        policy.retry.decide(&attempt, None, 0)
    };
    if expected["decision"] == "No" {
        assert_eq!(decide(1), Decision::Stop(Stop::Success), "{id}");
        return Checked;
    }
    let retries = (1..).take_while(|n| matches!(decide(*n), Decision::Retry { .. })).count();
    assert_eq!(Some(retries as u64), expected["retries"].as_u64(), "{id}");
    assert_eq!(decide(most + 1), Decision::Stop(Stop::RetriesExhausted), "{id}");
    Checked
}

/// Envoy's list of methods that may be retried; ours is the registry's.
fn methods(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    let Some(method) = inputs["method"].as_str() else { return LeftOut };
    let method: Method = method.parse().unwrap();
    let policy = Policy::default();
    let reading = answer(&policy, &method, 503, &HeaderMap::new());
    let idempotency = idempotency_of(&method, &HeaderMap::new(), false);
    let decision = policy.retry.decide(&Attempt::first(reading, idempotency), None, 0);
    assert_eq!(matches!(decision, Decision::Retry { .. }), expected["retry"] == "enabled", "{id}");
    Checked
}

fn attempts(id: &str, inputs: &Value, expected: &Value) -> Outcome {
    if inputs.get("errors").is_some() {
        let is_one_kind = expected["raises_at"].is_u64();
        return if is_one_kind { limits(id, inputs, expected) } else { LeftOut };
    }
    if inputs.get("num_retries").is_some() {
        return num_retries(id, inputs, expected);
    }
    if inputs.get("retriable_request_headers").is_some() {
        return methods(id, inputs, expected);
    }
    if let Some(list) = inputs["parse_retry_on"].as_str() {
        if list.starts_with("cancelled") {
            return LeftOut;
        }
        assert_eq!(Triggers::parse(list).is_ok(), expected["all_known"] == true, "{id}");
        return Checked;
    }
    let (Some(service), true) =
        (inputs["service_max"].as_u64(), inputs["always_unavailable"] == true)
    else {
        return LeftOut;
    };
    let retries = u32::try_from(service).unwrap() - 1;
    let policy = Policy::default().retry.max_retries(retries);
    let attempts = (1..).find(|number| {
        let attempt =
            Attempt { number: *number, ..Attempt::first(fault(Fault::Dns), Idempotency::Safe) };
        policy.decide(&attempt, None, 0) == Decision::Stop(Stop::RetriesExhausted)
    });
    assert_eq!(attempts.map(u64::from), expected["attempts"].as_u64(), "{id}");
    Checked
}

/// Envoy's `retry_on`, as far as its words are ours.
fn envoy(id: &str, list: &str, inputs: &Value, expected: &Value) -> Outcome {
    if let Some(range) = inputs["match"].as_str() {
        let [low, high] = [":status range [", ","].map(|before| {
            let digits =
                range.split(before).nth(1).unwrap().chars().take_while(char::is_ascii_digit);
            digits.collect::<String>().parse::<u16>().unwrap()
        });
        let listed = (low..high).fold(StatusSet::EMPTY, StatusSet::with);
        let status = u16::try_from(inputs["status"].as_u64().unwrap()).unwrap();
        assert_eq!(listed.contains(status), expected["decision"] == "Yes", "{id}");
        return Checked;
    }
    let (Ok(triggers), Some(status)) = (Triggers::parse(list), inputs["status"].as_u64()) else {
        return match (Triggers::parse(list), inputs["event"].as_str()) {
            (Ok(triggers), Some("remote reset")) => {
                let retried = triggers.faults.contains(Fault::ConnectionReset);
                assert_eq!(retried, expected["decision"] == "Yes", "{id}");
                Checked
            }
            _ => LeftOut,
        };
    };
    if inputs.as_object().unwrap().len() != 2 {
        return LeftOut;
    }
    let policy = Policy { triggers, ..Policy::default() };
    let reading = answer(&policy, &Method::GET, status, &HeaderMap::new());
    let retried = !matches!(reading.verdict, Verdict::Success | Verdict::Permanent(_));
    assert_eq!(retried, expected["decision"] == "Yes", "{id}");
    Checked
}

fn answer(policy: &Policy, method: &Method, status: u64, headers: &HeaderMap) -> Reading {
    let status = StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap();
    let (head, ()) = Request::builder().method(method).body(()).unwrap().into_parts();
    read(policy, &(&head).into(), Ok(Answer { status, headers }), || 1_750_000_000, |_| {})
}

fn fault(fault: Fault) -> Reading {
    let (head, ()) = Request::new(()).into_parts();
    read(&Policy::default(), &(&head).into(), Err(Diagnosis::from(fault)), || 0, |_| {})
}

fn relative_dates(value: &Value, now: i64) -> Value {
    let date = |seconds: i64| {
        let stamp = jiff::Timestamp::from_second(now + seconds).unwrap();
        Value::from(stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
    };
    match value.as_str() {
        Some("now+60s as IMF-fixdate") => date(60),
        Some("now+2s IMF-fixdate") => date(2),
        Some("date 1 day before now") => date(-86_400),
        _ => value.clone(),
    }
}

fn headers(name: &'static str, values: &Value) -> HeaderMap {
    let values = match values {
        Value::Array(values) => values.clone(),
        Value::Null => Vec::new(),
        value => vec![value.clone()],
    };
    let mut headers = HeaderMap::new();
    for value in values {
        let value = HeaderValue::from_str(value.as_str().unwrap()).unwrap();
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}

fn run(family: &str, count: usize, check: impl Fn(&str, &Value, &Value) -> Outcome) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let vectors = fs::read_to_string(root.join("vectors.jsonl")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let vectors = vectors.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut seen, mut wrong) = (0, Vec::<String>::new());
    for vector in vectors.filter(|vector| vector["family"] == family) {
        let id = vector["id"].as_str().unwrap();
        let is_listed = readme.split(|c: char| !c.is_alphanumeric() && c != '-').any(|w| w == id);
        let is_left_out = matches!(check(id, &vector["inputs"], &vector["expected"]), LeftOut);
        if is_left_out != is_listed {
            wrong.push(id.to_owned());
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "the README must list what is left out, and only that: {wrong:?}");
    assert_eq!(seen, count, "every vector of the family {family} is looked at");
}
