//! Files as people write them, right and wrong.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

use std::{fs, path::PathBuf, time::Duration};

use proptest::prelude::*;
use redial_config::{Config, Format, schema};
use redial_core::{BudgetPolicy, Class, Jitter, Policy};
use serde_json::Value;

fn yaml(text: &str) -> Result<Config, String> {
    Config::parse(text, Format::Yaml, "f.yaml", &[]).map_err(|error| error.to_string())
}

fn policy(text: &str) -> Result<Policy, String> {
    yaml(&format!("policies:\n  p: {text}\n")).map(|config| config.policy("p").unwrap().clone())
}

fn examples() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/config");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.collect()
}

fn load(name: &str) -> Config {
    let file = examples().into_iter().find(|file| file.ends_with(name)).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    Config::parse(&text, Format::of(&file, &text), name, &[]).unwrap()
}

/// A tree of our own format as JSON, for the schema.
fn as_json(file: &PathBuf) -> Value {
    let text = fs::read_to_string(file).unwrap();
    match file.extension().unwrap().to_str().unwrap() {
        "json" => serde_json::from_str(&text).unwrap(),
        "toml" => {
            let table: toml::Table = text.parse().unwrap();
            toml_json(&toml::Value::Table(table))
        }
        _ => yaml_json(&text),
    }
}

fn toml_json(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.clone().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(value) => (*value).into(),
        toml::Value::Array(items) => items.iter().map(toml_json).collect(),
        toml::Value::Table(table) => Value::Object(
            table.iter().map(|(key, value)| (key.clone(), toml_json(value))).collect(),
        ),
        toml::Value::Datetime(date) => date.to_string().into(),
    }
}

/// YAML by a reader that is not ours.
fn yaml_json(text: &str) -> Value {
    use saphyr::{LoadableYamlNode, Yaml};
    fn convert(node: &Yaml<'_>) -> Value {
        if let Some(map) = node.as_mapping() {
            let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| {
                (key.as_str().unwrap().to_owned(), convert(value))
            };
            return Value::Object(map.iter().map(entry).collect());
        }
        if let Some(items) = node.as_sequence() {
            return items.iter().map(convert).collect();
        }
        node.as_bool()
            .map(Value::from)
            .or(node.as_integer().map(Value::from))
            .or(node.as_floating_point().map(Value::from))
            .unwrap_or_else(|| node.as_str().unwrap().into())
    }
    convert(&Yaml::load_from_str(text).unwrap()[0])
}

fn validates(value: &Value) -> bool {
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("mem:///schema.json", serde_json::from_str(schema()).unwrap()).unwrap();
    let mut schemas = boon::Schemas::new();
    let index = compiler.compile("mem:///schema.json", &mut schemas).unwrap();
    schemas.validate(value, index).is_ok()
}

#[test]
fn every_example_validates_against_the_schema_and_loads() {
    let files = examples();
    assert!(9 <= files.len());
    for file in files {
        assert!(validates(&as_json(&file)), "{}", file.display());
        assert!(Config::load(&file).is_ok(), "{}", file.display());
    }
}

#[test]
fn the_three_notations_mean_the_same() {
    let [yaml, toml, json] = ["full.yaml", "full.toml", "full.json"].map(load);
    for name in ["default", "guarded", "windowed", "grpc", "alone"] {
        assert!(yaml.policy(name).is_some());
        assert_eq!(yaml.policy(name), toml.policy(name), "{name}");
        assert_eq!(yaml.policy(name), json.policy(name), "{name}");
    }
    assert_eq!(yaml.routes().len(), 2);
    let mut expected = Policy::default();
    expected.triggers.statuses = expected.triggers.statuses.with(409);
    let full = yaml.policy("default").unwrap();
    assert_eq!((full.retry, full.triggers), (expected.retry, expected.triggers));
    assert!(matches!(yaml.policy("alone").unwrap().budget, BudgetPolicy::Unlimited));
}

