//! Other projects' test vectors about gRPC: statuses, streams, pushback, and the cap on attempts.
//! `vectors/README.md` names the ones that are left to this file.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read should stop the test")]

#[path = "grpc/client.rs"]
mod client;
#[expect(dead_code, reason = "other tests use more of it")]
#[path = "grpc/server.rs"]
mod server;

use std::{fs, path::Path, time::Duration};

use http::{Request, Response};
use redial::{
    Classify,
    core::{
        Attempt, Backoff, BudgetPolicy, Decision, Idempotency, Policy, Reading, RetryPolicy, Why,
    },
};
use redial_tonic::{CodeSet, GrpcClassifier, GrpcError, GrpcPolicy, code_name, stack};
use serde_json::Value;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    client::Client,
    server::{Act, Server},
};

#[tokio::test]
async fn grpc_vectors_that_others_leave_to_us_hold() {
    let listed = listed();
    assert_eq!(listed.len(), 11, "{listed:?}");
    for vector in vectors().iter().filter(|vector| listed.iter().any(|id| *id == vector["id"])) {
        check(id(vector), &vector["inputs"], &vector["expected"]).await;
    }
}

#[test]
fn grpc_vectors_about_pushback_hold() {
    let vectors = vectors();
    let pushback = vectors.iter().filter(|vector| vector["family"] == "PB");
    let checked = pushback.map(|vector| {
        let (id, expected) = (id(vector), &vector["expected"]);
        let values = &vector["inputs"]["grpc-retry-pushback-ms"];
        let values = values.as_array().cloned().unwrap_or_else(|| vec![values.clone()]);
        let fields = values.iter().map(|value| ("grpc-retry-pushback-ms", value.as_str().unwrap()));
        let fields: Vec<_> = fields.chain([("grpc-status", "14")]).collect();
        let decision = decide(&GrpcPolicy::default(), &fields);
        match expected["delay_ms"].as_u64() {
            Some(millis) => {
                let after = Duration::from_millis(millis);
                assert_eq!(decision, Decision::Retry { after, why: Why::Pushback }, "{id}");
            }
            None => assert!(matches!(decision, Decision::Stop(_)), "{id}: {decision:?}"),
        }
    });
    assert_eq!(checked.count(), 5);
}

async fn check(id: &str, inputs: &Value, expected: &Value) {
    match (inputs["case"].as_str(), inputs["rule"].as_str(), inputs["grpc_status"].as_i64()) {
        (Some("Multiple successive requests"), ..) => messages_after_a_retry(id).await,
        (Some("Retry via Header() call"), ..) => retry_before_headers(id).await,
        (Some("No retry after header received"), ..) => committed(id).await,
        (Some("Replaying close send"), ..) => half_close(id).await,
        (_, Some("maxAttempts > 5"), _) => {
            assert_eq!(expected["value"], "treated as 5", "{id}");
            let retry = RetryPolicy::default().max_retries(99);
            let policy = GrpcPolicy::new(Policy { retry, ..Policy::default() });
            assert_eq!(policy.policy().retry.most_retries(), 5 - 1, "{id}");
        }
        (_, _, Some(status)) => envoy(id, status, inputs, expected),
        _ if inputs["parse_retry_on"].is_string() => {
            let is_known = CodeSet::parse(inputs["parse_retry_on"].as_str().unwrap()).is_ok();
            assert_eq!(Some(is_known), expected["all_known"].as_bool(), "{id}");
        }
        _ => unary(id, inputs, expected).await,
    }
}

/// Envoy's `retry_on`, as far as it names codes.
fn envoy(id: &str, status: i64, inputs: &Value, expected: &Value) {
    let names = ["retry_on", "retry_on_grpc"].into_iter().find_map(|key| inputs[key].as_str());
    let policy = GrpcPolicy::default().with_codes(CodeSet::parse(names.unwrap()).unwrap());
    let status = status.to_string();
    let others = inputs["headers"].as_object().into_iter().flatten();
    let others = others.map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    let fields: Vec<_> = others.chain([("grpc-status", status.as_str())]).collect();
    let is_retried = matches!(decide(&policy, &fields), Decision::Retry { .. });
    assert_eq!(is_retried, expected["decision"] == "Yes", "{id}");
}

