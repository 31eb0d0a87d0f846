//! The chores that are one call of cargo, or a few.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{shell, test};

/// Runs the loom models of redial-core.
pub(crate) fn loom(args: &[String]) -> Result<ExitCode> {
    let mut command = shell::cargo();
    command
        .args(["test", "-p", "redial-core", "--release", "--test", "loom*"])
        .args(args)
        .env("RUSTFLAGS", "--cfg loom")
        // Other flags, other artifacts: beside the usual ones they would undo each other.
        .env("CARGO_TARGET_DIR", shell::root().join("target/loom"));
    shell::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs cargo-mutants on redial-core.
pub(crate) fn mutants(args: &[String]) -> Result<ExitCode> {
    if !shell::succeeds(shell::cargo().args(["mutants", "--version"])) {
        shell::run(shell::cargo().args(["install", "--locked", "cargo-mutants"]))?;
    }
    shell::run(shell::cargo().args(["mutants", "--package", "redial-core"]).args(args))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the tests whose names say that they read the shared vectors.
pub(crate) fn vectors(args: &[String]) -> Result<ExitCode> {
    let filter = [String::from("vectors")];
    test::run(&[&filter, args].concat(), None)
}

/// Writes what the command can tell about itself: shell completions and man pages.
pub(crate) fn generate(_args: &[String]) -> Result<ExitCode> {
    let generated = shell::root().join("target/generated");
    let (completions, man) = (generated.join("completions"), generated.join("man"));
    for folder in [&completions, &man] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    for shell_name in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let text = shell::output(redial().args(["completions", shell_name]))?;
        let file = completions.join(format!("redial.{shell_name}"));
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    shell::run(redial().args(["man", "--out"]).arg(&man))?;
    println!("written to {}", generated.display());
    Ok(ExitCode::SUCCESS)
}

fn redial() -> std::process::Command {
    let mut command = shell::cargo();
    command.args(["run", "--quiet", "-p", "redial-cli", "--"]);
    command
}
