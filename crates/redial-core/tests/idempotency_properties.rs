//! What holds for every record, whatever was done to it before.

use std::time::Duration;

use proptest::prelude::*;
use redial_core::{Begun, FencingToken, Fingerprint, IdempotencyRecord, RecordState};

type Record = IdempotencyRecord<u8>;

fn spans() -> impl Strategy<Value = Duration> {
    (0_u64..1 << 50).prop_map(Duration::from_micros)
}

fn payloads() -> impl Strategy<Value = Fingerprint> {
    any::<[u8; 32]>().prop_map(Fingerprint::new)
}

fn records() -> impl Strategy<Value = Record> {
    (payloads(), any::<u64>(), spans(), any::<Option<u8>>()).prop_map(
        |(payload, token, until, answer)| {
            let state = match answer {
                Some(answer) => RecordState::Completed { answer, until },
                None => RecordState::InProgress { until },
            };
            Record::new(payload, FencingToken::new(token), state)
        },
    )
}

proptest! {
    #[test]
    fn a_holder_has_the_key_until_the_lease_is_over_and_no_longer(
        payload in payloads(), now in spans(), lease in spans(), later in spans(),
    ) {
        let (record, token) = Record::start(None, payload, now, lease);
        prop_assert!(record.is_held_by(token));
        let begun = record.begin(payload, now + later);
        if later < lease {
            prop_assert_eq!(begun, Begun::InProgress { left: lease - later });
        } else {
            prop_assert_eq!(begun, Begun::Free);
        }
    }

    #[test]
    fn whoever_begins_after_a_record_has_a_higher_token(
        before in records(), payload in payloads(), now in spans(), lease in spans(),
    ) {
        let (after, token) = Record::start(Some(&before), payload, now, lease);
        let is_last = before.token() == FencingToken::new(u64::MAX);
        prop_assert!(before.token() < token || is_last);
        prop_assert_eq!(after.complete(before.token(), 1, now, lease).is_some(), is_last);
    }

    #[test]
    fn only_the_token_of_a_record_in_progress_may_change_it(
        record in records(), other in any::<u64>(), now in spans(), span in spans(),
    ) {
        let is_open = matches!(record.state(), RecordState::InProgress { .. });
        for token in [record.token(), FencingToken::new(other)] {
            let may = is_open && token == record.token();
            prop_assert_eq!(record.is_held_by(token), may);
            prop_assert_eq!(record.renew(token, now, span).is_some(), may);
            prop_assert_eq!(record.complete(token, 1, now, span).is_some(), may);
        }
    }

    #[test]
    fn what_is_completed_is_given_to_the_same_payload_only_and_as_long_as_it_is_kept(
        payload in payloads(), other in payloads(), now in spans(), keep in spans(),
        later in spans(),
    ) {
        let (record, token) = Record::start(None, payload, now, keep);
        let done = record.complete(token, 7, now, keep).unwrap();
        let same = done.begin(payload, now + later);
        let (kept, mismatch) = (Begun::Completed(&7), Begun::Mismatch);
        prop_assert_eq!(same, if later < keep { kept } else { Begun::Free });
        if other != payload {
            let begun = done.begin(other, now + later);
            prop_assert_eq!(begun, if later < keep { mismatch } else { Begun::Free });
        }
    }
}
