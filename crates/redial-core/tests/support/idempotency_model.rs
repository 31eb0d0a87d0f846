//! Several holders of one key under a random schedule, a store that follows a rule or breaks it, and a
//! checker that sees all that the store says.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range, time::Duration};

use redial_core::{Begun, Entropy, FencingToken, Fingerprint, IdempotencyRecord, RecordState};

/// Which rule the store breaks, if any.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// None.
    Sound,
    /// Points in time are those of whoever asks.
    HoldersClock,
    /// Whoever completes is believed.
    NoFencing,
    /// A lease is never over.
    NoTakeover,
    /// Tokens begin anew when the record is gone.
    TokensFromOne,
    /// What was completed is forgotten while it should be kept.
    ForgetsEarly,
    /// A key may be used for anything.
    AnyPayload,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Violation {
    /// Begun, or committed, a second time while the first is kept.
    Twice,
    /// A token that is not above those before.
    TokenNotAbove,
    /// Committed by somebody who is not the last holder.
    LostLeaseCommitted,
    /// The last holder was refused.
    HolderRefused,
    /// A duplicate got another answer than that of the commit.
    WrongAnswer,
    /// Another payload was let in.
    WrongPayload,
    /// Nobody can ever have the key again.
    LockedForEver,
}

/// What the runs did, so that a test can see that they did something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) commits: u32,
    pub(crate) takeovers: u32,
    pub(crate) late_completes: u32,
    pub(crate) replays: u32,
    pub(crate) mismatches: u32,
}

type Record = IdempotencyRecord<u64>;

/// One schedule.
pub(crate) struct Run<'a> {
    rule: Rule,
    draws: Entropy,
    now: Duration,
    lease: Duration,
    keep: Duration,
    record: Option<Record>,
    /// By how much each holder's clock is ahead of five minutes behind the store's.
    clocks: Vec<Duration>,
    messages: BinaryHeap<Reverse<(Duration, u64, Message)>>,
    sent: u64,
    highest: Option<FencingToken>,
    /// Whether the last holder has neither committed, nor released, nor been forgotten.
    is_held: bool,
    committed: Option<Commit>,
    tally: &'a mut Tally,
}

#[derive(Clone, Copy)]
struct Commit {
    answer: u64,
    payload: Fingerprint,
    until: Duration,
}

/// What reaches the store, from which holder.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Message {
    Begin { holder: usize, payload: u8 },
    Renew { holder: usize, token: u64 },
    Complete { holder: usize, token: u64 },
    Release { holder: usize, token: u64 },
    Sweep,
}

impl<'a> Run<'a> {
    pub(crate) fn new(rule: Rule, seed: u64, tally: &'a mut Tally) -> Self {
        let draws = Entropy::seeded(seed);
        let between = |range: Range<u64>| range.start + draws.draw() % (range.end - range.start);
        let lease = millis(between(10..30_000));
        let (keep, holders) = (lease * u32::try_from(between(1..20)).unwrap_or(1), between(2..6));
        let clocks = (0..holders).map(|_| millis(between(0..600_000))).collect();
        Self {
            rule,
            draws,
            now: Duration::from_secs(1_790_000_000),
            lease,
            keep,
            record: None,
            clocks,
            messages: BinaryHeap::new(),
            sent: 0,
            highest: None,
            is_held: false,
            committed: None,
            tally,
        }
    }

    pub(crate) fn run(mut self) -> Result<(), Violation> {
        for holder in 0..self.clocks.len() {
            for _ in 0..self.below(4) {
                let payload = u8::from(self.below(10) == 0);
                self.send(8, Message::Begin { holder, payload });
            }
        }
        for _ in 0..3 {
            self.send(30, Message::Sweep);
        }
        while let Some(Reverse((at, _, message))) = self.messages.pop() {
            // The store's clock never stands still between two of its operations.
            self.now = at.max(self.now + Duration::from_micros(1));
            self.receive(message)?;
        }
        self.settle()
    }

    fn receive(&mut self, message: Message) -> Result<(), Violation> {
        match message {
            Message::Begin { holder, payload } => self.begin(holder, payload),
            Message::Renew { holder, token } => {
                let (now, token) = (self.clock(holder), FencingToken::new(token));
                let renewed = self.record.as_ref().and_then(|r| r.renew(token, now, self.lease));
                self.record = renewed.or(self.record.take());
                Ok(())
            }
            Message::Complete { holder, token } => self.complete(holder, FencingToken::new(token)),
            Message::Release { token, .. } => {
                let token = FencingToken::new(token);
                if self.record.as_ref().is_some_and(|record| record.is_held_by(token)) {
                    self.record = None;
                    self.is_held = false;
                }
                Ok(())
            }
            Message::Sweep => {
                self.sweep();
                Ok(())
            }
        }
    }

