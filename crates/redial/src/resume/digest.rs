//! The digest that a server announced, and whether what came has it (RFC 9530).

use std::{fmt, io::IoSlice};

use bytes::Buf;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::digest::{self, Context, SHA256, SHA512};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::diagnose::Rejection;

/// Holds the bytes of an answer's body against the digest that its head announced.
///
/// `Repr-Digest` is read first, then `Content-Digest`; of each `sha-256` before `sha-512`, which is faster
/// where the processor has instructions for it. One of them is checked. Other algorithms, and what is
/// malformed, are passed over: they prove nothing. Costs a pass over the bytes, and 0.3 kB.
///
/// Both digests are of the bytes with their `Content-Encoding`: whoever decodes cannot check any more.
///
/// # Examples
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use redial::DigestCheck;
///
/// let mut headers = HeaderMap::new();
/// let digest = "sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:";
/// headers.insert("repr-digest", HeaderValue::from_static(digest));
/// let mut check = DigestCheck::of(&headers).expect("there is one");
/// check.update(b"hello ");
/// check.update(b"world");
/// assert!(check.finish().is_ok());
/// ```
#[derive(Clone)]
pub struct DigestCheck {
    context: Context,
    expected: Vec<u8>,
    name: &'static str,
}

struct Algorithm {
    name: &'static str,
    algorithm: &'static digest::Algorithm,
}

impl DigestCheck {
    /// Returns the check that the head of an answer of a whole body asks for, if it is one that we can make.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        [REPR_DIGEST, CONTENT_DIGEST].into_iter().find_map(|name| Self::of_field(headers, &name))
    }

    fn of_field(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes).peekable();
        lines.peek()?;
        let field = lines.collect::<Vec<_>>().join(&b", "[..]);
        let digests: Dictionary = Parser::new(&field).parse().ok()?;
        ALGORITHMS.iter().find_map(|Algorithm { name, algorithm }| {
            let ListEntry::Item(item) = digests.get(*name)? else { return None };
            let BareItem::ByteSequence(expected) = &item.bare_item else { return None };
            let is_whole = expected.len() == algorithm.output_len();
            let context = Context::new(algorithm);
            is_whole.then(|| Self { context, expected: expected.clone(), name })
        })
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// Compares, once all bytes were added.
    ///
    /// # Errors
    ///
    /// [`Rejection::WrongDigest`] if they are other bytes than the server announced.
    pub fn finish(self) -> Result<(), Rejection> {
        if self.context.finish().as_ref() == self.expected {
            return Ok(());
        }
        Err(Rejection::WrongDigest { algorithm: self.name })
    }

    /// Adds what is in `data` without taking it out; returns whether all of it could be seen.
    pub(super) fn update_from(&mut self, data: &impl Buf) -> bool {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = data.chunks_vectored(&mut slices);
        let seen = &slices[..count];
        if seen.iter().map(|slice| slice.len()).sum::<usize>() < data.remaining() {
            return false;
        }
        for slice in seen {
            self.context.update(slice);
        }
        true
    }
}

impl fmt::Debug for DigestCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestCheck").field("algorithm", &self.name).finish_non_exhaustive()
    }
}

const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// Those of the registry that are neither broken nor rare (RFC 9530 §7.2).
const ALGORITHMS: [Algorithm; 2] = [
    Algorithm { name: "sha-256", algorithm: &SHA256 },
    Algorithm { name: "sha-512", algorithm: &SHA512 },
];
/// In how many pieces one frame may be. Transports hand on one.
const SLICES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn check(fields: &[(HeaderName, &str)]) -> Option<DigestCheck> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        DigestCheck::of(&headers)
    }

    fn result(fields: &[(HeaderName, &str)], parts: &[&[u8]]) -> Option<Result<(), Rejection>> {
        let mut check = check(fields)?;
        parts.iter().for_each(|part| check.update(part));
        Some(check.finish())
    }

    /// RFC 9530 §2: of `{"hello": "world"}` and a line feed.
    const WORLD: &[u8] = b"{\"hello\": \"world\"}\n";
    const WORLD_256: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    const WORLD_512: &str = "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";

    #[test]
    fn the_digests_of_the_rfc_are_those_of_its_example() {
        for (name, value) in [
            (REPR_DIGEST, WORLD_256.to_owned()),
            (CONTENT_DIGEST, WORLD_256.to_owned()),
            (REPR_DIGEST, WORLD_512.to_owned()),
            (REPR_DIGEST, format!("{WORLD_512}, {WORLD_256}")),
            (REPR_DIGEST, format!("md5=:AAAA:, {WORLD_256};q=1")),
        ] {
            let fields = [(name, value.as_str())];
            assert_eq!(result(&fields, &[WORLD]), Some(Ok(())), "{value}");
            assert_eq!(result(&fields, &[&WORLD[..5], b"", &WORLD[5..]]), Some(Ok(())));
            let algorithm = if value.contains("sha-256") { "sha-256" } else { "sha-512" };
            let wrong = Some(Err(Rejection::WrongDigest { algorithm }));
            assert_eq!(result(&fields, &[&WORLD[1..]]), wrong);
            assert_eq!(result(&fields, &[]), wrong);
        }
    }

    #[test]
    fn the_digest_of_the_representation_comes_before_that_of_the_content() {
        let other = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
        let fields = [(CONTENT_DIGEST, other), (REPR_DIGEST, WORLD_256)];
        assert_eq!(result(&fields, &[WORLD]), Some(Ok(())));
        let fields = [(CONTENT_DIGEST, WORLD_256), (REPR_DIGEST, "md5=:AAAA:")];
        assert_eq!(result(&fields, &[WORLD]), Some(Ok(())));
        let lines = [(REPR_DIGEST, "md5=:AAAA:"), (REPR_DIGEST, WORLD_256)];
        assert_eq!(result(&lines, &[WORLD]), Some(Ok(())), "two lines are one field");
    }

    #[test]
    fn what_is_malformed_or_unknown_proves_nothing() {
        for value in [
            "",
            "md5=:AAAA:",
            "SHA-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
            "sha-256=RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=",
            "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=",
            "sha-256=\"RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=\"",
            "sha-256=(:AAAA:)",
            "sha-256",
            "sha-256=::",
            "sha-256=:AAAA:",
        ] {
            assert!(check(&[(REPR_DIGEST, value)]).is_none(), "{value}");
        }
        assert!(check(&[]).is_none());
    }

    #[test]
    fn pieces_that_hang_together_are_all_seen() {
        let mut check = check(&[(REPR_DIGEST, WORLD_256)]).unwrap();
        let (head, tail) = WORLD.split_at(7);
        assert!(check.update_from(&Bytes::from_static(head).chain(Bytes::from_static(tail))));
        assert!(check.update_from(&Bytes::new()));
        assert!(check.finish().is_ok());
    }
}
