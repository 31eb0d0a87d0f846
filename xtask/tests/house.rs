//! Holds the tree against its own rules: who may depend on whom, what a file may hold, which
//! papers exist. Each failure says what to do.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree should stop")]

#[path = "house/tree.rs"]
mod tree;

use std::{fs, path::Path};

use toml::{Table, Value};

use crate::tree::{files, name, read, root};

/// The floors of the house, from the ground up. A crate depends only on crates of lower floors.
const FLOORS: &[&[&str]] = &[
    &["redial-core"],
    &["redial", "redial-config", "redial-sim"],
    &["redial-hyper", "redial-reqwest", "redial-tonic", "redial-store", "redial-telemetry"],
    &["redial-proxy", "orders"],
    &["redial-cli"],
];

/// Crates beside the house: nothing in it is built on them.
const BESIDE: &[&str] = &["redial-bench", "redial-testkit", "xtask"];

/// What the ground floor leaves to others: clocks, waiting, input and output.
const FORBIDDEN_IN_CORE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "tokio",
    "thread::sleep",
    "std::fs",
    "std::net",
    "println",
];

const FILE_LINES_MAX: usize = 500;

const PAPERS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "DESIGN.md",
    "STYLE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "COMPARE.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
];

#[test]
fn every_crate_has_its_floor() {
    for (path, manifest) in manifests() {
        let crate_name = package(&manifest);
        assert!(
            floor(crate_name).is_some() || BESIDE.contains(&crate_name),
            "{path}: `{crate_name}` has no floor; give it one in FLOORS (xtask/tests/house.rs) and \
             in ARCHITECTURE.md, with the reason why it is a crate"
        );
    }
}

#[test]
fn crates_depend_only_on_lower_floors() {
    for (path, manifest) in manifests() {
        let Some(from) = floor(package(&manifest)) else { continue };
        for dependency in dependencies(&manifest, &["dependencies", "build-dependencies"]) {
            let below = floor(&dependency).is_none_or(|to| to < from);
            assert!(
                below,
                "{path}: `{dependency}` is not on a floor below; move what both need into a crate \
                 further down"
            );
        }
    }
}

#[test]
fn the_testkit_is_only_for_tests() {
    for (path, manifest) in manifests() {
        for dependency in dependencies(&manifest, &["dependencies", "build-dependencies"]) {
            assert!(
                !BESIDE.contains(&dependency.as_str()),
                "{path}: `{dependency}` belongs in [dev-dependencies]; no program ships it"
            );
        }
    }
}

#[test]
fn the_core_depends_on_nothing() {
    let (path, manifest) =
        manifests().into_iter().find(|(_, manifest)| package(manifest) == "redial-core").unwrap();
    // Loom replaces the atomics of std while its models run, and only there.
    let real = dependencies(&manifest, &["dependencies", "build-dependencies"])
        .into_iter()
        .filter(|dependency| dependency != "loom");
    let real: Vec<String> = real.collect();
    assert!(
        real.is_empty(),
        "{path}: {real:?} must go; the core is std only, so let callers pass it in"
    );
    let always = table(&manifest, "dependencies").is_some_and(|table| table.contains_key("loom"));
    assert!(!always, "{path}: loom belongs under [target.'cfg(loom)'.dependencies]");
}

#[test]
fn the_core_reads_no_clock_and_does_no_io() {
    for file in
        files("rs").into_iter().filter(|file| name(file).starts_with("crates/redial-core/src/"))
    {
        if name(&file).ends_with("/tests.rs") || name(&file).contains("/tests/") {
            continue;
        }
        let text = read(&file);
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines =
            code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (index, line) in lines {
            for word in FORBIDDEN_IN_CORE {
                assert!(
                    !line.contains(word),
                    "{}:{}: `{word}` has no place in the core; make it an argument, or do it a \
                     floor higher",
                    name(&file),
                    index + 1
                );
            }
        }
    }
}

#[test]
fn files_stay_short_enough_to_read() {
    for file in files("rs") {
        let lines = read(&file).lines().count();
        assert!(
            lines <= FILE_LINES_MAX,
            "{}: {lines} lines, at most {FILE_LINES_MAX}; cut it where its subject changes, into \
             `x.rs` and `x/`",
            name(&file)
        );
    }
}

