//! State for each origin that calls go to: bounded, and read without a lock.

use std::{
    cmp::Ordering::{Equal, Greater, Less},
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
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
/// At most 1,024 origins are remembered. Then those that were not used since the most others came make
/// room, about a hundred at once. Looking an origin up takes no lock and writes nothing but, once after
/// others have come, when it was last used. Only its first few lookups take a lock: a table that is
/// read without one has to be copied to grow, and a flood of new names must not copy it for each.
pub(crate) struct Origins<T> {
    table: Arc<Table<T>>,
}

struct Table<T> {
    /// What is read without a lock.
    known: ArcSwap<Map<T>>,
    /// What has come since that was made.
    late: Mutex<Late<T>>,
    /// How many origins have come so far: what "last used" is measured in.
    arrivals: AtomicU64,
}

struct Late<T> {
    origins: Map<T>,
    /// How often somebody looked here: enough of that pays for a copy.
    lookups: usize,
}

type Map<T> = HashMap<Authority, Arc<Origin<T>>, Quick>;

struct Origin<T> {
    state: Arc<T>,
    last_use: AtomicU64,
}

impl<T: PerOrigin> Origins<T> {
    pub(crate) fn new() -> Self {
        let quick = Quick::new();
        let late = Late { origins: HashMap::with_hasher(quick.clone()), lookups: 0 };
        let known = ArcSwap::from_pointee(HashMap::with_hasher(quick));
        let arrivals = AtomicU64::new(0);
        Self { table: Arc::new(Table { known, late: Mutex::new(late), arrivals }) }
    }

    pub(crate) fn len(&self) -> usize {
        let late = self.table.late();
        self.table.known.load().len() + late.origins.len()
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
            let known = table.known.load();
            if let Some(origin) = known.get(authority)
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
        let late = self.table.late();
        let known = self.table.known.load();
        let origin = late.origins.get(authority).or_else(|| known.get(authority));
        origin.map(|origin| Arc::clone(&origin.state))
    }

    /// Returns every origin and its state, in no order.
    pub(crate) fn all(&self) -> Vec<(Authority, Arc<T>)> {
        let late = self.table.late();
        let pair = |(authority, origin): (&Authority, &Arc<Origin<T>>)| {
            (authority.clone(), Arc::clone(&origin.state))
        };
        self.table.known.load().iter().chain(&late.origins).map(pair).collect()
    }
}

impl<T: PerOrigin> Table<T> {
    #[cold]
    fn open(&self, authority: &Authority, policy: &T::Policy) -> Arc<T> {
        let mut late = self.late();
        let known = self.known.load();
        late.lookups += 1;
        let before = late.origins.get(authority).or_else(|| known.get(authority));
        let (state, is_other) = match before {
            Some(origin) if origin.state.serves(policy) => {
                origin.touch(self.arrivals.load(Ordering::Relaxed));
                (Arc::clone(&origin.state), false)
            }
            before => {
                let now = clock::now();
                let (state, is_other) = match before {
                    Some(before) => (before.state.succeeded_by(policy, now), true),
                    None => (T::open(policy, now), false),
                };
                let state = Arc::new(state);
                let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed) + 1;
                let last_use = AtomicU64::new(arrival);
                let origin = Arc::new(Origin { state: Arc::clone(&state), last_use });
                late.origins.insert(authority.clone(), origin);
                (state, is_other)
            }
        };
        // A state that was taken over must not be found any more.
        if is_other || known.len() / LATE_SHARE < late.lookups {
            self.publish(&mut late, &known);
        }
        state
    }

    /// Makes all that has come known.
    fn publish(&self, late: &mut Late<T>, known: &Map<T>) {
        let mut origins = Map::clone(known);
        origins.extend(late.origins.drain());
        late.lookups = 0;
        evict(&mut origins);
        self.known.store(Arc::new(origins));
    }
}

