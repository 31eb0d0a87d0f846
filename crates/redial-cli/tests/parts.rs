//! The parts of a policy beside its retries, as `plan`, `explain`, `check` and `fetch` show them.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

#[path = "support/redial.rs"]
mod support;

use std::path::PathBuf;

use redial_testkit::{Reply, Upstream};
use serde_json::Value;

use self::support::{redial, text, value};

const GUARDED: &str = "policies:
  default:
    breaker: { open: { initial: 5s, jitter: none } }
    throttle: on
    fallback: { status: 203, body: stands-in }
    rate_limit: { permits: 10, per: 1s }
    chaos: { rules: [{ path: /pay, first: 1, reset: true }] }
  hedged:
    hedge: { delay: p95 }
    budget: unlimited
    max_retries: 8
";

/// A configuration file that is gone after the test.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let name = format!("redial-parts-{}.yaml", uuid::Uuid::now_v7());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_profile_is_the_base_under_file_and_flags() {
    let first = |args: &[&str]| {
        let plan = value(&[&["plan", "--json"], args].concat());
        (plan.as_array().unwrap().len(), plan[0]["base_ms"].as_f64().unwrap())
    };
    assert_eq!(first(&["--profile", "grpc-a6"]), (3, 100.0));
    assert_eq!(first(&["--profile", "envoy", "--max-retries", "2"]), (2, 25.0));
    let file = File::new("policies:\n  default: { profile: aws, backoff: { initial: 70ms } }\n");
    assert_eq!(first(&["--config", file.name()]), (2, 70.0));
    assert_eq!(first(&["--config", file.name(), "--profile", "polly"]), (3, 70.0));
}

#[test]
fn a_profile_that_retries_as_long_as_it_may_is_shown_up_to_its_deadline() {
    let plan = text(&["plan", "--profile", "cenkalti"]);
    assert!(plan.contains("39 retries within the deadline"), "{plan}");
    assert!(plan.contains("unlimited: only time bounds"), "{plan}");
}

#[test]
fn a_wrong_profile_is_answered_with_the_list_and_the_nearest() {
    let output = redial(&["plan", "--profile", "poly"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("strict-rfc9110, cenkalti, polly, grpc-a6, envoy, aws"), "{said}");
    assert!(said.contains("similar value exists: 'polly'"), "{said}");
    assert!(text(&["completions", "bash"]).contains("strict-rfc9110"));
}

#[test]
fn a_plan_shows_the_parts_that_are_on_and_no_others() {
    let file = File::new(GUARDED);
    let plan = text(&["plan", "--config", file.name()]);
    for line in [
        "budget         pays for 5 retries of the first call; at 100 successes/s, 10.1 retries/s",
        "breaker        opens after 10 failures in a row, or 50 % failed of at least 100 in 10 s",
        "open at most               5 s      10 s      15 s      15 s      15 s      15 s",
        "fallback       answers 203 with 9 B for 500 to 599, any error",
        "rate_limit     10 calls in 1 s per origin: one every 100 ms, 1 at once",
        "lets go within",
        "· /pay, the first 1: a reset",
    ] {
        assert!(plan.contains(line), "{line}\n{plan}");
    }
    assert!(!plan.contains("bulkhead") && !plan.contains("hedge"), "{plan}");
    assert!(plan.lines().all(|line| line.chars().count() <= 100), "{plan}");
    let parts = value(&["plan", "--config", file.name(), "--json", "--parts"]);
    assert_eq!(parts["waits"].as_array().unwrap().len(), 3);
    assert_eq!(parts["breaker"]["open"][5]["max_ms"], 15_000.0);
    assert_eq!(parts["chaos"]["active"], true);
    assert_eq!(parts["hedge"], Value::Null);
    let hedged = text(&["plan", "--config", file.name(), "--policy", "hedged"]);
    assert!(hedged.contains("1 copy more at most; about 5 % more load"), "{hedged}");
    assert!(hedged.contains("unlimited: an outage may see 9 times the load"), "{hedged}");
}

#[test]
fn an_explanation_says_how_the_parts_count_an_outcome() {
    let file = File::new(GUARDED);
    let explain =
        |args: &[&str]| value(&[&["explain", "--config", file.name(), "--json"], args].concat());
    let busy = explain(&["--status", "503"]);
    assert_eq!((&busy["health"], &busy["fallback_status"]), (&"overloaded".into(), &203.into()));
    assert_eq!((&busy["decision"], &busy["hedged"]), (&"retry".into(), &Value::Null));
    let because = busy["because"].to_string();
    assert!(because.contains("a failure for the breaker, a call refused for the throttle"));
    let missing = explain(&["--status", "404"]);
    assert_eq!((&missing["health"], &missing["fallback_status"]), (&"well".into(), &Value::Null));
    assert_eq!(explain(&["--error", "rejected"])["health"], "unknown");
    assert_eq!(explain(&["--error", "connection_reset"])["health"], "failed");
}

#[test]
fn what_is_hedged_is_not_retried() {
    let file = File::new(GUARDED);
    let explain = |args: &[&str]| {
        let under = ["explain", "--config", file.name(), "--policy", "hedged", "--json"];
        value(&[&under, args].concat())
    };
    let get = explain(&["--status", "503"]);
    assert_eq!((&get["decision"], &get["hedged"]), (&"hedge".into(), &true.into()));
    assert!(get["because"].to_string().contains("one or the other (gRFC A6)"), "{get}");
    let last = explain(&["--status", "503", "--attempt", "2"]);
    assert_eq!(last["stop"], "retries_exhausted");
    let post = explain(&["--error", "connection_refused", "--method", "POST"]);
    assert_eq!((&post["decision"], &post["hedged"]), (&"retry".into(), &false.into()));
}

#[test]
fn a_check_warns_of_what_is_seldom_meant_and_still_succeeds() {
    let file = File::new(GUARDED);
    let said = text(&["check", file.name()]);
    for warning in [
        "policies.default.chaos: 1 rule makes failures on purpose",
        "policies.hedged.budget: retries make up to 9 times the load in an outage, and neither",
        "policies.hedged.hedge: nothing ends a hedged call",
    ] {
        assert!(said.contains(&format!("warning: {warning}")), "{said}");
    }
    assert!(said.contains(&format!("{}:9:21: warning", file.name())), "{said}");
    let json = value(&["check", "--format", "json", file.name()]);
    assert_eq!(json[0]["warnings"].as_array().unwrap().len(), 3, "{json}");
    assert_eq!(json[0]["warnings"][0]["setting"], "chaos");
    let plain = File::new(
        "policies:
  default:
    fallback: { body: a-body-that-is-far-too-long-to-be-shown-in-one-column }
",
    );
    let json = value(&["check", "--format", "json", plain.name()]);
    assert_eq!(json[0]["warnings"], Value::Array(Vec::new()));
    let settings = text(&["check", "--settings", plain.name()]);
    assert!(settings.contains("a-body-that-is-far-too-long-to-… "), "{settings}");
}

async fn fetch(file: &File, url: &str) -> (Option<i32>, String, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_redial"))
        .args(["fetch", "--config", file.name(), "--report", "-", url])
        .env_remove("REDIAL_LOG")
        .output()
        .await
        .unwrap();
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), words(&output.stdout), words(&output.stderr))
}

