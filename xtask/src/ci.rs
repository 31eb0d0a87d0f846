//! `cargo xtask ci`: everything that must hold before a change goes in, cheapest first.
//!
//! The tests come last, so that their closing line is the end of the output; nothing is printed
//! after it.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, Result};

use crate::{coverage, services::Running, shell, test};

/// A named part of the run.
type Step = (&'static str, fn() -> Result<()>);

/// Runs every step in order; the first failure ends the run.
pub(crate) fn run(_args: &[String]) -> Result<ExitCode> {
    let start = now();
    // Once for coverage and for the tests: both find them running.
    let _services = Running::begin();
    for (name, step) in STEPS {
        println!("==> {name}");
        let begin = now();
        step().with_context(|| format!("{name} (after {} s)", begin.elapsed().as_secs()))?;
        println!("==> {name}: {:.1} s", begin.elapsed().as_secs_f64());
    }
    println!("==> test ({:.1} s since the start)", start.elapsed().as_secs_f64());
    // Coverage left every dependency built there; only our own crates differ.
    test::run(&[], Some(&coverage::target()))
}

const STEPS: &[Step] = &[
    ("fmt", fmt),
    ("house", house),
    ("clippy", clippy),
    ("doc", doc),
    ("deny", deny),
    ("coverage", covered),
];

fn fmt() -> Result<()> {
    shell::ensure_component("rustfmt", || {
        shell::succeeds(shell::cargo().args(["fmt", "--version"]))
    })?;
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
}

fn house() -> Result<()> {
    shell::run(shell::cargo().args(["test", "--quiet", "-p", "xtask"]))
}

fn clippy() -> Result<()> {
    shell::ensure_component("clippy", || {
        shell::succeeds(shell::cargo().args(["clippy", "--version"]))
    })?;
    let mut command = shell::cargo();
    shell::run(command.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn doc() -> Result<()> {
    let mut command = shell::cargo();
    shell::run(command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn deny() -> Result<()> {
    let found = || shell::succeeds(shell::cargo().args(["deny", "--version"]));
    if !found() {
        println!("cargo-deny is not here; installing it");
        let mut install = shell::cargo();
        if !shell::succeeds(install.args(["install", "--locked", "cargo-deny"])) || !found() {
            println!("skipped: cargo-deny cannot be installed on this machine");
            return Ok(());
        }
    }
    println!("not checked: advisories, whose database is fetched from elsewhere");
    shell::run(shell::cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

fn covered() -> Result<()> {
    coverage::run(&[]).map(|_| ())
}

#[expect(clippy::disallowed_methods, reason = "how long a step took is what is asked for")]
fn now() -> Instant {
    Instant::now()
}