#[test]
fn modules_stand_beside_their_folder() {
    for file in files("rs") {
        assert!(
            !file.ends_with("mod.rs"),
            "{}: name it after its folder and put it beside that folder",
            name(&file)
        );
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for (path, manifest) in manifests() {
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(
            inherits,
            Some(&Value::Boolean(true)),
            "{path}: add `[lints]` with `workspace = true`; an exception is an `#[expect(..)]` where \
             it is needed, with its reason"
        );
    }
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    // Put together here, so that this file does not hold them.
    let homes = ["work", "root", "home", "Users"].map(|folder| format!("/{folder}/"));
    for file in ["md", "rs", "toml", "yaml", "yml", "sh", "run"].into_iter().flat_map(files) {
        for (index, line) in read(&file).lines().enumerate() {
            for home in &homes {
                assert!(
                    !starts_a_path(line, home),
                    "{}:{}: `{home}` exists on one machine only; write the path from the root of \
                     the tree, or take it from the environment",
                    name(&file),
                    index + 1
                );
            }
        }
    }
}

#[test]
fn nothing_is_left_for_later_in_the_sources() {
    let marks = [["TO", "DO"], ["FIX", "ME"], ["to", "do!"], ["unimple", "mented!"], ["db", "g!"]];
    let marks = marks.map(|halves| halves.concat());
    for file in ["rs", "toml", "sh", "run"].into_iter().flat_map(files) {
        for (index, line) in read(&file).lines().enumerate() {
            for mark in &marks {
                assert!(
                    !line.contains(mark.as_str()),
                    "{}:{}: `{mark}` is a note to oneself; do it now, or write an issue",
                    name(&file),
                    index + 1
                );
            }
        }
    }
}

#[test]
fn every_root_paper_exists() {
    for paper in PAPERS {
        assert!(
            root().join(paper).is_file(),
            "{paper} is missing in the root of the tree; write it"
        );
    }
}

#[test]
fn links_of_the_papers_lead_somewhere() {
    for file in files("md") {
        let paper = name(&file);
        if paper.contains('/') && !paper.starts_with("docs/") {
            continue;
        }
        for link in links(&read(&file)) {
            let target = link.split(['#', '?']).next().unwrap_or_default();
            let elsewhere = link.contains("://") || link.starts_with("mailto:");
            let found = file.parent().unwrap_or(Path::new(".")).join(target).exists();
            assert!(
                elsewhere || target.is_empty() || found,
                "{paper}: the link to `{link}` leads nowhere; mend the path or take it out"
            );
        }
    }
}

#[test]
fn the_shared_vectors_are_one_json_object_a_line() {
    let copies: Vec<_> =
        files("jsonl").into_iter().filter(|file| file.ends_with("vectors.jsonl")).collect();
    assert!(!copies.is_empty(), "vectors/vectors.jsonl is missing; the conformance tests read it");
    for file in copies {
        for (index, line) in read(&file).lines().enumerate() {
            let object = serde_json::from_str::<serde_json::Map<_, _>>(line);
            let whole = object.is_ok_and(|object| {
                ["id", "family", "inputs", "expected"].iter().all(|key| object.contains_key(*key))
            });
            assert!(
                whole,
                "{}:{}: not a vector (id, family, inputs, expected); copy the file again",
                name(&file),
                index + 1
            );
        }
    }
}

#[test]
fn the_ci_script_can_be_run() {
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(script.starts_with("#!/usr/bin/env bash\n"), ".ci/run: begin with a bash line");
    assert!(script.contains("set -euo pipefail"), ".ci/run: a failing line must end the script");
}

#[test]
fn links_are_found_outside_of_code() {
    let text = "[a](one.md) and ![b](two.png \"title\")\n```\n[c](three.md)\n```\n`[d](four.md)`\n\
                [e]: five.md\n[f](<six.md>)";
    assert_eq!(links(text), ["one.md", "two.png", "five.md", "six.md"]);
}

#[test]
fn a_folder_name_inside_a_longer_path_is_no_machine_path() {
    let folder = "/some/";
    assert!(starts_a_path("cd \"/some/x\"", folder));
    assert!(starts_a_path("/some/x", folder));
    assert!(!starts_a_path("https://host/some/x and crates/some/x", folder));
}

/// Every manifest below the root, by its path; the root itself is no package.
fn manifests() -> Vec<(String, Table)> {
    let all = files("toml").into_iter().filter(|file| file.ends_with("Cargo.toml"));
    let parsed = all.map(|file| (name(&file), toml::from_str::<Table>(&read(&file)).unwrap()));
    parsed.filter(|(_, manifest)| manifest.contains_key("package")).collect()
}

fn package(manifest: &Table) -> &str {
    manifest["package"]["name"].as_str().unwrap()
}

fn table<'a>(manifest: &'a Table, key: &str) -> Option<&'a Table> {
    manifest.get(key).and_then(Value::as_table)
}

/// The packages named in the given tables, those under `[target.*]` included.
fn dependencies(manifest: &Table, kinds: &[&str]) -> Vec<String> {
    let targets = table(manifest, "target").into_iter().flat_map(Table::values);
    let places = targets.filter_map(Value::as_table).chain([manifest]);
    let tables = places.flat_map(|place| kinds.iter().filter_map(|kind| table(place, kind)));
    let package = |(key, value): (&String, &Value)| {
        let renamed = value.get("package").and_then(Value::as_str);
        renamed.unwrap_or(key).to_owned()
    };
    tables.flatten().map(package).collect()
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

/// Tells whether `folder` stands in `line` as the beginning of a path, not inside a longer one.
fn starts_a_path(line: &str, folder: &str) -> bool {
    let before = line.match_indices(folder).map(|(at, _)| line[..at].chars().next_back());
    before.into_iter().any(|c| c.is_none_or(|c| !c.is_alphanumeric() && !"._-~}/".contains(c)))
}

/// The targets of the links of a Markdown text: `[..](target)` and `[..]: target`.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let prose = text.split("```").step_by(2);
    for line in prose.flat_map(str::lines) {
        let line: String = line.split('`').step_by(2).collect();
        let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let defined = line.starts_with('[').then(|| line.split_once("]: ")).flatten();
        let targets = inline.chain(defined.map(|(_, target)| target));
        let clean = targets.map(|target| target.split(' ').next().unwrap_or_default());
        found.extend(clean.map(|target| target.trim_matches(['<', '>']).to_owned()));
    }
    found
}
