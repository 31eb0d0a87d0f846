//! State for each origin that calls go to: bounded, and read without a lock.

mod hash;

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash},
    ptr,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, Guard};
use http::{Uri, uri::Authority};

use self::hash::Quick;
use crate::clock;

/// What is kept for one origin, or another key, under a policy.
pub(crate) trait PerOrigin: Sized {
    /// What it depends on.
    type Policy: ?Sized;

    /// Whether states that serve different policies live side by side, as those of routes with rates
    /// of their own do. Otherwise a new one takes the old one's place.
    const SIDE_BY_SIDE: bool = false;

    /// Begins at `now`.
    fn open(policy: &Self::Policy, now: Instant) -> Self;

    /// Returns whether this state can serve under `policy` as it is.
    fn serves(&self, policy: &Self::Policy) -> bool;

    /// Returns what takes over when it cannot: whatever of the state still makes sense.
    fn succeeded_by(&self, policy: &Self::Policy, now: Instant) -> Self;
}

/// A key that a copy can be kept of: of its text alone, so that a name does not keep the whole buffer
/// that it came in.
pub(crate) trait Keep<K> {
    fn keep(&self) -> K;
}

/// State of type `T` for each origin, or for each key of another type. Clones share it.
///
/// At most 1,024 keys are remembered, unless another bound was given. Then one that was not used since
/// the most others came makes room. Looking a key up takes no lock and writes nothing but, once after
/// others have come, when it was last used. A key that is new costs the copying of a 16th of the
/// table, so that keys that outsiders can choose do no harm by being many.
pub(crate) struct Origins<T, K = Authority> {
    table: Arc<Table<T, K>>,
}

struct Table<T, K> {
    hash: Quick,
    /// A power of two of them; a key's hash says which is its own.
    shards: Box<[ArcSwap<Shard<T, K>>]>,
    shard_max: usize,
    /// The first key that came: for most clients, the only one. It is found without a hash.
    first: OnceLock<Place<T, K>>,
    /// How many keys have come so far: what "last used" is measured in.
    arrivals: AtomicU64,
}

/// Sorted by hash.
struct Shard<T, K> {
    places: Vec<Place<T, K>>,
}

struct Place<T, K> {
    hash: u64,
    origin: Arc<Origin<T, K>>,
}

/// A state that was looked up, and what keeps it in reach.
enum Found<T, K> {
    /// The place in a shard.
    There(Guard<Arc<Shard<T, K>>>, usize),
    Opened(Arc<T>),
}

struct Origin<T, K> {
    key: K,
    state: Arc<T>,
    last_use: AtomicU64,
    /// Whether it has left the table.
    is_retired: AtomicBool,
}

impl<T: PerOrigin, K: Clone> Origins<T, K> {
    pub(crate) fn new() -> Self {
        Self::bounded(ORIGINS_MAX)
    }

    /// Remembers at most `keys_max` keys; at least one.
    pub(crate) fn bounded(keys_max: usize) -> Self {
        let shards = (keys_max / SHARD_PLACES).next_power_of_two();
        let shard_max = (keys_max / shards).max(1);
        let shards = (0..shards).map(|_| ArcSwap::from_pointee(Shard { places: Vec::new() }));
        let (shards, arrivals) = (shards.collect(), AtomicU64::new(0));
        let (hash, first) = (Quick::new(), OnceLock::new());
        Self { table: Arc::new(Table { hash, shards, shard_max, first, arrivals }) }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.shards.iter().map(|shard| shard.load().places.len()).sum()
    }

    /// Runs `work` with the state of `key` under `policy`, which begins at first sight.
    pub(crate) fn with_key<Q, R>(
        &self,
        key: &Q,
        policy: &T::Policy,
        work: impl FnOnce(&Arc<T>) -> R,
    ) -> R
    where
        K: Borrow<Q>,
        Q: Keep<K> + Eq + Hash + ?Sized,
    {
        work(self.table.look_up(key, policy).state())
    }
}

impl<T: PerOrigin> Origins<T> {
    /// Runs `work` with the state of `uri`'s origin under `policy`, which begins at first sight.
    /// Requests without an authority go to whatever the service below is bound to: one origin.
    #[inline]
    pub(crate) fn with<R>(
        &self,
        uri: &Uri,
        policy: &T::Policy,
        work: impl FnOnce(&Arc<T>) -> R,
    ) -> R {
        self.with_authority(authority_of(uri), policy, work)
    }

