//! State for each origin that calls go to: bounded, and read without a lock.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use http::{Uri, uri::Authority};

use crate::clock;

/// What is kept for one origin under a policy.
pub(crate) trait PerOrigin: Sized {
    /// What it depends on.
    type Policy: ?Sized;

    /// Begins at `now`.
    fn open(policy: &Self::Policy, now: Instant) -> Self;

    /// Returns whether this state can serve under `policy` as it is.
    fn serves(&self, policy: &Self::Policy) -> bool;

    /// Returns what takes over when it cannot: whatever of the state still makes sense.
    fn succeeded_by(&self, policy: &Self::Policy, now: Instant) -> Self;
}

/// State of type `T` for each origin. Clones share it.
///
/// At most 1,024 origins are remembered. Then one that was not used since the most others came makes
/// room. Looking an origin up takes no lock and writes nothing but, once after others have come, when
/// it was last used.
pub(crate) struct Origins<T> {
    table: Arc<Table<T>>,
}

struct Table<T> {
    /// By authority in lower case: most are written that way, and are then compared as bytes.
    origins: ArcSwap<Map<T>>,
    /// How many origins have come so far: what "last used" is measured in.
    arrivals: AtomicU64,
}

type Map<T> = HashMap<Box<str>, Arc<Origin<T>>, Quick>;

struct Origin<T> {
    authority: Authority,
    state: Arc<T>,
    last_use: AtomicU64,
}

impl<T: PerOrigin> Origins<T> {
    pub(crate) fn new() -> Self {
        let origins = ArcSwap::from_pointee(HashMap::with_hasher(Quick::new()));
        Self { table: Arc::new(Table { origins, arrivals: AtomicU64::new(0) }) }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.origins.load().len()
    }

    /// Runs `work` with the state of `uri`'s origin under `policy`, which begins at first sight.
    /// Requests without an authority go to whatever the service below is bound to: one origin.
    pub(crate) fn with<R>(
        &self,
        uri: &Uri,
        policy: &T::Policy,
        work: impl FnOnce(&Arc<T>) -> R,
    ) -> R {
        self.with_authority(uri.authority().unwrap_or_else(|| &NAMELESS), policy, work)
    }

    /// As [`with`](Self::with), for an authority.
    pub(crate) fn with_authority<R>(
        &self,
        authority: &Authority,
        policy: &T::Policy,
        work: impl FnOnce(&Arc<T>) -> R,
    ) -> R {
        let table = &*self.table;
        {
            let origins = table.origins.load();
            if let Some(origin) = look_up(&origins, authority)
                && origin.state.serves(policy)
            {
                origin.touch(table.arrivals.load(Ordering::Relaxed));
                return work(&origin.state);
            }
        }
        work(&table.open(authority, policy))
    }

    /// Returns the state of an origin, if there is one.
    pub(crate) fn find(&self, authority: &Authority) -> Option<Arc<T>> {
        look_up(&self.table.origins.load(), authority).map(|origin| Arc::clone(&origin.state))
    }

    /// Returns every origin and its state, in no order.
    pub(crate) fn all(&self) -> Vec<(Authority, Arc<T>)> {
        let origins = self.table.origins.load();
        let pair = |origin: &Arc<Origin<T>>| (origin.authority.clone(), Arc::clone(&origin.state));
        origins.values().map(pair).collect()
    }
}

impl<T: PerOrigin> Table<T> {
    #[cold]
    fn open(&self, authority: &Authority, policy: &T::Policy) -> Arc<T> {
        let now = clock::now();
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed) + 1;
        self.origins.rcu(|origins| {
            let before = look_up(origins, authority);
            if before.is_some_and(|origin| origin.state.serves(policy)) {
                return Arc::clone(origins);
            }
            let state = match before {
                Some(before) => before.state.succeeded_by(policy, now),
                None => T::open(policy, now),
            };
            let mut origins = HashMap::clone(origins);
            if ORIGINS_MAX <= origins.len() {
                evict(&mut origins);
            }
            let (authority, last_use) = (authority.clone(), AtomicU64::new(arrival));
            let name = authority.as_str().to_ascii_lowercase().into_boxed_str();
            let state = Arc::new(state);
            origins.insert(name, Arc::new(Origin { authority, state, last_use }));
            Arc::new(origins)
        });
        let there =
            look_up(&self.origins.load(), authority).map(|origin| Arc::clone(&origin.state));
        // Another thread may have evicted it meanwhile: then this call has a state of its own.
        there.unwrap_or_else(|| Arc::new(T::open(policy, now)))
    }
}

impl<T> Origin<T> {
    fn touch(&self, arrivals: u64) {
        // Written to only after others have come, so that many cores share a clean line.
        if self.last_use.load(Ordering::Relaxed) != arrivals {
            self.last_use.store(arrivals, Ordering::Relaxed);
        }
    }
}

