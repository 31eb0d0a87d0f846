//! A Redis that goes away: killed, stuck, unreachable, or with a connection that breaks between a question
//! and its answer.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use redial::idempotency::{Claim, IdempotencyStore, RecordKey, StoreError};
use redial_store::RedisStore;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::servers::{KEEP, LEASE, Scratch, answer, key, pass, payload, redis, url};

/// A Redis of our own, so that it can be killed.
struct Private {
    child: Child,
    port: u16,
    folder: Scratch,
}

impl Private {
    async fn start() -> Self {
        // Where the shared one is, the program is too.
        url("REDIAL_REDIS_URL");
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let folder = Scratch::new("redis");
        let child = Self::spawn(port, folder.path());
        let private = Self { child, port, folder };
        private.wait().await;
        private
    }

    fn spawn(port: u16, folder: &Path) -> Child {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(folder);
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        command.stdout(Stdio::null()).spawn().unwrap()
    }

    async fn wait(&self) {
        // Before it has read its file it answers `-LOADING`.
        let client = ::redis::Client::open(self.url()).unwrap();
        for _ in 0..500 {
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && ::redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
            {
                return;
            }
            pass(Duration::from_millis(20)).await;
        }
        panic!("no Redis on port {}", self.port);
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn restart(&mut self) {
        self.child = Self::spawn(self.port, self.folder.path());
        self.wait().await;
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn records_outlive_a_redis_that_is_killed_and_meanwhile_errors_come_in_time() {
    let mut server = Private::start().await;
    let store = RedisStore::new(&server.url()).unwrap().with_timeout(BOUND);
    let (done, held) = (key("done"), key("held"));
    let Claim::Started(token) = store.begin(&done, payload(1), LEASE).await.unwrap() else {
        panic!("nobody else has it");
    };
    assert!(store.complete(&done, token, &answer(201, b"before"), KEEP).await.unwrap());
    let Claim::Started(token) = store.begin(&held, payload(1), LEASE).await.unwrap() else {
        panic!("nobody else has it");
    };

    server.kill();
    for _ in 0..5 {
        let begin = Instant::now();
        let error = store.begin(&done, payload(1), LEASE).await.unwrap_err();
        within_bound(&error, begin);
        let begin = Instant::now();
        let error = store.complete(&held, token, &answer(200, b""), KEEP).await.unwrap_err();
        within_bound(&error, begin);
    }

    server.restart().await;
    let claim = store.begin(&done, payload(1), LEASE).await.unwrap();
    assert_eq!(claim, Claim::Completed(answer(201, b"before")));
    let claim = store.begin(&held, payload(1), LEASE).await.unwrap();
    assert!(matches!(claim, Claim::InProgress { .. }), "{claim:?}");
    assert!(store.complete(&held, token, &answer(201, b"after"), KEEP).await.unwrap());
}

#[tokio::test]
async fn no_duplicate_is_carried_out_while_redis_is_killed_again_and_again() {
    let mut server = Private::start().await;
    let executions: Arc<[AtomicU32; 20]> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let keys: Vec<RecordKey> = executions.iter().map(|_| key("storm")).collect();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = RedisStore::new(&server.url()).unwrap().with_timeout(BOUND);
        let (keys, executions, stop) = (keys.clone(), executions.clone(), stop.clone());
        workers.spawn(async move {
            let mut errors = 0_u32;
            for (key, executions) in keys.iter().zip(executions.iter()).cycle() {
                match store.begin(key, payload(1), LEASE).await {
                    Ok(Claim::Started(token)) => {
                        executions.fetch_add(1, Ordering::Relaxed);
                        let done = answer(200, b"");
                        while store.complete(key, token, &done, KEEP).await.is_err() {
                            errors += 1;
                        }
                    }
                    Ok(_) => pass(Duration::from_millis(5)).await,
                    Err(_) => errors += 1,
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            errors
        });
    }
    for _ in 0..4 {
        pass(Duration::from_millis(150)).await;
        server.kill();
        pass(Duration::from_millis(100)).await;
        server.restart().await;
    }
    pass(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let errors: u32 = workers.join_all().await.into_iter().sum();
    // A holder whose begin was answered by nobody leaves its key for the length of the lease, so a request
    // may not be carried out in this time; but none is carried out twice.
    let executions = executions.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(executions.iter().all(|count| *count <= 1), "{executions:?}");
    assert!(executions.contains(&1), "{executions:?}");
    let once = executions.iter().filter(|count| **count == 1).count();
    println!("killed 4 times: {errors} errors, {once} of 20 carried out once, none twice");
    assert!(0 < errors, "Redis was gone four times");
}

#[tokio::test]
async fn a_redis_that_is_stuck_is_given_up_and_used_again_when_it_moves() {
    let server = Private::start().await;
    let store = RedisStore::new(&server.url()).unwrap().with_timeout(BOUND);
    let key = key("stuck");
    let Claim::Started(token) = store.begin(&key, payload(1), LEASE).await.unwrap() else {
        panic!("nobody else has it");
    };
    server.signal("STOP");
    let begin = Instant::now();
    let error = store.renew(&key, token, LEASE).await.unwrap_err();
    within_bound(&error, begin);
    server.signal("CONT");
    assert!(store.renew(&key, token, LEASE).await.unwrap());
}

#[tokio::test]
async fn where_no_redis_is_the_first_operation_says_so() {
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let store = RedisStore::new(&format!("redis://{closed}/")).unwrap().with_timeout(BOUND);
    let begin = Instant::now();
    let error = store.begin(&key("none"), payload(1), LEASE).await.unwrap_err();
    within_bound(&error, begin);
    assert_eq!(error.to_string(), "the idempotency store (redis) failed");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "Redis cannot be asked");
}

#[test]
fn what_is_no_address_of_a_redis_is_refused() {
    let error = RedisStore::new("http://127.0.0.1/").unwrap_err().to_string();
    assert!(error.starts_with("not the address of a Redis"), "{error}");
    let store = RedisStore::new("redis://:secret@127.0.0.1/").unwrap();
    assert!(!format!("{store:?}").contains("secret"));
}

#[tokio::test]
async fn an_operation_whose_answer_was_lost_is_sent_again_and_knows_its_own_doing() {
    let cutting = Arc::new(AtomicBool::new(false));
    let store = RedisStore::new(&through_a_cut(cutting.clone()).await).unwrap();
    let key = key("lost");
    // The scripts are known from here on: what is cut is the answer to one that was run.
    let Claim::Started(token) = store.begin(&key, payload(1), LEASE).await.unwrap() else {
        panic!("nobody else has it");
    };
    assert!(store.release(&key, token).await.unwrap());
    cutting.store(true, Ordering::SeqCst);
    let claim = store.begin(&key, payload(1), LEASE).await.unwrap();
    assert!(!cutting.load(Ordering::SeqCst), "an answer was cut off");
    let Claim::Started(token) = claim else { panic!("it met itself: {claim:?}") };

    assert!(store.renew(&key, token, LEASE).await.unwrap());
    cutting.store(true, Ordering::SeqCst);
    assert!(store.release(&key, token).await.unwrap());
    let Claim::Started(token) = store.begin(&key, payload(1), LEASE).await.unwrap() else {
        panic!("it was released");
    };
    // Makes the script known, and changes nothing.
    let stranger = redial_core::FencingToken::new(1);
    assert!(!store.complete(&key, stranger, &answer(200, b""), KEEP).await.unwrap());
    cutting.store(true, Ordering::SeqCst);
    assert!(store.complete(&key, token, &answer(200, b"once"), KEEP).await.unwrap());
    assert!(!cutting.load(Ordering::SeqCst), "an answer was cut off");
    let claim = store.begin(&key, payload(1), LEASE).await.unwrap();
    assert_eq!(claim, Claim::Completed(answer(200, b"once")));
}

/// Passes bytes on to the shared Redis; cuts the connection in place of the next answer once `cutting` is set.
async fn through_a_cut(cutting: Arc<AtomicBool>) -> String {
    let upstream = url("REDIAL_REDIS_URL");
    let upstream = upstream.trim_start_matches("redis://").trim_end_matches('/').to_owned();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&upstream).await.unwrap();
            tokio::spawn(pass_on(client, server, cutting.clone()));
        }
    });
    format!("redis://{address}/")
}

