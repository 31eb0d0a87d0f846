//! Whether to try again, and how long to wait first.
//!
//! The questions are asked in one fixed order, and the first "no" is the answer: did it succeed?
//! would another attempt fail alike? could it do harm? can the request be sent again? are there
//! retries left? is the server's wish bearable? does the wait fit before the deadline? is there
//! budget? Only then is there a [`Decision::Retry`]; whether and how long are one answer.

use std::{fmt, time::Duration};

use crate::{
    backoff::{Backoff, InvalidBackoff, Jitter},
    budget::Budget,
    class::Class,
    pushback::{Pushback, PushbackPolicy},
    verdict::{Idempotency, Reading, Verdict},
};

/// How often to repeat a failed attempt, and how long to wait first, for each class of failure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    rules: [Rule; Class::ALL.len()],
    pushback: PushbackPolicy,
}

/// The part of a [`RetryPolicy`] that may differ from class to class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Attempts after the first: 0 never retries.
    pub max_retries: u32,
    /// The wait before a retry, where the upstream names none.
    pub backoff: Backoff,
}

/// One attempt that has ended, and what there is to know for deciding what follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// What was read from its outcome.
    pub reading: Reading,
    /// Whether acting twice would be harmless.
    pub idempotency: Idempotency,
    /// Whether the request can be sent again from its start.
    pub is_replayable: bool,
    /// The time left until the deadline, where there is one.
    pub remaining: Option<Duration>,
    /// What the call has been through before.
    pub progress: Progress,
}

/// What earlier decisions of the same call leave behind for the next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    steps: u32,
    previous: Duration,
    repeated_at_once: bool,
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Wait, then try again.
    Retry {
        /// How long to wait.
        after: Duration,
        /// What the wait's length came from.
        why: Why,
    },
    /// Hand the outcome to the caller.
    Stop(Stop),
}

/// What a wait's length came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// The one immediate repetition that the failure calls for.
    AtOnce,
    /// Our own schedule.
    Backoff,
    /// The upstream's wish.
    Pushback,
}

/// Why no further attempt is made.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stop {
    /// The attempt did what was asked.
    Success,
    /// Another attempt would fail alike.
    Permanent,
    /// The server may have acted, and acting twice may do harm.
    MaybeApplied,
    /// The request cannot be sent again.
    NotReplayable,
    /// As many retries were made as the policy allows.
    RetriesExhausted,
    /// The upstream asked for a longer wait than the policy, or the time left, allows.
    PushbackTooLong,
    /// The wait would last until the deadline or beyond.
    Deadline,
    /// Retries have used up the extra load that they may make.
    BudgetExhausted,
    /// The caller went away.
    Cancelled,
}

impl RetryPolicy {
    /// Returns the rule for failures of `class`.
    #[must_use]
    pub const fn rule(&self, class: Class) -> &Rule {
        &self.rules[class.index()]
    }

    /// Sets the rule for failures of `class`. With retries, a rule makes even failures transient
    /// that would otherwise be permanent.
    #[must_use]
    pub const fn with_rule(mut self, class: Class, rule: Rule) -> Self {
        self.rules[class.index()] = rule;
        self
    }

    /// Sets how often failures of every transient class are retried.
    #[must_use]
    pub fn max_retries(self, max_retries: u32) -> Self {
        self.map_transient(|rule| Rule { max_retries, ..rule })
    }

