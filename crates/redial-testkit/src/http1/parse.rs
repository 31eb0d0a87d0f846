//! Heads, chunk sizes and trailers, from bytes.
//!
//! Each function returns what it found together with its length, or `None` while bytes are missing.

use std::io;

use httparse::{EMPTY_HEADER, Header, Status};

/// Everything of a request before its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) framing: Framing,
    pub(super) is_http10: bool,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
}

pub(super) type Fields = Vec<(String, String)>;
pub(super) type Parsed<T> = io::Result<Option<(T, usize)>>;

/// Reads a request's head.
pub(super) fn head(bytes: &[u8]) -> Parsed<Head> {
    let mut headers = [EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let Status::Complete(length) = request.parse(bytes).map_err(malformed)? else {
        return Ok(None);
    };
    let headers = fields(request.headers);
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        framing: framing(&headers)?,
        headers,
        is_http10: request.version == Some(0),
    };
    Ok(Some((head, length)))
}

/// Reads the line before a chunk.
pub(super) fn chunk_size(bytes: &[u8]) -> Parsed<usize> {
    let parsed = httparse::parse_chunk_size(bytes);
    match parsed.map_err(|_| malformed("chunk size that is no hexadecimal number"))? {
        Status::Complete((length, size)) => {
            let size = usize::try_from(size).map_err(malformed)?;
            Ok(Some((size, length)))
        }
        Status::Partial => Ok(None),
    }
}

/// Reads the fields after the last chunk, and the empty line that ends them.
pub(super) fn trailers(bytes: &[u8]) -> Parsed<Fields> {
    let mut headers = [EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(bytes, &mut headers).map_err(malformed)? {
        Status::Complete((length, headers)) => Ok(Some((fields(headers), length))),
        Status::Partial => Ok(None),
    }
}

pub(super) fn malformed(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn fields(headers: &[Header<'_>]) -> Fields {
    let owned = |header: &Header<'_>| {
        (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
    };
    headers.iter().map(owned).collect()
}

/// Refuses what two parsers could read differently (RFC 9112, section 6.3): an upstream that is
/// lenient here would hide that its client smuggles.
fn framing(headers: &[(String, String)]) -> io::Result<Framing> {
    let values = |name: &str| {
        let named = headers.iter().filter(move |(n, _)| n == name);
        named.map(|(_, value)| value.trim().to_ascii_lowercase()).collect::<Vec<_>>()
    };
    match (&values("transfer-encoding")[..], &values("content-length")[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([], [length]) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Framing::Length(length.parse().map_err(malformed)?))
        }
        ([coding], []) if coding == "chunked" => Ok(Framing::Chunked),
        _ => Err(malformed("body framed neither by one content-length nor by chunked")),
    }
}

const FIELDS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_complete_with_its_empty_line() {
        let bytes = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        for length in 0..bytes.len() - 3 {
            assert!(head(&bytes[..length]).unwrap().is_none(), "{length}");
        }
        let (head, length) = head(bytes).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/a?b=c"));
        assert_eq!(head.headers[0], (String::from("host"), String::from("x")));
        assert_eq!((head.framing, length), (Framing::Length(3), bytes.len() - 3));
    }

    #[test]
    fn a_body_with_two_ends_is_malformed() {
        for fields in [
            "content-length: 3\r\ntransfer-encoding: chunked",
            "content-length: 3\r\ncontent-length: 4",
            "content-length: +3",
            "content-length: ",
            "transfer-encoding: gzip",
        ] {
            let error =
                head(format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{fields}");
        }
    }

    #[test]
    fn trailers_may_be_empty() {
        assert_eq!(trailers(b"\r\nGET").unwrap().unwrap(), (Vec::new(), 2));
        assert!(trailers(b"x: y\r\n").unwrap().is_none());
    }

    #[test]
    fn chunk_sizes_are_hexadecimal_and_may_be_extended() {
        assert_eq!(chunk_size(b"1a;x=y\r\n").unwrap(), Some((26, 8)));
        assert!(chunk_size(b"1").unwrap().is_none());
        assert!(chunk_size(b"xyz\r\n").is_err());
    }
}
