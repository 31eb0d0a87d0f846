//! Reads the vectors of one family, and holds the list of those that are left out against what was.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Whether a vector applies to us; those that do have been checked.
pub(crate) enum Outcome {
    Checked,
    LeftOut,
}

/// Checks each of the `count` vectors of `family`: with its id, source, inputs and expected results.
pub(crate) fn run(
    family: &str,
    count: usize,
    check: impl Fn(&str, &str, &Value, &Value) -> Outcome,
) {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let (mut seen, mut wrong) = (0, Vec::<String>::new());
    for vector in vectors().iter().filter(|vector| vector["family"] == family) {
        let (id, source) = (vector["id"].as_str().unwrap(), vector["source"].as_str().unwrap());
        let is_listed = readme.split(|c: char| !c.is_alphanumeric() && c != '-').any(|w| w == id);
        let outcome = check(id, source, &vector["inputs"], &vector["expected"]);
        if matches!(outcome, Outcome::LeftOut) != is_listed {
            wrong.push(id.to_owned());
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "the README must list what is left out, and only that: {wrong:?}");
    assert_eq!(seen, count, "every vector of the family {family} is looked at");
}

/// Returns every vector there is, in the order of the file.
pub(crate) fn vectors() -> Vec<Value> {
    let vectors = fs::read_to_string(folder().join("vectors.jsonl")).unwrap();
    vectors.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors")
}