/// grpc-go's server, which succeeds and fails at the attempts that the vector numbers.
async fn unary(id: &str, inputs: &Value, expected: &Value) {
    let code = |name: &str| CodeSet::parse(name).unwrap().iter().next().unwrap();
    let retryable = inputs["retryable"][0].as_str().unwrap();
    let is_at = |key: &str, index: u64| {
        let all = inputs["server"][key].as_array().unwrap();
        all.iter().any(|at| at.as_u64() == Some(index))
    };
    let last = expected["last_attempt_index"].as_u64().unwrap();
    let act = |index| match index {
        index if is_at("ok_at", index) => Act::Say("ok"),
        index if is_at("internal_at", index) => Act::Fail(Status::internal("")),
        _ => Act::Fail(Status::new(code(inputs["server"]["else"].as_str().unwrap()), "")),
    };
    let server = Server::start((0..=last).map(act)).await;
    let retries = u32::try_from(inputs["max_attempts"].as_u64().unwrap()).unwrap() - 1;
    let policy = quick(retries).with_codes(CodeSet::parse(retryable).unwrap());
    let mut client = Client::new(stack(policy), server.address);
    let mut outcome = Ok(String::new());
    for _ in 0..inputs["call_number"].as_u64().unwrap() {
        outcome = client.say("").await;
    }
    assert_eq!(
        code_name(outcome.unwrap_err().code()),
        expected["status"].as_str().unwrap(),
        "{id}"
    );
    assert_eq!(server.seen().len() as u64, last + 1, "{id}");
}

async fn messages_after_a_retry(id: &str) {
    let failing = || Act::FailAfter(1, Status::unavailable(""));
    let server = Server::start([failing(), failing(), Act::Echo]).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut client = Client::new(stack(quick(3)), server.address);
    let feed = async {
        sender.send("before".to_owned()).await.unwrap();
        server.until_seen(3).await;
        sender.send("after".to_owned()).await.unwrap();
        drop(sender);
    };
    let (answer, ()) = tokio::join!(client.talk(ReceiverStream::new(receiver)), feed);
    answer.unwrap().message().await.unwrap();
    assert_eq!(server.seen().len(), 3, "{id}");
    assert_eq!(server.seen()[2].messages, ["before", "after"], "{id}");
}

async fn retry_before_headers(id: &str) {
    let server = Server::start([Act::Fail(Status::unavailable("")), Act::Say("ok")]).await;
    let headers = Client::new(stack(quick(3)), server.address).watch().await;
    assert!(headers.is_ok(), "{id}");
    assert_eq!(server.seen().len(), 2, "{id}");
}

async fn committed(id: &str) {
    let server = Server::start([Act::Stream(vec![Err(Status::unavailable(""))])]).await;
    let mut messages = Client::new(stack(quick(3)), server.address).watch().await.unwrap();
    assert_eq!(messages.message().await.unwrap_err().code(), Code::Unavailable, "{id}");
    assert_eq!(server.seen().len(), 1, "{id}");
}

async fn half_close(id: &str) {
    let read_all_and_fail = Act::FailAfter(usize::MAX, Status::unavailable(""));
    let server = Server::start([read_all_and_fail, Act::Echo]).await;
    let mut client = Client::new(stack(quick(3)), server.address);
    client.talk(tokio_stream::iter(["one".to_owned()])).await.unwrap();
    assert!(server.seen().iter().all(|seen| seen.has_ended), "{id}");
    assert_eq!(server.seen().len(), 2, "{id}");
}

/// Retries without a wait and without a budget.
fn quick(retries: u32) -> GrpcPolicy {
    let at_once = Backoff::exponential(Duration::ZERO, 1.0, Duration::ZERO).unwrap();
    let retry = RetryPolicy::default().max_retries(retries).backoff(at_once);
    GrpcPolicy::new(Policy { retry, budget: BudgetPolicy::Unlimited, ..Policy::default() })
}

/// Returns what follows a first attempt that ended in a head with `fields`.
fn decide(policy: &GrpcPolicy, fields: &[(&str, &str)]) -> Decision {
    let (request, ()) = Request::post("/a.B/C").body(()).unwrap().into_parts();
    let head =
        fields.iter().fold(Response::builder(), |head, (name, value)| head.header(*name, *value));
    let outcome: Result<_, GrpcError> = Ok(head.body(()).unwrap());
    let classifier = GrpcClassifier::new(policy.clone());
    let reading: Reading = classifier.classify(policy.policy(), &(&request).into(), &outcome);
    policy.policy().retry.decide(&Attempt::first(reading, Idempotency::Declared), None, 0)
}

/// The ids in the paragraph of the README that names this file.
fn listed() -> Vec<String> {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let paragraph = readme.split("\n\n").find(|text| text.contains("tests/grpc_vectors.rs`:"));
    let words = paragraph.unwrap().split(|c: char| !c.is_alphanumeric() && c != '-');
    let is_id = |word: &&str| {
        let (family, number) = word.split_once('-').unwrap_or_default();
        family.len() == 2 && number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit())
    };
    words.filter(is_id).map(str::to_owned).collect()
}

fn vectors() -> Vec<Value> {
    let vectors = fs::read_to_string(folder().join("vectors.jsonl")).unwrap();
    vectors.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn id(vector: &Value) -> &str {
    vector["id"].as_str().unwrap()
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors")
}
