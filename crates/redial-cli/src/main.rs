//! The `redial` command: calls that get through, and answers to "why was this retried?".

mod check;
mod cli;
mod demo;
mod explain;
mod fetch;
mod generate;
mod plan;
mod policy;
mod show;
mod style;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::run())
}
