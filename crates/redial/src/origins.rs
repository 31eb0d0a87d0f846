//! State for each origin that calls go to: bounded, and read without a lock.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
/// At most 1,024 origins are remembered. Then an eighth of them, those that were not used since the most
/// others came, make room. Looking an origin up takes no lock and writes nothing but, once after others have come, when
/// it was last used.
pub(crate) struct Origins<T> {
    table: Arc<Table<T>>,
}

struct Table<T> {
    known: ArcSwap<Known<T>>,
    /// The first origin that came: for most clients, the only one.
    first: OnceLock<Arc<Origin<T>>>,
    /// How many origins have come so far: what "last used" is measured in.
    arrivals: AtomicU64,
    seed: u64,
}

/// The origins that there are, as a table with open addressing. Never changed, only replaced.
struct Known<T> {
    places: Box<[Option<Arc<Origin<T>>>]>,
    count: usize,
}

struct Origin<T> {
    authority: Authority,
    hash: u64,
    state: Arc<T>,
    last_use: AtomicU64,
    /// Whether another has taken its place in the table.
    is_retired: AtomicBool,
}

impl<T: PerOrigin> Origins<T> {
    pub(crate) fn new() -> Self {
        Self {
            table: Arc::new(Table {
                known: ArcSwap::from_pointee(Known::empty()),
                first: OnceLock::new(),
                arrivals: AtomicU64::new(0),
                seed: RandomState::new().hash_one(()),
            }),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.known.load().count
    }

    /// Runs `work` with the state of `uri`'s origin under `policy`, which begins at first sight.
    /// Requests without an authority go to whatever the service below is bound to: one origin.
    pub(crate) fn with<R>(
        &self,
        uri: &Uri,
        policy: &T::Policy,
        work: impl FnOnce(&Arc<T>) -> R,
    ) -> R {
        self.with_authority(authority_of(uri), policy, work)
    }

    /// As [`with`](Self::with), for an authority.
    pub(crate) fn with_authority<R>(
        &self,
        authority: &Authority,
        policy: &T::Policy,
        work: impl FnOnce(&Arc<T>) -> R,
    ) -> R {
        let table = &*self.table;
        let done = table.find(authority, |origin| match origin {
            Some(origin) if origin.state.serves(policy) => {
                origin.touch(&table.arrivals);
                Ok(work(&origin.state))
            }
            _ => Err(work),
        });
        done.unwrap_or_else(|work| work(&table.open(authority, policy)))
    }

    /// Runs `work` with the state of `uri`'s origin under whatever policy it began; gives `work` back
    /// where there is none yet.
    pub(crate) fn if_there<R, W: FnOnce(&Arc<T>) -> R>(&self, uri: &Uri, work: W) -> Result<R, W> {
        self.table.find(authority_of(uri), |origin| match origin {
            Some(origin) => {
                origin.touch(&self.table.arrivals);
                Ok(work(&origin.state))
            }
            None => Err(work),
        })
    }

    /// Returns the state of an origin, if there is one.
    pub(crate) fn find(&self, authority: &Authority) -> Option<Arc<T>> {
        self.table.find(authority, |origin| origin.map(|origin| Arc::clone(&origin.state)))
    }

    /// Returns every origin and its state, in no order.
    pub(crate) fn all(&self) -> Vec<(Authority, Arc<T>)> {
        let known = self.table.known.load();
        let pair = |origin: &Arc<Origin<T>>| (origin.authority.clone(), Arc::clone(&origin.state));
        known.origins().map(pair).collect()
    }
}

impl<T> Table<T> {
    fn find<R>(&self, authority: &Authority, work: impl FnOnce(Option<&Origin<T>>) -> R) -> R {
        if let Some(first) = self.first.get()
            && first.is(authority)
            && !first.is_retired.load(Ordering::Relaxed)
        {
            return work(Some(first));
        }
        let known = self.known.load();
        work(known.get(authority, hash(authority, self.seed)).map(|origin| &**origin))
    }
}

impl<T: PerOrigin> Table<T> {
    #[cold]
    fn open(&self, authority: &Authority, policy: &T::Policy) -> Arc<T> {
        let (now, hash) = (clock::now(), hash(authority, self.seed));
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed) + 1;
        self.known.rcu(|known| {
            let before = known.get(authority, hash);
            if before.is_some_and(|origin| origin.state.serves(policy)) {
                return Arc::clone(known);
            }
            let state = match before {
                Some(before) => before.state.succeeded_by(policy, now),
                None => T::open(policy, now),
            };
            Arc::new(known.and(Arc::new(Origin {
                authority: authority.clone(),
                hash,
                state: Arc::new(state),
                last_use: AtomicU64::new(arrival),
                is_retired: AtomicBool::new(false),
            })))
        });
        let known = self.known.load();
        let there = known.get(authority, hash);
        if let Some(origin) = there {
            let first = self.first.get_or_init(|| Arc::clone(origin));
            // Retired only when its successor can be found.
            let is_there = known.get(&first.authority, first.hash);
            if !is_there.is_some_and(|there| Arc::ptr_eq(there, first)) {
                first.is_retired.store(true, Ordering::Relaxed);
            }
        }
        // Another thread may have evicted it meanwhile: then this call has a state of its own.
        there.map_or_else(|| Arc::new(T::open(policy, now)), |origin| Arc::clone(&origin.state))
    }
}

