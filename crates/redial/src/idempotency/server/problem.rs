//! What a client is told instead of an answer (RFC 9457).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// Why a request was not carried out, or its answer cannot be given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Problem {
    Missing,
    Malformed,
    Reused,
    InProgress { left: Duration },
    LeaseLost,
    NotReplayable,
    TooLarge,
    Unreadable,
    Unavailable,
    BrokenAnswer,
}

impl Problem {
    pub(super) fn response(self, types: &str) -> Response<Bytes> {
        let (status, name, title, detail) = self.words();
        let text = format!(
            "{{\"type\":\"{types}{name}\",\"title\":\"{title}\",\"status\":{},\"detail\":\"{detail}\"}}",
            status.as_u16()
        );
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = status;
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(wait) = self.retry_after() {
            // Rounded up: who comes at the last moment of a lease comes too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() != 0);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        response
    }

    const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::InProgress { left } => Some(left),
            Self::LeaseLost | Self::Unavailable => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    const fn words(self) -> Words {
        match self {
            Self::Missing => MISSING,
            Self::Malformed => MALFORMED,
            Self::Reused => REUSED,
            Self::InProgress { .. } => IN_PROGRESS,
            Self::LeaseLost => LEASE_LOST,
            Self::NotReplayable => NOT_REPLAYABLE,
            Self::TooLarge => TOO_LARGE,
            Self::Unreadable => UNREADABLE,
            Self::Unavailable => UNAVAILABLE,
            Self::BrokenAnswer => BROKEN_ANSWER,
        }
    }
}

/// Status, end of the type, title and detail; the status as draft-ietf-httpapi-idempotency-key-header-07
/// §2.7 has it, where it has one.
type Words = (StatusCode, &'static str, &'static str, &'static str);

const MISSING: Words = (
    StatusCode::BAD_REQUEST,
    "key-missing",
    "Idempotency-Key is missing",
    "This operation requires a key: send one, the same for every attempt.",
);
const MALFORMED: Words = (
    StatusCode::BAD_REQUEST,
    "key-malformed",
    "Idempotency-Key is malformed",
    "A key is one string of 1 to 255 visible ASCII characters, in quotes or without.",
);
const REUSED: Words = (
    StatusCode::UNPROCESSABLE_ENTITY,
    "key-reused",
    "Idempotency-Key was used for another request",
    "A key stands for one payload. Another operation needs another key.",
);
const IN_PROGRESS: Words = (
    StatusCode::CONFLICT,
    "in-progress",
    "A request with this Idempotency-Key is still in progress",
    "Repeat this request later, with the same key.",
);
const LEASE_LOST: Words = (
    StatusCode::CONFLICT,
    "lease-lost",
    "Another execution has taken this Idempotency-Key over",
    "This one gave no sign of life for too long. Repeat with the same key.",
);
const NOT_REPLAYABLE: Words = (
    StatusCode::CONFLICT,
    "not-replayable",
    "The request was carried out, and its answer is not kept",
    "Do not repeat it: ask for the state of what it changed.",
);
const TOO_LARGE: Words = (
    StatusCode::PAYLOAD_TOO_LARGE,
    "body-too-large",
    "The body is too large for a request with an Idempotency-Key",
    "The body has to be compared with that of other requests with this key.",
);
const UNREADABLE: Words = (
    StatusCode::BAD_REQUEST,
    "body-unreadable",
    "The body of the request broke off",
    "Nothing was done. Repeat with the same key.",
);
const UNAVAILABLE: Words = (
    StatusCode::SERVICE_UNAVAILABLE,
    "store-unavailable",
    "Idempotency-Key cannot be honored at the moment",
    "Nothing was done. Repeat later, with the same key.",
);
const BROKEN_ANSWER: Words = (
    StatusCode::INTERNAL_SERVER_ERROR,
    "answer-broken",
    "The answer broke off before it was whole",
    "Whether anything was done is not known.",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_a_document_with_the_status_that_the_draft_gives_it() {
        let second = Duration::from_secs(1);
        let table = [
            (Problem::Missing, 400, None),
            (Problem::Malformed, 400, None),
            (Problem::Reused, 422, None),
            (Problem::InProgress { left: Duration::from_millis(1_001) }, 409, Some("2")),
            (Problem::InProgress { left: Duration::ZERO }, 409, Some("1")),
            (Problem::InProgress { left: second * 30 }, 409, Some("30")),
            (Problem::LeaseLost, 409, Some("1")),
            (Problem::NotReplayable, 409, None),
            (Problem::TooLarge, 413, None),
            (Problem::Unreadable, 400, None),
            (Problem::Unavailable, 503, Some("1")),
            (Problem::BrokenAnswer, 500, None),
        ];
        for (problem, status, wait) in table {
            let response = problem.response("https://shop.example/problems/");
            assert_eq!(response.status(), status);
            let found = response.headers().get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!(found, wait, "{problem:?}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            let json: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(json["status"], status);
            let kind = json["type"].as_str().unwrap();
            assert!(kind.starts_with("https://shop.example/problems/"), "{kind}");
            assert!(json["title"].is_string() && json["detail"].is_string());
        }
    }
}
