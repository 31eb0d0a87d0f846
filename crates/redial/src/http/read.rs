//! From one attempt's outcome to what it means.

use http::{HeaderMap, StatusCode, header};
use redial_core::{Class, Fault, Policy, Proof, Pushback, Reading, Verdict};

use super::{because::Because, dialect, keyed, proxy_status, pushback};
use crate::{classify::Asked, diagnose::Diagnosis, idempotency::Provider};

/// The part of a response that tells what it means.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// What of a request's head its answer is read by.
#[derive(Clone, Copy, Debug)]
struct Sent {
    expects: bool,
    honored_by: Option<Provider>,
}

/// Reads an attempt's outcome: an answer, or what an error tells.
///
/// `asked` is the head that was sent, `now` the time in seconds since 1970. Each rule that applies
/// is handed to `because`, in the order in which it applies.
pub fn read(
    policy: &Policy,
    asked: &Asked<'_>,
    outcome: Result<Answer<'_>, Diagnosis>,
    now: impl FnOnce() -> i64,
    because: impl FnMut(Because),
) -> Reading {
    match outcome {
        Ok(answer) if answer.status.as_u16() < 400 => succeeded(answer.status, because),
        Ok(answer) => {
            let expects = asked.header(&header::EXPECT).is_some();
            let sent = Sent { expects, honored_by: asked.honored_by() };
            read_failure(policy, &sent, answer, now, because)
        }
        Err(diagnosis) => read_fault(policy, diagnosis, because),
    }
}

/// Reads an answer; `expects` tells whether the request carried `Expect`.
pub fn read_answer(
    policy: &Policy,
    expects: bool,
    answer: Answer<'_>,
    now: impl FnOnce() -> i64,
    because: impl FnMut(Because),
) -> Reading {
    if answer.status.as_u16() < 400 {
        return succeeded(answer.status, because);
    }
    read_failure(policy, &Sent { expects, honored_by: None }, answer, now, because)
}

fn read_failure(
    policy: &Policy,
    sent: &Sent,
    answer: Answer<'_>,
    now: impl FnOnce() -> i64,
    mut because: impl FnMut(Because),
) -> Reading {
    let Answer { status, headers } = answer;
    let code = status.as_u16();
    let wish = pushback::wish(headers, now, matches!(code, 403 | 429 | 503));
    let by_key = sent
        .honored_by
        .and_then(|provider| keyed::by_key(policy, &provider, answer, wish.pushback, &mut because));
    let reading = by_key.unwrap_or_else(|| {
        by_status(policy, sent.expects, code, headers, wish.pushback, &mut because)
    });
    let reading = match (wish.should_retry, reading.verdict) {
        (Some(false), verdict) => {
            because(Because::Vetoed);
            let class = verdict.class().unwrap_or(Class::Other);
            Reading { verdict: Verdict::Permanent(class), at_once: false, ..reading }
        }
        (Some(true), Verdict::Permanent(class)) => {
            because(Because::Invited);
            Reading { verdict: Verdict::transient(retried_class(policy, class)), ..reading }
        }
        _ => reading,
    };
    let proof = proof_of(policy, code, headers);
    because(Because::Proven(proof));
    if let (Some(wish), Some(field)) = (wish.pushback, wish.field) {
        because(Because::Asked { field, wait: wish.wait() });
    }
    reading.proof(proof).pushback(wish.pushback)
}

/// Reads what an error tells.
pub fn read_fault(
    policy: &Policy,
    diagnosis: Diagnosis,
    mut because: impl FnMut(Because),
) -> Reading {
    let Diagnosis { fault, proof } = diagnosis;
    let class = fault.class();
    let verdict = if policy.triggers.faults.contains(fault) {
        because(Because::FaultListed(fault));
        Verdict::transient(retried_class(policy, class))
    } else {
        because(Because::FaultNotListed(fault));
        Verdict::Permanent(class)
    };
    because(Because::Proven(proof));
    let reading = Reading::new(verdict).proof(proof);
    let is_refused = fault == Fault::RefusedStream && matches!(verdict, Verdict::Transient(_));
    if is_refused {
        because(Because::StreamRefused);
        return reading.at_once();
    }
    reading
}

fn succeeded(status: StatusCode, mut because: impl FnMut(Because)) -> Reading {
    because(Because::Succeeded(status.as_u16()));
    Reading::SUCCESS
}

fn by_status(
    policy: &Policy,
    expects: bool,
    code: u16,
    headers: &HeaderMap,
    wish: Option<Pushback>,
    because: &mut impl FnMut(Because),
) -> Reading {
    let class = class_of(code);
    let is_quota = matches!(code, 403 if dialect::is_quota_used_up(headers) || wish.is_some());
    if is_quota && policy.triggers.statuses.contains(429) {
        because(Because::QuotaUsedUp(code));
        return Reading::new(Verdict::Throttled);
    }
    if policy.triggers.statuses.contains(code) {
        because(Because::Listed(code));
        return Reading::new(Verdict::transient(retried_class(policy, class)));
    }
    if !class.is_transient() && 0 < policy.retry.rule(class).max_retries {
        because(Because::ClassRetries(code));
        return Reading::new(Verdict::transient(class));
    }
    let permanent = Reading::new(Verdict::Permanent(class));
    match code {
        413 if wish.is_some() => {
            because(Because::TooLargeForNow);
            Reading::new(Verdict::transient(Class::Other))
        }
        417 if expects => {
            because(Because::WithoutExpect);
            permanent.at_once()
        }
        421 => {
            because(Because::Misdirected);
            permanent.at_once()
        }
        _ => {
            because(Because::NotListed(code));
            permanent
        }
    }
}

pub(super) const fn class_of(code: u16) -> Class {
    match code {
        401 | 403 | 407 => Class::Authentication,
        408 | 421 | 425 => Class::Other,
        429 => Class::Throttled,
        400..500 => Class::InvalidRequest,
        _ => Class::Server,
    }
}

/// Returns the class whose rule applies to a failure that is to be retried: its own, unless that one
/// is for failures that are not.
pub(super) fn retried_class(policy: &Policy, class: Class) -> Class {
    let has_rule = class.is_transient() || 0 < policy.retry.rule(class).max_retries;
    if has_rule { class } else { Class::Other }
}

pub(super) fn proof_of(policy: &Policy, code: u16, headers: &HeaderMap) -> Proof {
    match code {
        413 | 417 | 421 | 425 => Proof::RejectedByStatus(code),
        429 if policy.is_429_unprocessed => Proof::RejectedByStatus(code),
        403 if policy.is_429_unprocessed && dialect::is_quota_used_up(headers) => {
            Proof::RejectedByStatus(code)
        }
        500..600 if proxy_status::is_origin_untouched(headers, policy.trusts_proxy_status) => {
            Proof::ProxyStatus
        }
        _ => Proof::UnclearStatus(code),
    }
}

#[cfg(test)]
mod tests;
