//! Calls over loopback, many at a time: this transport beside hyper-util's client.
//!
//! `cargo run --release -p redial-hyper --example pool_load [CONCURRENT] [CALLS]`
//!
//! The server is a process of its own, and so is each client, with one thread each. Times are of the
//! client: the CPU it took for 100,000 calls, and how long calls took.

use std::{
    convert::Infallible,
    env,
    error::Error,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::service::service_fn;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use redial_hyper::Transport;
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tower::{Service, ServiceExt};

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.first().map(String::as_str) {
        Some("serve") => runtime.block_on(serve()),
        Some(client @ ("redial" | "hyper-util")) => {
            let (url, concurrent, calls) = (&arguments[1], arguments[2].parse()?, &arguments[3]);
            runtime.block_on(load(client, url, concurrent, calls.parse()?))
        }
        _ => compare(&arguments),
    }
}

/// Runs each client against a server of its own, three times in turn.
fn compare(arguments: &[String]) -> Result<(), Failed> {
    let given = |nth: usize, default: &str| {
        arguments.get(nth).map_or_else(|| default.to_owned(), Clone::clone)
    };
    let (concurrent, calls) = (given(0, "512"), given(1, "200000"));
    println!("client      calls/s  cpu/100k  p50 ms  p99 ms  max ms  connections");
    for _ in 0..3 {
        for client in ["hyper-util", "redial"] {
            let mut server = start(&["serve"])?;
            let stdout = server.stdout.take().ok_or("the server has no output")?;
            let mut url = String::new();
            BufReader::new(stdout).read_line(&mut url)?;
            let mut load = start(&[client, url.trim(), &concurrent, &calls])?;
            let mut line = String::new();
            let stdout = load.stdout.take().ok_or("the client has no output")?;
            BufReader::new(stdout).read_line(&mut line)?;
            print!("{line}");
            load.wait()?;
            server.kill()?;
            server.wait()?;
        }
    }
    Ok(())
}

fn start(arguments: &[&str]) -> Result<Child, Failed> {
    Ok(Command::new(env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()?)
}

/// Answers 1 KiB to everything but `/connections`, which it answers with how many came.
async fn serve() -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/", listener.local_addr()?);
    let connections = Arc::new(AtomicUsize::new(0));
    let answer = Bytes::from(vec![b'x'; 1024]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        connections.fetch_add(1, Ordering::Relaxed);
        let (connections, answer) = (Arc::clone(&connections), answer.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let answer = match request.uri().path() {
                    "/connections" => connections.load(Ordering::Relaxed).to_string().into(),
                    _ => answer.clone(),
                };
                async { Ok::<_, Infallible>(Response::new(Full::new(answer))) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // A client that goes away is no news.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn load(client: &str, url: &str, concurrent: usize, calls: usize) -> Result<(), Failed> {
    let line = if client == "redial" {
        let transport = Transport::builder().build()?;
        measure(transport, url, concurrent, calls).await?
    } else {
        let hyper = Client::builder(TokioExecutor::new());
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        measure(hyper.build::<_, Empty<Bytes>>(tcp), url, concurrent, calls).await?
    };
    println!("{client:<10}{line}");
    Ok(())
}

async fn measure<S, B>(
    client: S,
    url: &str,
    concurrent: usize,
    calls: usize,
) -> Result<String, Failed>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Failed> + Send,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Failed>,
{
    let left = Arc::new(AtomicUsize::new(calls));
    let (cpu, began) = (cpu_time()?, Instant::now());
    let mut workers = JoinSet::new();
    for _ in 0..concurrent {
        let (client, left, url) = (client.clone(), Arc::clone(&left), url.to_owned());
        workers.spawn(async move {
            let mut took = Vec::new();
            let more = |left: usize| left.checked_sub(1);
            while left.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
                let began = Instant::now();
                call(client.clone(), &url).await?;
                took.push(began.elapsed());
            }
            Ok::<_, Failed>(took)
        });
    }
    let mut took = Vec::with_capacity(calls);
    while let Some(worker) = workers.join_next().await {
        took.extend(worker??);
    }
    let (spent, cpu) = (began.elapsed(), cpu_time()? - cpu);
    took.sort_unstable();
    let part = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000].as_secs_f64() * 1e3;
    let connections = call(client, &format!("{url}connections")).await?;
    #[expect(clippy::cast_precision_loss, reason = "far fewer calls than 2^52")]
    let calls = took.len() as f64;
    Ok(format!(
        "{:9.0}{:10.2}{:8.2}{:8.2}{:8.2}{:>13}",
        calls / spent.as_secs_f64(),
        cpu.as_secs_f64() * 1e5 / calls,
        part(500),
        part(990),
        part(1000),
        String::from_utf8_lossy(&connections)
    ))
}

async fn call<S, B>(client: S, url: &str) -> Result<Bytes, Failed>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>>,
    S::Error: Into<Failed>,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Failed>,
{
    let request = Request::get(url).body(Empty::new())?;
    let answer = client.oneshot(request).await.map_err(Into::into)?;
    Ok(answer.into_body().collect().await.map_err(Into::into)?.to_bytes())
}

/// Returns the CPU time of this process: Linux counts it in hundredths of a second.
fn cpu_time() -> Result<Duration, Failed> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}
