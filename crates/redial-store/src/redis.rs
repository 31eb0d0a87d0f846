//! Records in Redis.
//!
//! Each operation is one script, so it is atomic, and one round trip. Records expire by themselves.

mod scripts;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use redial::idempotency::{Claim, IdempotencyStore, RecordKey, StoreError, StoredAnswer};
use redial_core::{FencingToken, Fingerprint};
use redis::{
    Client, IntoConnectionInfo as _, RedisError, Script, ScriptInvocation, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use thiserror::Error;
use tokio::time::{error::Elapsed, timeout};

use crate::record::{AFTERMATH, Unreadable, micros, read_answer, read_token, write_fields};

/// Keeps records of idempotency keys in Redis 5 or later, one key each. Tested on Redis 7.0.
///
/// Clones share one connection, which lives on the runtime of its first use. It is opened when it is first
/// needed, and again when it broke; an operation whose connection breaks is sent once more, which is safe
/// because the scripts know their own doing. An operation ends within [`with_timeout`](Self::with_timeout)
/// whatever Redis does, with an error if need be.
///
/// What Redis forgets, it forgets: run it with `appendonly yes` so that records outlive it, with
/// `appendfsync always` if they shall outlive the machine's power, and with a `maxmemory-policy` that does not
/// evict (`noeviction`). A replica that is promoted may lack the last records. Where that is not good enough,
/// keep them beside the data: [`SqlStore`](crate::SqlStore).
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use redial::idempotency::{Claim, IdempotencyStore, RecordKey};
/// use redial_core::Fingerprint;
/// use redial_store::RedisStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::new("redis://127.0.0.1:6379")?.with_prefix("shop:");
/// let key = RecordKey::new("order-17").ok_or("no key")?;
/// let claim = store.begin(&key, Fingerprint::new([7; 32]), Duration::from_secs(30)).await?;
/// assert!(matches!(claim, Claim::Started(_)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
    connection: Arc<tokio::sync::OnceCell<ConnectionManager>>,
    prefix: Arc<str>,
    timeout: Duration,
    seed: RandomState,
}