#[tokio::test]
async fn a_fallback_is_a_success_that_is_told_as_what_it_is() {
    let file = File::new(
        "policies: { default: { max_retries: 0, fallback: { status: 200, body: stands-in } } }\n",
    );
    let upstream = Upstream::script([Reply::status(503).body("down")]).await;
    let (status, stdout, stderr) = fetch(&file, &upstream.url("/")).await;
    assert_eq!((status, stdout.as_str()), (Some(0), "stands-in"));
    assert!(stderr.contains("fell back to 200: 503"), "{stderr}");
    assert!(stderr.contains("\"outcome\":\"fallback\",\"status\":200"), "{stderr}");
}

#[tokio::test]
async fn chaos_fails_attempts_that_the_upstream_never_sees() {
    let file = File::new(
        "policies:
  default:
    backoff: { initial: 10ms, jitter: none }
    chaos: { rules: [{ status: 503, first: 2 }] }
",
    );
    let upstream = Upstream::script([Reply::ok("here")]).await;
    let (status, stdout, stderr) = fetch(&file, &upstream.url("/")).await;
    assert_eq!((status, stdout.as_str()), (Some(0), "here"), "{stderr}");
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(stderr.matches("\"status\":503").count(), 2, "{stderr}");
}

#[tokio::test]
async fn a_hedged_call_that_fails_is_reported_as_failed() {
    let file = File::new("policies: { default: { hedge: { delay: 5s } } }\n");
    let upstream = Upstream::script([Reply::status(503), Reply::status(503)]).await;
    let (status, _, stderr) = fetch(&file, &upstream.url("/")).await;
    assert_eq!(status, Some(4), "{stderr}");
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(stderr.matches("\"attempt\":").count(), 2, "{stderr}");
}

#[tokio::test]
async fn what_a_breaker_refuses_is_told_as_not_sent() {
    let file = File::new(
        "policies:
  default:
    backoff: { initial: 10ms, jitter: none }
    breaker: { consecutive_failures: 1, open: { initial: 5s, jitter: none } }
",
    );
    let upstream = Upstream::script([Reply::status(503), Reply::ok("too late")]).await;
    let (status, stdout, stderr) = fetch(&file, &upstream.url("/")).await;
    assert_eq!((status, upstream.requests().len()), (Some(6), 1), "{stdout}{stderr}");
}