#[test]
fn the_compact_form_means_additive_jitter() {
    let compact = load("compact.json");
    let rule = *compact.policy("default").unwrap().retry.rule(Class::Timeout);
    let seconds = Duration::from_secs;
    assert_eq!((rule.max_retries, rule.backoff.spread()), (3, Jitter::Additive));
    let bounds = [1, 2, 3].map(|retry| rule.backoff.bounds(retry));
    assert_eq!(bounds, [(1, 2), (2, 4), (4, 8)].map(|(a, b)| (seconds(a), seconds(b))));
    let partner = load("payments.yaml");
    assert_eq!(partner.policy("partner").unwrap().retry, compact.policy("default").unwrap().retry);
    let plain = policy("{jitterEnabled: false}").unwrap();
    assert_eq!(plain.retry.rule(Class::Server).backoff.spread(), Jitter::None);
}

#[test]
fn settings_go_to_every_transient_class_field_by_field() {
    let policy =
        policy("{max_retries: 7, backoff: {factor: 3}, classes: {timeout: {max_retries: 1}}}")
            .unwrap();
    let rule = |class| policy.retry.rule(class);
    assert_eq!(rule(Class::Timeout).max_retries, 1);
    assert_eq!(rule(Class::Throttled).max_retries, 7);
    assert_eq!(rule(Class::Authentication).max_retries, 0);
    assert_eq!(rule(Class::Throttled).backoff.initial(), Duration::from_secs(2));
    assert_eq!(rule(Class::Throttled).backoff.ceiling(2), Duration::from_secs(6));
}

#[test]
fn routes_match_hosts_paths_and_methods() {
    let config = load("payments.yaml");
    let policy =
        |host, path, method| config.route_for(host, path, method).map(|r| r.policy().to_owned());
    assert_eq!(policy("pay.example.com", "/", "POST").as_deref(), Some("payments"));
    assert_eq!(policy("PAY.example.com", "/x", "PUT").as_deref(), Some("payments"));
    assert_eq!(policy("pay.example.com", "/", "GET"), None);
    assert_eq!(policy("a.partner.example", "/v1/x", "GET").as_deref(), Some("partner"));
    assert_eq!(policy("partner.example", "/v1/x", "GET"), None);
    assert_eq!(policy("a.partner.example", "/v2", "GET"), None);
}

#[test]
fn the_environment_is_laid_over_the_file_and_says_so() {
    let env = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
    };
    let text = "policies:\n  default: { max_retries: 3, deadline: 9s }\n";
    let vars = env(&[
        ("REDIAL__POLICIES__DEFAULT__MAX_RETRIES", "2"),
        ("REDIAL__POLICIES__NEW__BACKOFF__INITIAL", "70ms"),
        ("REDIAL_LOG", "debug"),
    ]);
    let config = Config::parse(text, Format::Yaml, "f.yaml", &vars).unwrap();
    assert_eq!(config.policy("default").unwrap().retry.rule(Class::Server).max_retries, 2);
    let new = config.policy("new").unwrap().retry.rule(Class::Server).backoff.initial();
    assert_eq!(new, Duration::from_millis(70));
    let origin = |setting: &str| {
        let entry = config.provenance("default").iter().find(|entry| entry.setting == setting);
        entry.unwrap().origin.clone()
    };
    assert_eq!(origin("max_retries"), "env REDIAL__POLICIES__DEFAULT__MAX_RETRIES");
    assert_eq!(origin("deadline"), "f.yaml:2:40");
    assert_eq!(origin("backoff"), "default");

    let vars = env(&[("REDIAL__POLICIES__DEFAULT__MAX_RETIRES", "2"), ("REDIAL____X", "1")]);
    let error = Config::parse(text, Format::Yaml, "f.yaml", &vars).unwrap_err().to_string();
    assert!(error.contains("env REDIAL____X: this variable names no setting"), "{error}");
    assert!(error.contains("env REDIAL__POLICIES__DEFAULT__MAX_RETIRES: policies.default.max_retires: unknown key; did you mean `max_retries`?"), "{error}");
    let vars = env(&[("REDIAL__POLICIES__DEFAULT__MAXRETRIES", "1")]);
    let compact = Config::parse("{}", Format::Json, "environment", &vars).unwrap();
    assert_eq!(compact.policy("default").unwrap().retry.rule(Class::Server).max_retries, 1);
}

