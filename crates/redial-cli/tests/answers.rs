//! The commands that send nothing: plan, explain, check, schema, completions, man.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

#[path = "support/redial.rs"]
mod support;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use self::support::{redial, text, value};

#[test]
fn the_waits_of_additive_jitter_are_one_to_two_two_to_four_four_to_eight_seconds() {
    let plan =
        value(&["plan", "--initial", "1s", "--factor", "2", "--jitter", "additive", "--json"]);
    let expected = json!([
        {"retry": 1, "base_ms": 1000.0, "min_ms": 1000.0, "max_ms": 2000.0, "sum_max_ms": 2000.0},
        {"retry": 2, "base_ms": 2000.0, "min_ms": 2000.0, "max_ms": 4000.0, "sum_max_ms": 6000.0},
        {"retry": 3, "base_ms": 4000.0, "min_ms": 4000.0, "max_ms": 8000.0, "sum_max_ms": 14000.0},
    ]);
    assert_eq!(plan, expected);
}

#[test]
fn every_schedule_can_be_planned() {
    let max = |args: &[&str]| {
        let plan = value(&[&["plan", "--json", "--max-retries", "4"], args].concat());
        Value::from_iter(plan.as_array().unwrap().iter().map(|row| row["max_ms"].clone()))
    };
    assert_eq!(max(&["--backoff", "fixed", "--initial", "70ms"]), json!([70.0, 70.0, 70.0, 70.0]));
    let linear = ["--backoff", "linear", "--initial", "100ms", "--max-delay", "250ms"];
    assert_eq!(max(&linear), json!([100.0, 200.0, 250.0, 250.0]));
    let decorrelated = ["--backoff", "decorrelated", "--initial", "10ms", "--max-delay", "100ms"];
    assert_eq!(max(&decorrelated), json!([30.0, 90.0, 100.0, 100.0]));
    let proportional = ["--initial", "100ms", "--jitter", "proportional:0.2"];
    assert_eq!(max(&proportional), json!([120.0, 240.0, 480.0, 960.0]));
    assert_eq!(
        max(&["--initial", "500ms", "--factor", "1.5"]),
        json!([500.0, 750.0, 1125.0, 1687.5])
    );
}

#[test]
fn draws_repeat_with_their_seed() {
    let draw = |seed| text(&["plan", "--draws", "5", "--seed", seed, "--json"]);
    assert_eq!(draw("7"), draw("7"));
    assert_ne!(draw("7"), draw("8"));
    let drawn: Value = serde_json::from_str(&draw("7")).unwrap();
    assert_eq!(drawn.as_array().unwrap().len(), 5);
}

#[test]
fn a_plan_is_a_table_and_a_chart() {
    let plan = text(&["plan", "--initial", "1s", "--jitter", "none"]);
    assert!(
        plan.contains("before jitter") && plan.contains("latest sum") && plan.contains('█'),
        "{plan}"
    );
    assert!(!plan.contains('\u{1b}'), "no colors where nobody looks");
    assert!(text(&["plan", "--color", "always"]).contains('\u{1b}'));
}

#[test]
fn classes_have_their_own_waits_until_flags_override_them() {
    let first = |args: &[&str]| value(&[&["plan", "--json"], args].concat())[0]["base_ms"].clone();
    assert_eq!(first(&["--class", "timeout"]), 1000.0);
    assert_eq!(first(&["--class", "throttled"]), 2000.0);
    assert_eq!(first(&[]), 500.0);
    assert_eq!(first(&["--class", "throttled", "--initial", "3s"]), 3000.0);
}

#[test]
fn a_post_that_met_a_503_is_explained() {
    let explained = value(&[
        "explain",
        "--method",
        "POST",
        "--status",
        "503",
        "-H",
        "Retry-After: 120",
        "--json",
    ]);
    let Value::Object(fields) = &explained else { panic!("{explained}") };
    let keys: Vec<_> = fields.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "verdict",
            "class",
            "evidence",
            "decision",
            "stop",
            "pushback_ms",
            "delay_min_ms",
            "delay_max_ms",
            "because"
        ]
    );
    assert_eq!(explained["decision"], "stop");
    assert_eq!(explained["stop"], "maybe_applied");
    assert_eq!(explained["evidence"], "maybe_applied");
    assert_eq!(explained["pushback_ms"], 120_000.0);
    assert_eq!(explained["delay_min_ms"], Value::Null);
    let because = explained["because"].to_string();
    assert!(because.contains("RFC 9110 §9.2.2"), "{because}");
}

