//! Records in the memory of one process.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redial_core::{Begun, FencingToken, Fingerprint, IdempotencyRecord, RecordState};

use super::store::{Claim, IdempotencyStore, RecordKey, StoreError, StoredAnswer};
use crate::clock;

/// Keeps records in memory: for one process, until it ends.
///
/// Bounded in entries and in bytes. When it is full, what was completed longest ago is forgotten, and then
/// what somebody left behind whose lease is over, but never what is in progress: when nothing else is left,
/// the store fails, and the layer does what its policy says. An answer for whose body there is no room is
/// kept without it. Clones share the records. Each operation takes one lock, for a moment.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial::{
///     core::Fingerprint,
///     idempotency::{Claim, IdempotencyStore, MemoryStore, RecordKey},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), redial::BoxError> {
/// let store = MemoryStore::new(10_000, 64 * 1024 * 1024);
/// let (key, payload) = (RecordKey::new("tenant-7/key").unwrap(), Fingerprint::new([7; 32]));
/// let lease = Duration::from_secs(30);
/// assert!(matches!(store.begin(&key, payload, lease).await?, Claim::Started(_)));
/// assert!(matches!(store.begin(&key, payload, lease).await?, Claim::InProgress { .. }));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    entries_max: usize,
    bytes_max: usize,
    records: Mutex<Records>,
}

type Record = IdempotencyRecord<StoredAnswer>;

#[derive(Default)]
struct Records {
    entries: HashMap<RecordKey, Entry>,
    /// What is completed, the oldest first.
    completed: BTreeMap<u64, RecordKey>,
    /// What is in progress, by the end of its lease.
    leases: BTreeMap<(Duration, u64), RecordKey>,
    bytes: usize,
    number: u64,
    last: Duration,
}

struct Entry {
    record: Record,
    number: u64,
    bytes: usize,
}

impl MemoryStore {
    /// Creates a store for so many records, at least one, that take so many bytes. Its clock is the
    /// runtime's, so tests can pause it and advance it.
    #[must_use]
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        let (began, began_at) = (clock::since_1970(), clock::now());
        let now = move || began + clock::now().saturating_duration_since(began_at);
        Self::with_clock(entries_max, bytes_max, now)
    }

    /// Creates a store whose time, since 1970, is what `clock` says.
    #[must_use]
    pub fn with_clock(
        entries_max: usize,
        bytes_max: usize,
        clock: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        let (clock, records) = (Box::new(clock), Mutex::default());
        let shared = Shared { clock, entries_max: entries_max.max(1), bytes_max, records };
        Self { shared: Arc::new(shared) }
    }

    /// Returns how many records there are at the moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.records().entries.len()
    }

    /// Returns whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for MemoryStore {
    /// 100,000 records in 256 MiB: a day at one a second, of 2.6 KiB each.
    fn default() -> Self {
        Self::new(100_000, 256 * 1024 * 1024)
    }
}

impl IdempotencyStore for MemoryStore {
    fn begin(
        &self,
        key: &RecordKey,
        fingerprint: Fingerprint,
        lease: Duration,
    ) -> impl Future<Output = Result<Claim, StoreError>> + Send {
        future::ready(self.shared.begin(key, fingerprint, lease))
    }

    fn renew(
        &self,
        key: &RecordKey,
        token: FencingToken,
        lease: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let mut records = self.shared.records();
        let now = records.tick(&self.shared.clock);
        let record = records.entries.get(key);
        let renewed = record.and_then(|entry| entry.record.renew(token, now, lease));
        let is_held = renewed.is_some();
        if let Some(record) = renewed {
            records.put(key, record);
        }
        future::ready(Ok(is_held))
    }

    fn complete(
        &self,
        key: &RecordKey,
        token: FencingToken,
        answer: &StoredAnswer,
        keep: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        future::ready(self.shared.complete(key, token, answer, keep))
    }

    fn release(
        &self,
        key: &RecordKey,
        token: FencingToken,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let mut records = self.shared.records();
        let is_held = records.holds(key, token);
        if is_held {
            records.remove(key);
        }
        future::ready(Ok(is_held))
    }
}

impl Shared {
    fn begin(
        &self,
        key: &RecordKey,
        fingerprint: Fingerprint,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        let mut records = self.records();
        let now = records.tick(&self.clock);
        records.sweep(now);
        let before = records.entries.get(key).map(|entry| &entry.record);
        match before.map_or(Begun::Free, |record| record.begin(fingerprint, now)) {
            Begun::InProgress { left } => return Ok(Claim::InProgress { left }),
            Begun::Completed(answer) => return Ok(Claim::Completed(answer.clone())),
            Begun::Mismatch => return Ok(Claim::Mismatch),
            Begun::Free => {}
        }
        let (record, token) = Record::start(before, fingerprint, now, lease);
        records.remove(key);
        if !self.make_room(&mut records, bytes_of(key, &record), now) {
            return Err(full());
        }
        records.put(key, record);
        Ok(Claim::Started(token))
    }

