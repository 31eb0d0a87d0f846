//! A test that needs another process starts itself once more, and plays the other part there.

use std::{
    env,
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::servers::url;

/// Another process of this program; killed when dropped, without a word.
pub(crate) struct Other {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    /// Starts the test called `test` in another process, which finds `text` with [`part`].
    pub(crate) fn start(test: &str, text: &str) -> Self {
        Self::start_by(Command::new(env::current_exe().unwrap()), test, text)
    }

    /// As [`start`](Self::start), by a program that gets this one's path and arguments after its own.
    pub(crate) fn start_by(mut program: Command, test: &str, text: &str) -> Self {
        program.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(PART, text);
        // It need not find the servers itself.
        let variables = ["REDIAL_REDIS_URL", "REDIAL_MYSQL_URL", "REDIAL_POSTGRES_URL"];
        program.envs(variables.map(|variable| (variable, url(variable))));
        let started = program.stdout(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| {
            let name = program.get_program().display();
            panic!("cannot start {name}: {error}; `cargo xtask services up` installs it")
        });
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it has said something that begins with `word`, and returns what follows.
    pub(crate) fn says(&mut self, word: &str) -> String {
        let line = self.lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once(word).map(|(_, rest)| rest.trim().to_owned())
        });
        line.unwrap_or_else(|| panic!("the other process ended without saying {word}"))
    }

    /// Waits until it has come to its end, and well.
    pub(crate) fn ends(&mut self) {
        self.lines.by_ref().for_each(drop);
        assert!(self.child.wait().unwrap().success(), "the other process failed");
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns what the other process was told; `None` in the one that was started by hand.
pub(crate) fn part() -> Option<String> {
    env::var(PART).ok()
}

/// Says something to the process that started this one.
pub(crate) fn say(what: &str) {
    println!("\n{what}");
}

const PART: &str = "REDIAL_STORE_TEST_PART";
