//! Whose key for what, and with which payload, as hashes.

use http::{HeaderName, header, request::Parts};
use redial_core::Fingerprint;
use ring::digest::{Context, SHA256};

use super::super::{key::IdempotencyKey, store::RecordKey};

/// Returns the name of the record: what differs in any of these is another operation (R55).
pub(super) fn record_key(principal: &[u8], key: &IdempotencyKey, head: &Parts) -> RecordKey {
    let parts = [
        principal,
        key.as_str().as_bytes(),
        head.method.as_str().as_bytes(),
        head.uri.path().as_bytes(),
    ];
    RecordKey::of_hash(hash(parts))
}

/// Returns the fingerprint of a request: method, target, those of its fields, and body (R56).
pub(super) fn fingerprint(head: &Parts, fields: &[HeaderName], body: &[u8]) -> Fingerprint {
    let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut hash = Hash::new();
    hash.add(head.method.as_str().as_bytes());
    hash.add(target.as_bytes());
    for field in fields {
        hash.add(field.as_str().as_bytes());
        let values = head.headers.get_all(field);
        hash.add(&values.iter().count().to_be_bytes());
        values.iter().for_each(|value| hash.add(value.as_bytes()));
    }
    hash.add(body);
    Fingerprint::new(hash.finish())
}

/// Returns who asks: the hash of `Authorization`, or nobody in particular.
pub(super) fn authorization(head: &Parts) -> Vec<u8> {
    let value = head.headers.get(header::AUTHORIZATION);
    value.map(|value| hash([value.as_bytes()]).to_vec()).unwrap_or_default()
}

/// A hash over parts, each with its length, so that no two lists of parts look alike.
struct Hash {
    sha256: Context,
}

impl Hash {
    fn new() -> Self {
        Self { sha256: Context::new(&SHA256) }
    }

    fn add(&mut self, part: &[u8]) {
        self.sha256.update(&part.len().to_be_bytes());
        self.sha256.update(part);
    }

    fn finish(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.sha256.finish().as_ref());
        bytes
    }
}

fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Hash::new();
    parts.into_iter().for_each(|part| hash.add(part));
    hash.finish()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn whoever_asks_for_something_else_has_another_record() {
        let (a, b): (IdempotencyKey, IdempotencyKey) = ("a".parse().unwrap(), "b".parse().unwrap());
        let orders = head("POST", "/orders?x=1", &[]);
        let same = record_key(b"me", &a, &orders);
        assert_eq!(record_key(b"me", &a, &head("POST", "/orders", &[])), same);
        let others = [
            record_key(b"you", &a, &orders),
            record_key(b"me", &b, &orders),
            record_key(b"me", &a, &head("PATCH", "/orders", &[])),
            record_key(b"me", &a, &head("POST", "/order", &[])),
            record_key(b"mea", &"a".parse().unwrap(), &head("POST", "/orders", &[])),
        ];
        others.iter().for_each(|other| assert_ne!(*other, same));
        assert_eq!(same.as_str().len(), 64);
    }

    #[test]
    fn a_payload_differs_in_its_target_its_type_or_its_body() {
        let fields = [header::CONTENT_TYPE];
        let json = ("content-type", "application/json");
        let first = head("POST", "/orders?x=1", &[json, ("date", "today")]);
        let same = fingerprint(&first, &fields, b"{}");
        let later = head("POST", "/orders?x=1", &[json, ("date", "tomorrow")]);
        assert_eq!(fingerprint(&later, &fields, b"{}"), same);
        let absolute = head("POST", "http://shop.example/orders?x=1", &[json]);
        assert_eq!(fingerprint(&absolute, &fields, b"{}"), same, "through a proxy or not");
        let others = [
            fingerprint(&first, &fields, b"{ }"),
            fingerprint(&head("POST", "/orders?x=2", &[json]), &fields, b"{}"),
            fingerprint(&head("POST", "/orders?x=1", &[]), &fields, b"{}"),
        ];
        others.iter().for_each(|other| assert_ne!(*other, same));
    }

    #[test]
    fn credentials_tell_who_asks() {
        let me = authorization(&head("POST", "/", &[("authorization", "Bearer me")]));
        let you = authorization(&head("POST", "/", &[("authorization", "Bearer you")]));
        assert!(me != you && !me.is_empty());
        assert!(authorization(&head("POST", "/", &[])).is_empty());
    }
}