/// An address is none of a Redis.
#[derive(Debug, Error)]
#[error("not the address of a Redis; it is redis://[user:password@]host[:port][/database]")]
pub struct InvalidRedisUrl(#[source] RedisError);

#[derive(Debug, Error)]
enum Failed {
    #[error("Redis cannot be asked")]
    Redis(#[source] RedisError),
    #[error("Redis did not answer within {0:?}")]
    Late(Duration, #[source] Elapsed),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl RedisStore {
    /// Creates a store of the Redis at `url`, such as `redis://127.0.0.1:6379/0`; opens no connection yet.
    ///
    /// Keys begin with `idempotency:`, and an operation takes two seconds at most.
    ///
    /// # Errors
    ///
    /// If `url` is no address of a Redis; `rediss://`, which is TLS, is none that is understood here.
    pub fn new(url: &str) -> Result<Self, InvalidRedisUrl> {
        let info = url.into_connection_info().map_err(InvalidRedisUrl)?;
        // A peer that vanished without a word is noticed by what it does not acknowledge.
        #[cfg(target_os = "linux")]
        let info = {
            let settings = info.tcp_settings().clone().set_user_timeout(TIMEOUT * 5);
            info.set_tcp_settings(settings)
        };
        Ok(Self {
            client: Client::open(info).map_err(InvalidRedisUrl)?,
            connection: Arc::default(),
            prefix: "idempotency:".into(),
            timeout: TIMEOUT,
            seed: RandomState::new(),
        })
    }

    /// Puts `prefix` before every key, in place of `idempotency:`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Gives up an operation after `timeout`, connecting and sending again included; 2 s unless set.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn name(&self, key: &RecordKey) -> String {
        format!("{}{}", self.prefix, key.as_str())
    }

    /// Runs what `prepare` makes of a script, which is told whether it is sent again.
    async fn run(
        &self,
        script: &'static Script,
        prepare: impl Fn(&mut ScriptInvocation<'_>, bool) + Send,
    ) -> Result<Value, Failed> {
        let invoke = async {
            let mut connection = self.connection().await.map_err(Failed::Redis)?;
            let mut first = script.prepare_invoke();
            prepare(&mut first, false);
            match first.invoke_async(&mut connection).await {
                Err(error) if error.is_connection_dropped() => {
                    let mut second = script.prepare_invoke();
                    prepare(&mut second, true);
                    second.invoke_async(&mut connection).await.map_err(Failed::Redis)
                }
                outcome => outcome.map_err(Failed::Redis),
            }
        };
        let late = |elapsed| Failed::Late(self.timeout, elapsed);
        timeout(self.timeout, invoke).await.map_err(late)?
    }

    async fn run_bool(
        &self,
        script: &'static Script,
        prepare: impl Fn(&mut ScriptInvocation<'_>, bool) + Send,
    ) -> Result<bool, StoreError> {
        match self.run(script, prepare).await {
            Ok(Value::Int(held)) => Ok(held == 1),
            Ok(_) => Err(failed(Unreadable::Reply)),
            Err(error) => Err(failed(error)),
        }
    }

    /// Returns the connection that mends itself; the first caller makes it, within a runtime.
    async fn connection(&self) -> Result<ConnectionManager, RedisError> {
        // Few and quick: who waits for a connection does so within its own timeout, and asks again later.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(100))
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(None);
        let make =
            || async { ConnectionManager::new_lazy_with_config(self.client.clone(), config) };
        self.connection.get_or_try_init(make).await.cloned()
    }
}

impl IdempotencyStore for RedisStore {
    async fn begin(
        &self,
        key: &RecordKey,
        fingerprint: Fingerprint,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        let name = self.name(key);
        // Which call this is, in which process: sent again, it must know itself.
        let call = format!("{:016x}", self.seed.hash_one(RandomState::new().hash_one(())));
        let reply = self.run(&scripts::BEGIN, |script, _| {
            script.key(&name).arg(fingerprint.as_bytes().as_slice()).arg(micros(lease));
            script.arg(millis(lease.saturating_add(AFTERMATH))).arg(&call);
        });
        reply.await.and_then(|value| Ok(read_claim(value)?)).map_err(failed)
    }

    async fn renew(
        &self,
        key: &RecordKey,
        token: FencingToken,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let name = self.name(key);
        let held = self.run_bool(&scripts::RENEW, |script, _| {
            script.key(&name).arg(token.number()).arg(micros(lease));
            script.arg(millis(lease.saturating_add(AFTERMATH)));
        });
        held.await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: FencingToken,
        answer: &StoredAnswer,
        keep: Duration,
    ) -> Result<bool, StoreError> {
        let name = self.name(key);
        let fields = write_fields(&answer.headers);
        let held = self.run_bool(&scripts::COMPLETE, |script, again| {
            script.key(&name).arg(token.number()).arg(micros(keep)).arg(millis(keep));
            script.arg(u8::from(again)).arg(answer.status.as_u16()).arg(fields.as_slice());
            if let Some(body) = &answer.body {
                script.arg(body.as_ref());
            }
        });
        held.await
    }

    async fn release(&self, key: &RecordKey, token: FencingToken) -> Result<bool, StoreError> {
        let name = self.name(key);
        let held = self.run_bool(&scripts::RELEASE, |script, again| {
            script.key(&name).arg(token.number()).arg(millis(AFTERMATH)).arg(u8::from(again));
        });
        held.await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the address: it may hold a password.
        let mut shown = f.debug_struct("RedisStore");
        shown.field("prefix", &self.prefix).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

fn read_claim(reply: Value) -> Result<Claim, Unreadable> {
    let Value::Array(parts) = reply else { return Err(Unreadable::Reply) };
    let mut parts = parts.into_iter().map(|part| match part {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    });
    let mut part = || parts.next().flatten();
    match part().as_deref() {
        Some(b"started") => read_token(number(part())?).map(Claim::Started),
        Some(b"held") => {
            let left = number(part())?;
            Ok(Claim::InProgress { left: Duration::from_micros(left.unsigned_abs()) })
        }
        Some(b"completed") => {
            let status = number(part())?;
            let fields = part().ok_or(Unreadable::Missing("fields"))?;
            read_answer(status, &fields, part()).map(Claim::Completed)
        }
        Some(b"mismatch") => Ok(Claim::Mismatch),
        _ => Err(Unreadable::Reply),
    }
}

fn number(text: Option<Vec<u8>>) -> Result<i64, Unreadable> {
    let text = text.and_then(|text| String::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).ok_or(Unreadable::Reply)
}

/// Returns `span` in whole milliseconds, rounded up, at least 1: what expires earlier would be gone before
/// its record says so.
fn millis(span: Duration) -> i64 {
    let micros = micros(span);
    (micros / 1_000 + i64::from(micros % 1_000 != 0)).max(1)
}

fn failed(error: impl Into<Failed>) -> StoreError {
    StoreError::new("redis", error.into())
}

const TIMEOUT: Duration = Duration::from_secs(2);