#[test]
fn what_is_wrong_is_said_with_its_place_its_rule_and_what_to_do() {
    for (text, message) in WRONG {
        assert_eq!(yaml(text).unwrap_err(), *message, "{text}");
    }
}

#[test]
fn syntax_errors_have_a_place_in_every_notation() {
    let error =
        |text, format, name| Config::parse(text, format, name, &[]).unwrap_err().to_string();
    assert!(error("policies: [", Format::Yaml, "f.yaml").starts_with("f.yaml:"), "yaml");
    let json = error("{\n  \"policies\": }", Format::Json, "f.json");
    assert_eq!(json, "f.json:2:15: this is no JSON: expected value");
    let toml = error("[policies.p]\nmax_retries = = 3\n", Format::Toml, "f.toml");
    assert!(toml.starts_with("f.toml:2:"), "{toml}");
    let toml = error("[policies.p]\nmax_retires = 3\n", Format::Toml, "f.toml");
    assert_eq!(
        toml,
        "f.toml:2:1: policies.p.max_retires: unknown key; did you mean `max_retries`?"
    );
    assert!(error("a: 1\n---\nb: 2", Format::Yaml, "f.yaml").contains("one document"));
    let deep = "[".repeat(50);
    assert!(error(&deep, Format::Yaml, "f.yaml").contains("nested deeper than 16"));
}

#[test]
fn all_problems_are_told_at_once_as_many_as_anybody_reads() {
    let many: String = (0..80).map(|n| format!("x{n}: 1\n")).collect();
    let error = Config::parse(&many, Format::Yaml, "f.yaml", &[]).unwrap_err();
    assert_eq!(error.problems().len(), 50);
    let json = error.problems()[0].json();
    assert_eq!((&json["line"], &json["column"]), (&1.into(), &1.into()));
    assert_eq!(json["rule"], "unknown key");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let missing = Config::load(&PathBuf::from("/nonexistent/redial.yaml")).unwrap_err();
    assert!(missing.to_string().starts_with("/nonexistent/redial.yaml: "), "{missing}");
    let large = std::env::temp_dir().join(format!("redial-large-{}.yaml", std::process::id()));
    fs::write(&large, vec![b'#'; 1_100_000]).unwrap();
    let error = Config::load(&large).unwrap_err().to_string();
    fs::remove_file(large).unwrap();
    assert!(error.ends_with("a configuration is at most 1 MiB"), "{error}");
}

