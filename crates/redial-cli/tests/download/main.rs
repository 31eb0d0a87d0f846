//! Downloads to files, which end in the right bytes under the right name or not at all: against real
//! sockets that break off, processes that are killed, and disks that are full.

#![expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

mod files;
mod resumed;
#[cfg(unix)]
mod terminal;

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use redial_testkit::{Received, Reply, Upstream};
use tokio::process::{Child, Command};

const MS: Duration = Duration::from_millis(1);

/// A folder of its own, with the download `f` in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("redial-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> String {
        self.0.join("f").to_string_lossy().into_owned()
    }

    fn part(&self) -> Option<Vec<u8>> {
        fs::read(self.0.join("f.part")).ok()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Waits until the partial file has at least `bytes` bytes.
    async fn until(&self, bytes: usize) {
        while self.part().is_none_or(|part| part.len() < bytes) {
            tokio::time::sleep(MS * 5).await;
        }
    }

    /// Whether the download is there, and nothing beside it.
    fn holds_only(&self, bytes: &[u8]) -> bool {
        self.names() == ["f"] && fs::read(self.file()).unwrap() == bytes
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a run of the command came to.
struct Ran {
    status: Option<i32>,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { status: output.status.code(), stderr }
    }
}

fn command(folder: &Folder, url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redial"));
    command.args(["fetch", url, "-o", &folder.file(), "--initial", "10ms", "--jitter", "none"]);
    command.args(args).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("REDIAL_LOG");
    command
}

async fn download(folder: &Folder, upstream: &Upstream, args: &[&str]) -> Ran {
    command(folder, &upstream.url("/f"), args).output().await.unwrap().into()
}

/// Answers the n-th request, from 1, with what `reply` makes of it.
async fn upstream(reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::with(move |request| reply(1 + count.fetch_add(1, Ordering::Relaxed), request)).await
}

/// `length` bytes that are nowhere the same as a little further on.
fn file(length: usize) -> Bytes {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn ranges(upstream: &Upstream) -> Vec<Option<String>> {
    let requests = upstream.requests();
    requests.iter().map(|request| request.header("range").map(ToOwned::to_owned)).collect()
}

/// Slow enough to be ended in the middle.
fn slow(reply: Reply) -> Reply {
    reply.slow(10_000, MS * 10)
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    let killed = std::process::Command::new("kill").args([name, &id]).status().unwrap();
    assert!(killed.success());
}

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let digest = sfv::ItemSerializer::new().bare_item(digest.as_ref()).finish();
    format!("sha-256={digest}")
}
