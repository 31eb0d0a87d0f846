//! Other projects' test vectors for injected failures (CH). `vectors/README.md` lists what is left
//! out, and why.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read should stop the test")]

use std::{fs, path::Path, time::Duration};

use redial_core::{Entropy, Latency};
use serde_json::Value;

#[test]
fn chaos_vectors_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let vectors = fs::read_to_string(root.join("vectors.jsonl")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let vectors = vectors.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut seen = 0;
    for vector in vectors.filter(|vector| vector["family"] == "CH") {
        let id = vector["id"].as_str().unwrap();
        let is_listed = readme.split(|c: char| !c.is_alphanumeric() && c != '-').any(|w| w == id);
        let is_checked = mean_holds(id, &vector["inputs"], &vector["expected"]);
        assert_ne!(is_checked, is_listed, "{id}: the README lists what is left out, and only that");
        seen += 1;
    }
    assert_eq!(seen, 4, "every vector of the family is looked at");
}

/// Draws as many delays as the vector did, and compares their mean; `false` if it is no such vector.
fn mean_holds(id: &str, inputs: &Value, expected: &Value) -> bool {
    let Some(median) = inputs["median_ms"].as_u64() else { return false };
    let millis = Duration::from_millis;
    let mut latency =
        Latency::log_normal(millis(median), inputs["sigma"].as_f64().unwrap()).unwrap();
    if let Some(max) = inputs["max_ms"].as_u64() {
        latency = latency.max(millis(max)).unwrap();
    }
    let (entropy, samples) = (Entropy::seeded(7), inputs["samples"].as_u64().unwrap());
    let sum: Duration = (0..samples).map(|_| latency.delay(entropy.draw())).sum();
    let mean = sum.as_secs_f64() * 1e3 / f64::from(u32::try_from(samples).unwrap());
    let (wanted, tolerance) =
        (expected["mean_ms"].as_f64().unwrap(), expected["tolerance"].as_f64().unwrap());
    // Ours need far fewer than theirs allow: a hundredth of the mean.
    assert!((mean - wanted).abs() < tolerance.min(wanted / 100.0), "{id}: {mean}, {wanted}");
    true
}
