//! `cargo xtask services`: the real Redis, MariaDB and PostgreSQL that tests talk to.
//!
//! They listen on free ports of the loopback interface and keep their data in one temporary folder. What was
//! started is written down below `target/services`, for tests to find and for `down` to stop: that, and
//! nothing else. Several runs of tests may share them: a watcher stops them when the last process has ended that
//! they run for, however it ended.

mod install;
mod server;
mod state;

use std::{
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use self::{
    install::Package,
    server::{KINDS, Server},
    state::State,
};

/// Runs `up`, `down`, `status`, or, for ourselves, `watch`.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["up"] => up(None).map(|state| print!("{}", state.environment()))?,
        ["up", "--until-exit", pid] => {
            up(Some(pid.parse().context("no process id")?)).map(|_| ())?
        }
        ["down"] => down()?,
        ["status"] => return status(),
        ["watch", pid, folder] => watch(pid.parse().context("no process id")?, Path::new(folder))?,
        _ => bail!("say `up`, `down` or `status`; `cargo xtask services --help` tells more"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The services for the length of a run of tests; stopped when dropped, unless they run for others too.
pub(crate) struct Running {
    variables: Vec<(String, String)>,
}

impl Running {
    /// Starts them if the tests that `args` choose need them.
    pub(crate) fn begin_for(args: &[String]) -> Option<Self> {
        let chosen = crate::test::selection(args).is_some();
        let named = args.iter().any(|arg| NEEDED_BY.iter().any(|name| arg.contains(name)));
        (chosen || named).then(Self::begin)
    }

    /// Starts the services unless they run. Where that cannot be done, tests are told so, and fail.
    pub(crate) fn begin() -> Self {
        match up(Some(process::id())) {
            Ok(state) => Self { variables: state.variables() },
            Err(error) => {
                eprintln!("error: no services: {error:#}; tests that need them will fail");
                let variables = vec![(FAILED.to_owned(), format!("{error:#}"))];
                Self { variables }
            }
        }
    }

    /// What tests need in their environment.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = leave(process::id()) {
            eprintln!("error: {error:#}");
        }
    }
}

/// Starts what does not run, for one process or until `down`; returns all of it. One such call waits for
/// another.
fn up(until_exit: Option<u32>) -> Result<State> {
    let _lock = lock()?;
    if let Some(mut state) = State::read(&folder()) {
        if state.is_alive() {
            join(&mut state, until_exit)?;
            return Ok(state);
        }
        eprintln!("services: some have ended; starting all of them again");
        stop(&state)?;
    }
    for package in KINDS.iter().map(|kind| &kind.package).chain([&install::FAKETIME]) {
        install::ensure(package)?;
    }
    let data = data_folder()?;
    let mut state = State::new(&data);
    state.users.extend(until_exit);
    for kind in KINDS {
        match Server::start(kind, &data.join(kind.name)) {
            Ok(server) => state.servers.push(server),
            Err(error) => {
                stop(&state)?;
                return Err(error.context(format!("cannot start {}", kind.title)));
            }
        }
        // Written after each, so that nothing is left behind whenever this is interrupted.
        state.write(&folder())?;
    }
    if let Some(pid) = until_exit {
        start_watcher(pid, &data)?;
    }
    Ok(state)
}

/// Has running services stay for one process more, or, without one, until `down`.
fn join(state: &mut State, until_exit: Option<u32>) -> Result<()> {
    if state.users.is_empty() {
        return Ok(());
    }
    match until_exit {
        None => state.users.clear(),
        Some(pid) if state.users.contains(&pid) => return Ok(()),
        Some(pid) => {
            state.users.push(pid);
            start_watcher(pid, &state.data)?;
        }
    }
    state.write(&folder())
}

/// Stops the services if `pid` was the last process that they ran for.
fn leave(pid: u32) -> Result<()> {
    let _lock = lock()?;
    let Some(mut state) = State::read(&folder()) else { return Ok(()) };
    let before = state.users.len();
    state.users.retain(|user| *user != pid && server::process(*user).exists());
    match (before, state.users.len()) {
        (0, _) => Ok(()),
        (_, 0) => stop(&state),
        _ => state.write(&folder()),
    }
}

fn down() -> Result<()> {
    let _lock = lock()?;
    let Some(state) = State::read(&folder()) else {
        eprintln!("services: none were started");
        return Ok(());
    };
    stop(&state)
}

fn status() -> Result<ExitCode> {
    let Some(state) = State::read(&folder()) else {
        println!("none were started; `cargo xtask services up` starts them");
        return Ok(ExitCode::FAILURE);
    };
    for server in &state.servers {
        let answers = if server.answers() { "answers" } else { "does not answer" };
        println!(
            "{:<10}  process {:<7}  {answers:<15}  {}",
            server.kind.title,
            server.pid,
            server.url()
        );
    }
    Ok(if state.is_alive() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ends what is written down, removes its data, and forgets it.
fn stop(state: &State) -> Result<()> {
    for server in state.servers.iter().rev() {
        server.stop()?;
    }
    let removed = fs::remove_dir_all(&state.data);
    if state.data.exists() {
        removed.with_context(|| format!("cannot remove {}", state.data.display()))?;
    }
    State::forget(&folder())
}

/// Waits for a process to end, and stops the services if it was the last that they ran for.
fn watch(pid: u32, data: &Path) -> Result<()> {
    while server::process(pid).exists() && data.exists() {
        server::pause(Duration::from_millis(500));
    }
    match State::read(&folder()) {
        Some(state) if state.data == data => leave(pid),
        _ => Ok(()),
    }
}

fn start_watcher(pid: u32, data: &Path) -> Result<()> {
    let mut watcher = Command::new(env::current_exe().context("cannot find this program")?);
    watcher.args(["services", "watch", &pid.to_string()]).arg(data).process_group(0);
    watcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    watcher.spawn().context("cannot start the watcher")?;
    Ok(())
}

fn folder() -> PathBuf {
    crate::shell::root().join("target/services")
}

/// Makes a folder that other users may enter: MariaDB and PostgreSQL do not run as root.
fn data_folder() -> Result<PathBuf> {
    let data = env::temp_dir().join(format!("redial-services-{}", process::id()));
    fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&data, mode).context("cannot open the folder to other users")?;
    Ok(data)
}

fn lock() -> Result<File> {
    fs::create_dir_all(folder()).context("cannot make target/services")?;
    let lock = File::create(folder().join("lock")).context("cannot make the lock")?;
    lock.lock().context("cannot lock target/services")?;
    Ok(lock)
}

/// Packages whose tests talk to the services.
const NEEDED_BY: &[&str] = &["redial-store"];

/// Set for tests where the services could not be started: why.
const FAILED: &str = "REDIAL_SERVICES_FAILED";

/// Finds `name` on PATH, or in the folders where Debian keeps servers.
fn program(package: &Package, name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let own = package.folders.iter().flat_map(|pattern| versions(pattern));
    let mut folders = own.chain(env::split_paths(&path)).chain([PathBuf::from("/usr/sbin")]);
    folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
}

/// Resolves one `*` in a path, the highest version first.
fn versions(pattern: &str) -> Vec<PathBuf> {
    let Some((parent, rest)) = pattern.split_once('*') else { return vec![pattern.into()] };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path().join(rest.trim_start_matches('/'))).collect();
    found.sort();
    found.reverse();
    found
}