#[test]
fn the_schema_refuses_what_the_walker_refuses() {
    for text in [
        r#"{"polices": {}}"#,
        r#"{"policies": {"p": {"max_retires": 1}}}"#,
        r#"{"policies": {"p": {"deadline": "5"}}}"#,
        r#"{"policies": {"p": {"backoff": {"kind": "fibonacci"}}}}"#,
        r#"{"policies": {"p": {"backoff": {"jitter": "proportional:2"}}}}"#,
        r#"{"policies": {"p": {"budget": {"ratio": 0.1, "max": 5}}}}"#,
        r#"{"policies": {"p": {"classes": {"timeouts": {}}}}}"#,
        r#"{"policies": {"p": {}}, "routes": [{"host": "x"}]}"#,
        r#"{"policies": {"p": {"profile": "pollly"}}}"#,
        r#"{"policies": {"p": {"breaker": "of"}}}"#,
        r#"{"policies": {"p": {"breaker": {"probes": 0}}}}"#,
        r#"{"policies": {"p": {"breaker": {"window": 10001}}}}"#,
        r#"{"policies": {"p": {"hedge": {"delay": "p49"}}}}"#,
        r#"{"policies": {"p": {"rate_limit": {"permits": 1}}}}"#,
        r#"{"policies": {"p": {"rate_limit": {"permits": 1, "per": "1s", "key": "tenant"}}}}"#,
        r#"{"policies": {"p": {"throttle": {"refused_max": 0}}}}"#,
        r#"{"policies": {"p": {"bulkhead": {"max_in_flight": 0}}}}"#,
        r#"{"policies": {"p": {"adaptive_limit": {"algorithm": "bbr"}}}}"#,
        r#"{"policies": {"p": {"cache": {"max_body": "1PiB"}}}}"#,
        r#"{"policies": {"p": {"fallback": {"status": 199}}}}"#,
        r#"{"policies": {"p": {"stall": {"throughput": {"grace": "1s"}}}}}"#,
        r#"{"policies": {"p": {"chaos": {"rules": [{"latency": {"fixed": "1s", "to": "2s"}}]}}}}"#,
        r#"{"policies": {"p": {"chaos": {"rules": [{"truncate": {"bytes": 1, "share": 1}}]}}}}"#,
        r#"{"policies": {"p": {"chaos": {"rules": [{"slow_body": {}}]}}}}"#,
        r#"{"maxRetries": 3, "max_retries": 3}"#,
    ] {
        assert!(!validates(&serde_json::from_str(text).unwrap()), "{text}");
        assert!(Config::parse(text, Format::Json, "f.json", &[]).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,200}", n in 0_usize..3) {
        let format = [Format::Yaml, Format::Toml, Format::Json][n];
        let _ = Config::parse(&text, format, "f", &[]);
    }

    #[test]
    fn no_change_to_a_good_file_is_too_strange(
        at in 0_usize..8_000,
        with in "\\PC{0,3}",
        n in 0_usize..3,
    ) {
        let name = ["full.yaml", "full.toml", "full.json"][n];
        let file = examples().into_iter().find(|file| file.ends_with(name)).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let at = text.char_indices().map(|(at, _)| at).nth(at % text.len()).unwrap_or(0);
        let changed = format!("{}{with}{}", &text[..at], &text[at..]);
        let _ = Config::parse(&changed, Format::of(&file, &text), name, &[]);
    }
}

