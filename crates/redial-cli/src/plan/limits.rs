//! What holds calls back: rates, places, and what an upstream was seen to bear.

use redial::core::{
    AdaptivePolicy, BulkheadPolicy, BulkheadScope, LimitAlgorithm, RateLimitPolicy, ThrottlePolicy,
};
use serde_json::json;

use super::section::Section;
use crate::show;

pub(super) fn rate_limit(part: &RateLimitPolicy) -> Section {
    let wait = part.longest_wait();
    let late = if wait.is_zero() {
        "what is too much is refused at once".to_owned()
    } else {
        format!("a call waits up to {} for its turn", show::span(wait))
    };
    let json = json!({
        "permits": part.permits(),
        "per_ms": show::millis(part.period()),
        "interval_ms": show::millis(part.interval()),
        "burst": part.most_at_once(),
        "max_wait_ms": show::millis(wait),
        "key": part.rate_key().to_string(),
    });
    Section::new("rate_limit", json).say(&format!(
        "{} calls in {} per {}: one every {}, {} at once; {late}",
        part.permits(),
        show::span(part.period()),
        part.rate_key(),
        show::span(part.interval()),
        part.most_at_once(),
    ))
}

pub(super) fn bulkhead(part: &BulkheadPolicy) -> Section {
    let scope = match part.scope() {
        BulkheadScope::Origin => "origin",
        BulkheadScope::All => "all",
    };
    let queue = match part.queue_max() {
        0 => "more are refused at once".to_owned(),
        queue => {
            format!("{queue} more wait up to {}, the rest is refused", show::span(part.max_wait()))
        }
    };
    let json = json!({
        "max_in_flight": part.in_flight_max(),
        "queue": part.queue_max(),
        "max_wait_ms": show::millis(part.max_wait()),
        "per": scope,
    });
    let text = format!("{} calls in flight per {scope}; {queue}", part.in_flight_max());
    Section::new("bulkhead", json).say(&text)
}

pub(super) fn adaptive_limit(part: &AdaptivePolicy) -> Section {
    let slow = match part.algorithm() {
        LimitAlgorithm::Aimd => {
            format!("answers above {} count as slow", show::span(part.slow_after()))
        }
        LimitAlgorithm::Vegas => "the queue that it sees in latencies sets it".to_owned(),
        LimitAlgorithm::Gradient2 => {
            format!("latencies above {} times the baseline lower it", part.tolerance())
        }
    };
    let json = json!({
        "algorithm": part.algorithm().name(),
        "initial": part.initial(),
        "min": part.min(),
        "max": part.max(),
        "window_ms": show::millis(part.window()),
        "overload_ratio": part.overload_ratio(),
    });
    Section::new("adaptive_limit", json).say(&format!(
        "{}: {} attempts in flight at first, then {} to {}; looks every {} at {} answers or more; \
         {slow}; cut where {} of them are overloaded",
        part.algorithm().name(),
        part.initial(),
        part.min(),
        part.max(),
        show::span(part.window()),
        part.samples_min(),
        show::percent(part.overload_ratio()),
    ))
}

pub(super) fn throttle(part: &ThrottlePolicy) -> Section {
    let refusals =
        ACCEPTED_PERCENT.map(|accepted| (accepted, part.refusal(REQUESTS, accepted * 10)));
    let recoveries =
        CALLS_PER_SECOND.map(|calls| (calls, part.predicted_recovery(f64::from(calls))));
    let json = json!({
        "ratio": part.accepted_ratio(),
        "window_ms": show::millis(part.span()),
        "refused_share": refusals.map(|(accepted, refused)| {
            json!({"accepted_percent": accepted, "refused": (refused * 1e4).round() / 1e4})
        }),
        "recovery": recoveries.map(|(calls, took)| {
            json!({"calls_per_second": calls, "predicted_ms": show::millis(took)})
        }),
    });
    let text = format!(
        "refuses here when more than {} calls were made for each that was taken, counted over {}",
        part.accepted_ratio(),
        show::span(part.span())
    );
    Section::new("throttle", json)
        .say(&text)
        .row("taken there", refusals.map(|(accepted, _)| format!("{accepted} %")))
        .row("refused here", refusals.map(|(_, refused)| show::percent(refused)))
        .row("after an outage, at", recoveries.map(|(calls, _)| format!("{calls}/s")))
        .row("lets go within", recoveries.map(|(_, took)| show::span(took)))
}

const ACCEPTED_PERCENT: [u64; 6] = [100, 50, 40, 25, 10, 0];
/// How many calls the window has seen: few enough for anybody, enough for the padding not to matter.
const REQUESTS: u64 = 1_000;
const CALLS_PER_SECOND: [u32; 3] = [10, 100, 1_000];
