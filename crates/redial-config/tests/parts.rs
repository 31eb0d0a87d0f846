//! The parts that most policies do without: right, wrong, and laid over one another.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

use std::{fs, path::PathBuf, time::Duration};

use redial_config::{Config, Format, schema};
use redial_core::{
    Backoff, BreakerPolicy, BudgetPolicy, BulkheadPolicy, CachePolicy, Class, Growth, HedgePolicy,
    Policy, Profile, RateKey, TokenBudget, Tokens, Window,
};
use serde_json::Value;

fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let env: Vec<_> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::parse(text, Format::Yaml, "f.yaml", &env).map_err(|error| error.to_string())
}

fn policy(text: &str) -> Policy {
    let config = parse(&format!("policies:\n  p: {text}\n"), &[]).unwrap();
    config.policy("p").unwrap().clone()
}

/// Reads a table of what is written and, on the lines below, what is said about it: line, column
/// and the path from the policy on.
fn refused(table: &str) {
    let mut cases: Vec<(&str, Vec<String>)> = Vec::new();
    for line in table.lines() {
        match (line.strip_prefix("    "), cases.last_mut()) {
            (Some(said), Some((_, messages))) => {
                let (place, rest) = said.split_once(' ').unwrap();
                messages.push(format!("f.yaml:{place} policies.p.{rest}"));
            }
            _ => cases.push((line, Vec::new())),
        }
    }
    assert!(8 < cases.len());
    for (text, messages) in cases {
        let said = parse(&format!("policies: {{ p: {{ {text} }} }}"), &[]).unwrap_err();
        assert_eq!(said, messages.join("\n"), "{text}");
    }
}

#[test]
fn wrong_profiles_are_refused_with_the_reason() {
    refused(include_str!("refused/profile.txt"));
}

#[test]
fn wrong_breakers_are_refused_with_the_reason() {
    refused(include_str!("refused/breaker.txt"));
}

#[test]
fn wrong_hedges_are_refused_with_the_reason() {
    refused(include_str!("refused/hedge.txt"));
}

#[test]
fn wrong_rate_limits_are_refused_with_the_reason() {
    refused(include_str!("refused/rate_limit.txt"));
}

#[test]
fn wrong_throttles_are_refused_with_the_reason() {
    refused(include_str!("refused/throttle.txt"));
}

#[test]
fn wrong_bulkheads_are_refused_with_the_reason() {
    refused(include_str!("refused/bulkhead.txt"));
}

#[test]
fn wrong_adaptive_limits_are_refused_with_the_reason() {
    refused(include_str!("refused/adaptive_limit.txt"));
}

#[test]
fn wrong_caches_are_refused_with_the_reason() {
    refused(include_str!("refused/cache.txt"));
}

#[test]
fn wrong_fallbacks_are_refused_with_the_reason() {
    refused(include_str!("refused/fallback.txt"));
}

#[test]
fn wrong_resumes_and_stalls_are_refused_with_the_reason() {
    refused(include_str!("refused/bodies.txt"));
}

#[test]
fn wrong_chaos_is_refused_with_the_reason() {
    refused(include_str!("refused/chaos.txt"));
}

#[test]
fn no_key_is_without_a_value_that_it_refuses() {
    let schema: Value = serde_json::from_str(schema()).unwrap();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
    let tables = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let said: String = tables.map(|file| fs::read_to_string(file).unwrap()).collect();
    let parts = ["breaker", "hedge", "rate_limit", "throttle", "bulkhead", "adaptive_limit"];
    let parts = parts.into_iter().chain(["cache", "fallback", "resume", "stall", "chaos"]);
    for (part, path) in parts.map(|part| (part, part)).chain([("chaos_rule", "chaos.rules.0")]) {
        for key in schema["$defs"][part]["properties"].as_object().unwrap().keys() {
            let is_refused = [": ", "."].iter().any(|end| {
                let told = format!(" {path}.{key}{end}");
                said.lines().any(|line| line.starts_with("    ") && line.contains(&told))
            });
            assert!(is_refused, "{path}.{key}");
        }
    }
}

