//! What a breaker remembers, and how it changes.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{
    BreakerChange, BreakerPolicy, BreakerRefusal, BreakerState, TripReason,
    policy::Abandoned,
    snapshot::Reason,
    ticket::{Admission, EXPIRED, Kind, Ticket},
    word::{Phase, Word},
};
use crate::{
    health::{Assessment, Health},
    sync::{AtomicU64, LANES, Ordering, Padded, lane, yield_now},
    window::{Sample, SlidingCounts, Stamped, nanos},
};

/// What is remembered about one upstream: whether calls flow, and what became of the last ones.
///
/// Shared by reference; nothing locks and nothing allocates. While calls go well, they write to nothing
/// but the window. The draws that some operations take are only made where an open time is spread.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use redial_core::{Backoff, Breaker, BreakerPolicy, BreakerState, Health, Jitter};
///
/// let second = Duration::from_secs(1);
/// let open = Backoff::fixed(second * 5).jitter(Jitter::None)?;
/// let policy = BreakerPolicy::default().with_consecutive_failures(2).with_open(open)?;
/// let now = Instant::now();
/// let breaker = Breaker::new(&policy, now);
///
/// for _ in 0..2 {
///     let ticket = breaker.try_acquire(&policy, now, || 0)?;
///     ticket.record(Health::Failed, now, || 0);
/// }
/// let refusal = breaker.try_acquire(&policy, now + second, || 0).unwrap_err();
/// assert_eq!(refusal.retry_after, Some(second * 4));
///
/// // The first call after that is a probe.
/// let later = now + second * 5;
/// let probe = breaker.try_acquire(&policy, later, || 0)?;
/// assert_eq!(breaker.state(), BreakerState::HalfOpen);
/// probe.record(Health::Well, later, || 0);
/// breaker.try_acquire(&policy, later, || 0)?.record(Health::Well, later, || 0);
/// assert_eq!(breaker.state(), BreakerState::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Breaker {
    pub(super) epoch: Instant,
    state: AtomicU64,
    pub(super) until: AtomicU64,
    pub(super) since: AtomicU64,
    pub(super) open_nanos: AtomicU64,
    /// When a probe was last let through. Never goes back, whatever thread is late.
    probed: AtomicU64,
    pub(super) reason: Reason,
    pub(super) consecutive: Padded<Stamped>,
    pub(super) counts: SlidingCounts,
}

impl Breaker {
    /// How many groups threads are dealt into, so that members of different groups rarely meet.
    pub const LANES: usize = LANES;

    /// Creates a closed breaker.
    #[must_use]
    pub fn new(policy: &BreakerPolicy, now: Instant) -> Self {
        Self {
            epoch: now,
            state: AtomicU64::new(Word::closed(0).pack()),
            until: AtomicU64::new(0),
            since: AtomicU64::new(0),
            open_nanos: AtomicU64::new(0),
            probed: AtomicU64::new(0),
            reason: Reason::new(),
            consecutive: Padded(Stamped::new()),
            counts: SlidingCounts::new(policy.window()),
        }
    }

    /// Returns whether it can count as `policy` says. All else of a policy can change at any time.
    #[must_use]
    pub fn serves(&self, policy: &BreakerPolicy) -> bool {
        self.counts.window() == policy.window()
    }

    /// Creates a breaker that goes on where this one is, with another window, which is empty. Probes
    /// that are out stay with this one.
    #[must_use]
    pub fn succeeded_by(&self, policy: &BreakerPolicy) -> Self {
        let word = self.settled();
        let copy = |word: &AtomicU64| AtomicU64::new(word.load(Ordering::Acquire));
        let in_a_row = self.consecutive.0.read(word.generation);
        Self {
            epoch: self.epoch,
            state: AtomicU64::new(Word { out: 0, ..word }.pack()),
            until: copy(&self.until),
            since: copy(&self.since),
            open_nanos: copy(&self.open_nanos),
            probed: copy(&self.probed),
            reason: Reason::of(self.reason.load()),
            consecutive: Padded(Stamped::with(word.generation, in_a_row)),
            counts: SlidingCounts::new(policy.window()),
        }
    }

