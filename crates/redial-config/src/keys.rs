//! The keys that there are, and the one that somebody may have meant.

pub(crate) const TOP: &[&str] = &["policies", "routes"];

pub(crate) const POLICY: &[&str] = &[
    "profile",
    "max_retries",
    "backoff",
    "deadline",
    "attempt_timeout",
    "retry_on",
    "idempotent",
    "assume_429_unprocessed",
    "trust_proxy_status",
    "replay_body",
    "pushback",
    "budget",
    "classes",
    "breaker",
    "hedge",
    "rate_limit",
    "throttle",
    "bulkhead",
    "adaptive_limit",
    "cache",
    "fallback",
    "resume",
    "stall",
    "chaos",
];

/// The compact form, as it is found in other people's files.
pub(crate) const COMPACT: &[&str] =
    &["maxRetries", "initialDelayMs", "backoffFactor", "jitterEnabled", "maxDelayMs"];

pub(crate) const BACKOFF: &[&str] = &["kind", "initial", "factor", "max", "jitter"];
pub(crate) const PUSHBACK: &[&str] = &["honor", "max", "jitter"];
pub(crate) const BUDGET: &[&str] = &[
    "deposit",
    "max",
    "initial",
    "floor",
    "cost",
    "throttled_cost",
    "ratio",
    "window",
    "throttle",
];
pub(crate) const BUDGET_THROTTLE: &[&str] = &["max_tokens", "token_ratio"];
pub(crate) const CLASS: &[&str] = &["max_retries", "backoff"];
pub(crate) const ROUTE: &[&str] = &["host", "path", "method", "policy"];

pub(crate) const BREAKER: &[&str] = &[
    "consecutive_failures",
    "failure_ratio",
    "slow_call",
    "slow_ratio",
    "window",
    "min_calls",
    "open",
    "pushback_max",
    "probes",
    "probe_successes",
    "half_open_max",
    "abandoned",
    "observe_only",
];
pub(crate) const HEDGE: &[&str] =
    &["delay", "initial_delay", "min_delay", "max_delay", "max_hedges"];
pub(crate) const RATE_LIMIT: &[&str] = &["permits", "per", "burst", "max_wait", "key"];
pub(crate) const THROTTLE: &[&str] =
    &["ratio", "window", "padding", "probes_per_second", "refused_max", "count_refused"];
pub(crate) const BULKHEAD: &[&str] = &["max_in_flight", "queue", "max_wait", "per"];
pub(crate) const ADAPTIVE_LIMIT: &[&str] = &[
    "algorithm",
    "min",
    "initial",
    "max",
    "tolerance",
    "slow_after",
    "overload_ratio",
    "window",
    "samples",
    "probe_interval",
];
pub(crate) const CACHE: &[&str] = &[
    "max_bytes",
    "max_body",
    "stale_if_error",
    "stale_while_revalidate",
    "store",
    "coalesce",
    "coalesce_wait",
];
pub(crate) const FALLBACK: &[&str] = &["status", "headers", "body", "on"];
pub(crate) const RESUME: &[&str] = &["max_resumes", "backoff"];
pub(crate) const STALL: &[&str] = &["idle", "throughput"];
pub(crate) const THROUGHPUT: &[&str] = &["bytes_per_second", "grace"];
pub(crate) const CHAOS: &[&str] = &["enabled", "seed", "rules"];
pub(crate) const CHAOS_RULE: &[&str] = &[
    "host",
    "path",
    "method",
    "rate",
    "first",
    "at_most",
    "latency",
    "status",
    "headers",
    "reset",
    "after",
    "truncate",
    "slow_body",
];
pub(crate) const LATENCY: &[&str] = &["fixed", "from", "to", "median", "sigma", "max"];
pub(crate) const TRUNCATE: &[&str] = &["bytes", "share"];
pub(crate) const SLOW_BODY: &[&str] = &["bytes_per_second", "pause"];

/// Returns which of `known` was probably meant by `word`: the nearest, if it is near.
pub(crate) fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let near = known.into_iter().map(|key| (distance(&word, &key.to_ascii_lowercase()), key));
    let (distance, key) = near.min()?;
    (distance <= 1 + word.len() / 5).then_some(key)
}

/// How many characters have to be added, removed, replaced or swapped with their neighbor.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(WORD_MAX).collect(), b.chars().take(WORD_MAX).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(x != y);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            let is_swap = 0 < i && 0 < j && *x == b[j - 1] && a[i - 1] == *y;
            if is_swap {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// No key of ours is longer; a longer word is not near any.
const WORD_MAX: usize = 64;

#[cfg(test)]
mod tests;