#[test]
fn the_order_of_keys_does_not_matter() {
    let pairs = [
        ("{breaker: {window: 20, min_calls: 10}}", "{breaker: {min_calls: 10, window: 20}}"),
        (
            "{breaker: {slow_call: 1s, slow_ratio: 0.5}}",
            "{breaker: {slow_ratio: 0.5, slow_call: 1s}}",
        ),
        (
            "{hedge: {delay: p99, min_delay: 40s, max_delay: 50s}}",
            "{hedge: {max_delay: 50s, min_delay: 40s, delay: p99}}",
        ),
        (
            "{bulkhead: {queue: 5, max_wait: 1s, max_in_flight: 2, per: all}}",
            "{bulkhead: {per: all, max_in_flight: 2, max_wait: 1s, queue: 5}}",
        ),
        (
            "{adaptive_limit: {min: 300, initial: 400, max: 500}}",
            "{adaptive_limit: {max: 500, initial: 400, min: 300}}",
        ),
        (
            "{cache: {max_bytes: 64KiB, max_body: 1KiB, store: true, coalesce: false}}",
            "{cache: {coalesce: false, store: true, max_body: 1KiB, max_bytes: 64KiB}}",
        ),
        (
            "{cache: {max_bytes: 512MiB, max_body: 128MiB}}",
            "{cache: {max_body: 128MiB, max_bytes: 512MiB}}",
        ),
        (
            "{fallback: {status: 503, body: x, on: 5xx}}",
            "{fallback: {on: 5xx, body: x, status: 503}}",
        ),
        (
            "{stall: {idle: none, throughput: {grace: 1s, bytes_per_second: 9}}}",
            "{stall: {throughput: {bytes_per_second: 9, grace: 1s}, idle: none}}",
        ),
        (
            "{chaos: {rules: [{headers: {a: 1}, status: 503, at_most: 2, rate: 1}]}}",
            "{chaos: {rules: [{rate: 1, at_most: 2, status: 503, headers: {a: 1}}]}}",
        ),
        ("{breaker: {probes: 1}, profile: aws}", "{profile: aws, breaker: {probes: 1}}"),
    ];
    for (one, other) in pairs {
        assert_eq!(policy(one), policy(other), "{one}");
        assert_ne!(policy(one), policy("{}"), "{one}");
    }
}

