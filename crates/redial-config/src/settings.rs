//! Settings: the part of a policy that somebody has set, to be laid over what was there before.

use std::{sync::Arc, time::Duration};

use redial_core::{
    AdaptivePolicy, Backoff, BreakerPolicy, BudgetPolicy, BulkheadPolicy, CachePolicy, ChaosPolicy,
    Class, FallbackPolicy, Growth, HedgePolicy, InvalidBackoff, Jitter, Policy, Profile,
    PushbackPolicy, RateLimitPolicy, ResumePolicy, RetryPolicy, Rule, StallPolicy, ThrottlePolicy,
    Triggers,
};

/// What somebody has set of a policy: a file, an environment variable, a flag. What is `None` stays
/// as it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// What everything else is laid over, in the place of the policy that was there before.
    pub profile: Option<Profile>,
    /// Attempts after the first, for every transient class.
    pub max_retries: Option<u32>,
    /// Waits, for every transient class.
    pub backoff: BackoffSettings,
    /// How long the whole call may take; `Some(None)` for as long as it needs.
    pub deadline: Option<Option<Duration>>,
    /// How long one attempt may take; `Some(None)` for as long as it needs.
    pub attempt_timeout: Option<Option<Duration>>,
    /// Which failures are retried.
    pub retry_on: Option<Triggers>,
    /// Whether every request may be repeated.
    pub idempotent: Option<bool>,
    /// Whether a 429 means that nothing was processed.
    pub assume_429_unprocessed: Option<bool>,
    /// Whether a `Proxy-Status` is believed.
    pub trust_proxy_status: Option<bool>,
    /// How many bytes of a body are kept for sending it again.
    pub replay_body: Option<usize>,
    /// What is made of the server's wishes.
    pub pushback: PushbackSettings,
    /// How much extra load retries may make.
    pub budget: Option<BudgetPolicy>,
    /// Rules for single classes, laid over those for all.
    pub classes: Vec<(Class, Option<u32>, BackoffSettings)>,
    /// When to leave an upstream alone; `Some(None)` never, here and below. A part is whole: it
    /// replaces the one that was there.
    pub breaker: Option<Option<BreakerPolicy>>,
    /// When to send a second copy while the first is out.
    pub hedge: Option<Option<HedgePolicy>>,
    /// How many calls a second.
    pub rate_limit: Option<Option<RateLimitPolicy>>,
    /// When to refuse calls because the upstream refuses most of them.
    pub throttle: Option<Option<ThrottlePolicy>>,
    /// How many calls at once, by a fixed number.
    pub bulkhead: Option<Option<BulkheadPolicy>>,
    /// How many attempts at once, learned from how long they take.
    pub adaptive_limit: Option<Option<AdaptivePolicy>>,
    /// What a cache may do.
    pub cache: Option<Option<CachePolicy>>,
    /// What stands in for an answer that could not be had.
    pub fallback: Option<Option<Arc<FallbackPolicy>>>,
    /// How often a download that broke off goes on.
    pub resume: Option<Option<ResumePolicy>>,
    /// When a body that brings nothing is given up.
    pub stall: Option<Option<StallPolicy>>,
    /// Failures on purpose.
    pub chaos: Option<Option<Arc<ChaosPolicy>>>,
}

/// What somebody has set of the waits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BackoffSettings {
    /// How waits grow.
    pub kind: Option<BackoffKind>,
    /// The first wait.
    pub initial: Option<Duration>,
    /// By what exponential waits grow.
    pub factor: Option<f64>,
    /// The longest wait, before jitter.
    pub max: Option<Duration>,
    /// How waits are spread.
    pub jitter: Option<Jitter>,
}

/// What somebody has set of the treatment of the server's wishes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PushbackSettings {
    /// Whether they count.
    pub honor: Option<bool>,
    /// The longest that is waited for.
    pub max: Option<Duration>,
    /// The share that jitter may add.
    pub jitter: Option<f64>,
}

/// How waits grow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BackoffKind {
    /// Not at all.
    Fixed,
    /// By the first wait each time.
    Linear,
    /// By a factor each time.
    Exponential,
    /// At random, up to three times the last.
    Decorrelated,
}

