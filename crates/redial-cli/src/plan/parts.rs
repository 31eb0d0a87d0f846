//! What acts for a call, or in its place.

use redial::core::{
    BreakerPolicy, CachePolicy, ChaosPolicy, ChaosRule, FallbackPolicy, Fault, HedgePolicy,
    ResumePolicy, StallPolicy,
};
use serde_json::json;

use super::{describe_backoff, section::Section};
use crate::show;

pub(super) fn breaker(part: &BreakerPolicy) -> Section {
    let window = part.window();
    let span = window.call_count().map_or_else(
        || window.span().map(show::span).unwrap_or_default(),
        |calls| format!("{calls} calls"),
    );
    let mut trips = Vec::new();
    if 0 < part.consecutive_failures() {
        trips.push(format!("{} failures in a row", part.consecutive_failures()));
    }
    let mut shares = Vec::new();
    if 0.0 < part.failure_ratio() {
        shares.push(format!("{} failed", show::percent(part.failure_ratio())));
    }
    if let Some(slow) = part.slow_after() {
        let share = show::percent(part.slow_ratio());
        shares.push(format!("{share} slower than {}", show::span(slow)));
    }
    if !shares.is_empty() {
        let calls = part.min_calls().max(1);
        trips.push(format!("{} of at least {calls} in {span}", shares.join(" or ")));
    }
    let opens = if trips.is_empty() { "never by itself".to_owned() } else { trips.join(", or ") };
    let open = [1, 2, 3, 4, 5, 6].map(|trip| (trip, part.open().bounds(trip)));
    let json = json!({
        "trips": trips,
        "open": open.map(|(trip, (earliest, latest))| {
            json!({"trip": trip, "min_ms": show::millis(earliest), "max_ms": show::millis(latest)})
        }),
        "probes": part.probes(),
        "probe_successes": part.probe_successes(),
        "half_open_max_ms": show::millis(part.half_open_max()),
        "observe_only": part.is_observing(),
    });
    let section = Section::new("breaker", json).say(&format!("opens after {opens}"));
    let section = section
        .row("trip", open.map(|(trip, _)| trip.to_string()))
        .row("open at least", open.map(|(_, (earliest, _))| show::span(earliest)))
        .row("open at most", open.map(|(_, (_, latest))| show::span(latest)))
        .say(&format!(
            "or as long as the server asks, up to {}; then {} probes at once, closed after {} \
             successes, half-open for at most {}",
            show::span(part.pushback_max()),
            part.probes(),
            part.probe_successes(),
            show::span(part.half_open_max()),
        ));
    if part.is_observing() { section.say("observes only: refuses nothing") } else { section }
}

pub(super) fn hedge(part: &HedgePolicy) -> Section {
    let copies = part.max_hedges();
    let more = if copies == 1 { "1 copy more".to_owned() } else { format!("{copies} copies more") };
    let late = part.quantile().map(|quantile| 1.0 - f64::from(quantile.per_mille()) / 1e3);
    let delay = match (part.quantile(), part.initial_delay(), part.bounds()) {
        (Some(quantile), Some(initial), Some((min, max))) => format!(
            "{quantile} of the origin's answers ({} until that is known, {} to {})",
            show::span(part.delay(Some(initial))),
            show::span(min),
            show::span(max)
        ),
        _ => show::span(part.delay(None)),
    };
    let load = match late {
        Some(late) => format!("about {} more load", show::percent(late)),
        None => "as much more load as there are later answers".to_owned(),
    };
    let json = json!({
        "delay": part.quantile().map(|quantile| quantile.to_string()),
        "delay_ms": show::millis(part.delay(None)),
        "max_hedges": copies,
        "extra_load": late.map(|late| (late * 1e3).round() / 1e3),
        "extra_load_max": copies,
    });
    Section::new("hedge", json).say(&format!(
        "without an answer after {delay}, {more} at most; {load}, within the budget; what is hedged \
         is not retried"
    ))
}

pub(super) fn cache(part: &CachePolicy) -> Section {
    let mut says = Vec::new();
    if part.is_storing() {
        let (all, each) =
            (show::bytes(part.bytes_max()), show::bytes(part.body_bytes_max().into()));
        says.push(format!("keeps {all}, answers of up to {each}"));
        says.push(format!("stale for {} if the upstream fails", show::span(part.stale_if_error())));
        let meanwhile = show::span(part.stale_while_revalidate());
        says.push(format!("for {meanwhile} while it asks again"));
    }
    if part.is_coalescing() {
        let wait = show::span(part.wait_max());
        says.push(format!("equal requests share one answer, and wait up to {wait} for it"));
    }
    let json = json!({
        "store": part.is_storing(),
        "bytes_max": part.bytes_max(),
        "body_bytes_max": part.body_bytes_max(),
        "stale_if_error_ms": show::millis(part.stale_if_error()),
        "stale_while_revalidate_ms": show::millis(part.stale_while_revalidate()),
        "coalesce": part.is_coalescing(),
        "coalesce_wait_ms": show::millis(part.wait_max()),
    });
    Section::new("cache", json).say(&says.join("; "))
}