    fn begin(&mut self, holder: usize, payload: u8) -> Result<(), Violation> {
        let now = self.clock(holder);
        let key = Fingerprint::new([payload; 32]);
        let begun =
            self.record.as_ref().map_or(Begun::Free, |record| match record.begin(key, now) {
                Begun::Free if self.rule == Rule::NoTakeover => self.stuck(record),
                Begun::Mismatch if self.rule == Rule::AnyPayload => {
                    record.begin(record.fingerprint(), now).map(|answer| *answer)
                }
                begun => begun.map(|answer| *answer),
            });
        match begun {
            Begun::Free => self.start(holder, key, now)?,
            Begun::InProgress { .. } if self.below(2) == 0 => {
                self.send(3, Message::Begin { holder, payload });
            }
            Begun::InProgress { .. } => {}
            Begun::Completed(answer) => {
                self.tally.replays += 1;
                let commit = self.committed.filter(|commit| self.now < commit.until);
                let commit = commit.ok_or(Violation::WrongAnswer)?;
                check(commit.answer == answer, Violation::WrongAnswer)?;
                check(commit.payload == key, Violation::WrongPayload)?;
            }
            Begun::Mismatch => self.tally.mismatches += 1,
        }
        Ok(())
    }

    fn start(&mut self, holder: usize, key: Fingerprint, now: Duration) -> Result<(), Violation> {
        let (record, token) = match self.rule {
            Rule::TokensFromOne if self.record.is_none() => {
                let state = RecordState::InProgress { until: now + self.lease };
                let token = FencingToken::new(1);
                (Record::new(key, token, state), token)
            }
            _ => Record::start(self.record.as_ref(), key, now, self.lease),
        };
        check(self.highest < Some(token), Violation::TokenNotAbove)?;
        check(self.committed.is_none_or(|commit| commit.until <= self.now), Violation::Twice)?;
        self.tally.takeovers += u32::from(self.is_held);
        (self.record, self.highest, self.is_held) = (Some(record), Some(token), true);
        let token = token.number();
        // Renewals come as they like, also when the work is done. One in five crashes, one in ten gives
        // up; the rest completes, in time or not, and some say it twice.
        for _ in 0..self.below(4) {
            self.send(3, Message::Renew { holder, token });
        }
        match self.below(10) {
            0..2 => {}
            2 => self.send(3, Message::Release { holder, token }),
            end => {
                self.send(3, Message::Complete { holder, token });
                if end == 9 {
                    self.send(6, Message::Complete { holder, token });
                }
            }
        }
        Ok(())
    }

    fn complete(&mut self, holder: usize, token: FencingToken) -> Result<(), Violation> {
        let (now, answer) = (self.clock(holder), token.number());
        let Some(record) = &self.record else { return Ok(()) };
        let believed = if self.rule == Rule::NoFencing { record.token() } else { token };
        let Some(completed) = record.complete(believed, answer, now, self.keep) else {
            self.tally.late_completes += 1;
            let is_holder = self.is_held && Some(token) == self.highest;
            return check(!is_holder, Violation::HolderRefused);
        };
        check(Some(token) == self.highest, Violation::LostLeaseCommitted)?;
        check(self.committed.is_none_or(|commit| commit.until <= self.now), Violation::Twice)?;
        let (payload, until) = (completed.fingerprint(), self.now + self.keep);
        self.committed = Some(Commit { answer, payload, until });
        (self.record, self.is_held) = (Some(completed), false);
        self.tally.commits += 1;
        Ok(())
    }

    /// Forgets the record if its time is over.
    fn sweep(&mut self) {
        let Some(record) = &self.record else { return };
        let until = match record.state() {
            RecordState::InProgress { until } => *until,
            RecordState::Completed { until, .. } if self.rule == Rule::ForgetsEarly => {
                *until - self.keep / 2
            }
            RecordState::Completed { until, .. } => *until,
        };
        if until <= self.now {
            (self.record, self.is_held) = (None, false);
        }
    }

    /// When nobody does anything any more, the key is free after one lease, or completed.
    fn settle(&mut self) -> Result<(), Violation> {
        let Some(record) = &self.record else { return Ok(()) };
        let last = self.now + self.lease + millis(600_000);
        let begun = record.begin(record.fingerprint(), last).map(|answer| *answer);
        let begun = match begun {
            Begun::Free if self.rule == Rule::NoTakeover => self.stuck(record),
            begun => begun,
        };
        check(!matches!(begun, Begun::InProgress { .. }), Violation::LockedForEver)
    }

    fn stuck(&self, record: &Record) -> Begun<u64> {
        match record.state() {
            RecordState::InProgress { .. } => Begun::InProgress { left: self.lease },
            RecordState::Completed { .. } => Begun::Free,
        }
    }

    fn clock(&self, holder: usize) -> Duration {
        match self.rule {
            Rule::HoldersClock => self.now + self.clocks[holder] - millis(300_000),
            _ => self.now,
        }
    }

    /// Sends a message that arrives within that many leases.
    fn send(&mut self, leases: u32, message: Message) {
        let within = u64::try_from((self.lease * leases).as_micros()).unwrap_or(u64::MAX);
        let at = self.now + Duration::from_micros(self.below(within));
        self.sent += 1;
        self.messages.push(Reverse((at, self.sent, message)));
    }

    fn below(&self, end: u64) -> u64 {
        self.draws.draw() % end
    }
}

fn check(holds: bool, otherwise: Violation) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
