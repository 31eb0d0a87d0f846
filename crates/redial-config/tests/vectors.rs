//! Other projects' test vectors for configuration (CF), where our rule agrees with theirs.
//! `vectors/README.md` lists what is left out, and why.

use std::{fs, path::Path};

use redial_config::{Config, Format};
use serde_json::Value;

/// Our words for what a vector configures; nothing where it is about something we do not have.
fn ours(vector: &Value) -> Option<String> {
    let inputs = &vector["inputs"];
    if let (Some(base), Some(max)) = (inputs["base_ms"].as_u64(), inputs["max_ms"].as_u64()) {
        return Some(format!("{{backoff: {{initial: {base}ms, max: {max}ms}}}}"));
    }
    let text = match inputs["case"].as_str()? {
        "jitter<0" => "{backoff: {jitter: 'proportional:-0.1'}}",
        "min_per_s -1" => "{budget: {ratio: 0.1, floor: -1}}",
        "maxBackoff 0s" => "{backoff: {initial: 100ms, max: 0s}}",
        "total 2 s, attempt 3 s" => "{deadline: 2s, attempt_timeout: 3s}",
        "hedging: MaxHedgedAttempts 1, delay = total timeout" => {
            "{deadline: 2s, hedge: {delay: 2s, max_hedges: 1}}"
        }
        "threshold 10" => "{breaker: {failure_ratio: 10}}",
        "initial 0 < min 1" => "{adaptive_limit: {min: 1, initial: 0}}",
        _ => return None,
    };
    Some(text.to_owned())
}

#[test]
fn configuration_vectors_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let vectors = fs::read_to_string(root.join("vectors.jsonl")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let vectors = vectors.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut seen, mut wrong) = (0, Vec::<String>::new());
    for vector in vectors.filter(|vector| vector["family"] == "CF") {
        seen += 1;
        let id = vector["id"].as_str().unwrap();
        let is_listed = readme.split(|c: char| !c.is_alphanumeric() && c != '-').any(|w| w == id);
        let Some(policy) = ours(&vector) else {
            if !is_listed {
                wrong.push(id.to_owned());
            }
            continue;
        };
        assert!(!is_listed, "{id} is run, so it is not left out");
        let text = format!("policies:\n  p: {policy}\n");
        let outcome = Config::parse(&text, Format::Yaml, "f.yaml", &[]);
        assert_eq!(Some(outcome.is_ok()), vector["expected"]["valid"].as_bool(), "{id}: {policy}");
    }
    assert!(wrong.is_empty(), "the README must list what is left out, and only that: {wrong:?}");
    assert_eq!(seen, 17, "every vector of the family is looked at");
}
