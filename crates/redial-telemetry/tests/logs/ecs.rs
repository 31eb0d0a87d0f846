//! ECS lines: their keys, their order, their types.

use std::{fmt, io, process};

use serde_json::Value;
use tracing::{debug, error, info, info_span, trace, warn};

use crate::ecs;

#[test]
fn a_whole_line_is_as_documented() {
    let line = ecs(|| {
        warn!(
            target: "redial",
            {
                http.request.method = "GET",
                http.response.status_code = 503,
                url.full = "https://ada:secret@api.example/v1?sig=abc",
                url.domain = "api.example",
                url.path = "/v1",
                event.action = "retry",
                event.duration = 1_500_000_u64,
                event.outcome = "failure",
                event.reason = "throttled",
                error.r#type = "status",
                error.message = "the upstream answered 503",
                trace.id = "4bf92f3577b34da6a3ce929d0e0e4736",
                span.id = "00f067aa0ba902b7",
                attempt = 2,
                delay_ms = 500.5,
                hedged = false
            },
            "retrying"
        );
    });
    let pid = process::id();
    let expected = [
        r#"{"@timestamp":"2026-01-02T12:03:04.123Z","log.level":"warn","message":"retrying","#,
        r#""ecs.version":"9.5.0","service.name":"orders","service.version":"1.4.0","#,
        &format!(r#""log.logger":"redial","process.pid":{pid},"#),
        r#""http.request.method":"GET","http.response.status_code":503,"#,
        r#""url.full":"https://REDACTED:REDACTED@api.example/v1?sig=REDACTED","#,
        r#""url.domain":"api.example","url.path":"/v1","event.action":"retry","#,
        r#""event.duration":1500000,"event.outcome":"failure","event.reason":"throttled","#,
        r#""error.type":"status","error.message":"the upstream answered 503","#,
        r#""trace.id":"4bf92f3577b34da6a3ce929d0e0e4736","span.id":"00f067aa0ba902b7","#,
        r#""resilience.attempt":2,"resilience.delay_ms":500.5,"resilience.hedged":false}"#,
        "\n",
    ];
    assert_eq!(line, expected.concat());
}

#[test]
fn levels_have_lower_case_names() {
    let lines = ecs(|| {
        error!("1");
        warn!("2");
        info!("3");
        debug!("4");
        trace!("5");
    });
    let names = objects(&lines).into_iter().map(|line| line["log.level"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["error", "warn", "info", "debug", "trace"]);
}

#[test]
fn fields_of_spans_are_included_and_the_inner_one_wins() {
    let line = object(&ecs(|| {
        let call = info_span!("call", url.domain = "outer", attempts = 3, message = "of the span");
        let attempt = info_span!(parent: &call, "attempt", url.domain = "inner", attempt = 1);
        attempt.in_scope(|| info!(attempt = 2, "sent"));
    }));
    assert_eq!(line["url.domain"], "inner");
    assert_eq!(line["resilience.attempts"], 3);
    assert_eq!(line["resilience.attempt"], 2);
    assert_eq!(line["message"], "sent");
    assert_eq!(line["resilience.message"], "of the span");
}

#[test]
fn fields_recorded_later_replace_and_add() {
    let line = object(&ecs(|| {
        let span = info_span!("call", status = 1, later = tracing::field::Empty);
        span.record("later", true);
        span.record("status", 200);
        span.in_scope(|| info!("done"));
    }));
    assert_eq!(line["resilience.later"], true);
    assert_eq!(line["resilience.status"], 200);
}

#[test]
fn a_span_without_fields_can_record_some_later() {
    let line = object(&ecs(|| {
        let span = info_span!("call", later = tracing::field::Empty);
        span.record("later", 7);
        span.in_scope(|| info!("done"));
    }));
    assert_eq!(line["resilience.later"], 7);
}

#[test]
fn our_own_namespace_is_not_doubled() {
    let line = object(&ecs(|| info!(resilience.attempt = 2, "sent")));
    assert_eq!(line["resilience.attempt"], 2);
}

#[test]
fn names_that_every_line_has_cannot_be_taken() {
    let line = object(&ecs(|| {
        info!({ service.name = "theirs", log.level = "fatal", "@timestamp" = 1 }, "ours");
    }));
    assert_eq!(line["service.name"], "orders");
    assert_eq!(line["log.level"], "info");
    assert_eq!(line["@timestamp"], "2026-01-02T12:03:04.123Z");
    assert_eq!(line["resilience.service.name"], "theirs");
    assert_eq!(line["resilience.@timestamp"], 1);
}

#[test]
fn durations_given_as_u128_are_numbers() {
    let nanoseconds = std::time::Duration::from_secs(90).as_nanos();
    let line =
        object(&ecs(|| info!(event.duration = nanoseconds, wide = u128::MAX, low = i128::MIN)));
    assert_eq!(line["event.duration"], 90_000_000_000_u64);
    assert_eq!(line["resilience.wide"], u128::MAX.to_string());
    assert_eq!(line["resilience.low"], i128::MIN.to_string());
}

#[test]
fn errors_come_with_their_causes() {
    #[derive(Debug)]
    struct Outer(io::Error);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot send")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let outer = Outer(io::Error::other("connection refused"));
    let outer: &(dyn std::error::Error + 'static) = &outer;
    let line = object(&ecs(|| error!(error.message = outer, "giving up")));
    assert_eq!(line["error.message"], "cannot send: connection refused");
}

#[test]
fn an_event_without_a_message_has_an_empty_one() {
    assert_eq!(object(&ecs(|| info!(attempt = 1)))["message"], "");
}

#[test]
fn a_message_is_always_a_text() {
    assert_eq!(object(&ecs(|| info!(message = 7)))["message"], "7");
}

fn object(line: &str) -> Value {
    let mut objects = objects(line);
    assert_eq!(objects.len(), 1, "{line}");
    objects.remove(0)
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