    /// As [`with`](Self::with), for an authority.
    #[inline]
    pub(crate) fn with_authority<R>(
        &self,
        authority: &Authority,
        policy: &T::Policy,
        work: impl FnOnce(&Arc<T>) -> R,
    ) -> R {
        // `work` stands in one place, and so becomes a part of whoever calls.
        let found;
        let state = match self.first(authority) {
            Some(first) if first.state.serves(policy) => &first.state,
            _ => {
                found = self.table.look_up(authority, policy);
                found.state()
            }
        };
        work(state)
    }

    /// Runs `work` with the state of `uri`'s origin under whatever policy it began; gives `work` back
    /// where there is none yet.
    pub(crate) fn if_there<R, W: FnOnce(&Arc<T>) -> R>(&self, uri: &Uri, work: W) -> Result<R, W> {
        let authority = authority_of(uri);
        let found;
        let state = match self.first(authority) {
            Some(first) => &first.state,
            None => match self.table.find(authority, |_| true) {
                Some(there) => {
                    found = there;
                    found.state()
                }
                None => return Err(work),
            },
        };
        Ok(work(state))
    }

    /// Returns the origin that came first, if it is this one and still there.
    #[inline]
    fn first(&self, authority: &Authority) -> Option<&Arc<Origin<T, Authority>>> {
        let first = &self.table.first.get()?.origin;
        // Bytes are compared faster than letters; who writes one name in two ways finds it as well.
        let is_it =
            first.key.as_str() == authority.as_str() && !first.is_retired.load(Ordering::Relaxed);
        is_it.then(|| {
            first.touch(self.table.arrivals.load(Ordering::Relaxed));
            first
        })
    }

    /// Returns the state of an origin, if there is one.
    pub(crate) fn find(&self, authority: &Authority) -> Option<Arc<T>> {
        let hash = self.table.hash.hash_one(authority);
        let shard = self.table.shard(hash).load();
        shard.of(hash, authority).next().map(|origin| Arc::clone(&origin.state))
    }

    /// Returns every origin and its state, in no order.
    pub(crate) fn all(&self) -> Vec<(Authority, Arc<T>)> {
        let shards = self.table.shards.iter().map(ArcSwap::load);
        let pair = |Place { origin, .. }: &Place<T, Authority>| {
            (origin.key.clone(), Arc::clone(&origin.state))
        };
        shards.flat_map(|shard| shard.places.iter().map(pair).collect::<Vec<_>>()).collect()
    }
}

impl<T, K> Table<T, K> {
    fn shard(&self, hash: u64) -> &ArcSwap<Shard<T, K>> {
        // A power of two of them, and the upper half of a hash is the better one.
        let half = usize::try_from(hash >> 32).unwrap_or_default();
        &self.shards[half & (self.shards.len() - 1)]
    }
}

impl<T: PerOrigin, K: Clone> Table<T, K> {
    /// Returns the state of `key` under `policy`, which begins at first sight.
    #[inline(never)]
    fn look_up<Q>(&self, key: &Q, policy: &T::Policy) -> Found<T, K>
    where
        K: Borrow<Q>,
        Q: Keep<K> + Eq + Hash + ?Sized,
    {
        let found = self.find(key, |state| state.serves(policy));
        found.unwrap_or_else(|| {
            let key = key.keep();
            Found::Opened(self.open(self.hash.hash_one(key.borrow()), key, policy))
        })
    }

    fn find<Q>(&self, key: &Q, is_it: impl Fn(&T) -> bool) -> Option<Found<T, K>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash.hash_one(key);
        let shard = self.shard(hash).load();
        let first = shard.places.partition_point(|place| place.hash < hash);
        let mut same = shard.places[first..].iter().take_while(|place| place.hash == hash);
        let skipped = same
            .position(|Place { origin, .. }| origin.key.borrow() == key && is_it(&origin.state))?;
        let place = first + skipped;
        shard.places[place].origin.touch(self.arrivals.load(Ordering::Relaxed));
        Some(Found::There(shard, place))
    }

    #[cold]
    fn open<Q>(&self, hash: u64, owned: K, policy: &T::Policy) -> Arc<T>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let key: &Q = owned.borrow();
        let now = clock::now();
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed) + 1;
        let mut opened = None;
        self.shard(hash).rcu(|shard| {
            let mut before = shard.of(hash, key);
            if let Some(origin) = before.clone().find(|origin| origin.state.serves(policy)) {
                opened = Some(Arc::clone(&origin.state));
                return Arc::clone(shard);
            }
            let state = Arc::new(match before.next() {
                Some(before) => before.state.succeeded_by(policy, now),
                None => T::open(policy, now),
            });
            opened = Some(Arc::clone(&state));
            let mut next = shard.without(hash, key, !T::SIDE_BY_SIDE);
            next.make_room(self.shard_max);
            let (last_use, is_retired) = (AtomicU64::new(arrival), AtomicBool::new(false));
            let key = owned.clone();
            next.insert(hash, Arc::new(Origin { key, state, last_use, is_retired }));
            Arc::new(next)
        });
        self.keep_first(hash, key);
        // The closure has run at least once.
        opened.unwrap_or_else(|| Arc::new(T::open(policy, now)))
    }
}

