use super::*;
use crate::{Config, Format};

fn listed(policy: &str) -> Vec<(String, String, String)> {
    let text = format!("policies:\n  p: {policy}\n");
    let config = Config::parse(&text, Format::Yaml, "f.yaml", &[]).unwrap();
    let entry =
        |entry: &Provenance| (entry.setting.clone(), entry.value.clone(), entry.origin.clone());
    config.provenance("p").iter().map(entry).collect()
}

/// The value and the origin of one setting; nothing where it is not listed.
fn of_one(policy: &str, setting: &str) -> Option<(String, String)> {
    let mut found = listed(policy).into_iter().filter(|(other, ..)| other == setting);
    let one = found.next().map(|(_, value, origin)| (value, origin));
    assert!(found.next().is_none(), "{setting} is listed once");
    one
}

fn pair(value: &str, origin: &str) -> Option<(String, String)> {
    Some((value.to_owned(), origin.to_owned()))
}

#[test]
fn parts_that_nobody_has_set_are_off_by_default() {
    for part in ["breaker", "hedge", "rate_limit", "throttle", "bulkhead", "adaptive_limit"] {
        assert_eq!(of_one("{}", part), pair("off", "default"), "{part}");
    }
    for part in ["cache", "fallback", "resume", "stall", "chaos"] {
        assert_eq!(of_one("{}", part), pair("off", "default"), "{part}");
    }
    assert_eq!(of_one("{breaker: off}", "breaker"), pair("off", "f.yaml:2:16"));
}

#[test]
fn a_part_that_is_on_is_listed_key_by_key() {
    let policy = "{breaker: {probes: 1}}";
    assert_eq!(of_one(policy, "breaker.probes"), pair("1", "f.yaml:2:25"));
    assert_eq!(of_one(policy, "breaker.min_calls"), pair("100", "default"));
    assert_eq!(of_one(policy, "breaker.window"), pair("10s", "default"));
    assert_eq!(of_one(policy, "breaker.slow_call"), pair("none", "default"));
    let open = "{kind: exponential, initial: 5s, factor: 2, max: 15s, jitter: proportional:0.2}";
    assert_eq!(of_one(policy, "breaker.open"), pair(open, "default"));
    assert_eq!(of_one(policy, "breaker"), None);
    assert_eq!(of_one("{breaker: on}", "breaker"), pair("on", "f.yaml:2:16"));
    assert_eq!(of_one("{breaker: on}", "breaker.probes"), pair("3", "default"));
    assert_eq!(of_one("{cache: {}}", "cache"), pair("{}", "f.yaml:2:14"));
    assert_eq!(of_one("{cache: {}}", "cache.max_bytes"), pair("64MiB", "default"));
    assert_eq!(of_one("{fallback: on}", "fallback.on"), pair("[5xx, error]", "default"));
    assert_eq!(of_one("{hedge: {delay: 50ms}}", "hedge.initial_delay"), None);
    let body = "{fallback: {body: \"a\\nb\"}}";
    assert_eq!(of_one(body, "fallback.body"), pair("\"a\\nb\"", "f.yaml:2:24"));
    let rate = "{rate_limit: {permits: 30, per: 1s}}";
    assert_eq!(of_one(rate, "rate_limit.burst"), pair("3", "default"));
}

#[test]
fn what_a_profile_says_is_told_from_what_is_the_default_anyway() {
    assert_eq!(of_one("{}", "profile"), pair("default", "default"));
    let aws = "{profile: aws}";
    assert_eq!(of_one(aws, "profile"), pair("aws", "f.yaml:2:16"));
    let budget = "deposit 1, max 500, initial 500, floor 0, cost 14, throttled_cost 5";
    assert_eq!(of_one(aws, "budget"), pair(budget, "profile aws"));
    let waits = "exponential from 50ms (throttled 1s), factor 2, max 20s, jitter full";
    assert_eq!(of_one(aws, "backoff"), pair(waits, "profile aws"));
    assert_eq!(of_one(aws, "max_retries"), pair("2", "profile aws"));
    assert_eq!(of_one(aws, "attempt_timeout"), pair("30s", "default"));
    let envoy = "{profile: envoy}";
    let on = "[5xx, connect, reset, refused-stream]";
    assert_eq!(of_one(envoy, "retry_on"), pair(on, "profile envoy"));
    assert_eq!(of_one(envoy, "pushback"), pair("ignored", "profile envoy"));
    assert_eq!(of_one("{profile: cenkalti}", "max_retries"), pair("no limit", "profile cenkalti"));
    let grpc = pair("throttle of max_tokens 10, token_ratio 0.1", "profile grpc-a6");
    assert_eq!(of_one("{profile: grpc-a6}", "budget"), grpc);
}

