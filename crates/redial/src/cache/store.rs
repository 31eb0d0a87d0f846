//! Where answers are kept, in a bounded number of bytes.

use std::{
    array, fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, Uri, header};
use moka::{ops::compute::Op, sync::Cache};

use super::{
    entry::{Entry, key_weight},
    flights::{Flights, Join},
    key::{Hashed, Key, KeyRef},
    outlook::Moment,
};
use crate::clock;

/// A store of answers, and of calls that are out for one. Clones share it, and so do clients that are
/// given the same.
///
/// It is bounded in bytes: bodies, heads, keys, and an estimate of what it takes to manage them. When it
/// is full, what is asked for less often makes room (W-TinyLFU), and what came but once may not stay. For
/// one URI, the 8 answers that were stored last are kept (`Vary`).
#[derive(Clone)]
pub struct CacheStore {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    shelf: ArcSwapOption<Shelf>,
    /// Held while another shelf is put up.
    moving: Mutex<()>,
    is_fixed: bool,
    pub(super) flights: Arc<Flights>,
    hasher: RandomState,
    /// Counts invalidations of the URIs that fall into a bin, so that an answer that was under way while
    /// its resource was changed is not stored after.
    changes: [AtomicU64; BINS],
    background: AtomicUsize,
    wall: fn() -> i64,
}

struct Shelf {
    bytes_max: u64,
    slots: Cache<Key, Arc<Slot>, Hashed>,
}

/// What is known of one URI.
#[derive(Default)]
struct Slot {
    /// The one stored last comes last.
    entries: Vec<Arc<Entry>>,
    /// Until when calls do not wait for one another, since it was of no use.
    alone_until: Option<Instant>,
}

/// What the store knows about a request.
pub(super) struct Found {
    pub(super) entry: Option<Arc<Entry>>,
    slot: Option<Arc<Slot>>,
}

/// A place among the calls that renew answers in the background, given back when dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
}

impl CacheStore {
    /// Creates a store of at most `bytes_max` bytes, whatever policies say. Nothing is allocated before
    /// something is stored.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let store = Self::with_wall(true, clock::unix_now);
        store.shared.shelf.store(Some(Arc::new(Shelf::new(bytes_max))));
        store
    }

    /// Creates a store that is as large as the largest policy that comes.
    pub(super) fn growing() -> Self {
        Self::with_wall(false, clock::unix_now)
    }

    pub(super) fn with_wall(is_fixed: bool, wall: fn() -> i64) -> Self {
        let shared = Shared {
            shelf: ArcSwapOption::empty(),
            moving: Mutex::new(()),
            is_fixed,
            flights: Arc::default(),
            hasher: RandomState::new(),
            changes: array::from_fn(|_| AtomicU64::new(0)),
            background: AtomicUsize::new(0),
            wall,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns of how many URIs answers are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.settled(|slots| slots.entry_count())
    }

    /// Returns whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes are stored, by the same count that the bound is about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.settled(Cache::weighted_size)
    }

    /// Drops every answer for `uri`. One that is under way is not stored.
    pub fn invalidate(&self, uri: &Uri) {
        self.shared.invalidate(uri);
    }

    /// Drops every answer. Those that are under way are not stored.
    pub fn clear(&self) {
        for bin in &self.shared.changes {
            bin.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(shelf) = &*self.shared.shelf.load() {
            shelf.slots.invalidate_all();
            shelf.slots.run_pending_tasks();
        }
    }
}

impl Shared {
    pub(super) fn now(&self) -> Moment {
        Moment { at: clock::now(), unix: (self.wall)() }
    }

    /// Returns whether there is nothing here that an unsafe call could invalidate.
    pub(super) fn is_untouched(&self) -> bool {
        self.shelf.load().is_none()
    }

    /// Makes sure of room for `bytes_max` bytes, unless the store's size is fixed. It never shrinks: a
    /// request under a smaller policy would otherwise empty it for those under a larger one.
    pub(super) fn make_room(&self, bytes_max: u64) {
        let is_enough = |shelf: &Shelf| self.is_fixed || bytes_max <= shelf.bytes_max;
        if !self.shelf.load().as_deref().is_some_and(is_enough) {
            self.grow(bytes_max);
        }
    }

    #[cold]
    fn grow(&self, bytes_max: u64) {
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shelf.load_full();
        if before.as_ref().is_some_and(|before| bytes_max <= before.bytes_max) {
            return;
        }
        let shelf = Shelf::new(bytes_max);
        if let Some(before) = before {
            for (key, slot) in &before.slots {
                shelf.slots.insert(Key::clone(&key), slot);
            }
        }
        self.shelf.store(Some(Arc::new(shelf)));
    }

