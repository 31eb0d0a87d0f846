use super::*;

fn policy() -> FallbackPolicy {
    FallbackPolicy::default()
}

#[test]
fn by_default_an_empty_200_stands_in_for_every_5xx_and_every_error() {
    let policy = policy();
    assert_eq!((policy.status(), policy.body(), policy.headers()), (200, &b""[..], &[][..]));
    for status in [500, 501, 503, 505, 599] {
        assert!(policy.stands_in_for_status(status), "{status}");
    }
    for status in [200, 304, 404, 429, 499, 600] {
        assert!(!policy.stands_in_for_status(status), "{status}");
    }
    for fault in Fault::ALL {
        assert!(policy.stands_in_for_fault(fault), "{fault}");
    }
}

#[test]
fn refusals_can_be_the_only_errors_that_it_stands_in_for() {
    let policy = policy().with_triggers(StatusSet::EMPTY, FallbackErrors::Refusals).unwrap();
    let faults = Fault::ALL.into_iter().filter(|fault| policy.stands_in_for_fault(*fault));
    assert!(faults.eq([Fault::Rejected]));
    assert!(!policy.stands_in_for_status(500));
}

#[test]
fn words_name_the_failures() {
    let triggers = |words: &[&str]| policy().with_trigger_words(words.iter().copied());
    let both = triggers(&["error", "refusal"]).unwrap();
    assert_eq!(both, triggers(&["refusal", "error"]).unwrap());
    assert!(both.stands_in_for_fault(Fault::Dns) && !both.stands_in_for_status(500));

    let refusals = triggers(&["refusal", "4xx", "503"]).unwrap();
    assert!(refusals.stands_in_for_fault(Fault::Rejected));
    assert!(!refusals.stands_in_for_fault(Fault::Dns));
    assert!(refusals.stands_in_for_status(404) && refusals.stands_in_for_status(503));
    assert!(!refusals.stands_in_for_status(500));
    assert_eq!(triggers(&["5xx", "error"]).unwrap(), policy());

    for word in ["5XX", "200", "600", "+500", "errors", ""] {
        assert_eq!(triggers(&["5xx", word]), Err(InvalidFallback::Trigger(word.into())));
    }
    assert_eq!(triggers(&[]), Err(InvalidFallback::Idle));
}

#[test]
fn what_no_message_can_carry_is_refused_with_the_rule() {
    let table = [
        (policy().with_status(199), "fallback status 199 is not within 200 to 599"),
        (policy().with_status(600), "fallback status 600 is not within 200 to 599"),
        (policy().with_header("", "x"), "\"\" is no name of a header field"),
        (policy().with_header("a b", "x"), "\"a b\" is no name of a header field"),
        (
            policy().with_header("x-a", "1\r\nx-b: 2"),
            "\"1\\r\\nx-b: 2\" is no value of a header field (x-a)",
        ),
        (
            policy().with_header("Content-Length", "9"),
            "header field content-length frames the answer and is set by itself",
        ),
        (
            policy().with_body(vec![0; BODY_BYTES_MAX + 1]),
            "fallback body of 1048577 bytes is above 1048576",
        ),
        (
            policy().with_triggers(StatusSet::EMPTY, FallbackErrors::None),
            "a fallback must stand in for something",
        ),
    ];
    for (result, text) in table {
        assert_eq!(result.unwrap_err().to_string(), text);
    }
    let many = (0..=HEADERS_MAX).try_fold(policy(), |policy, _| policy.with_header("x", "y"));
    assert_eq!(many.unwrap_err().to_string(), "a fallback has at most 64 header fields");
    let word = policy().with_trigger_words(["oops"]).unwrap_err().to_string();
    assert!(word.starts_with("`oops` is no failure: give error, refusal"));
}

#[test]
fn a_status_without_a_body_and_a_body_exclude_each_other_in_either_order() {
    let refused = InvalidFallback::BodyForbidden { status: 204 };
    assert!(policy().with_body(vec![0; BODY_BYTES_MAX]).is_ok(), "the longest");
    let body = policy().with_body("x").unwrap();
    assert_eq!(body.with_status(204).unwrap_err(), refused);
    let empty = policy().with_status(204).unwrap();
    assert_eq!(empty.with_body("x").unwrap_err(), refused);
    assert_eq!(refused.to_string(), "fallback status 204 allows no body, and there is one");
}

#[test]
fn names_of_fields_are_kept_in_lower_case() {
    let policy = policy().with_header("X-From", "fallback").unwrap();
    assert_eq!(policy.headers(), [("x-from".to_owned(), "fallback".to_owned())]);
}