    /// Returns which state it is in. An open one is open until a call finds that its time is over.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.word().phase.state()
    }

    /// Returns the number of its state, which grows with every change.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.word().generation
    }

    /// Lets a call through, or refuses it at once. The ticket gives a probe's place back when it is
    /// dropped.
    ///
    /// # Errors
    ///
    /// Returns [`BreakerRefusal`] while it is open, and while as many probes are out as may be; never
    /// under a policy that only observes.
    pub fn try_acquire<'a>(
        &'a self,
        policy: &'a BreakerPolicy,
        now: Instant,
        draw: impl FnOnce() -> u64,
    ) -> Result<Ticket<'a>, BreakerRefusal> {
        let admission = Some(self.admit(policy, now, draw)?);
        Ok(Ticket { breaker: self, policy, admission, at: now })
    }

    /// As [`try_acquire`](Self::try_acquire), for callers that record every admission themselves.
    ///
    /// # Errors
    ///
    /// Returns [`BreakerRefusal`] as [`try_acquire`](Self::try_acquire) does.
    #[inline]
    pub fn admit(
        &self,
        policy: &BreakerPolicy,
        now: Instant,
        draw: impl FnOnce() -> u64,
    ) -> Result<Admission, BreakerRefusal> {
        let word = self.word();
        if word.phase == Phase::Closed {
            return Ok(admission(policy, now, word, Kind::Normal));
        }
        self.admit_elsewhere(policy, now, draw)
    }

    /// Records how a call ended; returns what changed by it.
    ///
    /// A call counts in the state that it was let through in. After a change, it is ignored.
    #[expect(clippy::needless_pass_by_value, reason = "an admission is used up")]
    pub fn record(
        &self,
        policy: &BreakerPolicy,
        admission: Admission,
        assessment: Assessment,
        now: Instant,
        draw: impl FnOnce() -> u64,
    ) -> Option<BreakerChange> {
        let is_failure = assessment.health.is_failure();
        let sample = Sample { is_failure, is_slow: admission.is_slow(now) };
        let now = self.nanos(now);
        if assessment.health == Health::Unknown {
            self.give_back(&admission);
            return None;
        }
        let end = End { sample, pushback: assessment.pushback, now };
        match admission.kind {
            Kind::Normal => self.count(policy, &admission, end, draw),
            Kind::Probe | Kind::FirstProbe => self.judge_probe(policy, &admission, end, draw),
            Kind::Excused | Kind::ExcusedLate => None,
        }
    }

    /// Records a call that went well, in fewer steps than [`record`](Self::record); returns whether that
    /// was all. If not, because it was slow or a probe, nothing has happened, and it is to be recorded.
    ///
    /// Needs no policy: what is slow was fixed as the call was let through.
    #[inline]
    #[must_use]
    pub fn record_well(&self, admission: &Admission, now: Instant) -> bool {
        if admission.kind != Kind::Normal || admission.is_slow(now) {
            return false;
        }
        let word = self.word();
        if word.generation == admission.generation && word.phase == Phase::Closed {
            let well = Sample { is_failure: false, is_slow: false };
            let now = if self.counts.has_clock() { self.nanos(now) } else { 0 };
            self.counts.enter_at(admission.lane, well, admission.generation, now);
            self.consecutive.0.update(admission.generation, |_| 0);
        }
        true
    }

    /// Records that the caller of a call went away; returns what changed by it. What it counts as, the
    /// policy says.
    pub fn abandon(
        &self,
        policy: &BreakerPolicy,
        admission: Admission,
        now: Instant,
        draw: impl FnOnce() -> u64,
    ) -> Option<BreakerChange> {
        match policy.abandoned() {
            Abandoned::Ignore => {
                self.give_back(&admission);
                None
            }
            Abandoned::Failure => self.record(policy, admission, Health::Failed.into(), now, draw),
        }
    }

    /// Admits under any state but a closed one.
    #[cold]
    fn admit_elsewhere(
        &self,
        policy: &BreakerPolicy,
        at: Instant,
        draw: impl FnOnce() -> u64,
    ) -> Result<Admission, BreakerRefusal> {
        let now = self.nanos(at);
        loop {
            let word = self.word();
            match word.phase {
                Phase::Closed => return Ok(admission(policy, at, word, Kind::Normal)),
                Phase::Opening => return refuse(policy, word, at, None),
                Phase::Open => {
                    let until = self.until.load(Ordering::Acquire);
                    if self.word() != word {
                        continue;
                    }
                    if now < until {
                        let wait = Duration::from_nanos(until - now);
                        return refuse(policy, word, at, (until != u64::MAX).then_some(wait));
                    }
                    let probing = Word { out: 1, ..word.next(Phase::HalfOpen) };
                    self.probed.fetch_max(now, Ordering::AcqRel);
                    if self.swap(word, probing) {
                        self.since.store(now, Ordering::Release);
                        return Ok(admission(policy, at, probing, Kind::FirstProbe));
                    }
                }
                Phase::HalfOpen if policy.has_place(word.out, word.successes) => {
                    self.probed.fetch_max(now, Ordering::AcqRel);
                    if self.swap(word, Word { out: word.out + 1, ..word }) {
                        return Ok(admission(policy, at, word, Kind::Probe));
                    }
                }
                Phase::HalfOpen => {
                    let probed = self.probed.load(Ordering::Acquire);
                    if now < probed.saturating_add(nanos(policy.half_open_max())) {
                        return refuse(policy, word, at, None);
                    }
                    return self.expire(policy, word, at, draw());
                }
            }
        }
    }

    /// Opens again, because no probe has come back in time.
    fn expire(
        &self,
        policy: &BreakerPolicy,
        word: Word,
        at: Instant,
        draw: u64,
    ) -> Result<Admission, BreakerRefusal> {
        let now = self.nanos(at);
        let trip = Trip { reason: TripReason::HalfOpenExpired, pushback: None, now, draw };
        match self.trip(policy, word, &trip) {
            Some(_) if policy.is_observing() => Ok(admission(policy, at, word, Kind::ExcusedLate)),
            Some(span) => Err(BreakerRefusal { retry_after: Some(span), change: Some(EXPIRED) }),
            // A probe has come back just now, or somebody else was first.
            None => refuse(policy, word, at, None),
        }
    }

    /// Counts a call that was let through while closed.
    fn count(
        &self,
        policy: &BreakerPolicy,
        admission: &Admission,
        end: End,
        draw: impl FnOnce() -> u64,
    ) -> Option<BreakerChange> {
        let word = self.word();
        if word.generation != admission.generation || word.phase != Phase::Closed {
            return None;
        }
        self.counts.enter_at(admission.lane, end.sample, word.generation, end.now);
        if !end.sample.is_failure {
            self.consecutive.0.update(word.generation, |_| 0);
            if !end.sample.is_slow {
                return None;
            }
        }
        self.judge(policy, word, end, draw)
    }

    /// Opens if a call that failed or was slow has met a threshold.
    #[inline(never)]
    fn judge(
        &self,
        policy: &BreakerPolicy,
        word: Word,
        end: End,
        draw: impl FnOnce() -> u64,
    ) -> Option<BreakerChange> {
        let more = |failures: u32| failures.saturating_add(1);
        let in_a_row = if end.sample.is_failure {
            self.consecutive.0.update(word.generation, more).map_or(0, |count| count.after)
        } else {
            0
        };
        let reason = if policy.trips_on_consecutive(in_a_row) {
            TripReason::ConsecutiveFailures { failures: in_a_row }
        } else if policy.looks_at_ratios() {
            policy.trips_on(self.counts.read_at(word.generation, end.now))?
        } else {
            return None;
        };
        let trip = Trip { reason, pushback: end.pushback, now: end.now, draw: draw() };
        self.trip(policy, word, &trip)?;
        change(word, BreakerState::Open, Some(reason))
    }

    /// Closes, opens again, or waits for more probes.
    #[inline(never)]
    fn judge_probe(
        &self,
        policy: &BreakerPolicy,
        admission: &Admission,
        end: End,
        draw: impl FnOnce() -> u64,
    ) -> Option<BreakerChange> {
        let has_failed = end.sample.is_failure || end.sample.is_slow;
        let draw = if has_failed { draw() } else { 0 };
        let reason = TripReason::ProbeFailed;
        let trip = Trip { reason, pushback: end.pushback, now: end.now, draw };
        loop {
            let word = self.probing(admission)?;
            let (out, successes) = (word.out.saturating_sub(1), word.successes + 1);
            if has_failed {
                if self.trip(policy, word, &trip).is_some() {
                    return change(word, BreakerState::Open, Some(reason));
                }
            } else if successes < policy.probe_successes() {
                if self.swap(word, Word { out, successes, ..word }) {
                    return None;
                }
            } else if self.swap(word, Word::closed(word.generation.wrapping_add(1))) {
                self.since.store(end.now, Ordering::Release);
                return change(word, BreakerState::Closed, None);
            }
        }
    }

    /// Gives a probe's place back.
    fn give_back(&self, admission: &Admission) {
        if !admission.is_probe() {
            return;
        }
        while let Some(word) = self.probing(admission) {
            if self.swap(word, Word { out: word.out.saturating_sub(1), ..word }) {
                return;
            }
        }
    }

    /// Returns the state while it is still the one that the probe was let through in.
    fn probing(&self, admission: &Admission) -> Option<Word> {
        let word = self.word();
        let is_same = word.generation == admission.generation && word.phase == Phase::HalfOpen;
        is_same.then_some(word)
    }

    /// Opens, if the state is still `from`; returns for how long.
    #[cold]
    fn trip(&self, policy: &BreakerPolicy, from: Word, trip: &Trip) -> Option<Duration> {
        let opening = from.tripped().next(Phase::Opening);
        let is_first = opening.trips <= 1;
        let previous = if is_first { 0 } else { self.open_nanos.load(Ordering::Acquire) };
        let previous = Duration::from_nanos(previous);
        let span = policy.open_time(opening.trips, previous, trip.pushback, trip.draw);
        if !self.swap(from, opening) {
            return None;
        }
        let until = trip.now.saturating_add(nanos(span)).min(u64::MAX - 1);
        self.publish(opening, trip.reason, trip.now, until, nanos(span));
        Some(span)
    }

    /// Writes down why it opened and for how long, which nobody else does meanwhile, and then says so.
    pub(super) fn publish(
        &self,
        opening: Word,
        reason: TripReason,
        now: u64,
        until: u64,
        open_nanos: u64,
    ) {
        self.reason.store(Some(reason));
        self.since.store(now, Ordering::Release);
        self.until.store(until, Ordering::Release);
        self.open_nanos.store(open_nanos, Ordering::Release);
        self.state.store(Word { phase: Phase::Open, ..opening }.pack(), Ordering::Release);
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        Word::unpack(self.state.load(Ordering::Acquire))
    }

    /// Returns the state when nobody is in the middle of opening it, which takes a few stores.
    pub(super) fn settled(&self) -> Word {
        loop {
            let word = self.word();
            if word.phase != Phase::Opening {
                return word;
            }
            yield_now();
        }
    }

    pub(super) fn swap(&self, from: Word, to: Word) -> bool {
        let (from, to) = (from.pack(), to.pack());
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    #[inline]
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }
}

/// How a call ended.
#[derive(Clone, Copy)]
struct End {
    sample: Sample,
    pushback: Option<Duration>,
    now: u64,
}

struct Trip {
    reason: TripReason,
    pushback: Option<Duration>,
    now: u64,
    draw: u64,
}

#[inline]
fn admission(policy: &BreakerPolicy, now: Instant, word: Word, kind: Kind) -> Admission {
    let slow_at = policy.slow_at(now);
    Admission { slow_at, generation: word.generation, kind, lane: lane() }
}

fn refuse(
    policy: &BreakerPolicy,
    word: Word,
    now: Instant,
    retry_after: Option<Duration>,
) -> Result<Admission, BreakerRefusal> {
    if policy.is_observing() {
        return Ok(admission(policy, now, word, Kind::Excused));
    }
    Err(BreakerRefusal { retry_after, change: None })
}

pub(super) fn change(
    from: Word,
    to: BreakerState,
    reason: Option<TripReason>,
) -> Option<BreakerChange> {
    let from = from.phase.state();
    (from != to).then_some(BreakerChange { from, to, reason })
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.state()).finish_non_exhaustive()
    }
}