#[test]
fn a_batch_is_answered_line_by_line() {
    let cases = [
        json!({"method": "GET", "status": 503, "headers": [["Retry-After", "2"]]}),
        json!({"method": "POST", "error": "connection_refused"}),
        json!({"method": "POST", "error": "connection_reset"}),
        json!({"method": "POST", "error": "connection_reset", "evidence": "never_sent"}),
        json!({"status": 429, "headers": [["Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT"]], "now": "1999-12-31T23:59:57Z"}),
        json!({"status": 503, "attempt": 4}),
        json!({"status": 200}),
        json!({"status": 429, "headers": [["x-should-retry", "false"]]}),
        json!({"method": "PUT", "status": 503, "headers": [["Retry-After", "300"]]}),
        json!({"method": "PROPFIND", "status": 500}),
        json!({"method": "get", "status": 503}),
    ];
    let input: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let (status, answers) = batch(&input, &[]);
    assert_eq!(status, Some(0));
    let decision = |n: usize| (answers[n]["decision"].clone(), answers[n]["stop"].clone());
    let retry = || (Value::from("retry"), Value::Null);
    let stop = |why: &str| (Value::from("stop"), Value::from(why));
    assert_eq!(decision(0), retry());
    assert_eq!(
        (&answers[0]["delay_min_ms"], &answers[0]["delay_max_ms"]),
        (&2000.0.into(), &2500.0.into())
    );
    assert_eq!(decision(1), retry());
    assert_eq!(decision(2), stop("maybe_applied"));
    assert_eq!(decision(3), retry());
    assert_eq!((decision(4), &answers[4]["pushback_ms"]), (retry(), &2000.0.into()));
    assert_eq!(answers[4]["verdict"], "throttled");
    assert_eq!(decision(5), stop("retries_exhausted"));
    assert_eq!(decision(6), stop("success"));
    assert_eq!((&answers[6]["class"], &answers[6]["evidence"]), (&Value::Null, &Value::Null));
    assert_eq!(decision(7), stop("permanent"));
    assert_eq!(decision(8), stop("pushback_too_long"));
    assert_eq!(decision(9), retry());
    assert_eq!(decision(10), stop("maybe_applied"), "methods are case-sensitive");
}

#[test]
fn a_line_that_makes_no_sense_is_named_and_the_rest_is_answered() {
    let (status, answers) = batch(
        "{\"status\":503}\nnonsense\n{\"status\":1}\n{\"stat\":503}\n\n{\"status\":404}\n",
        &[],
    );
    assert_eq!(status, Some(2));
    assert_eq!(answers.len(), 5);
    assert_eq!(answers[1]["line"], 2);
    assert!(answers[3]["error"].as_str().unwrap().contains("stat"), "{}", answers[3]);
    assert_eq!(answers[4]["stop"], "permanent");
}

#[test]
fn a_deadline_is_counted_from_what_has_elapsed() {
    let (_, answers) = batch(
        "{\"status\":503,\"elapsed_ms\":1900,\"headers\":[[\"retry-after\",\"1\"]]}\n",
        &["--deadline", "2s"],
    );
    assert_eq!(answers[0]["stop"], "pushback_too_long");
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let output = redial(&["explain", "--error", "nonsense"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("connection_refused"));
    assert_eq!(redial(&["explain"]).status.code(), Some(2));
}

#[test]
fn files_are_checked_with_line_and_column() {
    let dir = std::env::temp_dir().join(format!("redial-check-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir_all(&dir).unwrap();
    let (good, bad) = (dir.join("good.json"), dir.join("bad.yaml"));
    let compact =
        r#"{"maxRetries":3,"initialDelayMs":1000,"backoffFactor":2,"jitterEnabled":true}"#;
    std::fs::write(&good, compact).unwrap();
    std::fs::write(&bad, "policies:\n  default:\n    max_retires: 3\n").unwrap();
    let (good, bad) = (good.to_string_lossy(), bad.to_string_lossy());
    assert_eq!(redial(&["check", &good]).status.code(), Some(0));
    let output = redial(&["check", &good, &bad]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("bad.yaml:3:5") && said.contains("max_retries"), "{said}");
    let output = redial(&["check", "--format", "json", &bad]);
    let problems: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(problems.to_string().contains("\"line\":3"), "{problems}");
    let plan = value(&["plan", "--config", &good, "--json"]);
    assert_eq!(plan[2]["max_ms"], 8000.0, "the compact form means additive jitter");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_schema_completions_and_pages_are_there() {
    let schema = value(&["schema"]);
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&["completions", shell]).contains("redial"));
    }
    assert!(text(&["man"]).contains(".TH redial"));
}

#[test]
fn the_demo_shows_both_sides() {
    let demo = value(&["demo", "--calls", "120", "--rate", "400", "--seed", "3", "--json"]);
    let rate = |side: &str| demo[side]["success_rate"].as_f64().unwrap();
    assert!(rate("without") < 0.95 && 0.98 < rate("with"), "{demo}");
    assert_eq!(demo["with"]["posts_applied_twice"], 0);
}

#[test]
fn help_is_there_for_every_command() {
    for command in ["fetch", "plan", "explain", "check", "schema", "demo", "completions", "man"] {
        let help = text(&[command, "--help"]);
        assert!(help.contains("Usage: redial"), "{help}");
    }
    assert_eq!(redial(&[]).status.code(), Some(2));
}

fn batch(input: &str, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_redial"))
        .args(["explain", "--batch", "-"])
        .args(args)
        .env_remove("REDIAL_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code(), answers)
}