impl<T> Clone for Origins<T> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table) }
    }
}

impl<T> fmt::Debug for Origins<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").field("len", &self.table.origins.load().len()).finish()
    }
}

#[inline]
fn look_up<'a, T>(origins: &'a Map<T>, authority: &Authority) -> Option<&'a Arc<Origin<T>>> {
    let name = authority.as_str();
    origins.get(name).or_else(|| look_up_lower(origins, name))
}

#[cold]
fn look_up_lower<'a, T>(origins: &'a Map<T>, name: &str) -> Option<&'a Arc<Origin<T>>> {
    if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    origins.get(name.to_ascii_lowercase().as_str())
}

fn evict<T>(origins: &mut Map<T>) {
    let last_use = |origin: &Arc<Origin<T>>| origin.last_use.load(Ordering::Relaxed);
    let oldest = origins.iter().min_by_key(|(_, origin)| last_use(origin));
    if let Some(name) = oldest.map(|(name, _)| name.clone()) {
        origins.remove(&name);
    }
}

/// Hashes short names in a few instructions for eight bytes. Seeded, so that nobody outside can tell which
/// names collide; and with a thousand of them at most, little would come of it.
#[derive(Clone)]
struct Quick {
    seed: u64,
}

struct QuickHasher {
    hash: u64,
}

impl Quick {
    fn new() -> Self {
        Self { seed: RandomState::new().hash_one(()) }
    }
}

impl BuildHasher for Quick {
    type Hasher = QuickHasher;

    fn build_hasher(&self) -> QuickHasher {
        QuickHasher { hash: self.seed }
    }
}

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        // The last eight bytes again where there are as many, or each by itself.
        match bytes.last_chunk::<8>() {
            Some(_) if rest.is_empty() => {}
            Some(last) => self.write_u64(u64::from_le_bytes(*last)),
            None => rest.iter().for_each(|byte| self.write_u8(*byte)),
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        // The middle of the product depends on all bits of the word; the rotation brings it around.
        self.hash = (self.hash.rotate_left(29) ^ word).wrapping_mul(ODD);
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u64(u64::try_from(length).unwrap_or_default());
    }

    fn finish(&self) -> u64 {
        // The table looks at the upper bits and at the lower ones; a product mixes upward only.
        self.hash ^ (self.hash >> 32)
    }
}

static NAMELESS: LazyLock<Authority> = LazyLock::new(|| Authority::from_static("nameless.invalid"));

/// The fractional part of the golden ratio, odd: what Fibonacci hashing multiplies by.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

const ORIGINS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(AtomicU64, u64);

    impl PerOrigin for Counter {
        type Policy = u64;

        fn open(policy: &u64, _: Instant) -> Self {
            Self(AtomicU64::new(0), *policy)
        }

        fn serves(&self, policy: &u64) -> bool {
            self.1 == *policy
        }

        fn succeeded_by(&self, policy: &u64, _: Instant) -> Self {
            Self(AtomicU64::new(self.0.load(Ordering::Relaxed)), *policy)
        }
    }

    fn uri(n: usize) -> Uri {
        format!("http://host-{n}.example/").parse().unwrap()
    }

    fn count(origins: &Origins<Counter>, uri: &Uri, policy: u64) -> u64 {
        origins.with(uri, &policy, |counter| counter.0.fetch_add(1, Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn each_origin_has_its_own_state_whatever_its_case_and_clones_share_it() {
        let origins = Origins::new();
        assert_eq!(count(&origins, &Uri::from_static("http://Shop.example/a"), 0), 0);
        assert_eq!(count(&origins.clone(), &Uri::from_static("http://shop.EXAMPLE/b"), 0), 1);
        assert_eq!(count(&origins, &uri(2), 0), 0);
        assert_eq!(count(&origins, &Uri::from_static("/a"), 0), 0, "a path has no origin");
        assert_eq!(count(&origins, &Uri::from_static("/b"), 0), 1, "all of them share one");
        assert_eq!(origins.len(), 3);
        assert_eq!(origins.all().len(), 3);
        assert!(origins.find(&Authority::from_static("shop.example")).is_some());
        assert!(origins.find(&Authority::from_static("else.example")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_policy_takes_the_state_over() {
        let origins = Origins::new();
        assert_eq!(count(&origins, &uri(1), 0), 0);
        assert_eq!(count(&origins, &uri(1), 7), 1);
        assert_eq!(count(&origins, &uri(1), 7), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_use_stays_when_many_others_come() {
        let origins = Origins::new();
        for n in 1..3_000 {
            assert_eq!(count(&origins, &uri(n), 0), 0);
            assert_eq!(count(&origins, &uri(0), 0), u64::try_from(n - 1).unwrap());
        }
        assert_eq!(origins.len(), ORIGINS_MAX);
    }
}
