//! Ten thousand random schedules of several holders of one idempotency key: messages that are late, leases
//! that run out, holders that crash, complete too late or twice, and clocks that differ by ten minutes.

#[path = "support/idempotency_model.rs"]
mod idempotency_model;

use idempotency_model::{Rule, Run, Tally, Violation};

const SCHEDULES: u64 = 10_000;

/// Returns the first violation, and the seed of its schedule.
fn first_violation(rule: Rule, tally: &mut Tally) -> Option<(u64, Violation)> {
    (0..SCHEDULES).find_map(|seed| Run::new(rule, seed, tally).run().err().map(|v| (seed, v)))
}

#[test]
fn no_schedule_commits_twice_loses_its_order_or_locks_for_ever() {
    let mut tally = Tally::default();
    assert_eq!(first_violation(Rule::Sound, &mut tally), None);
    println!("{SCHEDULES} schedules: {tally:?}");
    // The schedules do what they are made for.
    assert!(8_000 < tally.commits, "{tally:?}");
    assert!(2_000 < tally.takeovers, "{tally:?}");
    assert!(1_000 < tally.late_completes, "{tally:?}");
    assert!(2_000 < tally.replays, "{tally:?}");
    assert!(500 < tally.mismatches, "{tally:?}");
}

#[test]
fn a_store_that_breaks_a_rule_is_found_out() {
    let broken = [
        (Rule::HoldersClock, Violation::Twice),
        (Rule::NoFencing, Violation::LostLeaseCommitted),
        (Rule::NoTakeover, Violation::LockedForEver),
        (Rule::TokensFromOne, Violation::TokenNotAbove),
        (Rule::ForgetsEarly, Violation::Twice),
        (Rule::AnyPayload, Violation::WrongPayload),
    ];
    for (rule, expected) in broken {
        let mut tally = Tally::default();
        let violations =
            (0..SCHEDULES).filter_map(|seed| Run::new(rule, seed, &mut tally).run().err());
        let is_found = violations.into_iter().any(|violation| violation == expected);
        assert!(is_found, "{rule:?} goes unnoticed");
    }
}
