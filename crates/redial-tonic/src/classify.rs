//! What an outcome means for the call, and what it says about the upstream, in gRPC's terms.

use std::time::Duration;

use http::{HeaderName, Response};
use redial::{Asked, Assess, Classify, Diagnose, HttpAssess, HttpClassifier};
use redial_core::{Assessment, Class, Fault, Health, Policy, Proof, Pushback, Reading, Verdict};
use tonic::Code;

use crate::{
    codes::{class_of, code_of_http},
    error::GrpcError,
    head::{Head, Wish},
    policy::{GrpcPolicyCell, Terms},
};

/// Reads outcomes as gRPC means them (gRFC A6).
///
/// A status in the head of the answer decides by its code. Headers without one commit the call: it
/// counts as a success, whatever the trailers will say. What became of a connection counts as the
/// code that gRPC has for it, mostly `UNAVAILABLE`; an answer that is not gRPC as the code that its
/// HTTP status stands for. Streams that the server did not process are repeated once at once.
#[derive(Clone, Debug)]
pub struct GrpcClassifier {
    cell: GrpcPolicyCell,
}

/// Assesses outcomes as gRPC means them: what breakers, limits and throttles count.
///
/// `UNAVAILABLE`, `RESOURCE_EXHAUSTED` and `DEADLINE_EXCEEDED` are [`Health::Overloaded`]; `UNKNOWN`,
/// `INTERNAL`, `DATA_LOSS` and what happens to a connection are [`Health::Failed`]; `CANCELLED` tells
/// nothing, and all other codes are the caller's business. Only a status in the head is seen; with
/// [`EarlyStatus`](crate::EarlyStatus) below, also one that comes before any message.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcAssess;

/// A failed attempt, in gRPC's terms.
struct Failed {
    code: Code,
    class: Class,
    proof: Proof,
    at_once: bool,
    /// Whether a proxy's own rate limit refused the call: it would refuse a retry as well.
    is_limited: bool,
    wish: Wish,
    /// A wish in HTTP's own words, which no gRPC server sends.
    pushback: Option<Pushback>,
}

impl GrpcClassifier {
    /// Creates a classifier that retries what `cell` lists.
    pub fn new(cell: impl Into<GrpcPolicyCell>) -> Self {
        Self { cell: cell.into() }
    }
}

impl<T> Classify<T, GrpcError> for GrpcClassifier {
    fn classify(
        &self,
        policy: &Policy,
        asked: &Asked<'_>,
        outcome: &Result<Response<T>, GrpcError>,
    ) -> Reading {
        let head = outcome.as_ref().map(|response| (Head::of(response), response.headers()));
        let failed = match head {
            Ok((Head::Open | Head::Ended(Code::Ok), _)) => return Reading::SUCCESS,
            Ok((Head::Ended(code), headers)) => Failed {
                is_limited: headers.contains_key(&ENVOY_RATE_LIMITED),
                ..Failed::with(code, Wish::of(headers))
            },
            Ok((Head::NotGrpc(status), headers)) => {
                let code = code_of_http(status);
                let http = HttpClassifier.classify(policy, asked, outcome);
                let unclear = Proof::UnclearStatus(status.as_u16());
                let class = if status == 429 { Class::Throttled } else { class_of(code) };
                Failed {
                    class,
                    proof: http.proof.unwrap_or(unclear),
                    pushback: http.pushback,
                    ..Failed::with(code, Wish::of(headers))
                }
            }
            Err(error) => match Failed::without_answer(error) {
                Ok(failed) => failed,
                Err(reading) => return reading,
            },
        };
        failed.read(&self.cell.terms(), policy, asked.uri.path())
    }
}

impl Failed {
    fn with(code: Code, wish: Wish) -> Self {
        // The number of a code, from 1 to 16, stands where HTTP has a status.
        let proof = Proof::UnclearStatus(u16::try_from(code as i32).unwrap_or_default());
        let (class, at_once, is_limited) = (class_of(code), false, false);
        Self { code, class, proof, at_once, is_limited, wish, pushback: None }
    }

    fn without_answer(error: &GrpcError) -> Result<Self, Reading> {
        let told = error.diagnose();
        let class = told.fault.class();
        if matches!(told.fault, Fault::Rejected | Fault::Cancelled) {
            // Asking our own breaker or limit again at once is no retry.
            return Err(Reading::new(Verdict::Permanent(class)).proof(told.proof));
        }
        // "Transparent retries" of gRFC A6: what the server's application never saw.
        let at_once =
            matches!(told.fault, Fault::RefusedStream | Fault::Goaway | Fault::StaleConnection);
        let failed = Self::with(error.code(), Wish::None);
        let class = if told.fault == Fault::Other { failed.class } else { class };
        Ok(Self { class, proof: told.proof, at_once, ..failed })
    }

    fn read(self, terms: &Terms, policy: &Policy, path: &str) -> Reading {
        let Self { code, class, proof, at_once, is_limited, wish, pushback } = self;
        let (has_wait, pushback) = match wish {
            Wish::Never => return refused(policy, class, proof),
            Wish::Wait(wait) => (true, Some(Pushback::Exactly(wait))),
            Wish::None => (false, pushback),
        };
        let is_harmless = proof.evidence().is_unapplied() || terms.idempotent.contains(path);
        let is_listed = terms.lists(code, has_wait) && (has_wait || !is_limited);
        let verdict = if is_harmless && is_listed {
            Verdict::transient(retried_class(policy, class))
        } else {
            Verdict::Permanent(class)
        };
        Reading { verdict, proof: Some(proof), pushback, at_once }
    }
}

/// Reads a server's word that the call should not be repeated. It counts as a failure for gRPC's
/// throttle (gRFC A6), which only transient ones do, so it is read as a wait without an end.
fn refused(policy: &Policy, class: Class, proof: Proof) -> Reading {
    let wishes = policy.retry.pushback_policy();
    let ends_call = wishes.is_honored() && wishes.max() < NEVER.wait();
    let reading = if ends_call {
        let verdict = Verdict::transient(retried_class(policy, class));
        Reading::new(verdict).pushback(Some(NEVER))
    } else {
        Reading::new(Verdict::Permanent(class))
    };
    reading.proof(proof)
}

/// Returns the class whose rule applies to a failure that is to be retried: its own, unless that one
/// is for failures that are not.
fn retried_class(policy: &Policy, class: Class) -> Class {
    let has_rule = class.is_transient() || 0 < policy.retry.rule(class).max_retries;
    if has_rule { class } else { Class::Other }
}

impl<T, E: Diagnose> Assess<T, E> for GrpcAssess {
    fn assess(&self, outcome: &Result<Response<T>, E>) -> Assessment {
        let Ok(response) = outcome else { return HttpAssess.assess(outcome) };
        match Head::of(response) {
            Head::Open => Health::Well.into(),
            Head::NotGrpc(_) => HttpAssess.assess(outcome),
            Head::Ended(code) => {
                let health = health_of(code);
                match Wish::of(response.headers()) {
                    Wish::Wait(wait) if health.is_failure() => {
                        Assessment { health, pushback: Some(wait) }
                    }
                    _ => health.into(),
                }
            }
        }
    }
}

const fn health_of(code: Code) -> Health {
    match code {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => Health::Overloaded,
        Code::Unknown | Code::Internal | Code::DataLoss => Health::Failed,
        Code::Cancelled => Health::Unknown,
        _ => Health::Well,
    }
}

/// What Envoy adds to the refusals of its rate limit filter, which it does not retry either.
static ENVOY_RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

const NEVER: Pushback = Pushback::Exactly(Duration::MAX);

#[cfg(test)]
mod tests;
