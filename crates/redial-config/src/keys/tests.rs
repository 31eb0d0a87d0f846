use serde_json::{Value, json};

use super::*;
use crate::{Config, Format, schema};

/// Every table that there is: its name in the schema, and its keys.
const TABLES: &[(&str, &[&str])] = &[
    ("file", TOP),
    ("policy", POLICY),
    ("compact", COMPACT),
    ("backoff", BACKOFF),
    ("pushback", PUSHBACK),
    ("budget_throttle", BUDGET_THROTTLE),
    ("class", CLASS),
    ("route", ROUTE),
    ("breaker", BREAKER),
    ("hedge", HEDGE),
    ("rate_limit", RATE_LIMIT),
    ("throttle", THROTTLE),
    ("bulkhead", BULKHEAD),
    ("adaptive_limit", ADAPTIVE_LIMIT),
    ("cache", CACHE),
    ("fallback", FALLBACK),
    ("resume", RESUME),
    ("stall", STALL),
    ("throughput", THROUGHPUT),
    ("chaos", CHAOS),
    ("chaos_rule", CHAOS_RULE),
    ("latency", LATENCY),
    ("truncate", TRUNCATE),
    ("slow_body", SLOW_BODY),
];

/// The parts with defaults, which a table without keys switches on.
const PARTS: &[&str] = &[
    "breaker",
    "hedge",
    "throttle",
    "bulkhead",
    "adaptive_limit",
    "cache",
    "fallback",
    "resume",
    "stall",
    "chaos",
];

fn definitions() -> Value {
    let mut schema: Value = serde_json::from_str(schema()).unwrap();
    schema["$defs"].take()
}

fn parse(policy: &Value) -> redial_core::Policy {
    let text = json!({ "policies": { "p": policy } }).to_string();
    let config = Config::parse(&text, Format::Json, "f.json", &[]).unwrap();
    config.policy("p").unwrap().clone()
}

#[test]
fn the_nearest_key_is_meant_if_it_is_near() {
    let meant = |word| meant(word, POLICY.iter().copied());
    assert_eq!(meant("max_retires"), Some("max_retries"));
    assert_eq!(meant("maxretries"), Some("max_retries"));
    assert_eq!(meant("dead_line"), Some("deadline"));
    assert_eq!(meant("budgets"), Some("budget"));
    assert_eq!(meant("circuit_breaker"), None);
    assert_eq!(meant("bulk_head"), Some("bulkhead"));
    assert_eq!(meant("colour"), None);
    assert_eq!(meant(""), None);
}

#[test]
fn the_schema_has_our_keys_and_no_others_in_our_order() {
    let definitions = definitions();
    let keys = |table: &Value| -> Vec<String> {
        table["properties"].as_object().unwrap().keys().cloned().collect()
    };
    for (name, known) in TABLES {
        assert_eq!(keys(&definitions[*name]), *known, "{name}");
    }
    let forms = definitions["budget"]["oneOf"].as_array().unwrap();
    let mut in_forms: Vec<_> = forms.iter().skip(1).flat_map(keys).collect();
    let mut known: Vec<_> = BUDGET.iter().map(ToString::to_string).collect();
    in_forms.sort();
    in_forms.dedup();
    known.sort();
    assert_eq!(in_forms, known);
    // No table of the schema is left out above.
    let tables = definitions.as_object().unwrap().iter();
    let tables = tables.filter(|(_, table)| table.get("properties").is_some());
    assert_eq!(tables.count(), TABLES.len());
}

#[test]
fn the_schema_says_what_each_key_is_for() {
    let definitions = definitions();
    for (name, known) in TABLES {
        for key in *known {
            let property = &definitions[*name]["properties"][*key];
            let reference = property["$ref"].as_str().and_then(|to| to.rsplit('/').next());
            let target = reference.map_or(&Value::Null, |name| &definitions[name]);
            let described = [property, target].map(|value| value.get("description").is_some());
            assert!(described.contains(&true), "{name}.{key}");
        }
    }
}

#[test]
fn the_defaults_of_the_schema_are_those_of_the_policies() {
    let definitions = definitions();
    let written = |name: &str| -> Value {
        let properties = definitions[name]["properties"].as_object().unwrap().iter();
        let defaults = properties
            .filter_map(|(key, property)| Some((key.clone(), property.get("default")?.clone())));
        Value::Object(defaults.collect())
    };
    for name in PARTS {
        let policy = |part: Value| parse(&json!({ *name: part }));
        let said = written(name);
        assert!(said.as_object().is_some_and(|said| !said.is_empty()), "{name}");
        assert_eq!(policy(said), policy(json!({})), "{name}");
        assert_eq!(policy(json!("on")), policy(json!({})), "{name}");
        assert_eq!(policy(json!("off")), parse(&json!({})), "{name}");
        assert_ne!(policy(json!("on")), parse(&json!({})), "{name}");
    }
    let mut rate = written("rate_limit");
    (rate["permits"], rate["per"]) = (json!(7), json!("1s"));
    let bare = json!({ "rate_limit": { "permits": 7, "per": "1s" } });
    assert_eq!(parse(&json!({ "rate_limit": rate })), parse(&bare));
    assert_eq!(parse(&written("policy")), parse(&json!({})));
    assert_eq!(parse(&json!({ "pushback": written("pushback") })), parse(&json!({})));
    let tokens = &definitions["budget"]["oneOf"][1]["properties"];
    let budget = json!({ "deposit": tokens["deposit"]["default"], "cost": tokens["cost"]["default"],
        "max": tokens["max"]["default"], "floor": tokens["floor"]["default"] });
    assert_eq!(parse(&json!({ "budget": budget })), parse(&json!({})));
}
