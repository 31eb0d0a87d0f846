//! `cargo xtask coverage`: which lines of the libraries the tests run.
//!
//! The compiler counts (`-C instrument-coverage`), the toolchain's own llvm-profdata and llvm-cov
//! add up and tell lines from counts; nothing else is installed. Only the crates of this workspace
//! are instrumented: cargo calls us in the place of rustc for them (`RUSTC_WORKSPACE_WRAPPER`), so
//! that dependencies are built once for this and for the plain tests of `cargo xtask ci`.

mod lcov;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::lcov::{Lines, Report};
use crate::{services::Running, shell, test};

/// Measures, prints the table, and fails when the total is below [`PERCENT_MIN`].
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let own = |flag: &str| args.iter().any(|arg| arg == flag);
    let passed_on: Vec<String> = args
        .iter()
        .filter(|arg| !["--missing", "--html"].contains(&arg.as_str()))
        .cloned()
        .collect();
    let tools = Tools::find()?;
    let programs = run_tests(&passed_on)?;
    let profile = tools.merge()?;
    let report = Report::read(&tools.export(&profile, &programs)?, &shell::root());
    if own("--html") {
        tools.write_pages(&profile, &programs)?;
    }
    if own("--missing") {
        report.print_missing();
    }
    gate(report.print_table())
}

/// Tells whether cargo calls us in the place of rustc.
pub(crate) fn is_compiler_wrapper() -> bool {
    env::var_os(WRAPPER_MARK).is_some()
}

/// Is rustc, with the one flag more: `xtask <path of rustc> <its arguments>`.
pub(crate) fn compile_instrumented() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let rustc = args.next().unwrap_or_else(|| OsString::from("rustc"));
    let status = Command::new(rustc).args(args).arg("-Cinstrument-coverage").status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the folder of everything that coverage builds and writes.
pub(crate) fn target() -> PathBuf {
    shell::root().join("target/coverage")
}

