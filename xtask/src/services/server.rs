//! One server: how it is started, when it answers, and how it is stopped.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{install::Package, program};
use crate::shell;

/// What has to be known of a kind of server.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Where tests find the address.
    pub(super) variable: &'static str,
    pub(super) package: Package,
    /// Whom it runs as where we are root, which it would refuse.
    user: Option<&'static str>,
    /// Asks it to end at once, clients or not.
    signal: &'static str,
    /// What stands around the port in the address.
    url: (&'static str, &'static str),
    start: fn(&Self, &Path, u16) -> Result<Command>,
    /// Sends a first message and looks at the answer.
    greets: fn(&mut TcpStream) -> Result<bool>,
}

/// A server that runs, or ran.
#[derive(Debug)]
pub(crate) struct Server {
    pub(super) kind: &'static Kind,
    pub(super) port: u16,
    pub(super) pid: u32,
    /// Its folder, which its command line names: so a process is known to be it.
    pub(super) folder: PathBuf,
}

impl Server {
    /// Starts a server with empty data in `folder` and waits until it answers.
    pub(super) fn start(kind: &'static Kind, folder: &Path) -> Result<Self> {
        let begin = now();
        eprint!("services: {} ...", kind.title);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        if let (Some(user), true) = (kind.user, is_root()) {
            shell::run(Command::new("chown").arg(user).arg(folder))?;
        }
        let port = free_port()?;
        let mut command = (kind.start)(kind, folder, port)?;
        let log = folder.join("log");
        let file = File::create(&log).context("cannot make the log")?;
        command.stdin(Stdio::null()).stdout(file.try_clone().context("cannot share the log")?);
        // A group of its own: an interrupt from the keyboard is for us, and we stop it in order.
        let mut child = command.stderr(file).process_group(0).spawn().context("cannot start")?;
        let server = Self { kind, port, pid: child.id(), folder: folder.to_owned() };
        while !server.answers() {
            let ended = child.try_wait().context("cannot wait")?;
            if ended.is_some() || READY_WITHIN < begin.elapsed() {
                server.stop()?;
                let log = fs::read_to_string(&log).unwrap_or_default();
                let log: Vec<&str> = log.lines().rev().take(10).collect();
                let log: Vec<&str> = log.into_iter().rev().collect();
                bail!("it does not answer; the end of its log:\n{}", log.join("\n"));
            }
            pause(Duration::from_millis(20));
        }
        let seconds = begin.elapsed().as_secs_f64();
        eprintln!(" answers on 127.0.0.1:{port} after {seconds:.1} s");
        Ok(server)
    }

    /// Returns where it is, for clients.
    pub(super) fn url(&self) -> String {
        let (before, after) = self.kind.url;
        format!("{before}{}{after}", self.port)
    }

    /// Tells whether it greets a client, which it does not before it is ready.
    pub(super) fn answers(&self) -> bool {
        let patience = Some(Duration::from_secs(1));
        let greeted = TcpStream::connect(("127.0.0.1", self.port)).and_then(|stream| {
            stream.set_read_timeout(patience)?;
            stream.set_write_timeout(patience)?;
            Ok(stream)
        });
        greeted.is_ok_and(|mut stream| (self.kind.greets)(&mut stream).unwrap_or(false))
    }

    /// Tells whether its process runs: that one, and not another that got its number.
    pub(super) fn runs(&self) -> bool {
        let process = process(self.pid);
        // Empty for one that has ended and was not waited for.
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        // Redis puts its own title there; it still stands in its folder.
        let stands_in = fs::read_link(process.join("cwd")).unwrap_or_default();
        !line.is_empty()
            && (line.contains(&*self.folder.to_string_lossy()) || stands_in == self.folder)
    }

    /// Asks its process to end, and ends it if it does not.
    pub(super) fn stop(&self) -> Result<()> {
        for signal in [self.kind.signal, "KILL"] {
            if self.runs() {
                self.signal(signal);
            }
            let begin = now();
            while self.runs() && begin.elapsed() < ENDED_WITHIN {
                pause(Duration::from_millis(20));
            }
        }
        ensure!(!self.runs(), "{} (process {}) does not end", self.kind.title, self.pid);
        Ok(())
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.pid);
        // Whether it went is what we look at next.
        let _ = shell::succeeds(Command::new("sh").args(["-c", &kill]));
    }
}

/// The servers, quickest to start first.
pub(super) static KINDS: [&Kind; 3] = [&REDIS, &MARIADB, &POSTGRES];