#[test]
fn what_is_written_is_what_the_setters_make() {
    let second = Duration::from_secs(1);
    let written = policy(
        "{breaker: {slow_call: 2s, slow_ratio: 0.8, window: 500, open: {kind: fixed, max: 7s}}}",
    );
    let open = *BreakerPolicy::default().open();
    let fixed = Backoff::new(Growth::Fixed, second * 5, second * 7).unwrap();
    let breaker = BreakerPolicy::default().with_slow_calls(second * 2, 0.8).unwrap();
    let breaker = breaker.with_window(Window::calls(500).unwrap()).unwrap();
    let breaker = breaker.with_open(fixed.jitter(open.spread()).unwrap()).unwrap();
    assert_eq!(written.breaker, Some(breaker));

    let hedge = policy("{hedge: {delay: 50ms, max_hedges: 2}}").hedge;
    let fixed = HedgePolicy::fixed(Duration::from_millis(50)).with_max_hedges(2).unwrap();
    assert_eq!(hedge, Some(fixed));

    let rate = policy("{rate_limit: {permits: 30, per: 1m, key: all}}").rate_limit.unwrap();
    assert_eq!((rate.interval(), rate.most_at_once()), (second * 2, 3));
    assert_eq!(rate.rate_key(), &RateKey::All);

    let bulkhead = BulkheadPolicy::new(8).unwrap().with_queue(9, second).unwrap();
    let written = policy("{bulkhead: {max_in_flight: 8, queue: 9, max_wait: 1s}}").bulkhead;
    assert_eq!(written, Some(bulkhead));

    let coalesce = policy("{cache: {store: false}}").cache;
    assert_eq!(coalesce, Some(CachePolicy::coalesce_only()));

    let fallback = policy("{fallback: {headers: {X-A: 1.0, b: 007}, body: 3, on: '404, error'}}");
    let fallback = fallback.fallback.unwrap();
    let headers = [("x-a", "1.0"), ("b", "007")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(fallback.headers(), headers, "numbers stay as they were written");
    assert_eq!(fallback.body(), b"3");
    assert!(fallback.stands_in_for_status(404) && !fallback.stands_in_for_status(500));

    let chaos = policy("{chaos: {seed: 18446744073709551615, rules: [{reset: true}]}}").chaos;
    let chaos = chaos.unwrap();
    assert_eq!((chaos.fixed_seed(), chaos.rules().len()), (Some(u64::MAX), 1));
    assert!(policy("{chaos: {rules: [{status: 503, reset: false}]}}").chaos.is_some());
}

#[test]
fn a_part_is_switched_by_a_word() {
    for off in ["off", "none", "false", "'off'"] {
        assert_eq!(policy(&format!("{{breaker: {off}, stall: {off}}}")), policy("{}"), "{off}");
    }
    let stands = policy("{breaker: {}, stall: {}}");
    assert_eq!(stands.breaker, Some(BreakerPolicy::default()));
    for on in ["on", "true", "'on'"] {
        assert_eq!(policy(&format!("{{breaker: {on}, stall: {on}}}")), stands, "{on}");
    }
    assert_eq!(policy("{rate_limit: off}").rate_limit, None);
}

#[test]
fn a_limit_to_begin_with_gives_way_to_bounds() {
    let limit = |text: &str| policy(text).adaptive_limit.unwrap();
    assert_eq!(limit("{adaptive_limit: {max: 10}}").initial(), 10);
    assert_eq!(limit("{adaptive_limit: {min: 30}}").initial(), 30);
    assert_eq!(limit("{adaptive_limit: {min: 2}}").initial(), 20);
}

#[test]
fn a_policy_is_laid_over_its_profile_field_by_field() {
    for profile in Profile::ALL {
        assert_eq!(policy(&format!("{{profile: {profile}}}")), profile.policy(), "{profile}");
    }
    let aws = policy("{profile: aws, max_retries: 5, budget: {deposit: 0.5}}");
    let BudgetPolicy::Tokens(before) = Profile::Aws.policy().budget else {
        panic!("the bucket of AWS holds tokens");
    };
    let half = Tokens::try_from(0.5).unwrap();
    assert_eq!(aws.budget, BudgetPolicy::Tokens(TokenBudget { deposit: half, ..before }));
    let rule = *aws.retry.rule(Class::Throttled);
    assert_eq!((rule.max_retries, rule.backoff.initial()), (5, Duration::from_secs(1)));

    let costs = |text: &str| match policy(text).budget {
        BudgetPolicy::Tokens(tokens) => [tokens.cost, tokens.throttled_cost],
        other => panic!("{other:?}"),
    };
    assert_eq!(costs("{profile: aws, budget: {cost: 20}}"), [20, 5].map(Tokens::whole));
    assert_eq!(costs("{budget: {cost: 2}}"), [Tokens::whole(2); 2]);

    let grpc = policy("{profile: grpc-a6, budget: {throttle: {max_tokens: 20}}}").budget;
    assert!(
        matches!(grpc, BudgetPolicy::Throttle(t) if (t.max.as_f64(), t.ratio.as_f64()) == (20.0, 0.1))
    );
    // Another form begins at its own defaults.
    let other = policy("{profile: grpc-a6, budget: {deposit: 0.2}}").budget;
    assert_eq!(other, policy("{budget: {deposit: 0.2}}").budget);

    let polly = policy("{profile: polly, deadline: 5s}");
    assert_eq!((polly.deadline, polly.attempt_timeout), (Some(Duration::from_secs(5)), None));
}

#[test]
fn the_environment_is_laid_over_a_part_field_by_field() {
    let text = "policies:
  p:
    profile: aws
    breaker: { probes: 1, min_calls: 7 }
    hedge: off
    cache: on
    chaos: { enabled: false, rules: [{ status: 503 }, { reset: true }] }
";
    let config = parse(
        text,
        &[
            ("REDIAL__POLICIES__P__BREAKER__PROBES", "3"),
            ("REDIAL__POLICIES__P__HEDGE__MAX_HEDGES", "2"),
            ("REDIAL__POLICIES__P__CACHE__COALESCE", "false"),
            ("REDIAL__POLICIES__P__FALLBACK", "on"),
            ("REDIAL__POLICIES__P__FALLBACK__ON", "refusal,502"),
            ("REDIAL__POLICIES__P__CHAOS__ENABLED", "true"),
            ("REDIAL__POLICIES__P__CHAOS__RULES__0__RATE", "0.5"),
            ("REDIAL__POLICIES__P__BULKHEAD__QUEUE", "5"),
            ("REDIAL__POLICIES__P__BULKHEAD__MAX_WAIT", "10ms"),
        ],
    );
    let config = config.unwrap();
    let policy = config.policy("p").unwrap();
    let breaker = policy.breaker.unwrap();
    assert_eq!((breaker.probes(), breaker.min_calls()), (3, 7));
    assert_eq!(policy.hedge.unwrap().max_hedges(), 2, "what is more specific switches on");
    assert!(!policy.cache.unwrap().is_coalescing());
    let fallback = policy.fallback.as_ref().unwrap();
    assert!(fallback.stands_in_for_status(502) && !fallback.stands_in_for_status(500));
    let chaos = policy.chaos.as_ref().unwrap();
    assert!(chaos.is_active());
    assert_eq!(chaos.rules()[0].hit_rate(), Some(0.5));
    assert_eq!(policy.bulkhead.unwrap().queue_max(), 5);
    assert_eq!(policy.budget, Profile::Aws.policy().budget);
    let origin = |setting: &str| {
        let entry = config.provenance("p").iter().find(|entry| entry.setting == setting).unwrap();
        (entry.value.clone(), entry.origin.clone())
    };
    let env = "env REDIAL__POLICIES__P__BREAKER__PROBES".to_owned();
    assert_eq!(origin("breaker.probes"), ("3".to_owned(), env));
    assert_eq!(origin("breaker.min_calls"), ("7".to_owned(), "f.yaml:4:38".to_owned()));
    assert_eq!(origin("breaker.window"), ("10s".to_owned(), "default".to_owned()));

    let off = parse(text, &[("REDIAL__POLICIES__P__BREAKER", "off")]).unwrap();
    assert_eq!(off.policy("p").unwrap().breaker, None);
    let wrong = parse(text, &[("REDIAL__POLICIES__P__BREAKER__PROBES", "0")]).unwrap_err();
    assert_eq!(
        wrong,
        "env REDIAL__POLICIES__P__BREAKER__PROBES: policies.p.breaker.probes: 0 probes are not \
         within 1 to 1000"
    );
    let wrong = parse(text, &[("REDIAL__POLICIES__P__PROFILE__NAME", "aws")]).unwrap_err();
    assert_eq!(
        wrong,
        "env REDIAL__POLICIES__P__PROFILE__NAME: policies.p.profile: expected text, found a table"
    );
}

#[test]
fn lists_and_texts_are_bounded() {
    let many = |item: &str, times: usize| vec![item; times].join(", ");
    let headers =
        |count: usize| (0..count).map(|n| format!("x-{n}: 1")).collect::<Vec<_>>().join(", ");
    let said = |text: String| parse(&format!("policies: {{ p: {{ {text} }} }}"), &[]).map(drop);
    let end = |text: String| said(text).unwrap_err().split(": ").last().unwrap().to_owned();
    assert_eq!(said(format!("chaos: {{ rules: [{}] }}", many("{ reset: true }", 256))), Ok(()));
    let rules = format!("chaos: {{ rules: [{}] }}", many("{ reset: true }", 257));
    assert_eq!(end(rules), "more than 256 rules");
    assert_eq!(said(format!("fallback: {{ headers: {{ {} }} }}", headers(64))), Ok(()));
    let fields = format!("fallback: {{ headers: {{ {} }} }}", headers(65));
    assert_eq!(end(fields), "more than 64 header fields");
    let fields = format!("chaos: {{ rules: [{{ status: 503, headers: {{ {} }} }}] }}", headers(65));
    assert_eq!(end(fields), "more than 64 header fields");
    let methods = format!("chaos: {{ rules: [{{ reset: true, method: [{}] }}] }}", many("GET", 33));
    assert_eq!(end(methods), "more than 32 methods");
    let value = format!("fallback: {{ headers: {{ x: {} }} }}", "y".repeat(8_193));
    assert_eq!(end(value), "a text of 8193 bytes is longer than 8192");
    let pattern = format!("chaos: {{ rules: [{{ reset: true, path: /{} }}] }}", "*".repeat(1_024));
    assert_eq!(end(pattern), "a text of 1025 bytes is longer than 1024");
    let body = format!("fallback: {{ body: {} }}", "y".repeat(1_048_577));
    assert_eq!(end(body), "fallback body of 1048577 bytes is above 1048576");
}

#[test]
fn what_the_papers_show_is_what_is_read() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut seen = 0;
    for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        // What is about gRPC alone is read by the crate for it.
        if file.ends_with("tonic.md") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            seen += 1;
            let block = block.split("```").next().unwrap();
            let inner: String = block.lines().map(|line| format!("    {line}\n")).collect();
            let whole = format!("policies:\n  p:\n{inner}");
            let text = if block.starts_with("policies:") { block } else { &whole };
            assert_eq!(parse(text, &[]).map(drop), Ok(()), "{}", file.display());
        }
    }
    assert!(10 <= seen);
}
