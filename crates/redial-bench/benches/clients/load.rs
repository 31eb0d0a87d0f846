//! So many requests from so many tasks, and what they took.

use std::{
    fmt, fs,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::Uri;

/// What a contestant is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) uri: Uri,
    tasks: usize,
    requests: u64,
}

/// What it took: requests a second, seconds of CPU for 100,000 requests, the median and the 99th of 100
/// latencies in microseconds, the most memory in KiB, and the share of requests that were answered well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    a_second: f64,
    cpu: f64,
    median: u128,
    p99: u128,
    peak_kib: u64,
    well: f64,
}

impl Load {
    pub(crate) fn read(port: &str, path: &str, tasks: &str, requests: &str) -> Option<Self> {
        let uri = format!("http://127.0.0.1:{port}{path}").parse().ok()?;
        Some(Self { uri, tasks: tasks.parse().ok()?, requests: requests.parse().ok()? })
    }

    /// Calls with clones of `client` on a runtime of two threads; `call` tells whether an answer was well.
    pub(crate) fn run<C, F>(self, make: impl FnOnce() -> C, call: fn(C, Uri) -> F) -> Figures
    where
        C: Clone + Send + 'static,
        F: Future<Output = bool> + Send + 'static,
    {
        // One task is asked for where instructions are counted: then on one thread, the same on every run.
        let mut runtime = match self.tasks {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = runtime.worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
        runtime.block_on(async {
            let client = make();
            // What is made once is no cost of a request.
            call(client.clone(), self.uri.clone()).await;
            let (before, began) = (cpu(), Instant::now());
            let left = Arc::new(AtomicU64::new(self.requests));
            let tasks: Vec<_> = (0..self.tasks)
                .map(|_| {
                    tokio::spawn(work(Arc::clone(&left), client.clone(), self.uri.clone(), call))
                })
                .collect();
            let (mut latencies, mut well) = (Vec::new(), 0);
            for task in tasks {
                let (took, answered) = task.await.unwrap_or_default();
                latencies.extend(took);
                well += answered;
            }
            self.figures(began.elapsed(), cpu() - before, latencies, well)
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn figures(&self, took: Duration, cpu: f64, mut all: Vec<Duration>, well: u64) -> Figures {
        all.sort_unstable();
        let at =
            |hundredths: usize| all.get(all.len() * hundredths / 100).copied().unwrap_or_default();
        let requests = self.requests as f64;
        Figures {
            a_second: requests / took.as_secs_f64(),
            cpu: cpu / requests * 1e5,
            median: at(50).as_micros(),
            p99: at(99).as_micros(),
            peak_kib: peak_kib(),
            well: well as f64 / requests,
        }
    }
}

async fn work<C, F>(
    left: Arc<AtomicU64>,
    client: C,
    uri: Uri,
    call: fn(C, Uri) -> F,
) -> (Vec<Duration>, u64)
where
    C: Clone,
    F: Future<Output = bool>,
{
    let (mut latencies, mut well) = (Vec::new(), 0);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
    {
        let began = Instant::now();
        well += u64::from(call(client.clone(), uri.clone()).await);
        latencies.push(began.elapsed());
    }
    (latencies, well)
}

/// Returns the CPU time of this process in seconds, in steps of 10 ms (proc(5): utime and stime, in ticks of
/// a hundredth of a second on Linux).
fn cpu() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { a_second, cpu, median, p99, peak_kib, well } = self;
        write!(f, "{a_second:.0}\t{cpu:.3}\t{median}\t{p99}\t{peak_kib}\t{well:.4}")
    }
}