/// What is wrong, and what is said about it.
const WRONG: &[(&str, &str)] = &[
    ("", "f.yaml:1:1: expected a table, found nothing"),
    ("policies: {}", "f.yaml:1:1: there are no policies in it; write policies: and a name"),
    ("polices: {}", "f.yaml:1:1: polices: unknown key; did you mean `policies`?"),
    ("policies: 3", "f.yaml:1:11: policies: expected a table, found a number"),
    (
        "policies: { p: { max_retries: -1 } }",
        "f.yaml:1:31: policies.p.max_retries: -1 is not a whole number from 0 to 1000000",
    ),
    (
        "policies: { p: { max_retries: 1.5 } }",
        "f.yaml:1:31: policies.p.max_retries: 1.5 is not a whole number from 0 to 1000000",
    ),
    (
        "policies: { p: { max_retries: many } }",
        "f.yaml:1:31: policies.p.max_retries: expected a number, found text",
    ),
    (
        "policies: { p: { deadline: 5 } }",
        "f.yaml:1:28: policies.p.deadline: `5` has no unit; write 5ms, 5s or 5m",
    ),
    (
        "policies: { p: { deadline: 0s } }",
        "f.yaml:1:28: policies.p.deadline: a limit of zero leaves no time at all; write none for no limit",
    ),
    (
        "policies: { p: { deadline: soon } }",
        "f.yaml:1:28: policies.p.deadline: `soon` is no duration; write 250ms, 2s or 1m30s",
    ),
    (
        "policies: { p: { backoff: { initial: 2s, max: 1s } } }",
        "f.yaml:1:38: policies.p.backoff.initial: initial delay 2s is above the longest delay 1s; raise the longest delay as well",
    ),
    (
        "policies: { p: { backoff: { initial: 90s } } }",
        "f.yaml:1:38: policies.p.backoff.initial: initial delay 90s is above the longest delay 60s; raise the longest delay as well",
    ),
    (
        "policies: { p: { backoff: { factor: 0.5 } } }",
        "f.yaml:1:37: policies.p.backoff.factor: factor 0.5 is not within 1 to 1000",
    ),
    (
        "policies: { p: { backoff: { kind: fixed, factor: 2 } } }",
        "f.yaml:1:50: policies.p.backoff.factor: factor belongs to exponential backoff, not to fixed",
    ),
    (
        "policies: { p: { backoff: { kind: decorrelated, jitter: full } } }",
        "f.yaml:1:57: policies.p.backoff.jitter: decorrelated backoff is random by itself and takes no full jitter",
    ),
    (
        "policies: { p: { backoff: { kind: fibonacci } } }",
        "f.yaml:1:35: policies.p.backoff.kind: `fibonacci` is no backoff; there are fixed, linear, exponential, decorrelated",
    ),
    (
        "policies: { p: { deadline: 2s, attempt_timeout: 3s } }",
        "f.yaml:1:49: policies.p.attempt_timeout: attempt timeout 3s is not below the deadline 2s",
    ),
    (
        "policies: { p: { retry_on: 4xx } }",
        "f.yaml:1:28: policies.p.retry_on: `4xx` is no trigger: give statuses from 100 to 599, names of errors, or default, none, connect, reset, timeout, refused-stream, truncated, 5xx, gateway-error, retriable-4xx; did you mean `5xx`?",
    ),
    (
        "policies: { p: { idempotent: 1 } }",
        "f.yaml:1:30: policies.p.idempotent: expected true or false, found a number",
    ),
    (
        "policies: { p: { replay_body: 65MiB } }",
        "f.yaml:1:31: policies.p.replay_body: `65MiB` is above 64MiB",
    ),
    (
        "policies: { p: { pushback: { jitter: 2 } } }",
        "f.yaml:1:38: policies.p.pushback.jitter: pushback jitter 2 is not within 0 to 1",
    ),
    (
        "policies: { p: { budget: { ratio: 0.1, max: 5 } } }",
        "f.yaml:1:26: policies.p.budget: a budget has one form; this has keys of tokens and a window",
    ),
    (
        "policies: { p: { budget: { deposit: -1 } } }",
        "f.yaml:1:37: policies.p.budget.deposit: -1 tokens are not within 0 to 1000000",
    ),
    (
        "policies: { p: { budget: { throttle: { max_tokens: 10 } } } }",
        "f.yaml:1:38: policies.p.budget.throttle: a throttle has `token_ratio`",
    ),
    (
        "policies: { p: { classes: { timeouts: {} } } }",
        "f.yaml:1:29: policies.p.classes.timeouts: unknown key; did you mean `timeout`?",
    ),
    (
        "policies: { p: { max_retries: 1, maxRetries: 1 } }",
        "f.yaml:1:18: policies.p.max_retries: unknown key; did you mean `maxRetries`?",
    ),
    ("policies: { p: {}, p: {} }", "f.yaml:1:20: policies.p: this key is there twice"),
    (
        "policies: { p: {} }\nroutes: [{ policy: q }]",
        "f.yaml:2:20: routes.0.policy: there is no policy `q`; did you mean `p`?",
    ),
    (
        "policies: { p: {} }\nroutes: [{ host: x }]",
        "f.yaml:2:10: routes.0: a route names a `policy`",
    ),
    (
        "policies: { p: {} }\nroutes: [{ path: v1, policy: p }]",
        "f.yaml:2:18: routes.0.path: `v1` is no path; write /v1/orders or /v1/*",
    ),
    (
        "policies: { p: &a {} }",
        "f.yaml:1:16: anchors, aliases and tags are not read; write the value out",
    ),
];
