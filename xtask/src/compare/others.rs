//! Clients in other languages: who is installed, and how they are run.

use std::{path::PathBuf, process::Command};

use super::Contestant;
use crate::shell;

/// How a client of another language is run.
pub(super) struct Other {
    program: PathBuf,
    args: Vec<PathBuf>,
    /// It is given one request where ours are given so many: some would take minutes for all.
    pub(super) share: u32,
}

impl Other {
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(shell::root());
        command
    }
}

/// Returns the clients that this machine has: Python's and Node's by whether they can be imported from the
/// root of the workspace, Go's by whether `go` builds it.
pub(super) fn installed() -> Vec<Contestant> {
    let scripts = shell::root().join("crates/redial-bench/clients");
    let here = |program: &str, args: [&str; 2]| {
        shell::succeeds(Command::new(program).args(args).current_dir(shell::root()))
    };
    let mut all = Vec::new();
    let mut join = |name: &str, program: &str, script: &str, share| {
        let other = Other { program: program.into(), args: vec![scripts.join(script)], share };
        all.push(Contestant { name: name.to_owned(), other: Some(other) });
    };
    for (name, script, share) in
        [("aiohttp", "aiohttp_client.py", 10), ("httpx", "httpx_client.py", 500)]
    {
        if here("python3", ["-c", &format!("import {name}")]) {
            join(name, "python3", script, share);
        }
    }
    for (name, script, share) in
        [("undici", "undici_client.mjs", 10), ("got", "got_client.mjs", 50)]
    {
        if here("node", ["-e", &format!("require.resolve('{name}')")]) {
            join(name, "node", script, share);
        }
    }
    let program = shell::root().join("target/compare/go-client");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).arg(scripts.join("load.go"));
    if shell::succeeds(&mut build) {
        let other = Other { program, args: Vec::new(), share: 1 };
        all.push(Contestant { name: "Go net/http".to_owned(), other: Some(other) });
    }
    all
}