/// Two settings that cannot both hold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Contradiction {
    /// The waits do not form a schedule.
    #[error("{error}{}", hint(error))]
    Backoff {
        /// Which rule is broken.
        error: InvalidBackoff,
    },
    /// A factor for waits that do not grow by one.
    #[error("factor belongs to exponential backoff, not to {}", .kind.name())]
    Factor {
        /// How the waits grow.
        kind: BackoffKind,
    },
    /// The attempt timeout is not below the deadline.
    #[error("attempt timeout {attempt_timeout:?} is not below the deadline {deadline:?}")]
    AttemptTimeout {
        /// How long one attempt may take.
        attempt_timeout: Duration,
        /// How long the whole call may take.
        deadline: Duration,
    },
    /// The jitter of the server's wishes is out of its range.
    #[error("pushback jitter {0} is not within 0 to 1")]
    Pushback(f64),
    /// A breaker's probes have less time than an attempt may take.
    #[error(
        "half-open time {half_open_max:?} is below the attempt timeout {attempt_timeout:?}, so a \
         late success of a probe would count for nothing"
    )]
    HalfOpen {
        /// How long probes may take.
        half_open_max: Duration,
        /// How long one attempt may take.
        attempt_timeout: Duration,
    },
    /// A call may wait for its turn until its time is over.
    #[error("longest wait {max_wait:?} is not below the deadline {deadline:?}")]
    Wait {
        /// Where it waits: `bulkhead` or `rate_limit`.
        part: &'static str,
        /// How long it may wait.
        max_wait: Duration,
        /// How long the whole call may take.
        deadline: Duration,
    },
}

/// A contradiction, and the setting that it is about.
pub(crate) struct Found {
    pub(crate) setting: String,
    pub(crate) contradiction: Contradiction,
}

impl Settings {
    /// Lays these settings over `policy`, or over their profile, if they have one.
    ///
    /// Retries and waits go to every transient class, field by field: a class keeps its own first
    /// wait when only the factor is set. Then [`classes`](Self::classes) specialize single ones.
    ///
    /// # Errors
    ///
    /// Returns [`Contradiction`] when the result would contradict itself.
    pub fn apply(&self, policy: Policy) -> Result<Policy, Contradiction> {
        self.apply_found(policy).map_err(|found| found.contradiction)
    }

    /// As [`apply`](Self::apply), and says which setting is to blame.
    pub(crate) fn apply_found(&self, policy: Policy) -> Result<Policy, Found> {
        let mut policy = self.profile.map_or(policy, Profile::policy);
        for class in Class::ALL.into_iter().filter(|class| class.is_transient()) {
            let made = over(&policy, class, self.max_retries, &self.backoff);
            policy.retry = made.map_err(|error| Found::within("backoff", error))?;
        }
        for (class, max_retries, backoff) in &self.classes {
            let made = over(&policy, *class, *max_retries, backoff);
            let waits = format!("classes.{class}.backoff");
            policy.retry = made.map_err(|error| Found::within(&waits, error))?;
        }
        set(&mut policy.deadline, self.deadline);
        set(&mut policy.attempt_timeout, self.attempt_timeout);
        set(&mut policy.triggers, self.retry_on);
        set(&mut policy.is_idempotent, self.idempotent);
        set(&mut policy.is_429_unprocessed, self.assume_429_unprocessed);
        set(&mut policy.trusts_proxy_status, self.trust_proxy_status);
        set(&mut policy.replay_bytes_max, self.replay_body);
        set(&mut policy.budget, self.budget);
        let pushback = self.pushback.over(policy.retry.pushback_policy());
        let pushback = pushback.map_err(|error| Found::within("pushback", error))?;
        policy.retry = policy.retry.pushback(pushback);
        self.set_parts(&mut policy);
        self.check_times(&mut policy).map_err(|error| Found::within("", error))?;
        Ok(policy)
    }

    fn set_parts(&self, policy: &mut Policy) {
        set(&mut policy.breaker, self.breaker);
        set(&mut policy.hedge, self.hedge);
        set(&mut policy.rate_limit, self.rate_limit);
        set(&mut policy.throttle, self.throttle);
        set(&mut policy.bulkhead, self.bulkhead);
        set(&mut policy.adaptive_limit, self.adaptive_limit);
        set(&mut policy.cache, self.cache);
        set(&mut policy.fallback, self.fallback.clone());
        set(&mut policy.resume, self.resume);
        set(&mut policy.stall, self.stall);
        set(&mut policy.chaos, self.chaos.clone());
    }

    fn check_times(&self, policy: &mut Policy) -> Result<(), Contradiction> {
        if let (Some(attempt_timeout), Some(deadline)) = (policy.attempt_timeout, policy.deadline)
            && deadline <= attempt_timeout
        {
            if self.attempt_timeout.is_some() {
                return Err(Contradiction::AttemptTimeout { attempt_timeout, deadline });
            }
            // One that nobody has set gives way: the deadline ends the attempt in any case.
            policy.attempt_timeout = None;
        }
        if let (Some(breaker), Some(attempt_timeout)) = (policy.breaker, policy.attempt_timeout)
            && breaker.half_open_max() < attempt_timeout
        {
            let half_open_max = breaker.half_open_max();
            return Err(Contradiction::HalfOpen { half_open_max, attempt_timeout });
        }
        let waits = [
            ("rate_limit", policy.rate_limit.map(|part| part.longest_wait())),
            ("bulkhead", policy.bulkhead.map(|part| part.max_wait())),
        ];
        for (part, max_wait) in waits {
            if let (Some(max_wait), Some(deadline)) = (max_wait, policy.deadline)
                && deadline <= max_wait
            {
                return Err(Contradiction::Wait { part, max_wait, deadline });
            }
        }
        Ok(())
    }
}