impl<T> Known<T> {
    fn empty() -> Self {
        Self { places: Box::new([]), count: 0 }
    }

    fn origins(&self) -> impl Iterator<Item = &Arc<Origin<T>>> {
        self.places.iter().flatten()
    }

    fn get(&self, authority: &Authority, hash: u64) -> Option<&Arc<Origin<T>>> {
        let mask = self.places.len().checked_sub(1)?;
        let mut at = place(hash) & mask;
        // There are twice as many places as origins, so an empty one comes.
        while let Some(origin) = &self.places[at] {
            if origin.hash == hash && origin.is(authority) {
                return Some(origin);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Returns these origins and `origin`, in the place of the one with the same name or, where there
    /// are too many, of those that were not used for the longest time.
    fn and(&self, origin: Arc<Origin<T>>) -> Self {
        let others = self.origins().filter(|other| !other.is(&origin.authority));
        let mut kept: Vec<_> = others.cloned().collect();
        if ORIGINS_MAX <= kept.len() {
            // Many go at once, so that a flood of new names does not copy the table for each.
            let last_use = |origin: &Arc<Origin<T>>| origin.last_use.load(Ordering::Relaxed);
            kept.select_nth_unstable_by_key(EVICTED, last_use);
            kept.drain(..EVICTED);
        }
        kept.push(origin);
        let count = kept.len();
        let mut places = vec![None; (count * 2).next_power_of_two()].into_boxed_slice();
        let mask = places.len() - 1;
        for origin in kept {
            let mut at = place(origin.hash) & mask;
            while places[at].is_some() {
                at = (at + 1) & mask;
            }
            places[at] = Some(origin);
        }
        Self { places, count }
    }
}

impl<T> Origin<T> {
    fn is(&self, authority: &Authority) -> bool {
        let (own, other) = (self.authority.as_str(), authority.as_str());
        own == other || own.eq_ignore_ascii_case(other)
    }

    fn touch(&self, arrivals: &AtomicU64) {
        let arrivals = arrivals.load(Ordering::Relaxed);
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
        f.debug_struct("Origins").field("len", &self.table.known.load().count).finish()
    }
}

fn authority_of(uri: &Uri) -> &Authority {
    uri.authority().unwrap_or_else(|| &NAMELESS)
}

/// Hashes a name whatever its case, eight bytes at a time. Seeded, so that nobody outside can tell which
/// names collide; and with a thousand of them at most, little would come of it.
fn hash(authority: &Authority, seed: u64) -> u64 {
    let bytes = authority.as_str().as_bytes();
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain([&last]).map(|word| u64::from_le_bytes(*word) | LOWERCASE);
    words.fold(seed, |hash, word| (hash.rotate_left(5) ^ word).wrapping_mul(ODD))
}

fn place(hash: u64) -> usize {
    // A product mixes upward only, and the table looks at the lower bits.
    usize::try_from(hash >> 32).unwrap_or_default()
}

static NAMELESS: LazyLock<Authority> = LazyLock::new(|| Authority::from_static("nameless.invalid"));

/// The fractional part of the golden ratio, odd: what Fibonacci hashing multiplies by.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bit that tells a letter's lower case from its upper one, in each byte.
const LOWERCASE: u64 = 0x2020_2020_2020_2020;

const ORIGINS_MAX: usize = 1_024;
const EVICTED: usize = ORIGINS_MAX / 8;

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
        assert!((ORIGINS_MAX - EVICTED..=ORIGINS_MAX).contains(&origins.len()));
    }
}
