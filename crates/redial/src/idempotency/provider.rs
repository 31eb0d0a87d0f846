//! What the servers of this world do with a key, as a table.

use http::{HeaderMap, HeaderName, StatusCode};

use super::key::KeyDialect;

/// The rules of a server that honors idempotency keys.
///
/// A row of the table below, or one of your own: [`DRAFT`](Self::DRAFT) with other values.
///
/// | | field | kept are | in progress | replays say |
/// |---|---|---|---|---|
/// | [`DRAFT`](Self::DRAFT) | `Idempotency-Key`, quoted | not told | 409 that names a time, or is a problem document | `Idempotent-Replayed: true` |
/// | [`STRIPE_V1`](Self::STRIPE_V1) | `Idempotency-Key` | all that was begun, 500s included | 409 | `Idempotent-Replayed: true` |
/// | [`STRIPE_V2`](Self::STRIPE_V2) | `Idempotency-Key` | successes; a failure is worked on again | 409 | nothing |
/// | [`CHECKOUT_COM`](Self::CHECKOUT_COM) | `Cko-Idempotency-Key` | 2xx | 409 | nothing |
/// | [`FULLSTORY`](Self::FULLSTORY) | `Idempotency-Key` | all to 500, but 409 and 429 | as the draft | nothing |
/// | [`SOLIDGATE`](Self::SOLIDGATE) | `Idempotency-Key` | not told | as the draft | nothing; `Idempotency-Status: ignored` where it is not honored |
///
/// # Examples
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use redial::idempotency::{Provider, Repeat};
///
/// let (error, none) = (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new());
/// assert_eq!(Provider::STRIPE_V1.repeat(error, &none), Repeat::Replays);
/// assert_eq!(Provider::STRIPE_V2.repeat(error, &none), Repeat::Completes);
/// assert_eq!(Provider::CHECKOUT_COM.repeat(error, &none), Repeat::Executes);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Provider {
    /// Its name in reports.
    pub name: &'static str,
    /// The field that carries the key, in lower case.
    pub field: &'static str,
    /// How the key is written there.
    pub dialect: KeyDialect,
    /// Which statuses are kept and given again, as ranges that include both ends.
    pub kept: &'static [(u16, u16)],
    /// Whether what failed half-way is finished by a repetition, rather than begun anew.
    pub completes: bool,
    /// Whether every 409 means that the first request is still in progress.
    pub any_409_is_in_progress: bool,
    /// The status of a key that was used with another payload.
    pub mismatch: u16,
    /// The field, in lower case, and the value that mark an answer given again.
    pub replayed: Option<(&'static str, &'static str)>,
    /// The field, in lower case, and the value that say that the key was not honored.
    pub ignored: Option<(&'static str, &'static str)>,
}

/// What comes of repeating a request with the same key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// The same answer again: repeating is useless.
    Replays,
    /// The request is carried out again, as if for the first time.
    Executes,
    /// What is left of it is carried out.
    Completes,
}

impl Provider {
    /// draft-ietf-httpapi-idempotency-key-header-07, and [`IdempotencyLayer`](super::IdempotencyLayer).
    pub const DRAFT: Self = Self {
        name: "draft",
        field: "idempotency-key",
        dialect: KeyDialect::Quoted,
        kept: SUCCESSES,
        completes: false,
        any_409_is_in_progress: false,
        mismatch: 422,
        replayed: Some(("idempotent-replayed", "true")),
        ignored: None,
    };

    /// Stripe, API v1: "Subsequent requests with the same key return the same result, including 500
    /// errors", once execution began. 502, 503 and 504 come from before it.
    pub const STRIPE_V1: Self = Self {
        name: "stripe_v1",
        dialect: KeyDialect::Raw,
        kept: BEGUN,
        any_409_is_in_progress: true,
        mismatch: 400,
        ..Self::DRAFT
    };

    /// Stripe, API v2: what succeeded is not repeated; what failed is worked on again, and the answer is
    /// an updated one.
    pub const STRIPE_V2: Self = Self {
        name: "stripe_v2",
        dialect: KeyDialect::Raw,
        completes: true,
        any_409_is_in_progress: true,
        mismatch: 400,
        replayed: None,
        ..Self::DRAFT
    };

    /// Checkout.com: "This key is cached in our system if the request returns a 2xx response code."
    pub const CHECKOUT_COM: Self = Self {
        name: "checkout_com",
        field: "cko-idempotency-key",
        dialect: KeyDialect::Raw,
        any_409_is_in_progress: true,
        replayed: None,
        ..Self::DRAFT
    };