fn gate(total: Lines) -> Result<ExitCode> {
    ensure!(total.all > 0, "no line of a library was measured");
    if total.percent() < PERCENT_MIN {
        bail!(
            "{:.2} % of the lines are covered, at least {PERCENT_MIN} % must be; \
             `cargo xtask coverage --missing` lists the others",
            total.percent()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the tests, runs them, and returns every program that may have been part of it.
fn run_tests(args: &[String]) -> Result<Vec<PathBuf>> {
    let counts = counts();
    if counts.exists() {
        fs::remove_dir_all(&counts).context("cannot remove the counts of the last run")?;
    }
    let mut build = instrumented(args)?;
    let split = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    build.args(&args[..split]).args(["--no-run", "--message-format=json-render-diagnostics"]);
    let programs = executables(&shell::output(&mut build)?);
    let services = Running::begin_for(args);
    let mut tests = instrumented(args)?;
    shell::run(tests.args(args).envs(services.iter().flat_map(Running::variables)))?;
    Ok(programs)
}

/// Returns a call of `cargo test` that compiles our crates with [`compile_instrumented`].
fn instrumented(args: &[String]) -> Result<Command> {
    let mut command = shell::cargo();
    command
        .args(["test", "--tests"])
        .args(test::selection(args))
        .env("CARGO_TARGET_DIR", target())
        .envs(test::QUICK_BUILD)
        .env("RUSTC_WORKSPACE_WRAPPER", env::current_exe().context("cannot find this program")?)
        .env(WRAPPER_MARK, "1")
        // One file a process and program: spawned programs must not write over each other.
        .env("LLVM_PROFILE_FILE", counts().join("%p-%m.profraw"));
    Ok(command)
}

fn counts() -> PathBuf {
    target().join("counts")
}

/// Finds the values of `"executable"` in cargo's messages, one JSON object a line.
fn executables(messages: &str) -> Vec<PathBuf> {
    let values = messages.lines().filter_map(|line| line.split_once("\"executable\":\""));
    // A path with a quote or a backslash in it would be escaped; build folders have neither.
    let paths = values.filter_map(|(_, rest)| rest.split_once('"'));
    let mut paths: Vec<PathBuf> = paths.map(|(path, _)| PathBuf::from(path)).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The folder of the toolchain's LLVM programs.
struct Tools(PathBuf);

impl Tools {
    fn find() -> Result<Self> {
        shell::ensure_component("llvm-tools-preview", || Self::installed().is_some())?;
        Self::installed().context("the toolchain has no llvm-cov, and rustup cannot add it")
    }

    fn installed() -> Option<Self> {
        let sysroot = shell::output(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
        let hosts = fs::read_dir(Path::new(sysroot.trim()).join("lib/rustlib")).ok()?;
        let folders = hosts.filter_map(|host| Some(host.ok()?.path().join("bin")));
        let has = |folder: &PathBuf, tool: &str| {
            folder.join(tool).with_extension(env::consts::EXE_EXTENSION).exists()
        };
        folders.into_iter().find(|bin| has(bin, "llvm-cov") && has(bin, "llvm-profdata")).map(Self)
    }

    /// Adds up what all test processes counted.
    fn merge(&self) -> Result<PathBuf> {
        let files = fs::read_dir(counts()).context("the tests left no counts")?;
        let files: Vec<PathBuf> = files
            .map(|file| Ok(file?.path()))
            .collect::<Result<_>>()
            .context("cannot list counts")?;
        let list = target().join("counts.list");
        let lines: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        fs::write(&list, lines.join("\n")).context("cannot write the list of counts")?;
        let profile = target().join("tests.profdata");
        // A process that was killed while it wrote leaves half a file; that one is passed over.
        let mut merge = Command::new(self.0.join("llvm-profdata"));
        merge.args(["merge", "--sparse", "--failure-mode=all", "--input-files"]).arg(list);
        shell::run(merge.arg("--output").arg(&profile))?;
        Ok(profile)
    }

    /// Returns the counts by line in lcov's format, and keeps them for editors.
    fn export(&self, profile: &Path, programs: &[PathBuf]) -> Result<String> {
        let mut export = self.llvm_cov("export", profile, programs);
        let text = shell::output(export.arg("--format=lcov"))?;
        fs::write(target().join("lcov.info"), &text).context("cannot write lcov.info")?;
        Ok(text)
    }

    fn write_pages(&self, profile: &Path, programs: &[PathBuf]) -> Result<()> {
        let mut show = self.llvm_cov("show", profile, programs);
        let pages = target().join("html");
        shell::run(show.args(["--format=html", "--output-dir"]).arg(&pages))?;
        println!("{}", pages.join("index.html").display());
        Ok(())
    }

    fn llvm_cov(&self, what: &str, profile: &Path, programs: &[PathBuf]) -> Command {
        let mut command = Command::new(self.0.join("llvm-cov"));
        command.arg(what).arg("--instr-profile").arg(profile);
        for program in programs {
            command.arg("--object").arg(program);
        }
        command
    }
}

/// The least part of all library lines that the tests must run.
const PERCENT_MIN: f64 = 80.0;

/// Set where cargo is to call us in the place of rustc.
const WRAPPER_MARK: &str = "XTASK_INSTRUMENT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_found_once_in_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":\"/t/a\",\"fresh\":true}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":null,\"fresh\":true}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/a\",\"fresh\":true}\n";
        assert_eq!(executables(messages), [PathBuf::from("/t/a")]);
    }

    #[test]
    fn a_total_below_the_gate_is_an_error_that_says_how_to_go_on() {
        assert!(gate(Lines { covered: 80, all: 100 }).is_ok());
        let error = gate(Lines { covered: 799, all: 1000 }).unwrap_err().to_string();
        assert!(error.contains("79.90 %") && error.contains("--missing"), "{error}");
        assert!(gate(Lines::default()).is_err());
    }
}
