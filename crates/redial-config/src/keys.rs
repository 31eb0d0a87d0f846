//! The keys that there are, and the one that somebody may have meant.

pub(crate) const TOP: &[&str] = &["policies", "routes"];

pub(crate) const POLICY: &[&str] = &[
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
pub(crate) const THROTTLE: &[&str] = &["max_tokens", "token_ratio"];
pub(crate) const CLASS: &[&str] = &["max_retries", "backoff"];
pub(crate) const ROUTE: &[&str] = &["host", "path", "method", "policy"];

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
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_meant_if_it_is_near() {
        let meant = |word| meant(word, POLICY.iter().copied());
        assert_eq!(meant("max_retires"), Some("max_retries"));
        assert_eq!(meant("maxretries"), Some("max_retries"));
        assert_eq!(meant("dead_line"), Some("deadline"));
        assert_eq!(meant("budgets"), Some("budget"));
        assert_eq!(meant("colour"), None);
        assert_eq!(meant(""), None);
    }
}