    /// Fullstory: "return the same result, with the exception of 429 errors or server errors above 500".
    pub const FULLSTORY: Self = Self {
        name: "fullstory",
        dialect: KeyDialect::Raw,
        kept: BEGUN,
        replayed: None,
        ..Self::DRAFT
    };

    /// Solidgate, which says where it does not honor a key.
    pub const SOLIDGATE: Self = Self {
        name: "solidgate",
        dialect: KeyDialect::Raw,
        replayed: None,
        ignored: Some(("idempotency-status", "ignored")),
        ..Self::DRAFT
    };

    /// All rows of the table.
    pub const ALL: [Self; 6] = [
        Self::DRAFT,
        Self::STRIPE_V1,
        Self::STRIPE_V2,
        Self::CHECKOUT_COM,
        Self::FULLSTORY,
        Self::SOLIDGATE,
    ];

    /// Returns what comes of repeating a request that was answered like this, with the same key.
    #[must_use]
    pub fn repeat(&self, status: StatusCode, headers: &HeaderMap) -> Repeat {
        let code = status.as_u16();
        let is_kept = self.kept.iter().any(|(first, last)| (*first..=*last).contains(&code));
        if is_kept || self.is_replayed(headers) {
            Repeat::Replays
        } else if self.completes {
            Repeat::Completes
        } else {
            Repeat::Executes
        }
    }

    /// Returns whether an answer is one that was given before.
    #[must_use]
    pub fn is_replayed(&self, headers: &HeaderMap) -> bool {
        self.replayed.is_some_and(|mark| has(headers, mark))
    }

    /// Returns whether an answer says that the key was not honored.
    #[must_use]
    pub fn is_ignored(&self, headers: &HeaderMap) -> bool {
        self.ignored.is_some_and(|mark| has(headers, mark))
    }

    /// Returns the field that carries the key; `None` if [`field`](Self::field) cannot be the name of one.
    #[must_use]
    pub fn field_name(&self) -> Option<HeaderName> {
        HeaderName::from_lowercase(self.field.as_bytes()).ok()
    }
}

fn has(headers: &HeaderMap, (field, value): (&'static str, &'static str)) -> bool {
    let found = headers.get(field).and_then(|found| found.to_str().ok());
    found.is_some_and(|found| found.trim().eq_ignore_ascii_case(value))
}

const SUCCESSES: &[(u16, u16)] = &[(200, 299)];
/// Everything that says that execution began.
const BEGUN: &[(u16, u16)] = &[(200, 408), (410, 428), (430, 500)];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn repeat(provider: Provider, code: u16) -> Repeat {
        provider.repeat(StatusCode::from_u16(code).unwrap(), &HeaderMap::new())
    }

    #[test]
    fn who_keeps_which_failures() {
        use Repeat::{Completes, Executes, Replays};
        let table = [
            (Provider::STRIPE_V1, [Replays, Executes, Executes, Executes]),
            (Provider::STRIPE_V2, [Completes, Completes, Completes, Completes]),
            (Provider::CHECKOUT_COM, [Executes, Executes, Executes, Executes]),
            (Provider::FULLSTORY, [Replays, Executes, Executes, Executes]),
            (Provider::SOLIDGATE, [Executes, Executes, Executes, Executes]),
            (Provider::DRAFT, [Executes, Executes, Executes, Executes]),
        ];
        for (provider, expected) in table {
            let found = [500, 503, 429, 409].map(|code| repeat(provider, code));
            assert_eq!(found, expected, "{}", provider.name);
            assert_eq!(repeat(provider, 201), Replays, "{}", provider.name);
        }
    }

    #[test]
    fn an_answer_that_says_it_was_given_before_will_be_given_again() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        let error = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(Provider::DRAFT.repeat(error, &headers), Repeat::Replays);
        assert_eq!(Provider::CHECKOUT_COM.repeat(error, &headers), Repeat::Executes);
        headers.insert("idempotency-status", HeaderValue::from_static("Ignored"));
        assert!(Provider::SOLIDGATE.is_ignored(&headers) && !Provider::DRAFT.is_ignored(&headers));
    }

    #[test]
    fn every_row_names_a_field_that_can_be() {
        for provider in Provider::ALL {
            assert!(provider.field_name().is_some(), "{}", provider.name);
        }
    }
}
