//! From counts by line to a table by crate.
//!
//! What counts is the code of the libraries alone: no programs, no tests, also not those at the
//! end of a file.

use std::{
    collections::BTreeMap,
    fs,
    ops::AddAssign,
    path::{Component, Path},
};

/// Lines that hold code, and how many of them some test ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) covered: u32,
    pub(crate) all: u32,
}

impl Lines {
    /// Returns the covered part in percent; of nothing, all is covered.
    pub(crate) fn percent(self) -> f64 {
        if self.all == 0 { 100.0 } else { 100.0 * f64::from(self.covered) / f64::from(self.all) }
    }
}

impl AddAssign for Lines {
    fn add_assign(&mut self, more: Self) {
        self.covered += more.covered;
        self.all += more.all;
    }
}

/// What is known of every library file, by its path from the root: how often each line ran.
#[derive(Debug, Default)]
pub(crate) struct Report(BTreeMap<String, BTreeMap<u32, u64>>);

impl Report {
    /// Reads lcov's format; `root` is where the paths of files begin.
    pub(crate) fn read(lcov: &str, root: &Path) -> Self {
        let mut report = Self::default();
        let mut file: Option<(String, u32)> = None;
        for line in lcov.lines() {
            if let Some(path) = line.strip_prefix("SF:") {
                let path = Path::new(path).strip_prefix(root).unwrap_or(Path::new(path));
                file = library(path).map(|_| {
                    let source = fs::read_to_string(root.join(path)).unwrap_or_default();
                    (path.display().to_string(), first_test_line(&source))
                });
            }
            if let (Some((name, tests)), Some((number, count))) = (&file, line_count(line))
                && number < *tests
            {
                *report.0.entry(name.clone()).or_default().entry(number).or_default() += count;
            }
        }
        report
    }

    /// Prints one line a crate and one for all, and returns the latter.
    pub(crate) fn print_table(&self) -> Lines {
        let mut crates: BTreeMap<&str, Lines> = BTreeMap::new();
        let mut total = Lines::default();
        for (file, counts) in &self.0 {
            let covered = counts.values().filter(|count| **count > 0).count();
            let [covered, all] =
                [covered, counts.len()].map(|lines| u32::try_from(lines).unwrap_or(u32::MAX));
            let lines = Lines { covered, all };
            *crates.entry(library(Path::new(file)).unwrap_or_default()).or_default() += lines;
            total += lines;
        }
        println!("{:<20} {:>8} {:>8} {:>8}", "crate", "lines", "covered", "percent");
        for (name, lines) in crates.into_iter().chain([("total", total)]) {
            let percent = lines.percent();
            println!("{name:<20} {:>8} {:>8} {percent:>8.2}", lines.all, lines.covered);
        }
        total
    }

    /// Prints the line numbers that no test ran, a file a line.
    pub(crate) fn print_missing(&self) {
        for (file, counts) in &self.0 {
            let missing: Vec<u32> =
                counts.iter().filter(|(_, count)| **count == 0).map(|(line, _)| *line).collect();
            if !missing.is_empty() {
                println!("{file}: {}", ranges(&missing));
            }
        }
    }
}

/// Returns the name of the library that `path` is a part of.
fn library(path: &Path) -> Option<&str> {
    let parts: Vec<&str> = path
        .components()
        .map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
        .collect::<Option<_>>()?;
    let ["crates", name, "src", inner @ ..] = parts.as_slice() else { return None };
    let test = inner.iter().any(|part| ["tests", "tests.rs", "benches"].contains(part));
    (!test && !NOT_LIBRARIES.contains(name)).then_some(name)
}

/// Returns where the tests at the end of a file begin.
fn first_test_line(source: &str) -> u32 {
    let lines: Vec<&str> = source.lines().collect();
    let inline = |pair: &[&str]| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    };
    let index = lines.windows(2).position(inline);
    index.and_then(|index| u32::try_from(index + 1).ok()).unwrap_or(u32::MAX)
}

/// Reads `DA:<line>,<count>`.
fn line_count(line: &str) -> Option<(u32, u64)> {
    let (number, count) = line.strip_prefix("DA:")?.split_once(',')?;
    Some((number.parse().ok()?, count.split(',').next()?.parse().ok()?))
}

/// Writes ascending numbers as `3-5, 9`.
fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let shown = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run.iter().map(u32::to_string).collect(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Programs and test tools; whatever else stands in `crates/` is held to the gate.
const NOT_LIBRARIES: &[&str] = &["redial-cli", "redial-proxy", "redial-testkit"];

#[cfg(test)]
mod tests {
    use super::*;

    const LCOV: &str = "SF:/r/crates/redial-core/src/a.rs\nDA:1,2\nDA:2,0\nLF:2\nend_of_record\n\
        SF:/r/crates/redial-core/src/a/tests.rs\nDA:1,0\nend_of_record\n\
        SF:/r/crates/redial-cli/src/main.rs\nDA:1,0\nend_of_record\n\
        SF:/r/crates/redial/tests/a.rs\nDA:1,0\nend_of_record\n\
        SF:/r/crates/redial/src/b.rs\nDA:7,1\nend_of_record\n";

    #[test]
    fn only_the_code_of_libraries_counts() {
        let report = Report::read(LCOV, Path::new("/r"));
        assert_eq!(report.print_table(), Lines { covered: 2, all: 3 });
        let files: Vec<&String> = report.0.keys().collect();
        assert_eq!(files, ["crates/redial-core/src/a.rs", "crates/redial/src/b.rs"]);
    }

    #[test]
    fn a_line_seen_in_two_records_counts_once() {
        let twice = [LCOV, LCOV].concat();
        let report = Report::read(&twice, Path::new("/r"));
        assert_eq!(report.print_table(), Lines { covered: 2, all: 3 });
    }

    #[test]
    fn tests_at_the_end_of_a_file_begin_at_their_attribute() {
        assert_eq!(first_test_line("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n"), 3);
        assert_eq!(first_test_line("#[cfg(test)]\nmod tests;\nfn a() {}\n"), u32::MAX);
    }

    #[test]
    fn neighboring_lines_are_shown_as_one_range() {
        assert_eq!(ranges(&[3, 4, 5, 9]), "3-5, 9");
        assert_eq!(ranges(&[]), "");
    }
}
