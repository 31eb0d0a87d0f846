//! `redial fetch` as people and scripts see it: against real sockets, by its output and exit status.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

use std::{path::PathBuf, process::Stdio, time::Duration};

use redial_testkit::{Reply, Upstream, refused_addr};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::Instant,
};

const MS: Duration = Duration::from_millis(1);

/// What a run of the command came to.
struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    report: Value,
    took: Duration,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redial"));
    command.arg("fetch").args(args).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("REDIAL_LOG");
    command
}

async fn fetch(args: &[&str]) -> Ran {
    let report = temporary("report");
    let report_name = report.to_string_lossy().into_owned();
    let args = [args, &["--report", &report_name]].concat();
    let started = Instant::now();
    let output = command(&args).output().await.unwrap();
    let took = started.elapsed();
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    let _ = std::fs::remove_file(report);
    Ran {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        report: serde_json::from_str(&text).unwrap_or_default(),
        took,
    }
}

/// A name that nobody else uses.
fn temporary(what: &str) -> PathBuf {
    std::env::temp_dir().join(format!("redial-{what}-{}", uuid::Uuid::now_v7()))
}

/// Quick waits, so that the tests are quick.
const QUICK: [&str; 4] = ["--initial", "10ms", "--jitter", "none"];

#[tokio::test]
async fn a_call_gets_through_and_the_report_tells_how() {
    let upstream =
        Upstream::script([Reply::status(503), Reply::reset(), Reply::ok("here\n")]).await;
    let url = upstream.url("/x");
    let ran = fetch(&[&[url.as_str(), "-v"], &QUICK[..]].concat()).await;
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "here\n"));
    assert!(ran.stderr.contains("503 Service Unavailable"), "{}", ran.stderr);
    let Value::Object(report) = &ran.report else { panic!("{}", ran.stderr) };
    let keys: Vec<_> = report.keys().map(String::as_str).collect();
    assert_eq!(keys, ["url", "method", "outcome", "status", "stop", "total_ms", "attempts"]);
    assert_eq!((&report["outcome"], &report["stop"]), (&"success".into(), &"success".into()));
    assert_eq!((&report["status"], &report["method"]), (&200.into(), &"GET".into()));
    let attempts = report["attempts"].as_array().unwrap();
    let keys: Vec<_> = attempts[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "attempt",
            "start_ms",
            "duration_ms",
            "status",
            "error",
            "evidence",
            "verdict",
            "class",
            "decision",
            "reason",
            "pushback_ms",
            "delay_ms"
        ]
    );
    let column = |key: &str| Value::from_iter(attempts.iter().map(|attempt| attempt[key].clone()));
    assert_eq!(column("attempt"), serde_json::json!([1, 2, 3]));
    assert_eq!(column("status"), serde_json::json!([503, null, 200]));
    assert_eq!(column("error"), serde_json::json!([null, "connection_reset", null]));
    assert_eq!(column("evidence"), serde_json::json!(["maybe_applied", "maybe_applied", null]));
    assert_eq!(column("verdict"), serde_json::json!(["transient", "transient", "success"]));
    assert_eq!(column("decision"), serde_json::json!(["retry", "retry", "stop"]));
    assert_eq!(column("delay_ms"), serde_json::json!([10.0, 20.0, null]));
}

#[tokio::test]
async fn a_post_is_sent_once_after_a_503() {
    let upstream = Upstream::script([Reply::status(503).body("down"), Reply::ok("again?")]).await;
    let ran = fetch(&["-X", "POST", "-d", "x", &upstream.url("/")]).await;
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(4), "down"));
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(
        (&ran.report["outcome"], &ran.report["stop"]),
        (&"exhausted".into(), &"maybe_applied".into())
    );
    assert!(ran.stderr.contains("503"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_post_to_a_closed_port_is_repeated() {
    let url = format!("http://{}/", refused_addr());
    let ran = fetch(
        &[&["-X", "POST", "-d", "x", url.as_str(), "--max-retries", "2"], &QUICK[..]].concat(),
    )
    .await;
    assert_eq!(ran.status, Some(4));
    let attempts = ran.report["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3);
    assert!(attempts.iter().all(|attempt| attempt["error"] == "connection_refused"));
    assert!(attempts.iter().all(|attempt| attempt["evidence"] == "never_sent"));
    assert_eq!(
        (&ran.report["status"], &ran.report["stop"]),
        (&Value::Null, &"retries_exhausted".into())
    );
}

#[tokio::test]
async fn a_key_makes_a_post_repeatable_and_stays_the_same() {
    let upstream = Upstream::script([Reply::status(503), Reply::reset(), Reply::ok("paid")]).await;
    let url = upstream.url("/");
    let args = ["-X", "POST", "-d", "x", url.as_str(), "--idempotency-key", "auto"];
    let ran = fetch(&[&args[..], &QUICK[..]].concat()).await;
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "paid"));
    let requests = upstream.requests();
    let keys: Vec<_> =
        requests.iter().map(|request| request.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 38), "{keys:?}");
    let ran = fetch(&["-X", "POST", &upstream.url("/"), "--idempotency-key", "my-key"]).await;
    assert_eq!(ran.status, Some(0));
    assert_eq!(upstream.requests().pop().unwrap().header("idempotency-key"), Some("my-key"));
}

