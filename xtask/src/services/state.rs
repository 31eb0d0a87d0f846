//! What was started, as two small files: addresses for tests, processes for us.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::server::{KINDS, Server};

/// The servers, the folder of their data, and whom they run for.
#[derive(Debug)]
pub(super) struct State {
    pub(super) data: PathBuf,
    pub(super) servers: Vec<Server>,
    /// The processes that they run for. When the last has ended, they are stopped; if there is none from the
    /// start, they stay until `down`.
    pub(super) users: Vec<u32>,
}

impl State {
    pub(super) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), servers: Vec::new(), users: Vec::new() }
    }

    /// Reads what the last `up` wrote; `None` if there is nothing.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(folder.join(PROCESSES)).ok()?)
    }

    /// Reads the data's folder from the first line, then a name, a port and a process a line, or `for` and a
    /// process.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let data = PathBuf::from(lines.next()?);
        let server = |line: &str| {
            let mut words = line.split(' ');
            let name = words.next()?;
            let kind = KINDS.into_iter().find(|kind| kind.name == name)?;
            let (port, pid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some(Server { kind, port, pid, folder: data.join(name) })
        };
        let servers = lines.clone().filter_map(server).collect();
        let user = |line: &str| line.strip_prefix("for ")?.parse().ok();
        let users = lines.filter_map(user).collect();
        Some(Self { data, servers, users })
    }

    fn text(&self) -> String {
        let servers = self.servers.iter();
        let lines = servers.map(|s| format!("{} {} {}\n", s.kind.name, s.port, s.pid));
        let users = self.users.iter().map(|pid| format!("for {pid}\n"));
        format!("{}\n{}", self.data.display(), lines.chain(users).collect::<String>())
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join(PROCESSES), self.text()).context("cannot write down processes")?;
        fs::write(folder.join(ENVIRONMENT), self.environment()).context("cannot write addresses")
    }

    pub(super) fn forget(folder: &Path) -> Result<()> {
        for name in [ENVIRONMENT, PROCESSES] {
            let file = folder.join(name);
            if file.exists() {
                fs::remove_file(&file).with_context(|| format!("cannot remove {name}"))?;
            }
        }
        Ok(())
    }

    /// Tells whether every kind of server runs and answers.
    pub(super) fn is_alive(&self) -> bool {
        self.servers.len() == KINDS.len() && self.servers.iter().all(|s| s.runs() && s.answers())
    }

    pub(super) fn variables(&self) -> Vec<(String, String)> {
        self.servers.iter().map(|s| (s.kind.variable.to_owned(), s.url())).collect()
    }

    /// Returns the addresses as `NAME=value`, one a line.
    pub(super) fn environment(&self) -> String {
        self.variables().into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }
}

/// For tests.
const ENVIRONMENT: &str = "environment";
/// For `down`.
const PROCESSES: &str = "processes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_started_is_read_as_it_was_written() {
        let text = "/tmp/some\nredis 4001 77\nmariadb 4002 78\nfor 12\nfor 13\n";
        let state = State::parse(text).unwrap();
        assert_eq!(state.text(), text);
        assert_eq!(
            state.environment(),
            "REDIAL_REDIS_URL=redis://127.0.0.1:4001/\n\
             REDIAL_MYSQL_URL=mysql://root@127.0.0.1:4002/redial\n"
        );
        assert!(!state.is_alive(), "PostgreSQL is missing");
    }

    #[test]
    fn a_process_that_only_has_the_number_is_not_taken_for_the_server() {
        let text = format!("/tmp/no-such-folder\nredis 1 {}\n", std::process::id());
        assert!(!State::parse(&text).unwrap().servers[0].runs());
    }
}