impl<T, K> Table<T, K> {
    /// Remembers the first key, which may be this one, and notes when it has left the table.
    fn keep_first<Q>(&self, hash: u64, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = self.shard(hash).load();
        let Some(origin) = shard.of(hash, key).next() else { return };
        let first = self.first.get_or_init(|| Place { hash, origin: Arc::clone(origin) });
        let is_here = |place: &Place<T, K>| Arc::ptr_eq(&place.origin, &first.origin);
        let could_be_here = ptr::eq(self.shard(first.hash), self.shard(hash));
        if could_be_here && !shard.places.iter().any(is_here) {
            first.origin.is_retired.store(true, Ordering::Relaxed);
        }
    }
}

impl<T, K> Shard<T, K> {
    /// Returns the states of `key`, the latest first: more than one only where they live side by
    /// side.
    fn of<'a, Q>(
        &'a self,
        hash: u64,
        key: &'a Q,
    ) -> impl Iterator<Item = &'a Arc<Origin<T, K>>> + Clone
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let first = self.places.partition_point(|place| place.hash < hash);
        let same = self.places[first..].iter().take_while(move |place| place.hash == hash);
        same.map(|place| &place.origin).filter(move |origin| origin.key.borrow() == key)
    }

    /// Copies the shard: without the states of `key`, where `leaves_out` says so.
    fn without<Q>(&self, hash: u64, key: &Q, leaves_out: bool) -> Self
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let stays = |place: &&Place<T, K>| {
            !leaves_out || place.hash != hash || place.origin.key.borrow() != key
        };
        let mut places = Vec::with_capacity(self.places.len() + 1);
        places.extend(self.places.iter().filter(stays).cloned());
        Self { places }
    }

    fn make_room(&mut self, places_max: usize) {
        while places_max <= self.places.len() {
            let last_use = |place: &Place<T, K>| place.origin.last_use.load(Ordering::Relaxed);
            let oldest = self.places.iter().enumerate().min_by_key(|(_, place)| last_use(place));
            let Some((oldest, _)) = oldest else { return };
            self.places.remove(oldest);
        }
    }

    fn insert(&mut self, hash: u64, origin: Arc<Origin<T, K>>) {
        let first = self.places.partition_point(|place| place.hash < hash);
        self.places.insert(first, Place { hash, origin });
    }
}

impl<T, K> Found<T, K> {
    #[inline]
    fn state(&self) -> &Arc<T> {
        match self {
            Self::There(shard, place) => &shard.places[*place].origin.state,
            Self::Opened(state) => state,
        }
    }
}

impl<T, K> Clone for Place<T, K> {
    fn clone(&self) -> Self {
        Self { hash: self.hash, origin: Arc::clone(&self.origin) }
    }
}

impl<T, K> Origin<T, K> {
    #[inline]
    fn touch(&self, arrivals: u64) {
        // Written to only after others have come, so that many cores share a clean line.
        if self.last_use.load(Ordering::Relaxed) != arrivals {
            self.last_use.store(arrivals, Ordering::Relaxed);
        }
    }
}

impl<T, K> Clone for Origins<T, K> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table) }
    }
}

impl<T: PerOrigin, K: Clone> fmt::Debug for Origins<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").field("len", &self.len()).finish()
    }
}

impl Keep<Self> for Authority {
    fn keep(&self) -> Self {
        // What was parsed once can be parsed again.
        self.as_str().parse().unwrap_or_else(|_| NAMELESS.clone())
    }
}

impl Keep<Vec<u8>> for [u8] {
    fn keep(&self) -> Vec<u8> {
        self.to_vec()
    }
}

#[inline]
pub(crate) fn authority_of(uri: &Uri) -> &Authority {
    uri.authority().unwrap_or_else(|| &NAMELESS)
}

static NAMELESS: LazyLock<Authority> = LazyLock::new(|| Authority::from_static("nameless.invalid"));

const ORIGINS_MAX: usize = 1_024;
/// What a new key copies at most: a few microseconds.
const SHARD_PLACES: usize = 64;

#[cfg(test)]
mod tests;