    fn complete(
        &self,
        key: &RecordKey,
        token: FencingToken,
        answer: &StoredAnswer,
        keep: Duration,
    ) -> Result<bool, StoreError> {
        let mut records = self.records();
        let now = records.tick(&self.clock);
        let without_body = StoredAnswer { body: None, ..answer.clone() };
        for answer in [answer.clone(), without_body] {
            let record = records.entries.get(key);
            let done = record.and_then(|entry| entry.record.complete(token, answer, now, keep));
            let Some(done) = done else { return Ok(false) };
            let before = records.remove(key);
            if self.make_room(&mut records, bytes_of(key, &done), now) {
                records.put(key, done);
                return Ok(true);
            }
            if let Some(before) = before {
                records.put(key, before);
            }
        }
        Err(full())
    }

    /// Forgets what may be forgotten until another record of that size fits; returns whether it does.
    fn make_room(&self, records: &mut Records, bytes: usize, now: Duration) -> bool {
        let fits = |records: &Records| {
            records.entries.len() < self.entries_max
                && records.bytes.saturating_add(bytes) <= self.bytes_max
        };
        if self.bytes_max < bytes {
            // Nothing that could be forgotten would help.
            return false;
        }
        while !fits(records) {
            let oldest = records.completed.first_key_value().map(|(_, key)| key.clone());
            let left_behind = || {
                let ((until, _), key) = records.leases.first_key_value()?;
                (*until <= now).then(|| key.clone())
            };
            let Some(key) = oldest.or_else(left_behind) else { return false };
            records.remove(&key);
        }
        true
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        // Nothing in here panics half-way, and a record that is whole is of use to all others.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    /// Returns the time, always later than before: two holders never get the same token.
    fn tick(&mut self, clock: impl Fn() -> Duration) -> Duration {
        self.last = clock().max(self.last + Duration::from_micros(1));
        self.last
    }

    /// Forgets some of what need not be kept any longer.
    fn sweep(&mut self, now: Duration) {
        for _ in 0..SWEPT_AT_ONCE {
            let Some(key) = self.completed.first_key_value().map(|(_, key)| key.clone()) else {
                return;
            };
            let entry = self.entries.get(&key).map(|entry| &entry.record);
            let is_over =
                entry.is_none_or(|record| record.begin(record.fingerprint(), now) == Begun::Free);
            if !is_over {
                return;
            }
            self.remove(&key);
        }
    }

    fn holds(&self, key: &RecordKey, token: FencingToken) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.record.is_held_by(token))
    }

    fn put(&mut self, key: &RecordKey, record: Record) {
        self.remove(key);
        self.number += 1;
        let (number, bytes) = (self.number, bytes_of(key, &record));
        match lease_of(&record) {
            Some(until) => drop(self.leases.insert((until, number), key.clone())),
            None => drop(self.completed.insert(number, key.clone())),
        }
        self.bytes += bytes;
        self.entries.insert(key.clone(), Entry { record, number, bytes });
    }

    fn remove(&mut self, key: &RecordKey) -> Option<Record> {
        let Entry { record, number, bytes } = self.entries.remove(key)?;
        match lease_of(&record) {
            Some(until) => self.leases.remove(&(until, number)),
            None => self.completed.remove(&number),
        };
        self.bytes -= bytes;
        Some(record)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("len", &self.len()).finish_non_exhaustive()
    }
}

fn lease_of(record: &Record) -> Option<Duration> {
    match record.state() {
        RecordState::InProgress { until } => Some(*until),
        RecordState::Completed { .. } => None,
    }
}

fn bytes_of(key: &RecordKey, record: &Record) -> usize {
    let answer = match record.state() {
        RecordState::InProgress { .. } => 0,
        RecordState::Completed { answer, .. } => {
            let fields = answer.headers.iter();
            let fields =
                fields.map(|(name, value)| FIELD_BYTES + name.as_str().len() + value.len());
            answer.body.as_ref().map_or(0, bytes::Bytes::len) + fields.sum::<usize>()
        }
    };
    ENTRY_BYTES + key.as_str().len() + answer
}

fn full() -> StoreError {
    StoreError::new("memory", "it is full of requests that are in progress")
}

/// What a record takes beside its key and its answer, indexes included, rounded up.
const ENTRY_BYTES: usize = 512;
/// What a field takes beside its name and its value.
const FIELD_BYTES: usize = 104;
/// More than one, so that they become fewer while one is added at a time.
const SWEPT_AT_ONCE: usize = 8;
