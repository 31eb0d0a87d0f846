//! The rules, held against `http-cache-semantics`, where both mean the same.
//!
//! That crate is not what answers calls: it gives out only the last value of a field that has several,
//! replaces `Date`, compares only the first value of a field in `Vary`, takes directives' case
//! literally, knows no `Date` in an age, and overflows on a large `Age`. What is left is a judge.

use http_cache_semantics::{CacheOptions, CachePolicy as Judge};
use proptest::prelude::*;

use super::{
    super::{
        outlook::{Moment, Outlook},
        rules,
    },
    *,
};

/// Each directive at most once: the judge stores contradictions, ours takes them for stale.
fn control() -> impl Strategy<Value = String> {
    let words = ["no-store", "no-cache", "public", "must-revalidate", "x-unknown=1"];
    let words = prop::sample::subsequence(words.to_vec(), 0..=2);
    let spans = (prop::option::of(0_u32..1_000), prop::option::of(0_u32..1_000));
    (words, spans).prop_map(|(words, (max_age, s_maxage))| {
        let mut parts: Vec<_> = words.into_iter().map(str::to_owned).collect();
        parts.extend(max_age.map(|n| format!("max-age={n}")));
        parts.extend(s_maxage.map(|n| format!("s-maxage={n}")));
        parts.join(", ")
    })
}

proptest! {
    #[test]
    fn what_is_storable_and_how_long_it_is_fresh_is_judged_alike(
        control in control(),
        status in prop::sample::select(vec![200_u16, 203, 204, 206, 300, 301, 308, 500, 503, 429]),
        has_credentials: bool,
        age in 0_u64..500,
        resident in 0_u64..1_500,
    ) {
        let mut fields = vec![("cache-control", control.as_str())];
        let age = age.to_string();
        fields.push(("age", &age));
        let credentials: &[(&str, &str)] = if has_credentials { &[("authorization", "x")] } else { &[] };
        let request = get(credentials);
        let (head, _) = answer(status, &fields, "").unwrap().into_parts();
        let begun = crate::clock::now();
        let moment = |seconds: u64| Moment {
            at: begun + Duration::from_secs(seconds),
            unix: EPOCH + i64::try_from(seconds).unwrap(),
        };
        let outlook = Outlook::new(&head.headers, Duration::ZERO, moment(0));
        let terms = &outlook.terms;

        let at = std::time::SystemTime::UNIX_EPOCH + SECOND * u32::try_from(EPOCH).unwrap();
        let options = CacheOptions { cache_heuristic: 0.0, ..CacheOptions::default() };
        let judge = Judge::new_options(&request, &head, at, options);
        // Ours asks for more than RFC 9111 §3.5 where credentials are concerned.
        let is_stricter = has_credentials && terms.must_revalidate && !terms.is_for_everybody();
        let allowed = rules::use_of(&head, &outlook, has_credentials);
        prop_assert_eq!(allowed.is_storable, judge.is_storable() && !is_stricter);

        if allowed.is_storable {
            let later = at + Duration::from_secs(resident);
            prop_assert_eq!(outlook.age(moment(resident)), judge.age(later));
            let asks = super::super::directives::Asks::default();
            let is_fresh = outlook.serves(&asks, &CachePolicy::default(), moment(resident)).is_now();
            prop_assert_eq!(is_fresh, !judge.is_stale(later));
        }
    }
}
