//! `cargo xtask test`: every test of the workspace, and one plain line at the end that sums them
//! up.
//!
//! Plain `cargo test` is the runner, because a machine with Rust has nothing else. It prints a
//! summary a test program; ours adds them.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{services::Running, shell};

/// How many tests ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs the tests, building them below `target` unless that is left to cargo.
pub(crate) fn run(args: &[String], target: Option<&Path>) -> Result<ExitCode> {
    let mut command = shell::cargo();
    // Without a choice of targets, cargo runs the tests of libraries, programs and documentation
    // and compiles the examples; benches are left to clippy and to `cargo bench`.
    command.args(["test", "--no-fail-fast"]).args(selection(args)).args(args);
    let services = Running::begin_for(args);
    command.envs(services.iter().flat_map(Running::variables));
    if let Some(target) = target {
        command.env("CARGO_TARGET_DIR", target).envs(QUICK_BUILD);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let lines = child.stdout.take().context("cargo test has no output")?;
    let mut tally = relay(BufReader::new(lines), io::stdout())?;
    let status = child.wait().context("cannot wait for cargo test")?;
    if !status.success() && tally.failed == 0 {
        eprintln!("error: the tests did not build, or a test program died: {status}");
        tally.failed = 1;
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    let good = tally.failed == 0 && tally.passed > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns `--workspace` unless the caller chose packages.
pub(crate) fn selection(args: &[String]) -> Option<&'static str> {
    let own = args.iter().take_while(|arg| *arg != "--");
    let chosen = own.into_iter().any(|arg| arg.starts_with("-p") || arg.starts_with("--package"));
    (!chosen).then_some("--workspace")
}

/// Copies every line to `out` as it comes, bytes that are not UTF-8 included, and adds the summaries.
fn relay(mut lines: impl BufRead, mut out: impl Write) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).context("cannot read the test output")? > 0 {
        out.write_all(&line).context("cannot write the test output")?;
        if let Some(more) = summary(&String::from_utf8_lossy(&line)) {
            tally.passed += more.passed;
            tally.failed += more.failed;
            tally.skipped += more.skipped;
        }
        line.clear();
    }
    Ok(tally)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
fn summary(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let part = counts.split(';').find_map(|part| part.trim().strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

/// Builds that nobody debugs and nobody repeats: no line tables, no incremental state.
pub(crate) const QUICK_BUILD: [(&str, &str); 2] =
    [("CARGO_PROFILE_DEV_DEBUG", "0"), ("CARGO_INCREMENTAL", "0")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_all_test_programs_are_added() {
        let output = "running 3 tests\ntest a ... ok\n\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; \
            finished in 0.00s\n\n\
            test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; \
            finished in 1.20s\n";
        let mut copy = Vec::new();
        let tally = relay(output.as_bytes(), &mut copy).unwrap();
        assert_eq!(tally, Tally { passed: 13, failed: 2, skipped: 1 });
        assert_eq!(copy, output.as_bytes());
    }

    #[test]
    fn other_lines_are_no_summaries() {
        for line in ["", "test result", "test result: ok. many passed", "3 passed; 0 failed"] {
            assert_eq!(summary(line), None, "{line}");
        }
    }

    #[test]
    fn packages_chosen_by_the_caller_replace_the_workspace() {
        let args = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(selection(&args(&["budget", "--", "-p"])), Some("--workspace"));
        assert_eq!(selection(&args(&["-p", "redial-core"])), None);
        assert_eq!(selection(&args(&["--package=redial-core"])), None);
    }
}
