//! Runs the command and reads what it writes.

use std::process::{Command, Output};

use serde_json::Value;

pub(crate) fn redial(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redial"));
    command.args(args).env_remove("REDIAL_LOG").output().unwrap()
}

pub(crate) fn text(args: &[&str]) -> String {
    let output = redial(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn value(args: &[&str]) -> Value {
    serde_json::from_str(&text(args)).unwrap()
}
