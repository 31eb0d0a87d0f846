//! Policies by name: the defaults of others, as data, for people who come from there.
//!
//! A profile is the policy that its origin has out of the box, as far as it can be said in ours: how often,
//! how long, which failures, which budget. It never switches off what keeps a caller from harm: a request
//! that may have been applied is not repeated on hope under any of them, also where the origin would. What
//! is left out, and why, stands at each.

use std::{fmt, time::Duration};

use crate::{
    backoff::{Backoff, InvalidBackoff, Jitter},
    budget::{BudgetPolicy, InvalidBudget, Throttle, TokenBudget, Tokens},
    class::Class,
    policy::Policy,
    pushback::PushbackPolicy,
    retry::{RetryPolicy, Rule},
    triggers::Triggers,
};

/// A policy with a name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Profile {
    /// Redial's own defaults.
    Default,
    /// RFC 9110 to the letter: "A client SHOULD NOT automatically retry a failed automatic retry"
    /// (§9.2.2), so one retry at most. All else is as in [`Profile::Default`], which deviates from that
    /// sentence as most clients do.
    StrictRfc9110,
    /// `cenkalti/backoff` for Go: from 500 ms, × 1.5, up to 60 s, ± 50 %, for 15 minutes, as often as that
    /// allows; no budget.
    Cenkalti,
    /// Polly as `Microsoft.Extensions.Http.Resilience` sets it up: 3 retries from 2 s, × 2; 10 s an attempt,
    /// 30 s in all. Its jitter for exponential waits is an algorithm of its own, which nobody else uses and
    /// whose first waits may be nearly nothing: the ± 25 % that Polly has for its other waits stands in for
    /// it. Its breaker is left to [`Policy::breaker`], its limit of 1,000 calls to [`Policy::bulkhead`].
    Polly,
    /// gRFC A6 as its examples and grpc-go's tests have it: 3 retries from 100 ms, × 2, up to 1 s, ± 20 %;
    /// pushback exact; a throttle of 10 tokens, a tenth back for a success. A6 caps attempts at five,
    /// which this is below.
    GrpcA6,
    /// Envoy's defaults where a route has a retry policy: one retry from 25 ms, up to 250 ms, full jitter,
    /// on connection failures, resets and 5xx; 15 s in all. Its limit on retries in flight has a floor that
    /// lets a fleet of sidecars keep an outage going; the default budget stands in for it.
    Envoy,
    /// AWS SDKs' standard mode 2.1: 2 retries, from 50 ms, throttled from 1 s, up to 20 s, full jitter; a
    /// bucket of 500 from which a retry takes 14, a throttled one 5. A success puts one back; one that a
    /// retry brought gives back what that cost, and, other than with AWS, the one as well.
    Aws,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 7] = [
        Self::Default,
        Self::StrictRfc9110,
        Self::Cenkalti,
        Self::Polly,
        Self::GrpcA6,
        Self::Envoy,
        Self::Aws,
    ];

    /// Returns the name used in files, flags and reports: `strict-rfc9110`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::StrictRfc9110 => "strict-rfc9110",
            Self::Cenkalti => "cenkalti",
            Self::Polly => "polly",
            Self::GrpcA6 => "grpc-a6",
            Self::Envoy => "envoy",
            Self::Aws => "aws",
        }
    }

    /// Returns the profile called `name`, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// Returns the policy.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use redial_core::{Class, Profile};
    ///
    /// let policy = Profile::Polly.policy();
    /// assert_eq!(policy.retry.rule(Class::Server).max_retries, 3);
    /// assert_eq!(policy.deadline, Some(Duration::from_secs(30)));
    /// ```
    #[must_use]
    pub fn policy(self) -> Policy {
        let base = Policy::default();
        match self {
            Self::Default => base,
            Self::StrictRfc9110 => Policy { retry: base.retry.max_retries(1), ..base },
            // The figures below are valid; were one not, the defaults would rule.
            _ => self.emulated().unwrap_or_default(),
        }
    }

    fn emulated(self) -> Result<Policy, InvalidProfile> {
        let base = Policy::default();
        let millis = Duration::from_millis;
        let waits = |initial, factor, max, jitter| {
            Backoff::exponential(initial, factor, max).and_then(|backoff| backoff.jitter(jitter))
        };
        let uniform =
            |max_retries, backoff| RetryPolicy::default().max_retries(max_retries).backoff(backoff);
        Ok(match self {
            Self::Default | Self::StrictRfc9110 => base,
            Self::Cenkalti => Policy {
                retry: uniform(
                    u32::MAX,
                    waits(millis(500), 1.5, millis(60_000), Jitter::Proportional(0.5))?,
                ),
                budget: BudgetPolicy::Unlimited,
                deadline: Some(Duration::from_secs(15 * 60)),
                attempt_timeout: None,
                ..base
            },
            Self::Polly => Policy {
                retry: uniform(3, waits(millis(2_000), 2.0, LONGEST, Jitter::Proportional(0.25))?),
                budget: BudgetPolicy::Unlimited,
                deadline: Some(Duration::from_secs(30)),
                attempt_timeout: Some(Duration::from_secs(10)),
                ..base
            },
            Self::GrpcA6 => Policy {
                retry: uniform(
                    3,
                    waits(millis(100), 2.0, millis(1_000), Jitter::Proportional(0.2))?,
                ),
                budget: BudgetPolicy::Throttle(Throttle::new(10.0, 0.1)?),
                ..base
            },
            Self::Envoy => Policy {
                retry: uniform(1, waits(millis(25), 2.0, millis(250), Jitter::Full)?)
                    .pushback(PushbackPolicy::ignored()),
                triggers: Triggers::parse("5xx,connect,reset,refused-stream").unwrap_or_default(),
                deadline: Some(Duration::from_secs(15)),
                attempt_timeout: None,
                ..base
            },
            Self::Aws => {
                let slow = waits(millis(1_000), 2.0, millis(20_000), Jitter::Full)?;
                let rule = Rule { max_retries: 2, backoff: slow };
                let fast = waits(millis(50), 2.0, millis(20_000), Jitter::Full)?;
                Policy {
                    retry: uniform(2, fast).with_rule(Class::Throttled, rule),
                    budget: BudgetPolicy::Tokens(TokenBudget {
                        deposit: Tokens::ONE,
                        max: Tokens::whole(500),
                        initial: Some(Tokens::whole(500)),
                        floor_per_second: Tokens::ZERO,
                        cost: Tokens::whole(14),
                        throttled_cost: Tokens::whole(5),
                    }),
                    ..base
                }
            }
        })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A figure above contradicts another; a test makes sure that none does.
#[derive(Debug)]
struct InvalidProfile;

impl From<InvalidBackoff> for InvalidProfile {
    fn from(_: InvalidBackoff) -> Self {
        Self
    }
}

impl From<InvalidBudget> for InvalidProfile {
    fn from(_: InvalidBudget) -> Self {
        Self
    }
}

/// As good as no longest wait, where the origin has none.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attempt, Decision, Fault, Idempotency, Proof, Reading, Stop, Verdict};

    #[test]
    fn profiles_answer_to_their_names_and_are_valid() {
        for profile in Profile::ALL {
            assert_eq!(Profile::named(profile.name()), Some(profile));
            assert_eq!(profile.to_string(), profile.name());
            assert!(profile.emulated().is_ok(), "{profile}");
        }
        assert_eq!(Profile::named("Polly"), None);
        assert_eq!(Profile::Default.policy(), Policy::default());
    }

    #[test]
    fn every_profile_but_the_first_differs_from_the_defaults() {
        for profile in Profile::ALL.into_iter().skip(1) {
            assert_ne!(profile.policy(), Policy::default(), "{profile}");
        }
    }

    #[test]
    fn no_profile_repeats_on_hope_what_may_have_been_applied() {
        for profile in Profile::ALL {
            let failed = Reading::new(Verdict::Transient(Class::Server)).proof(Proof::Sent);
            let post = Attempt::first(failed, Idempotency::None);
            let decision = profile.policy().retry.decide(&post, None, 0);
            assert_eq!(decision, Decision::Stop(Stop::MaybeApplied), "{profile}");
        }
    }

    #[test]
    fn what_an_origin_does_not_bound_its_profile_does_not_bound_either() {
        for profile in [Profile::Cenkalti, Profile::Polly] {
            assert_eq!(profile.policy().budget, BudgetPolicy::Unlimited, "{profile}");
        }
        for profile in [Profile::Cenkalti, Profile::Envoy] {
            assert_eq!(profile.policy().attempt_timeout, None, "{profile}");
        }
    }

    #[test]
    fn envoys_profile_repeats_what_envoy_calls_5xx_within_15_s_and_hears_no_wishes() {
        let policy = Profile::Envoy.policy();
        assert_eq!(policy.deadline, Some(Duration::from_secs(15)));
        assert_eq!(policy.retry.most_retries(), 1);
        assert_eq!(*policy.retry.pushback_policy(), PushbackPolicy::ignored());
        let statuses = [500, 503, 599, 408, 425, 429].map(|s| policy.triggers.statuses.contains(s));
        assert_eq!(statuses, [true, true, true, false, false, false]);
        let faults = [Fault::ConnectionRefused, Fault::ConnectionReset, Fault::RefusedStream];
        assert!(faults.into_iter().all(|fault| policy.triggers.faults.contains(fault)));
        assert!(!policy.triggers.faults.contains(Fault::ResponseTruncated));
    }

    #[test]
    fn strict_means_one_retry_whatever_failed() {
        let policy = Profile::StrictRfc9110.policy();
        assert_eq!(policy.retry.most_retries(), 1);
    }
}