    pub(super) fn key<'a>(&self, uri: &'a Uri) -> KeyRef<'a> {
        KeyRef::new(uri, &self.hasher)
    }

    pub(super) fn find(&self, key: KeyRef<'_>, request: &HeaderMap) -> Found {
        let shelf = self.shelf.load();
        let slot = shelf.as_ref().and_then(|shelf| shelf.slots.get(&key));
        let entries = slot.as_ref().map_or(&[][..], |slot| slot.entries.as_slice());
        let entry = entries.iter().rev().find(|entry| entry.is_selected_by(request));
        Found { entry: entry.map(Arc::clone), slot }
    }

    /// Joins the flight for the answer that `request` is taken to select, by what selected the last one.
    pub(super) fn join(&self, key: KeyRef<'_>, request: &HeaderMap, found: &Found) -> Join {
        let last = found.slot.as_ref().and_then(|slot| slot.entries.last());
        let names = last.map_or_else(
            || vec![header::HOST],
            |last| last.selected().iter().map(|(name, _)| name.clone()).collect(),
        );
        let variant = self.hasher.hash_one(Values(request, &names));
        self.flights.join(key, variant)
    }

    /// Returns a number that differs once a URI with `hash` may have been invalidated.
    pub(super) fn changes(&self, hash: u64) -> u64 {
        self.bin(hash).load(Ordering::SeqCst)
    }

    /// Stores `entry` in the place of one that the same request selected, unless `key` was invalidated
    /// since there were `changes`.
    pub(super) fn put(
        &self,
        key: KeyRef<'_>,
        entry: Arc<Entry>,
        request: &HeaderMap,
        changes: u64,
    ) {
        self.change(key, |entries| {
            entries.retain(|entry| !entry.is_selected_by(request));
            if VARIANTS_MAX <= entries.len() {
                entries.remove(0);
            }
            entries.push(entry);
        });
        // Invalidating counts first and removes then, so one of both sees the other.
        if self.changes(key.hash) != changes {
            self.remove(key);
        }
    }

    /// Drops what a request for `key` selected: the resource is not what it was.
    pub(super) fn drop_selected(&self, key: KeyRef<'_>, request: &HeaderMap) {
        self.change(key, |entries| entries.retain(|entry| !entry.is_selected_by(request)));
    }

    /// Notes that waiting for an answer to `key` was of no use.
    pub(super) fn leave_alone(&self, key: KeyRef<'_>, now: Moment) {
        let Some(shelf) = self.shelf.load_full() else { return };
        shelf.slots.entry(key.to_key()).and_upsert_with(|slot| {
            let entries = slot.map(|slot| slot.into_value().entries.clone()).unwrap_or_default();
            Arc::new(Slot { entries, alone_until: now.at.checked_add(ALONE_FOR) })
        });
        shelf.slots.run_pending_tasks();
    }

    pub(super) fn invalidate(&self, uri: &Uri) {
        let key = self.key(uri);
        self.bin(key.hash).fetch_add(1, Ordering::SeqCst);
        self.flights.close(key);
        self.remove(key);
    }

    /// Takes a place in the background, where there is one.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let take = |taken| (taken < BACKGROUND_MAX).then_some(taken + 1);
        let taken = self.background.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(|_| Place { shared: Arc::clone(self) })
    }

    fn change(&self, key: KeyRef<'_>, work: impl FnOnce(&mut Vec<Arc<Entry>>)) {
        let Some(shelf) = self.shelf.load_full() else { return };
        shelf.slots.entry(key.to_key()).and_compute_with(|slot| {
            let slot = slot.map(moka::Entry::into_value);
            let mut entries = slot.map(|slot| slot.entries.clone()).unwrap_or_default();
            work(&mut entries);
            match entries.is_empty() {
                true => Op::Remove,
                false => Op::Put(Arc::new(Slot { entries, alone_until: None })),
            }
        });
        // Stay within the bound at once: a miss has time for it.
        shelf.slots.run_pending_tasks();
    }

    fn remove(&self, key: KeyRef<'_>) {
        if let Some(shelf) = &*self.shelf.load() {
            shelf.slots.invalidate(&key);
        }
    }

    fn settled(&self, count: impl FnOnce(&Cache<Key, Arc<Slot>, Hashed>) -> u64) -> usize {
        let shelf = self.shelf.load();
        let Some(shelf) = shelf.as_ref() else { return 0 };
        shelf.slots.run_pending_tasks();
        usize::try_from(count(&shelf.slots)).unwrap_or(usize::MAX)
    }

    fn bin(&self, hash: u64) -> &AtomicU64 {
        &self.changes[usize::try_from(hash % BINS as u64).unwrap_or(0)]
    }
}

impl Found {
    /// Returns whether calls should not wait for one another.
    pub(super) fn is_alone(&self, now: Moment) -> bool {
        let until = self.slot.as_ref().and_then(|slot| slot.alone_until);
        until.is_some_and(|until| now.at < until)
    }
}

impl Shelf {
    fn new(bytes_max: u64) -> Self {
        let weight = |key: &Key, slot: &Arc<Slot>| {
            let entries = slot.entries.iter().map(|entry| entry.weight()).sum::<usize>();
            u32::try_from(key_weight(key.uri()) + entries).unwrap_or(u32::MAX)
        };
        let slots =
            Cache::builder().max_capacity(bytes_max).weigher(weight).build_with_hasher(Hashed);
        Self { bytes_max, slots }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.background.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The values of some fields of a request, to be hashed.
struct Values<'a>(&'a HeaderMap, &'a [header::HeaderName]);

impl std::hash::Hash for Values<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for name in self.1 {
            name.hash(state);
            for value in &self.0.get_all(name) {
                value.hash(state);
            }
        }
    }
}

impl fmt::Debug for CacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shelf = self.shared.shelf.load();
        let bytes_max = shelf.as_ref().map(|shelf| shelf.bytes_max);
        f.debug_struct("CacheStore").field("bytes_max", &bytes_max).finish_non_exhaustive()
    }
}

/// How many answers for one URI are kept. With bodies of 256 MiB at most, their weight fits 32 bits.
const VARIANTS_MAX: usize = 8;
const BINS: usize = 256;
/// How many answers are renewed in the background at a time.
const BACKGROUND_MAX: usize = 64;
/// For how long calls do not wait for one another after it was of no use: Varnish's time for what it
/// calls hit-for-miss.
const ALONE_FOR: Duration = Duration::from_secs(120);
