//! What answers are stored under: a URI whose hash is computed once for a call.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    mem,
};

use http::Uri;
use moka::Equivalent;

/// A URI and its hash.
#[derive(Clone, Debug)]
pub(super) struct Key {
    hash: u64,
    uri: Uri,
}

/// The same, borrowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyRef<'a> {
    pub(super) hash: u64,
    pub(super) uri: &'a Uri,
}

/// Takes the hash that a key brings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hashed;

#[derive(Default)]
pub(super) struct HashedHasher {
    hash: u64,
}

impl<'a> KeyRef<'a> {
    /// Hashes `uri` as it is compared: without regard to the case of its scheme and its host.
    pub(super) fn new(uri: &'a Uri, hasher: &impl BuildHasher) -> Self {
        let mut state = hasher.build_hasher();
        for part in [uri.scheme_str(), uri.authority().map(http::uri::Authority::as_str)] {
            let part = part.unwrap_or_default();
            if part.bytes().any(|byte| byte.is_ascii_uppercase()) {
                part.to_ascii_lowercase().hash(&mut state);
            } else {
                part.hash(&mut state);
            }
        }
        uri.path().hash(&mut state);
        uri.query().hash(&mut state);
        Self { hash: state.finish(), uri }
    }

    pub(super) fn to_key(self) -> Key {
        Key { hash: self.hash, uri: self.uri.clone() }
    }
}

impl Key {
    pub(super) const fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.uri == other.uri
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.hash == key.hash && *self.uri == key.uri
    }
}

impl BuildHasher for Hashed {
    type Hasher = HashedHasher;

    fn build_hasher(&self) -> HashedHasher {
        HashedHasher::default()
    }
}

impl Hasher for HashedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, hash: u64) {
        let before = mem::replace(&mut self.hash, hash);
        self.hash ^= before.rotate_left(1);
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    #[test]
    fn uris_that_are_equal_have_equal_hashes_and_others_have_not() {
        let state = RandomState::new();
        let hash = |uri: &'static str| KeyRef::new(&Uri::from_static(uri), &state).hash;
        let uri = hash("http://shop.example/a?b");
        assert_eq!(uri, hash("HTTP://Shop.EXAMPLE/a?b"));
        for other in [
            "https://shop.example/a?b",
            "http://shop.example:80/a?b",
            "http://shop.example/A?b",
            "http://shop.example/a",
            "http://shop.example/a?",
            "/a?b",
        ] {
            assert_ne!(uri, hash(other), "{other}");
        }
    }
}