async fn pass_on(client: TcpStream, server: TcpStream, cutting: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::io::copy(&mut from_client, &mut to_server);
    let down = async {
        let mut bytes = vec![0; 65_536];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            if cutting.swap(false, Ordering::SeqCst) {
                return;
            }
            to_client.write_all(&bytes[..count]).await.unwrap();
        }
    };
    tokio::select! { _ = up => {}, () = down => {} }
}

#[tokio::test]
async fn a_redis_that_forgot_the_scripts_gets_them_again() {
    let server = Private::start().await;
    let store = RedisStore::new(&server.url()).unwrap();
    let key = key("flushed");
    assert!(matches!(store.begin(&key, payload(1), LEASE).await, Ok(Claim::Started(_))));
    let mut connection = raw(&server.url()).await;
    ::redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut connection).await.unwrap();
    assert!(matches!(store.begin(&key, payload(1), LEASE).await, Ok(Claim::InProgress { .. })));
}

#[tokio::test]
async fn records_expire_by_themselves_and_stand_below_the_prefix() {
    let store = redis().with_prefix("redial-test:");
    let key = key("expiry");
    let name = format!("redial-test:{}", key.as_str());
    let Claim::Started(token) = store.begin(&key, payload(1), LEASE).await.unwrap() else {
        panic!("nobody else has it");
    };
    let mut connection = raw(&url("REDIAL_REDIS_URL")).await;
    let mut left = async || {
        let left = ::redis::cmd("PTTL").arg(&name).query_async::<i64>(&mut connection).await;
        left.unwrap()
    };
    // An hour longer than the lease, so that a late holder is known, and the next token is higher.
    let held = left().await;
    assert!((3_600_000..=3_630_000).contains(&held), "{held} ms");
    assert!(store.complete(&key, token, &answer(200, b""), KEEP).await.unwrap());
    let kept = left().await;
    assert!((590_000..=600_000).contains(&kept), "{kept} ms");
}