pub(super) fn fallback(part: &FallbackPolicy) -> Section {
    let mut on = statuses(part);
    match (part.stands_in_for_fault(Fault::Other), part.stands_in_for_fault(Fault::Rejected)) {
        (true, _) => on.push("any error".to_owned()),
        (false, true) => on.push("our own refusals".to_owned()),
        (false, false) => {}
    }
    let body = show::bytes(part.body().len() as u64);
    let json = json!({"status": part.status(), "body_bytes": part.body().len(), "on": on});
    let text = format!("answers {} with {body} for {}", part.status(), on.join(", "));
    Section::new("fallback", json).say(&text)
}

/// The statuses that a fallback stands in for, as ranges.
fn statuses(part: &FallbackPolicy) -> Vec<String> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for status in (100..=999).filter(|status| part.stands_in_for_status(*status)) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == status => *last = status,
            _ => ranges.push((status, status)),
        }
    }
    let range = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first} to {last}") }
    };
    ranges.iter().map(range).collect()
}

pub(super) fn resume(part: &ResumePolicy) -> Section {
    let json = json!({
        "max_resumes": part.resumes(),
        "backoff": describe_backoff(part.schedule()),
    });
    let waits = describe_backoff(part.schedule());
    let text =
        format!("a download that breaks off goes on {} times; waits {waits}", part.resumes());
    Section::new("resume", json).say(&text)
}

pub(super) fn stall(part: &StallPolicy) -> Section {
    let idle = part.idle_max().map(|idle| format!("brings nothing for {}", show::span(idle)));
    let slow = part.throughput_min().map(|(bytes, grace)| {
        format!("stays below {bytes} bytes/s for longer than {}", show::span(grace))
    });
    let when: Vec<_> = idle.into_iter().chain(slow).collect();
    let json = json!({
        "idle_ms": part.idle_max().map(show::millis),
        "bytes_per_second_min": part.throughput_min().map(|(bytes, _)| bytes),
        "grace_ms": part.throughput_min().map(|(_, grace)| show::millis(grace)),
    });
    let text = format!("gives a body up that {}", when.join(", or "));
    Section::new("stall", json).say(&text)
}

pub(super) fn chaos(part: &ChaosPolicy) -> Section {
    let state = if part.is_active() { "active" } else { "off" };
    let rules: Vec<_> = part.rules().iter().map(rule).collect();
    let json = json!({"active": part.is_active(), "seed": part.fixed_seed(), "rules": rules});
    let count =
        if rules.len() == 1 { "1 rule".to_owned() } else { format!("{} rules", rules.len()) };
    let section = Section::new("chaos", json).say(&format!("{state}: {count}"));
    rules.iter().fold(section, |section, rule| section.say(&format!("· {rule}")))
}

/// Which requests a chaos rule is about, how many of them it hits, and what it does.
fn rule(rule: &ChaosRule) -> String {
    let pattern = |pattern: Option<&redial::core::Pattern>| pattern.map(|p| p.as_str().to_owned());
    let methods = (!rule.methods().is_empty()).then(|| rule.methods().join(", "));
    let host = pattern(rule.host_pattern());
    let place: String = host.into_iter().chain(pattern(rule.path_pattern())).collect();
    let which: Vec<_> = methods.into_iter().chain((!place.is_empty()).then_some(place)).collect();
    let which = if which.is_empty() { "every request".to_owned() } else { which.join(" ") };
    let rate = rule.hit_rate().map(|rate| format!(", {} of them", show::percent(rate)));
    let most = rule.total_max().map(|most| match rule.hit_rate() {
        Some(_) => format!(", {most} at most"),
        None => format!(", the first {most}"),
    });
    let mut effects = Vec::new();
    if rule.delays().is_some() {
        effects.push("a delay".to_owned());
    }
    if let Some(answer) = rule.answer() {
        let what = answer.status.map_or("a reset".to_owned(), |(status, _)| status.to_string());
        effects.push(if answer.is_after { format!("{what} after it was sent") } else { what });
    }
    if rule.cut().is_some() {
        effects.push("a body that breaks off".to_owned());
    }
    if rule.pace().is_some() {
        effects.push("a slow body".to_owned());
    }
    let (rate, most) = (rate.unwrap_or_default(), most.unwrap_or_default());
    format!("{which}{rate}{most}: {}", effects.join(", "))
}
