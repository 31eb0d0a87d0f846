//! What callers are told whose time was up: a 504, or gRPC's `DEADLINE_EXCEEDED`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use sfv::TokenRef;

use super::body::InboundBody;

/// A name for `Proxy-Status` that is no token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{name}` cannot name a server: it takes a letter or `*`, then letters, digits and \
     !#$%&'*+-.^_|~:/"
)]
pub struct InvalidName {
    name: String,
}

/// Why there is no answer of the handler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// The handler was not called.
    Late,
    /// The handler was at work.
    Expired,
}

/// The values of `Proxy-Status`, made once.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    late: HeaderValue,
    expired: HeaderValue,
}

impl Answers {
    pub(super) fn named(name: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName { name: name.to_owned() };
        let token = TokenRef::from_str(name).map_err(|_| invalid())?;
        // The layer answers for what is behind it, as a gateway does; of the errors in RFC 9209 §2.3 this
        // is the one for a time that is up, and 504 is its status.
        let field = |refusal: Refusal| {
            let details = refusal.details();
            let field = format!("{token}; error=http_response_timeout; details=\"{details}\"");
            HeaderValue::try_from(field).map_err(|_| invalid())
        };
        Ok(Self { late: field(Refusal::Late)?, expired: field(Refusal::Expired)? })
    }

    pub(super) fn refuse<B>(&self, refusal: Refusal, is_grpc: bool) -> Response<InboundBody<B>> {
        refusal.log();
        if is_grpc {
            let mut response = Response::new(InboundBody::empty());
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            write_grpc_status(response.headers_mut(), refusal);
            return response;
        }
        let mut response =
            Response::new(InboundBody::text(Bytes::from_static(refusal.problem().as_bytes())));
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let field = match refusal {
            Refusal::Late => &self.late,
            Refusal::Expired => &self.expired,
        };
        headers.insert(&PROXY_STATUS, field.clone());
        response
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            late: HeaderValue::from_static(
                "redial; error=http_response_timeout; details=\"too little time left to begin\"",
            ),
            expired: HeaderValue::from_static(
                "redial; error=http_response_timeout; details=\"the caller's time is up\"",
            ),
        }
    }
}

impl Refusal {
    const fn details(self) -> &'static str {
        match self {
            Self::Late => "too little time left to begin",
            Self::Expired => "the caller's time is up",
        }
    }

    /// Returns the same as a problem (RFC 9457).
    const fn problem(self) -> &'static str {
        match self {
            Self::Late => concat!(
                r#"{"type":"about:blank","title":"Gateway Timeout","status":504,"#,
                r#""detail":"too little time left to begin"}"#
            ),
            Self::Expired => concat!(
                r#"{"type":"about:blank","title":"Gateway Timeout","status":504,"#,
                r#""detail":"the caller's time is up"}"#
            ),
        }
    }

    fn log(self) {
        match self {
            Self::Late => {
                tracing::warn!(event.action = "arrived_late", "refused: {}", self.details());
            }
            Self::Expired => {
                tracing::warn!(event.action = "time_up", "cancelled: {}", self.details());
            }
        }
    }
}

/// Writes gRPC's status: into the head where there is nothing else, or into trailers.
pub(super) fn write_grpc_status(headers: &mut HeaderMap, refusal: Refusal) {
    headers.insert(&GRPC_STATUS, HeaderValue::from_static("4"));
    // Nothing in these texts needs gRPC's percent-encoding.
    headers.insert(&GRPC_MESSAGE, HeaderValue::from_static(refusal.details()));
}

static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens() {
        let named = Answers::named("shop/eu-1").unwrap();
        assert_eq!(
            named.expired,
            "shop/eu-1; error=http_response_timeout; details=\"the caller's time is up\""
        );
        for name in ["", "two words", "1st", "naïve", "a\"b"] {
            let error = Answers::named(name).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{name}` cannot name")), "{error}");
        }
    }

    #[test]
    fn the_default_is_a_name_like_any_other() {
        let (default, named) = (Answers::default(), Answers::named("redial").unwrap());
        assert_eq!((default.late, default.expired), (named.late, named.expired));
    }

    #[test]
    fn problems_are_json_and_say_the_same() {
        for refusal in [Refusal::Late, Refusal::Expired] {
            let problem: serde_json::Value = serde_json::from_str(refusal.problem()).unwrap();
            assert_eq!(
                (&problem["status"], &problem["detail"]),
                (&504.into(), &refusal.details().into())
            );
        }
    }
}