#[tokio::test]
async fn a_wish_is_obeyed() {
    let upstream =
        Upstream::script([Reply::status(429).header("retry-after", "2"), Reply::ok("ok")]).await;
    let ran = fetch(&["-X", "POST", &upstream.url("/")]).await;
    assert_eq!(ran.status, Some(0));
    let at: Vec<_> = upstream.requests().iter().map(|request| request.at).collect();
    assert!(MS * 2_000 <= at[1] - at[0] && at[1] - at[0] <= MS * 2_700);
    assert_eq!(ran.report["attempts"][0]["pushback_ms"], 2_000.0);
    assert_eq!(ran.report["attempts"][0]["class"], "throttled");
}

#[tokio::test]
async fn a_wish_for_a_day_returns_at_once_and_is_shown() {
    let upstream = Upstream::script([Reply::status(503).header("retry-after", "86400")]).await;
    let ran = fetch(&[&upstream.url("/")]).await;
    assert_eq!(ran.status, Some(5));
    assert!(ran.took < MS * 1_000, "{:?}", ran.took);
    assert!(ran.stderr.contains("24 h"), "{}", ran.stderr);
    assert_eq!(
        (&ran.report["outcome"], &ran.report["stop"]),
        (&"deadline".into(), &"pushback_too_long".into())
    );
    assert_eq!(ran.report["attempts"][0]["pushback_ms"], 86_400_000.0);
}

#[tokio::test]
async fn a_deadline_ends_the_call_wherever_it_is() {
    let scripts = [
        Reply::hang(),
        Reply::ok(vec![b'x'; 5_000]).slow(1, MS * 20),
        Reply::status(503).after(MS * 300),
    ];
    for reply in scripts {
        let upstream = Upstream::script([reply]).await;
        let ran = fetch(&["--deadline", "1s", "--max-retries", "99", &upstream.url("/")]).await;
        assert_eq!(ran.status, Some(5), "{}", ran.stderr);
        let total = ran.report["total_ms"].as_f64().unwrap();
        assert!(total <= 1_050.0, "{total}");
        assert_eq!(ran.report["stop"], "deadline");
    }
}

#[tokio::test]
async fn permanent_answers_end_it_and_are_shown() {
    let upstream = Upstream::script([Reply::status(404).body("nothing here")]).await;
    let ran = fetch(&[&upstream.url("/"), "-i"]).await;
    assert_eq!(ran.status, Some(3));
    assert!(
        ran.stdout.starts_with("HTTP/1.1 404 Not Found\r\n")
            && ran.stdout.ends_with("nothing here")
    );
    assert_eq!((&ran.report["outcome"], &ran.report["status"]), (&"permanent".into(), &404.into()));
    let quiet = fetch(&[&upstream.url("/"), "-q"]).await;
    assert_eq!((quiet.status, quiet.stderr.as_str()), (Some(3), ""));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let broken = Reply::ok("a whole answer").truncate_at(5);
    let upstream = Upstream::script([broken, Reply::ok("a whole answer")]).await;
    let url = upstream.url("/");
    let ran = fetch(&[&[url.as_str()], &QUICK[..]].concat()).await;
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "a whole answer"));
    assert_eq!(ran.report["attempts"][0]["error"], "response_truncated");

    let broken = Reply::ok("a whole answer").truncate_at(5);
    let upstream = Upstream::script([broken]).await;
    let file = temporary("download");
    let to = file.to_string_lossy();
    let ran = fetch(&[&upstream.url("/"), "-o", &to, "--max-resumes", "0"]).await;
    assert_eq!(ran.status, Some(4), "what was handed on cannot be taken back");
    assert_eq!(ran.report["stop"], "not_replayable");
    assert!(!file.exists(), "half a file is no file");
}

