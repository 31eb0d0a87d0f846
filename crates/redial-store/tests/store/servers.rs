//! Where the servers are, and stores on them.
//!
//! The addresses come from the environment, or from what `cargo xtask services up` wrote down; if neither is
//! there, it is called, to run until this run of tests ends.

use std::{
    env, fs,
    os::unix::process::parent_id,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use redial::idempotency::{RecordKey, StoredAnswer};
use redial_core::Fingerprint;
use redial_store::{MySqlStore, PostgresStore, RedisStore, SqliteStore};
use sqlx::{
    MySqlPool, PgPool, SqlitePool,
    mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};

use crate::child::part;

/// Returns the address of a server, such as that in `REDIAL_REDIS_URL`.
pub(crate) fn url(variable: &str) -> String {
    if let Ok(why) = env::var("REDIAL_SERVICES_FAILED") {
        panic!("no {variable}: the services could not be started: {why}");
    }
    if let Ok(url) = env::var(variable) {
        return url;
    }
    static STARTED: OnceLock<String> = OnceLock::new();
    let all = STARTED.get_or_init(start);
    let line = all.lines().find_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("{variable} is not in:\n{all}")).to_owned()
}

/// Calls `cargo xtask services up`, which does nothing if they run.
fn start() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut up = Command::new(cargo);
    up.current_dir(&root).args(["xtask", "services", "up", "--until-exit"]);
    // The parent is cargo (or a debugger): it outlives this program, which may be one of several.
    let status = up.arg(parent_id().to_string()).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the services are not there and could not be started; run `cargo xtask services up` and see"
    );
    fs::read_to_string(root.join("target/services/environment")).unwrap()
}

pub(crate) fn redis() -> RedisStore {
    RedisStore::new(&url("REDIAL_REDIS_URL")).unwrap()
}

pub(crate) async fn mysql_pool() -> MySqlPool {
    let options = MySqlPoolOptions::new().max_connections(20);
    options.connect(&url("REDIAL_MYSQL_URL")).await.unwrap()
}

pub(crate) async fn mysql() -> MySqlStore {
    let store = MySqlStore::new(mysql_pool().await);
    store.migrate().await.unwrap();
    store
}

pub(crate) async fn postgres_pool() -> PgPool {
    let options = PgPoolOptions::new().max_connections(20);
    options.connect(&url("REDIAL_POSTGRES_URL")).await.unwrap()
}

pub(crate) async fn postgres() -> PostgresStore {
    let store = PostgresStore::new(postgres_pool().await);
    store.migrate().await.unwrap();
    store
}

/// Opens a database in `file`.
pub(crate) async fn sqlite_pool(file: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal);
    let options = options.busy_timeout(Duration::from_secs(20));
    SqlitePoolOptions::new().max_connections(8).connect_with(options).await.unwrap()
}

/// A store in a file of its own, which goes with the folder.
pub(crate) async fn sqlite() -> (SqliteStore, Scratch) {
    let folder = Scratch::new("sqlite");
    let store = SqliteStore::new(sqlite_pool(&folder.path().join("records.db")).await);
    store.migrate().await.unwrap();
    (store, folder)
}

/// A folder that is removed with everything in it, by the process that made it.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    is_ours: bool,
}

impl Scratch {
    pub(crate) fn new(what: &str) -> Self {
        let name = format!("redial-store-{what}-{}", key(what).as_str().replace(':', "-"));
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self { path, is_ours: true }
    }

    /// A folder that the other process is told of before its text; here, there, and what that text is.
    pub(crate) fn shared() -> (Self, Option<String>) {
        match part().as_deref().and_then(|told| told.split_once(' ')) {
            Some((path, text)) => (Self { path: path.into(), is_ours: false }, Some(text.into())),
            None => (Self::new("shared"), None),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A key that nobody else uses, in this run or another.
pub(crate) fn key(what: &str) -> RecordKey {
    static NUMBER: Mutex<u32> = Mutex::new(0);
    let mut number = NUMBER.lock().unwrap_or_else(PoisonError::into_inner);
    *number += 1;
    let run = std::process::id();
    let random = random();
    RecordKey::new(&format!("{what}:{run}:{number}:{random:x}")).unwrap()
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

pub(crate) const fn payload(byte: u8) -> Fingerprint {
    Fingerprint::new([byte; 32])
}

pub(crate) fn answer(status: u16, body: &[u8]) -> StoredAnswer {
    let status = http::StatusCode::from_u16(status).unwrap();
    let body = Some(bytes::Bytes::copy_from_slice(body));
    StoredAnswer { status, headers: http::HeaderMap::new(), body }
}

/// Waits in real time: the servers' clocks are not ours to pause.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const KEEP: Duration = Duration::from_secs(600);