impl Found {
    fn within(part: &str, contradiction: Contradiction) -> Self {
        let key = contradiction.key();
        let dot = if part.is_empty() { "" } else { "." };
        Self { setting: format!("{part}{dot}{key}"), contradiction }
    }
}

impl Contradiction {
    /// Returns which setting is to blame, within the table that it is about.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Backoff { error: InvalidBackoff::InitialAboveMax { .. } } => "initial",
            Self::Backoff { error: InvalidBackoff::Factor(_) } | Self::Factor { .. } => "factor",
            Self::Backoff { .. } | Self::Pushback(_) => "jitter",
            Self::AttemptTimeout { .. } => "attempt_timeout",
            Self::HalfOpen { .. } => "breaker.half_open_max",
            Self::Wait { part: "bulkhead", .. } => "bulkhead.max_wait",
            Self::Wait { .. } => "rate_limit.max_wait",
        }
    }
}

impl BackoffSettings {
    pub(crate) fn over(&self, base: &Backoff) -> Result<Backoff, Contradiction> {
        let kind = self.kind.unwrap_or(BackoffKind::of(base.growth()));
        let growth = match (kind, self.factor) {
            (BackoffKind::Exponential, factor) => {
                let before = match base.growth() {
                    Growth::Exponential(factor) => factor,
                    Growth::Fixed | Growth::Linear | Growth::Decorrelated => 2.0,
                };
                Growth::Exponential(factor.unwrap_or(before))
            }
            (kind, Some(_)) => return Err(Contradiction::Factor { kind }),
            (BackoffKind::Fixed, None) => Growth::Fixed,
            (BackoffKind::Linear, None) => Growth::Linear,
            (BackoffKind::Decorrelated, None) => Growth::Decorrelated,
        };
        let invalid = |error| Contradiction::Backoff { error };
        let (initial, max) =
            (self.initial.unwrap_or(base.initial()), self.max.unwrap_or(base.max()));
        // A longest wait that somebody sets below a first one that nobody has set lowers both.
        let initial = if self.initial.is_none() { initial.min(max) } else { initial };
        let backoff = Backoff::new(growth, initial, max).map_err(invalid)?;
        let is_random = growth == Growth::Decorrelated;
        let was_random = base.growth() == Growth::Decorrelated;
        let before = match base.spread() {
            _ if is_random => Jitter::None,
            _ if was_random => Jitter::Full,
            jitter => jitter,
        };
        backoff.jitter(self.jitter.unwrap_or(before)).map_err(invalid)
    }
}

impl PushbackSettings {
    fn over(&self, base: &PushbackPolicy) -> Result<PushbackPolicy, Contradiction> {
        if !self.honor.unwrap_or(base.is_honored()) {
            return Ok(PushbackPolicy::ignored());
        }
        let (max, jitter) = (self.max.unwrap_or(base.max()), self.jitter.unwrap_or(base.jitter()));
        PushbackPolicy::new(max, jitter).map_err(|_| Contradiction::Pushback(jitter))
    }
}

impl BackoffKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Fixed, Self::Linear, Self::Exponential, Self::Decorrelated];

    /// Returns the name used in flags and files: `exponential`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Linear => "linear",
            Self::Exponential => "exponential",
            Self::Decorrelated => "decorrelated",
        }
    }

    const fn of(growth: Growth) -> Self {
        match growth {
            Growth::Fixed => Self::Fixed,
            Growth::Linear => Self::Linear,
            Growth::Exponential(_) => Self::Exponential,
            Growth::Decorrelated => Self::Decorrelated,
        }
    }
}

fn over(
    policy: &Policy,
    class: Class,
    max_retries: Option<u32>,
    backoff: &BackoffSettings,
) -> Result<RetryPolicy, Contradiction> {
    let before = policy.retry.rule(class);
    let max_retries = max_retries.unwrap_or(before.max_retries);
    let rule = Rule { max_retries, backoff: backoff.over(&before.backoff)? };
    Ok(policy.retry.with_rule(class, rule))
}

fn set<T>(value: &mut T, setting: Option<T>) {
    if let Some(setting) = setting {
        *value = setting;
    }
}

fn hint(error: &InvalidBackoff) -> &'static str {
    match error {
        InvalidBackoff::InitialAboveMax { .. } => "; raise the longest delay as well",
        _ => "",
    }
}
