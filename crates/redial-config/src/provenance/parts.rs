//! The parts that most policies do without, as a file could have them.

use std::time::Duration;

use redial_core::{
    AdaptivePolicy, Backoff, BreakerPolicy, BulkheadPolicy, BulkheadScope, CachePolicy,
    ChaosPolicy, FallbackPolicy, Fault, Growth, HedgePolicy, Policy, RateLimitPolicy, ResumePolicy,
    StallPolicy, ThrottlePolicy,
};

use super::{
    Shown,
    shown::{bytes, jitter, span},
};

/// The settings of one part: key and value.
type Part = Vec<(&'static str, String)>;

/// Adds each part: its settings, or that it is off.
pub(super) fn add(policy: &Policy, all: &mut Vec<Shown>) {
    let parts = [
        ("breaker", policy.breaker.as_ref().map(breaker)),
        ("hedge", policy.hedge.as_ref().map(hedge)),
        ("rate_limit", policy.rate_limit.as_ref().map(rate_limit)),
        ("throttle", policy.throttle.as_ref().map(throttle)),
        ("bulkhead", policy.bulkhead.as_ref().map(bulkhead)),
        ("adaptive_limit", policy.adaptive_limit.as_ref().map(adaptive_limit)),
        ("cache", policy.cache.as_ref().map(cache)),
        ("fallback", policy.fallback.as_deref().map(fallback)),
        ("resume", policy.resume.as_ref().map(resume)),
        ("stall", policy.stall.as_ref().map(stall)),
        ("chaos", policy.chaos.as_deref().map(chaos)),
    ];
    for (name, part) in parts {
        match part {
            Some(part) => {
                all.extend(part.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            None => all.push((name.to_owned(), "off".to_owned())),
        }
    }
}

fn breaker(part: &BreakerPolicy) -> Part {
    let window = part.window();
    let calls = |calls: u32| calls.to_string();
    vec![
        ("consecutive_failures", part.consecutive_failures().to_string()),
        ("failure_ratio", part.failure_ratio().to_string()),
        ("slow_call", optional(part.slow_after())),
        ("slow_ratio", part.slow_ratio().to_string()),
        ("window", window.call_count().map_or_else(|| optional(window.span()), calls)),
        ("min_calls", part.min_calls().to_string()),
        ("open", waits(part.open())),
        ("pushback_max", span(part.pushback_max())),
        ("probes", part.probes().to_string()),
        ("probe_successes", part.probe_successes().to_string()),
        ("half_open_max", span(part.half_open_max())),
        ("abandoned", part.abandoned().name().to_owned()),
        ("observe_only", part.is_observing().to_string()),
    ]
}

fn hedge(part: &HedgePolicy) -> Part {
    let delay = part.quantile().map_or_else(|| optional(part.fixed_delay()), |q| q.to_string());
    let mut all = vec![("delay", delay)];
    if let (Some(initial), Some((min, max))) = (part.initial_delay(), part.bounds()) {
        all.push(("initial_delay", span(initial)));
        all.push(("min_delay", span(min)));
        all.push(("max_delay", span(max)));
    }
    all.push(("max_hedges", part.max_hedges().to_string()));
    all
}

fn rate_limit(part: &RateLimitPolicy) -> Part {
    vec![
        ("permits", part.permits().to_string()),
        ("per", span(part.period())),
        ("burst", part.most_at_once().to_string()),
        ("max_wait", span(part.longest_wait())),
        ("key", part.rate_key().to_string()),
    ]
}

fn throttle(part: &ThrottlePolicy) -> Part {
    vec![
        ("ratio", part.accepted_ratio().to_string()),
        ("window", span(part.span())),
        ("padding", part.request_padding().to_string()),
        ("probes_per_second", part.probe_rate().to_string()),
        ("refused_max", part.most_refused().to_string()),
        ("count_refused", part.does_count_refused().to_string()),
    ]
}

fn bulkhead(part: &BulkheadPolicy) -> Part {
    let scope = match part.scope() {
        BulkheadScope::Origin => "origin",
        BulkheadScope::All => "all",
    };
    vec![
        ("max_in_flight", part.in_flight_max().to_string()),
        ("queue", part.queue_max().to_string()),
        ("max_wait", span(part.max_wait())),
        ("per", scope.to_owned()),
    ]
}

fn adaptive_limit(part: &AdaptivePolicy) -> Part {
    vec![
        ("algorithm", part.algorithm().name().to_owned()),
        ("min", part.min().to_string()),
        ("initial", part.initial().to_string()),
        ("max", part.max().to_string()),
        ("tolerance", part.tolerance().to_string()),
        ("slow_after", span(part.slow_after())),
        ("overload_ratio", part.overload_ratio().to_string()),
        ("window", span(part.window())),
        ("samples", part.samples_min().to_string()),
        ("probe_interval", span(part.probe_interval())),
    ]
}

fn cache(part: &CachePolicy) -> Part {
    vec![
        ("max_bytes", bytes(part.bytes_max())),
        ("max_body", bytes(part.body_bytes_max().into())),
        ("stale_if_error", span(part.stale_if_error())),
        ("stale_while_revalidate", span(part.stale_while_revalidate())),
        ("store", part.is_storing().to_string()),
        ("coalesce", part.is_coalescing().to_string()),
        ("coalesce_wait", span(part.wait_max())),
    ]
}

fn fallback(part: &FallbackPolicy) -> Part {
    let headers = part.headers().iter().map(|(name, value)| format!("{name}: {value:?}"));
    let body = String::from_utf8_lossy(part.body());
    vec![
        ("status", part.status().to_string()),
        ("headers", format!("{{{}}}", headers.collect::<Vec<_>>().join(", "))),
        ("body", format!("{body:?}")),
        ("on", triggers(part)),
    ]
}

/// The words of a fallback's triggers.
fn triggers(part: &FallbackPolicy) -> String {
    let mut words = Vec::new();
    for (word, first) in [("4xx", 400_u16), ("5xx", 500)] {
        let statuses = || first..first + 100;
        if statuses().all(|status| part.stands_in_for_status(status)) {
            words.push(word.to_owned());
        } else {
            let single = statuses().filter(|status| part.stands_in_for_status(*status));
            words.extend(single.map(|status| status.to_string()));
        }
    }
    if part.stands_in_for_fault(Fault::Other) {
        words.push("error".to_owned());
    } else if part.stands_in_for_fault(Fault::Rejected) {
        words.push("refusal".to_owned());
    }
    format!("[{}]", words.join(", "))
}

fn resume(part: &ResumePolicy) -> Part {
    vec![("max_resumes", part.resumes().to_string()), ("backoff", waits(part.schedule()))]
}

fn stall(part: &StallPolicy) -> Part {
    let throughput = part.throughput_min().map_or_else(
        || "none".to_owned(),
        |(speed, grace)| format!("{{bytes_per_second: {speed}, grace: {}}}", span(grace)),
    );
    vec![("idle", optional(part.idle_max())), ("throughput", throughput)]
}

fn chaos(part: &ChaosPolicy) -> Part {
    let seed = part.fixed_seed().map_or_else(|| "random".to_owned(), |seed| seed.to_string());
    let rules = match part.rules().len() {
        0 => "[]".to_owned(),
        rules => format!("{rules} rules"),
    };
    vec![("enabled", part.is_enabled().to_string()), ("seed", seed), ("rules", rules)]
}

fn optional(value: Option<Duration>) -> String {
    value.map_or_else(|| "none".to_owned(), span)
}

/// A schedule, as a file has it.
fn waits(waits: &Backoff) -> String {
    let (initial, max) = (span(waits.initial()), span(waits.max()));
    let factor = match waits.growth() {
        Growth::Exponential(factor) => format!(", factor: {factor}"),
        Growth::Fixed | Growth::Linear | Growth::Decorrelated => String::new(),
    };
    let (kind, spread) = (waits.growth().name(), jitter(waits.spread()));
    format!("{{kind: {kind}, initial: {initial}{factor}, max: {max}, jitter: {spread}}}")
}