#[tokio::test]
async fn a_file_is_there_when_it_is_complete() {
    let upstream = Upstream::script([Reply::ok("content"), Reply::status(404)]).await;
    let file = temporary("file");
    let name = file.to_string_lossy().into_owned();
    let ran = fetch(&[&upstream.url("/"), "-o", &name]).await;
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "content");
    let ran = fetch(&[&upstream.url("/"), "-o", &name]).await;
    assert_eq!(ran.status, Some(3));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "content", "an error page is not the file");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn redirects_are_followed_when_asked_for() {
    let second = Upstream::script([Reply::ok("there")]).await;
    let to = Reply::status(302).header("location", second.url("/there"));
    let first = Upstream::script([to]).await;
    let ran = fetch(&[&first.url("/"), "-L", "-H", "Authorization: secret"]).await;
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "there"));
    assert_eq!(first.requests()[0].header("authorization"), Some("secret"));
    assert_eq!(second.requests()[0].header("authorization"), None);
    assert_eq!(ran.report["attempts"].as_array().unwrap().len(), 2);

    let circle = Upstream::script([Reply::status(302).header("location", "/again")]).await;
    let ran = fetch(&[&circle.url("/"), "-L"]).await;
    assert_eq!((ran.status, circle.requests().len()), (Some(6), 11));
}

#[tokio::test]
async fn data_comes_from_text_files_and_standard_input() {
    let upstream = Upstream::script([Reply::ok("")]).await;
    let file = temporary("data");
    std::fs::write(&file, "from a file").unwrap();
    let ran = fetch(&["-d", &format!("@{}", file.display()), &upstream.url("/")]).await;
    assert_eq!(ran.status, Some(0));
    std::fs::remove_file(file).unwrap();
    let url = upstream.url("/");
    let mut child = command(&["-d", "@-", &url]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"from standard input").await.unwrap();
    drop(stdin);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    let requests = upstream.requests();
    let bodies: Vec<_> =
        requests.iter().map(|request| (&request.method[..], &request.body[..])).collect();
    assert_eq!(bodies, [("POST", &b"from a file"[..]), ("POST", b"from standard input")]);
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_ends_it_with_130_and_leaves_nothing() {
    let slow = || Reply::ok(vec![b'x'; 3_000_000]).slow(1_000, MS * 5);
    for reply in [Reply::hang(), slow(), Reply::status(503).header("retry-after", "60")] {
        let upstream = Upstream::script([reply]).await;
        let file = temporary("interrupted");
        let url = upstream.url("/");
        let child = command(&["-o", &file.to_string_lossy(), &url]).spawn().unwrap();
        upstream.until(|upstream| upstream.requests().len() == 1).await;
        tokio::time::sleep(MS * 200).await;
        interrupt(&child);
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(130));
        let folder = std::fs::read_dir(file.parent().unwrap()).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let left: Vec<_> = folder
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|entry| entry.contains(&name))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let id = child.id().unwrap().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(killed.success());
}

#[tokio::test]
async fn what_makes_no_sense_is_said_with_what_to_do() {
    let table: [(&[&str], &str); 9] = [
        (&["api.example.com"], "did you mean `http://api.example.com`?"),
        (&["ftp://example.com/"], "http and https are spoken"),
        (&["http://x/", "-H", "no colon"], "write `Name: value`"),
        (&["http://x/", "--retry-on", "5 xx"], "`5 xx` is no trigger"),
        (&["http://x/", "--initial", "5"], "unit"),
        (&["http://x/", "--initial", "90s"], "90s"),
        (&["http://x/", "--factor", "0.5"], "0.5"),
        (&["http://x/", "--config", "/nonexistent/policy.yaml"], "/nonexistent/policy.yaml"),
        (&["http://x/", "-d", "@/nonexistent"], "/nonexistent"),
    ];
    for (args, words) in table {
        let ran = fetch(args).await;
        assert_eq!(ran.status, Some(2), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn a_configuration_file_chooses_the_policy_by_route() {
    let file = temporary("config").with_extension("yaml");
    let text = "policies:\n  default: { max_retries: 0 }\n  patient: { max_retries: 2, backoff: { initial: 5ms, jitter: none } }\nroutes:\n  - { path: /patient/*, policy: patient }\n";
    std::fs::write(&file, text).unwrap();
    let name = file.to_string_lossy().into_owned();
    let upstream = Upstream::script([Reply::status(503)]).await;
    let attempts = |ran: &Ran| ran.report["attempts"].as_array().map(Vec::len);
    let ran = fetch(&["--config", &name, &upstream.url("/x")]).await;
    assert_eq!(attempts(&ran), Some(1), "{}", ran.stderr);
    let ran = fetch(&["--config", &name, &upstream.url("/patient/x")]).await;
    assert_eq!(attempts(&ran), Some(3));
    let ran = fetch(&[
        "--config",
        &name,
        "--policy",
        "patient",
        "--max-retries",
        "1",
        &upstream.url("/x"),
    ])
    .await;
    assert_eq!(attempts(&ran), Some(2));
    let ran = fetch(&["--config", &name, "--policy", "nobody", &upstream.url("/x")]).await;
    assert_eq!(ran.status, Some(2));
    std::fs::remove_file(file).unwrap();
}
