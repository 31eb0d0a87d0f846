//! Settings: the part of a policy that somebody has set, to be laid over what was there before.

use std::time::Duration;

use redial_core::{
    Backoff, BudgetPolicy, Class, Growth, InvalidBackoff, Jitter, Policy, PushbackPolicy,
    RetryPolicy, Rule, Triggers,
};

/// What somebody has set of a policy: a file, an environment variable, a flag. What is `None` stays
/// as it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
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
}

impl Settings {
    /// Lays these settings over `policy`.
    ///
    /// Retries and waits go to every transient class, field by field: a class keeps its own first wait
    /// when only the factor is set. Then [`classes`](Self::classes) specialize single ones.
    ///
    /// # Errors
    ///
    /// Returns [`Contradiction`] when the result would contradict itself.
    pub fn apply(&self, mut policy: Policy) -> Result<Policy, Contradiction> {
        for class in Class::ALL.into_iter().filter(|class| class.is_transient()) {
            policy.retry = over(&policy, class, self.max_retries, &self.backoff)?;
        }
        for (class, max_retries, backoff) in &self.classes {
            policy.retry = over(&policy, *class, *max_retries, backoff)?;
        }
        set(&mut policy.deadline, self.deadline);
        set(&mut policy.attempt_timeout, self.attempt_timeout);
        set(&mut policy.triggers, self.retry_on);
        set(&mut policy.is_idempotent, self.idempotent);
        set(&mut policy.is_429_unprocessed, self.assume_429_unprocessed);
        set(&mut policy.trusts_proxy_status, self.trust_proxy_status);
        set(&mut policy.replay_bytes_max, self.replay_body);
        set(&mut policy.budget, self.budget);
        policy.retry = policy.retry.pushback(self.pushback.over(policy.retry.pushback_policy())?);
        if let (Some(attempt_timeout), Some(deadline)) = (policy.attempt_timeout, policy.deadline)
            && deadline <= attempt_timeout
        {
            if self.attempt_timeout.is_some() {
                return Err(Contradiction::AttemptTimeout { attempt_timeout, deadline });
            }
            // One that nobody has set gives way: the deadline ends the attempt in any case.
            policy.attempt_timeout = None;
        }
        Ok(policy)
    }
}

impl BackoffSettings {
    fn over(&self, base: &Backoff) -> Result<Backoff, Contradiction> {
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
