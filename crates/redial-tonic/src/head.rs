//! What the head of an answer says about how the call ended.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Response, StatusCode};
use redial_core::Pushback;
use tonic::{Code, Status};

/// What the head of an answer says about how the call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Head {
    /// Nothing yet: messages follow, and the status comes in the trailers.
    Open,
    /// Everything: the server sent its status in place of an answer ("Trailers-Only").
    Ended(Code),
    /// That whoever answered does not speak gRPC.
    NotGrpc(StatusCode),
}

/// What a server asks its caller to do about repeating.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    /// Nothing.
    None,
    /// To wait exactly this long.
    Wait(Duration),
    /// Not to repeat the call.
    Never,
}

impl Head {
    pub(crate) fn of<T>(response: &Response<T>) -> Self {
        match response.headers().get(Status::GRPC_STATUS) {
            Some(status) => Self::Ended(Code::from_bytes(status.as_bytes())),
            None if response.status() == StatusCode::OK => Self::Open,
            None => Self::NotGrpc(response.status()),
        }
    }
}

impl Wish {
    /// Reads `grpc-retry-pushback-ms` as gRFC A6 has it: anything but one whole number of
    /// milliseconds means never.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        if !headers.contains_key(&PUSHBACK) {
            return Self::None;
        }
        // No date is read where this field is, so any time will do.
        match redial::http::wish(headers, || 0, false).pushback.map(Pushback::wait) {
            Some(wait) => Self::Wait(wait),
            None => Self::Never,
        }
    }
}

static PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
        let response = Response::builder().status(status);
        let fields = fields.iter();
        fields.fold(response, |r, (name, value)| r.header(*name, *value)).body(()).unwrap()
    }

    #[test]
    fn a_status_in_the_head_is_the_end_whatever_http_says() {
        assert_eq!(Head::of(&head(200, &[])), Head::Open);
        assert_eq!(Head::of(&head(200, &[("grpc-status", "14")])), Head::Ended(Code::Unavailable));
        assert_eq!(Head::of(&head(503, &[("grpc-status", "5")])), Head::Ended(Code::NotFound));
        assert_eq!(Head::of(&head(200, &[("grpc-status", "0")])), Head::Ended(Code::Ok));
        assert_eq!(Head::of(&head(200, &[("grpc-status", "x")])), Head::Ended(Code::Unknown));
        assert_eq!(Head::of(&head(503, &[])), Head::NotGrpc(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(Head::of(&head(204, &[])), Head::NotGrpc(StatusCode::NO_CONTENT));
    }

    #[test]
    fn one_number_is_a_wait_and_all_else_means_never() {
        let wish = |fields: &[(&str, &str)]| Wish::of(head(200, fields).headers());
        let field = |value| [("grpc-retry-pushback-ms", value)];
        assert_eq!(wish(&[("retry-after", "7")]), Wish::None);
        assert_eq!(wish(&field("0")), Wish::Wait(Duration::ZERO));
        assert_eq!(wish(&field("250")), Wish::Wait(Duration::from_millis(250)));
        for value in ["-1", "", "soon", "1.5"] {
            assert_eq!(wish(&field(value)), Wish::Never, "{value}");
        }
        let two = [("grpc-retry-pushback-ms", "1"), ("grpc-retry-pushback-ms", "1")];
        assert_eq!(wish(&two), Wish::Never);
    }
}