#[tokio::test]
async fn what_is_no_record_is_an_error_and_stays_as_it_is() {
    let store = redis();
    let mut connection = raw(&url("REDIAL_REDIS_URL")).await;
    let text = key("text");
    let name = format!("idempotency:{}", text.as_str());
    ::redis::cmd("SET")
        .arg(&name)
        .arg("x")
        .arg("PX")
        .arg(60_000)
        .exec_async(&mut connection)
        .await
        .unwrap();
    store.begin(&text, payload(1), LEASE).await.unwrap_err();

    let odd = key("odd");
    let name = format!("idempotency:{}", odd.as_str());
    let mut hash = ::redis::cmd("HSET");
    hash.arg(&name).arg("state").arg("completed").arg("until").arg("9000000000000000");
    hash.arg("token").arg("5").arg("print").arg([1_u8; 32].as_slice()).arg("status").arg("teapot");
    hash.exec_async(&mut connection).await.unwrap();
    store.begin(&odd, payload(1), LEASE).await.unwrap_err();
    let mut get = ::redis::cmd("HGET");
    let left: String = get.arg(&name).arg("status").query_async(&mut connection).await.unwrap();
    assert_eq!(left, "teapot");
    ::redis::cmd("DEL").arg(&name).exec_async(&mut connection).await.unwrap();
}

async fn raw(url: &str) -> ::redis::aio::MultiplexedConnection {
    ::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

fn within_bound(error: &StoreError, begin: Instant) {
    let took = begin.elapsed();
    println!("{error} after {took:?}");
    assert!(took < BOUND + Duration::from_millis(500), "{error} after {took:?}");
}

/// Short, so that the test is; 2 s unless set.
const BOUND: Duration = Duration::from_millis(500);
