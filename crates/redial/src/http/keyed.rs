//! What a failure means for a request whose idempotency key the server honors.

use http::{HeaderMap, header};
use redial_core::{Class, Policy, Pushback, Reading, Verdict};

use super::{
    because::Because,
    read::{Answer, class_of, proof_of, retried_class},
};
use crate::idempotency::{Provider, Repeat};

/// Reads a failure by the key's rules, where they say anything about it.
pub(super) fn by_key(
    policy: &Policy,
    provider: &Provider,
    answer: Answer<'_>,
    wish: Option<Pushback>,
    because: &mut impl FnMut(Because),
) -> Option<Reading> {
    let Answer { status, headers } = answer;
    let code = status.as_u16();
    let permanent = Reading::new(Verdict::Permanent(class_of(code)));
    if provider.is_ignored(headers) {
        // What made the request repeatable was the key.
        let proof = proof_of(policy, code, headers);
        let is_harmless = policy.is_idempotent || proof.evidence().is_unapplied();
        if is_harmless {
            return None;
        }
        because(Because::KeyIgnored);
        return Some(permanent);
    }
    let is_again = provider.is_replayed(headers);
    if code == 409 && !is_again && is_in_progress(provider, headers, wish) {
        because(Because::KeyInProgress);
        return Some(Reading::new(Verdict::transient(retried_class(policy, Class::Other))));
    }
    if code == provider.mismatch && !is_again {
        because(Because::KeyReused(code));
        return Some(permanent);
    }
    let is_kept = provider.repeat(status, headers) == Repeat::Replays;
    is_kept.then(|| {
        because(Because::KeptByKey(code));
        permanent
    })
}

/// A 409 can mean much else. Without a rule of the provider's, it has to name a time to come back, or to
/// be a problem document, which the draft asks for and says no more about.
fn is_in_progress(provider: &Provider, headers: &HeaderMap, wish: Option<Pushback>) -> bool {
    provider.any_409_is_in_progress || wish.is_some() || {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        kind.is_some_and(|kind| kind.starts_with("application/problem+json"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue, Request, StatusCode};

    use super::*;
    use crate::{Asked, http::read, idempotency::KeySent};

    type Fields<'a> = &'a [(&'static str, &'static str)];

    fn answered(honored_by: Option<Provider>, code: u16, fields: Fields<'_>) -> Reading {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut request = Request::post("http://shop.example/orders").body(()).unwrap();
        request.extensions_mut().insert(KeySent { honored_by });
        let (status, asked) = (StatusCode::from_u16(code).unwrap(), Asked::from(&request));
        let answer = Ok(Answer { status, headers: &headers });
        read(&Policy::default(), &asked, answer, || 1_790_000_000, |_| {})
    }

    fn is_transient(honored_by: Option<Provider>, code: u16, fields: Fields<'_>) -> bool {
        matches!(answered(honored_by, code, fields).verdict, Verdict::Transient(_))
    }

    const LATER: Fields<'_> = &[("retry-after", "2")];
    const PROBLEM: Fields<'_> = &[("content-type", "application/problem+json; charset=utf-8")];
    const AGAIN: (&str, &str) = ("idempotent-replayed", "true");

    #[test]
    fn a_409_of_the_same_key_is_waited_for_and_another_is_not() {
        let draft = Some(Provider::DRAFT);
        let reading = answered(draft, 409, LATER);
        assert!(matches!(reading.verdict, Verdict::Transient(_)));
        assert_eq!(reading.pushback.unwrap().wait(), Duration::from_secs(2));
        assert!(is_transient(draft, 409, PROBLEM));
        assert!(!is_transient(draft, 409, &[]));
        assert!(!is_transient(None, 409, LATER), "nobody is known to honor it");
        assert!(!is_transient(draft, 409, &[LATER[0], AGAIN]), "the first one's own 409");
        assert!(!is_transient(draft, 409, &[LATER[0], ("x-should-retry", "false")]));
        for provider in [Provider::STRIPE_V1, Provider::STRIPE_V2, Provider::CHECKOUT_COM] {
            assert!(is_transient(Some(provider), 409, &[]), "{}", provider.name);
        }
    }

    #[test]
    fn a_missing_or_reused_key_is_permanent() {
        for (provider, code) in [(Provider::DRAFT, 400), (Provider::DRAFT, 422)] {
            assert!(!is_transient(Some(provider), code, PROBLEM), "{code}");
        }
        assert!(!is_transient(Some(Provider::STRIPE_V1), 400, &[]));
        let listed = redial_core::Triggers::DEFAULT;
        let statuses = listed.statuses.with(422);
        let triggers = redial_core::Triggers { statuses, ..listed };
        let policy = Policy { triggers, ..Policy::default() };
        let headers = HeaderMap::new();
        let answer = Answer { status: StatusCode::UNPROCESSABLE_ENTITY, headers: &headers };
        let read = by_key(&policy, &Provider::DRAFT, answer, None, &mut |_| {});
        assert!(matches!(read.unwrap().verdict, Verdict::Permanent(_)), "even where it is listed");
    }

    #[test]
    fn a_failure_that_the_server_keeps_is_not_asked_for_again() {
        let stripe = Some(Provider::STRIPE_V1);
        assert!(!is_transient(stripe, 500, &[]));
        assert!(is_transient(stripe, 500, &[("stripe-should-retry", "true")]), "it knows better");
        assert!(is_transient(stripe, 503, &[]));
        assert!(!is_transient(Some(Provider::DRAFT), 503, &[AGAIN]));
        assert!(!is_transient(Some(Provider::FULLSTORY), 500, &[]));
        for provider in [Provider::STRIPE_V2, Provider::CHECKOUT_COM, Provider::SOLIDGATE] {
            assert!(is_transient(Some(provider), 500, &[]), "{}", provider.name);
        }
    }

    #[test]
    fn a_key_that_the_server_ignored_protects_nothing() {
        let ignored: Fields<'_> = &[("idempotency-status", "ignored")];
        assert!(!is_transient(Some(Provider::SOLIDGATE), 500, ignored));
        assert_eq!(
            answered(Some(Provider::SOLIDGATE), 429, ignored).verdict,
            Verdict::Throttled,
            "nothing was done"
        );
    }
}
