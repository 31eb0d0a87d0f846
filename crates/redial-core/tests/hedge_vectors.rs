//! Other projects' test vectors for latency quantiles (AL) and hedging (TH). None is left out.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read should stop the test")]

use std::{fs, path::Path, time::Duration};

use redial_core::{
    CopyEnd, Entropy, HedgeCause, HedgePolicy, Hedging, LatencyWindow, NextHedge, Quantile, Stop,
};
use serde_json::Value;

const ZERO: Duration = Duration::ZERO;

#[test]
fn quantile_vectors_hold() {
    let vectors =
        vectors(|family, vector| family == "AL" && text(vector, "source").contains("quantile"));
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let id = text(&vector, "id");
        let window = LatencyWindow::new(Duration::from_secs(30));
        let entropy = Entropy::seeded(7);
        let uniform = |low: f64, high: f64| low + (high - low) * share(entropy.draw());
        let record = |millis: f64| window.record(Duration::from_secs_f64(millis / 1e3), ZERO);
        let share = vector["inputs"]["quantile"].as_f64().unwrap();
        let told = || {
            let quantile = Quantile::percent(share * 100.0).unwrap();
            window.quantile(quantile, ZERO).unwrap().as_secs_f64() * 1e3
        };
        let (expected, mut ours) = (&vector["expected"]["value"], Vec::new());
        match text(&vector, "test") {
            "uniform" => {
                (0..10_000).for_each(|_| record(uniform(0.0, 1_000.0)));
                ours.push(told());
            }
            "normal" => {
                // Twelve uniform draws add up to a normal one, near enough for a p95.
                let normal = || (0..12).map(|_| uniform(0.0, 1.0)).sum::<f64>() - 6.0;
                (0..20_000).for_each(|_| record(normal().mul_add(10.0, 100.0)));
                ours.push(told());
            }
            _ => {
                (0..5_000).for_each(|_| record(uniform(90.0, 110.0)));
                ours.push(told());
                (0..10_000).for_each(|_| record(uniform(490.0, 510.0)));
                ours.push(told());
            }
        }
        let wanted = expected.as_array().cloned().unwrap_or_else(|| vec![expected.clone()]);
        assert_eq!(ours.len(), wanted.len(), "{id}");
        for (ours, wanted) in ours.iter().zip(&wanted) {
            let tolerance = vector["expected"]["tolerance"].as_f64().unwrap();
            assert!((ours - wanted.as_f64().unwrap()).abs() <= tolerance, "{id}: {ours}");
        }
    }
}

#[test]
fn hedging_vectors_hold() {
    let is_hedging = |family: &str, vector: &Value| {
        family == "TH" && vector["inputs"]["rule"].as_str().is_some_and(|r| r.contains("hedg"))
    };
    let vectors = vectors(is_hedging);
    assert_eq!(vectors.len(), 3);
    let policy = HedgePolicy::fixed(millis(500)).with_max_hedges(3).unwrap();
    for vector in vectors {
        let mut hedging = Hedging::new(&policy, millis(500));
        let expected = text(&vector["expected"], "value");
        match text(&vector, "id") {
            "TH-021" => {
                let told = [1, 501, 1_001, 1_501].map(|at| {
                    hedging.next(millis(at), || true);
                    format!("{} at {at} ms", hedging.out())
                });
                assert_eq!(format!("outstanding: {}", told.join(", ")), expected);
            }
            "TH-024" => {
                hedging.ended(CopyEnd::PushedBack(millis(200)), millis(100));
                assert_eq!(hedging.next(millis(299), || true), NextHedge::At(millis(300)));
                let sent = NextHedge::Now(HedgeCause::Pushback);
                assert_eq!(hedging.next(millis(300), || true), sent, "after n ms");
                assert_eq!(hedging.next(millis(300), || true), NextHedge::At(millis(800)));
                assert_eq!(expected, "next hedge after n ms, then n+hedgingDelay");
            }
            "TH-025" => {
                hedging.next(millis(500), || true);
                hedging.ended(CopyEnd::Last(Stop::Permanent), millis(600));
                let never = NextHedge::Never(Stop::Permanent);
                assert_eq!(hedging.next(millis(9_000), || true), never);
                assert_eq!(expected, "no further hedges");
            }
            id => panic!("{id} is about hedging and not looked at"),
        }
    }
}

fn vectors(is_ours: impl Fn(&str, &Value) -> bool) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/vectors.jsonl");
    let vectors = fs::read_to_string(path).unwrap();
    let vectors = vectors.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    vectors.filter(|vector| is_ours(text(vector, "family"), vector)).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[expect(clippy::cast_precision_loss, reason = "a share of all draws")]
fn share(draw: u64) -> f64 {
    draw as f64 / u64::MAX as f64
}