    /// Sets the waits for failures of every transient class.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.map_transient(|rule| Rule { backoff, ..rule })
    }

    /// Sets how the waits for failures of every class are spread.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidBackoff`] when a class's backoff does not take `jitter`.
    pub fn jitter(mut self, jitter: Jitter) -> Result<Self, InvalidBackoff> {
        for rule in &mut self.rules {
            rule.backoff = rule.backoff.jitter(jitter)?;
        }
        Ok(self)
    }

    /// Sets what is made of the upstream's wishes.
    #[must_use]
    pub const fn pushback(self, pushback: PushbackPolicy) -> Self {
        Self { pushback, ..self }
    }

    /// Returns what is made of the upstream's wishes.
    #[must_use]
    pub const fn pushback_policy(&self) -> &PushbackPolicy {
        &self.pushback
    }

    /// Returns the most retries that any class allows.
    #[must_use]
    pub fn most_retries(&self) -> u32 {
        self.rules.iter().map(|rule| rule.max_retries).max().unwrap_or_default()
    }

    /// Decides what follows an attempt, given 64 uniformly random bits, and takes a token from
    /// `budget` if it is a retry.
    #[must_use]
    pub fn decide(&self, attempt: &Attempt, budget: Option<Withdrawal<'_>>, draw: u64) -> Decision {
        let (after, why) = match self.wait(attempt, draw) {
            Ok(wait) => wait,
            Err(stop) => return Decision::Stop(stop),
        };
        let class = attempt.reading.verdict.class().unwrap_or(Class::Other);
        let is_granted =
            why == Why::AtOnce || budget.is_none_or(|withdrawal| withdrawal.take(class));
        if is_granted {
            Decision::Retry { after, why }
        } else {
            Decision::Stop(Stop::BudgetExhausted)
        }
    }

    /// Returns the earliest and the latest wait that [`decide`](Self::decide) may pick.
    ///
    /// # Errors
    ///
    /// Returns the reason when it would stop whatever the draw; the budget is not asked.
    pub fn bounds(&self, attempt: &Attempt) -> Result<(Duration, Duration), Stop> {
        let (earliest, _) = self.wait(attempt, 0)?;
        let unbounded = Attempt { remaining: None, ..*attempt };
        let (latest, _) = self.wait(&unbounded, u64::MAX)?;
        Ok((earliest, attempt.remaining.map_or(latest, |remaining| latest.min(remaining))))
    }

    fn wait(&self, attempt: &Attempt, draw: u64) -> Result<(Duration, Why), Stop> {
        let Attempt { number, reading, progress, remaining, .. } = *attempt;
        if reading.verdict == Verdict::Success {
            return Err(Stop::Success);
        }
        let at_once = reading.at_once && !progress.repeated_at_once;
        let class = match reading.verdict {
            Verdict::Permanent(_) if !at_once => return Err(Stop::Permanent),
            verdict => verdict.class().unwrap_or(Class::Other),
        };
        if !reading.evidence().is_unapplied() && !attempt.idempotency.is_idempotent() {
            return Err(Stop::MaybeApplied);
        }
        if !attempt.is_replayable {
            return Err(Stop::NotReplayable);
        }
        if at_once {
            return Ok((Duration::ZERO, Why::AtOnce));
        }
        let rule = self.rule(class);
        let retries = number.saturating_sub(1 + u32::from(progress.repeated_at_once));
        if rule.max_retries <= retries {
            return Err(Stop::RetriesExhausted);
        }
        match self.pushback.wish(reading.pushback) {
            Some(wish) => self.pushed_back(wish, remaining, draw),
            None => {
                let delay = rule.backoff.delay(progress.steps + 1, progress.previous, draw);
                let fits = remaining.is_none_or(|remaining| delay < remaining);
                if fits { Ok((delay, Why::Backoff)) } else { Err(Stop::Deadline) }
            }
        }
    }

    fn pushed_back(
        &self,
        wish: Pushback,
        remaining: Option<Duration>,
        draw: u64,
    ) -> Result<(Duration, Why), Stop> {
        let wait = wish.wait();
        let is_bearable =
            wait <= self.pushback.max() && remaining.is_none_or(|remaining| wait < remaining);
        if !is_bearable {
            return Err(Stop::PushbackTooLong);
        }
        let delay = self.pushback.delay(wish, draw);
        // The jitter is ours, so it may give way to the deadline; the wish may not.
        let delay = match remaining {
            Some(remaining) if remaining <= delay => wait + (remaining - wait) / 2,
            _ => delay,
        };
        Ok((delay, Why::Pushback))
    }

    fn map_transient(mut self, change: impl Fn(Rule) -> Rule) -> Self {
        for class in Class::ALL.into_iter().filter(|class| class.is_transient()) {
            self.rules[class.index()] = change(self.rules[class.index()]);
        }
        self
    }
}