static REDIS: Kind = Kind {
    name: "redis",
    title: "Redis",
    variable: "REDIAL_REDIS_URL",
    package: Package { name: "redis-server", programs: &["redis-server"], folders: &[] },
    user: None,
    signal: "TERM",
    url: ("redis://127.0.0.1:", "/"),
    start: |kind, folder, port| {
        let mut command = found(kind, "redis-server")?;
        command.current_dir(folder).args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.arg("--dir").arg(folder).args(["--save", "", "--appendonly", "yes"]);
        Ok(command)
    },
    greets: |stream| {
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG\r\n")
    },
};

static MARIADB: Kind = Kind {
    name: "mariadb",
    title: "MariaDB",
    variable: "REDIAL_MYSQL_URL",
    package: Package {
        name: "mariadb-server",
        programs: &["mariadbd", "mariadb-install-db"],
        folders: &[],
    },
    user: Some("mysql"),
    signal: "TERM",
    url: ("mysql://root@127.0.0.1:", "/redial"),
    start: |kind, folder, port| {
        let data = format!("--datadir={}", folder.join("data").display());
        let user = kind.user.filter(|_| is_root()).map(|user| format!("--user={user}"));
        let mut install = found(kind, "mariadb-install-db")?;
        install.args(["--no-defaults", "--skip-test-db", &data]).args(&user);
        // Root without a password, on the loopback interface of a server that lives for minutes.
        install.arg("--auth-root-authentication-method=normal").stdout(Stdio::null());
        shell::run(&mut install)?;
        let init = folder.join("init.sql");
        fs::write(&init, "CREATE DATABASE IF NOT EXISTS redial;\n").context("cannot write")?;
        let mut command = found(kind, "mariadbd")?;
        command.args(["--no-defaults", &data]).args(&user).current_dir(folder);
        command.arg(format!("--socket={}", folder.join("socket").display()));
        command.arg(format!("--pid-file={}", folder.join("pid").display()));
        command.arg(format!("--init-file={}", init.display()));
        command.args(["--bind-address=127.0.0.1", &format!("--port={port}")]);
        command.args(["--innodb-buffer-pool-size=64M", "--performance-schema=OFF"]);
        command.args(["--skip-name-resolve", "--max-connections=300"]);
        Ok(command)
    },
    greets: |stream| {
        // The server speaks first: a length, a number, and the version of the protocol.
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting)?;
        Ok(greeting[4] == 10)
    },
};

static POSTGRES: Kind = Kind {
    name: "postgres",
    title: "PostgreSQL",
    variable: "REDIAL_POSTGRES_URL",
    package: Package {
        name: "postgresql",
        programs: &["postgres", "initdb"],
        folders: &["/usr/lib/postgresql/*/bin"],
    },
    user: Some("postgres"),
    signal: "INT",
    url: ("postgres://postgres@127.0.0.1:", "/postgres"),
    start: |kind, folder, port| {
        let data = folder.join("data");
        let mut install = found_as_user(kind, "initdb")?;
        install.arg("-D").arg(&data).args(["-A", "trust", "-U", "postgres", "-E", "UTF8"]);
        shell::run(install.current_dir(folder).stdout(Stdio::null()))?;
        let mut command = found_as_user(kind, "postgres")?;
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]).current_dir(folder);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300", "-c"]);
        command.arg(format!("unix_socket_directories={}", folder.display()));
        Ok(command)
    },
    greets: |stream| {
        // A start-up message of version 3.0; `R` asks for (no) proof of who we are, `E` says not yet.
        let words = b"\0\x03\0\0user\0postgres\0\0";
        let length = u32::try_from(words.len() + 4)?;
        stream.write_all(&[&length.to_be_bytes()[..], words].concat())?;
        let mut kind = [0; 1];
        stream.read_exact(&mut kind)?;
        Ok(kind == *b"R")
    },
};

fn found(kind: &Kind, name: &str) -> Result<Command> {
    let file =
        program(&kind.package, name).with_context(|| format!("{name} is not on this machine"))?;
    Ok(Command::new(file))
}

/// Calls a program as the server's own user, where we are root.
fn found_as_user(kind: &Kind, name: &str) -> Result<Command> {
    let (Some(user), true) = (kind.user, is_root()) else { return found(kind, name) };
    let file = found(kind, name)?;
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups"]);
    command.arg(file.get_program());
    Ok(command)
}

fn is_root() -> bool {
    shell::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Where Linux tells of a process, while there is one.
pub(super) fn process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    Ok(listener.local_addr().context("no free port")?.port())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server is another process, with a clock of its own"
)]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server is another process, with a clock of its own"
)]
fn now() -> Instant {
    Instant::now()
}

const READY_WITHIN: Duration = Duration::from_secs(60);
const ENDED_WITHIN: Duration = Duration::from_secs(15);