#[test]
fn a_default_that_gave_way_says_so() {
    assert_eq!(of_one("{deadline: 9s}", "attempt_timeout"), pair("none", "adjusted"));
    let polly = "{profile: polly, deadline: 5s}";
    assert_eq!(of_one(polly, "attempt_timeout"), pair("none", "adjusted"));
    let limit = "{adaptive_limit: {max: 10}}";
    assert_eq!(of_one(limit, "adaptive_limit.initial"), pair("10", "adjusted"));
}

#[test]
fn defaults_of_retries_and_waits_are_said_in_words() {
    assert_eq!(of_one("{}", "max_retries"), pair("3; throttled 5", "default"));
    let waits = "exponential from 500ms (timeout 1s, throttled 2s), factor 2, max 60s, jitter full";
    assert_eq!(of_one("{}", "backoff"), pair(waits, "default"));
    let budget = "deposit 0.1, max 10, initial one call's retries, floor 0.1";
    assert_eq!(of_one("{}", "budget"), pair(budget, "default"));
    assert_eq!(of_one("{}", "replay_body"), pair("64KiB", "default"));
    assert_eq!(of_one("{}", "pushback"), pair("honored up to 120s, jitter 0.25", "default"));
    assert_eq!(of_one("{maxRetries: 1}", "maxRetries"), pair("1", "f.yaml:2:19"));
    assert_eq!(of_one("{maxRetries: 1}", "backoff"), None);
    assert_eq!(of_one("{maxRetries: 1}", "classes"), pair("none", "default"));
}

/// What is listed of the parts is what a file could say: read again, it means the same.
#[test]
fn what_is_shown_of_a_part_can_be_written_into_a_file() {
    let written = "{
        breaker: {slow_call: 2s, slow_ratio: 0.25, window: 500, open: {kind: fixed, max: 7s}},
        hedge: {delay: p99.9, min_delay: 2ms},
        rate_limit: {permits: 100, per: 1m, key: 'header:x-tenant'},
        throttle: {ratio: 1.5, probes_per_second: 0},
        bulkhead: {queue: 7, max_wait: 1ms, per: all},
        adaptive_limit: {algorithm: vegas},
        cache: {max_bytes: 65537, max_body: 3KiB, coalesce: false},
        fallback: {status: 203, headers: {x-a: 'q\"q'}, body: 'a: b\\c', on: [refusal, 404, 5xx]},
        resume: {backoff: {kind: decorrelated}},
        stall: {idle: 1.5s, throughput: {bytes_per_second: 1KiB, grace: 1s}},
        chaos: {seed: 18446744073709551615, enabled: false},
    }";
    let parse = |policy: &str| {
        let text = format!("policies:\n  p: {policy}\n");
        let config = Config::parse(&text, Format::Yaml, "f.yaml", &[]).unwrap();
        config.policy("p").unwrap().clone()
    };
    let policy = parse(written);
    let mut again = String::new();
    let mut open = "";
    let all = shown::settings(&policy);
    let parts = all.iter().filter_map(|(setting, value)| Some((setting.split_once('.')?, value)));
    for ((part, key), value) in parts {
        if part != open {
            again += &format!("\n    {part}:");
            open = part;
        }
        // A colon within a word needs quotes in the inline notation only.
        let value = value.replace("jitter: proportional:0.2", "jitter: 'proportional:0.2'");
        again += &format!("\n      {key}: {value}");
    }
    assert_eq!(parse(&again), policy, "{again}");
}