impl Default for RetryPolicy {
    /// Timeouts: 3 retries from 1 s. Throttled: 5 retries from 2 s. Authentication and invalid
    /// requests: none. All else: 3 retries from 500 ms. Each doubling, at most 60 s, full jitter.
    fn default() -> Self {
        let rule = |max_retries, initial_millis| Rule {
            max_retries,
            backoff: Backoff::doubling(Duration::from_millis(initial_millis), LONGEST),
        };
        let rules = Class::ALL.map(|class| match class {
            Class::Timeout => rule(3, 1_000),
            Class::Throttled => rule(5, 2_000),
            Class::Authentication | Class::InvalidRequest => rule(0, 500),
            Class::Connection | Class::Other | Class::Server => rule(3, 500),
        });
        Self { rules, pushback: PushbackPolicy::default() }
    }
}

impl Attempt {
    /// Creates the first attempt of a replayable request without a deadline.
    #[must_use]
    pub fn first(reading: Reading, idempotency: Idempotency) -> Self {
        Self {
            number: 1,
            reading,
            idempotency,
            is_replayable: true,
            remaining: None,
            progress: Progress::default(),
        }
    }
}

impl Progress {
    /// Returns what a call has been through when `retries` of it waited by its own backoff.
    #[must_use]
    pub fn after_retries(retries: u32) -> Self {
        Self { steps: retries, ..Self::default() }
    }

    /// Returns what a call has been through after `decision`, taken on `reading`.
    #[must_use]
    pub fn after(self, decision: Decision, reading: &Reading) -> Self {
        match decision {
            Decision::Stop(_) => self,
            Decision::Retry { why: Why::AtOnce, .. } => Self { repeated_at_once: true, ..self },
            Decision::Retry { after, why } => {
                let starts_over =
                    why == Why::Pushback && matches!(reading.pushback, Some(Pushback::Exactly(_)));
                let steps = if starts_over { 0 } else { self.steps.saturating_add(1) };
                Self { steps, previous: if starts_over { Duration::ZERO } else { after }, ..self }
            }
        }
    }
}

impl Stop {
    /// Every reason to stop.
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::Permanent,
        Self::MaybeApplied,
        Self::NotReplayable,
        Self::RetriesExhausted,
        Self::PushbackTooLong,
        Self::Deadline,
        Self::BudgetExhausted,
        Self::Cancelled,
    ];

    /// Returns the name used in reports and events: `retries_exhausted`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Permanent => "permanent",
            Self::MaybeApplied => "maybe_applied",
            Self::NotReplayable => "not_replayable",
            Self::RetriesExhausted => "retries_exhausted",
            Self::PushbackTooLong => "pushback_too_long",
            Self::Deadline => "deadline",
            Self::BudgetExhausted => "budget_exhausted",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "the attempt succeeded",
            Self::Permanent => "another attempt would fail alike",
            Self::MaybeApplied => "the server may have acted, and acting twice may do harm",
            Self::NotReplayable => "the request's body cannot be sent again",
            Self::RetriesExhausted => "no retries are left",
            Self::PushbackTooLong => "the server asked for a longer wait than is allowed",
            Self::Deadline => "the wait would not end before the deadline",
            Self::BudgetExhausted => "the retry budget is empty",
            Self::Cancelled => "the caller went away",
        })
    }
}

impl Why {
    /// Returns the name used in reports and events: `backoff`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at_once",
            Self::Backoff => "backoff",
            Self::Pushback => "pushback",
        }
    }
}

/// A budget, and the time at which it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Withdrawal<'a> {
    budget: &'a Budget,
    now: std::time::Instant,
}

impl<'a> Withdrawal<'a> {
    /// Creates a withdrawal from `budget` at `now`.
    #[must_use]
    pub const fn new(budget: &'a Budget, now: std::time::Instant) -> Self {
        Self { budget, now }
    }

    fn take(self, class: Class) -> bool {
        self.budget.withdraw_after(class, self.now)
    }
}

const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