impl<T> Table<T> {
    fn late(&self) -> MutexGuard<'_, Late<T>> {
        // Whoever panicked in here left at worst one origin out.
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
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
        f.debug_struct("Origins").field("known", &self.table.known.load().len()).finish()
    }
}

/// Leaves as many origins as can be known, so that the late ones fit as well.
fn evict<T>(origins: &mut Map<T>) {
    let last_use = |origin: &Arc<Origin<T>>| origin.last_use.load(Ordering::Relaxed);
    let Some(surplus) = origins.len().checked_sub(KNOWN_MAX + 1) else { return };
    let mut uses: Vec<_> = origins.values().map(last_use).collect();
    let (older, newest_to_go, _) = uses.select_nth_unstable(surplus);
    let newest_to_go = *newest_to_go;
    // Others may have been used at the same time as the last one that goes.
    let mut ties = 1 + older.iter().filter(|at| **at == newest_to_go).count();
    origins.retain(|_, origin| match last_use(origin).cmp(&newest_to_go) {
        Less => false,
        Equal if 0 < ties => {
            ties -= 1;
            false
        }
        Equal | Greater => true,
    });
}

/// Hashes short names in a few instructions a byte. Seeded, so that nobody outside can tell which
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
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.hash = (self.hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(ODD);
    }

    fn write_usize(&mut self, length: usize) {
        self.hash ^= u64::try_from(length).unwrap_or_default();
    }

    fn finish(&self) -> u64 {
        // The table looks at the upper bits and at the lower ones; a product mixes upward only.
        self.hash ^ (self.hash >> 32)
    }
}

static NAMELESS: LazyLock<Authority> = LazyLock::new(|| Authority::from_static("nameless.invalid"));

/// The fractional part of the golden ratio, odd: what Fibonacci hashing multiplies by.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// An eighth of what is known may be late before it is copied: 896 and 113 are less than 1,024.
const LATE_SHARE: usize = 8;
const KNOWN_MAX: usize = 896;

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
        assert!(KNOWN_MAX <= origins.len() && origins.len() <= 1_024, "{}", origins.len());
        let known: Vec<_> = origins.all().into_iter().map(|(authority, _)| authority).collect();
        let is_known = |n| known.iter().any(|authority| *authority == *uri(n).authority().unwrap());
        assert!((2_200..3_000).all(is_known), "the last ones are there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_origin_is_found_and_becomes_known_by_being_used() {
        let origins = Origins::new();
        for n in 0..100 {
            count(&origins, &uri(n), 0);
        }
        for turn in 0..30 {
            assert_eq!(count(&origins, &uri(1_000), 0), turn);
            assert!(origins.find(uri(1_000).authority().unwrap()).is_some());
        }
        assert_eq!(origins.len(), 101);
        assert!(origins.table.known.load().contains_key(uri(1_000).authority().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_was_taken_over_is_found_no_more() {
        let origins = Origins::new();
        for n in 0..100 {
            count(&origins, &uri(n), 0);
        }
        for (turn, policy) in [(0, 0), (1, 7), (2, 0), (3, 7)] {
            assert_eq!(count(&origins, &uri(1_000), policy), turn, "policy {policy}");
        }
        assert_eq!(origins.all().len(), origins.len());
    }

    #[test]
    fn of_those_last_used_at_the_same_time_some_stay() {
        let origin = |at| {
            let state = Arc::new(Counter(AtomicU64::new(0), 0));
            Arc::new(Origin { state, last_use: AtomicU64::new(at) })
        };
        let authority = |n| uri(n).authority().unwrap().clone();
        let mut origins = Map::with_hasher(Quick::new());
        for n in 0..KNOWN_MAX + 10 {
            origins.insert(authority(n), origin(if n < 5 { 1 } else { 2 }));
        }
        evict(&mut origins);
        assert_eq!(origins.len(), KNOWN_MAX);
        assert!((0..5).all(|n| !origins.contains_key(&authority(n))));
    }
}
