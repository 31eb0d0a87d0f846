//! Answers: what of them is kept, and how they are given again.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use super::{super::store::StoredAnswer, problem::Problem};
use crate::buffer::BufferedBody;

/// Reads a request's body to its end.
pub(super) async fn read_whole<B>(mut body: B, bytes_max: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    if is_above(&body, bytes_max) {
        return Err(Problem::TooLarge);
    }
    let (mut pieces, mut length) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::Unreadable)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if bytes_max < length {
            return Err(Problem::TooLarge);
        }
        pieces.push(data);
    }
    Ok(match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => pieces.concat().into(),
    })
}

/// Reads an answer as far as it is to be kept; returns it as it came, and what is kept of it. `None` if it
/// broke off.
pub(super) async fn gather<R>(
    response: Response<R>,
    bytes_max: usize,
) -> Option<(Response<BufferedBody<R>>, StoredAnswer)>
where
    R: Body<Data = Bytes> + Unpin,
{
    let (head, mut body) = response.into_parts();
    let (mut ahead, mut length) = (VecDeque::<Frame<Bytes>>::new(), 0_usize);
    let mut is_whole = !is_above(&body, bytes_max);
    while is_whole {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.ok()?;
        length = length.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        is_whole = length <= bytes_max;
        ahead.push_back(frame);
    }
    let kept = is_whole.then(|| {
        let pieces: Vec<_> = ahead.iter().filter_map(Frame::data_ref).collect();
        match pieces[..] {
            [only] => only.clone(),
            _ => pieces.into_iter().flatten().copied().collect(),
        }
    });
    let stored =
        StoredAnswer { status: head.status, headers: kept_fields(&head.headers), body: kept };
    let rest = (!is_whole).then_some(body);
    Some((Response::from_parts(head, BufferedBody::partly(ahead, rest)), stored))
}

/// Makes the answer that a duplicate gets.
pub(super) fn again(stored: StoredAnswer, types: &str) -> Response<Bytes> {
    let StoredAnswer { status, headers, body } = stored;
    let mut response = match body {
        Some(body) => {
            let mut response = Response::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        None => {
            let mut response = Problem::NotReplayable.response(types);
            for name in OF_THE_RESULT {
                if let Some(value) = headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            response
        }
    };
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Returns the fields that say the same at any time, over any connection, to anybody who may ask.
fn kept_fields(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    let nominated = headers.get_all(header::CONNECTION).iter();
    let nominated = nominated.filter_map(|value| value.to_str().ok());
    for name in nominated.flat_map(|value| value.split(',')) {
        kept.remove(name.trim());
    }
    for name in NOT_KEPT {
        kept.remove(name);
    }
    kept
}

fn is_above<B: Body>(body: &B, bytes_max: usize) -> bool {
    u64::try_from(bytes_max).is_ok_and(|bytes_max| bytes_max < body.size_hint().lower())
}

/// What duplicates have always been marked with (Stripe, and many after it).
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// What tells where the result of an answer is that cannot be given again.
const OF_THE_RESULT: [HeaderName; 3] = [header::LOCATION, header::CONTENT_LOCATION, header::ETAG];
/// Those of one connection (RFC 9110 §7.6.1), of one moment, and of one session.
const NOT_KEPT: [&str; 11] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn what_belongs_to_one_connection_moment_or_session_is_not_kept() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("date", "today"),
            ("set-cookie", "session=1"),
            ("content-length", "2"),
            ("location", "/orders/7"),
            ("x-request-id", "first"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let kept = kept_fields(&headers);
        let mut names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["location", "x-request-id"]);
    }

    #[test]
    fn an_answer_without_its_body_says_where_the_result_is() {
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static("/orders/7"));
        headers.insert("x-other", HeaderValue::from_static("1"));
        let stored = StoredAnswer { status: StatusCode::CREATED, headers, body: None };
        let response = again(stored, "");
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()["location"], "/orders/7");
        assert_eq!(response.headers()["idempotent-replayed"], "true");
        assert!(!response.headers().contains_key("retry-after"), "it will not be better later");
    }
}
