//! `redial demo`: a few thousand calls through a failing network, with Redial and without.

mod calls;
mod script;
mod tally;
mod upstream;

use std::{
    io::{IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior};

use self::{calls::Client, script::Script, tally::Tally, upstream::Upstream};
use crate::{
    cli::{Failure, Output},
    show,
};

/// Watch calls get through a failing network
///
/// Starts an upstream that fails on purpose (refused and reset connections, 503, 429 with
/// Retry-After, slow and truncated answers) and sends it the same calls twice, side by side: as they
/// are, and through Redial's standard stack. Needs nothing but loopback.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// How many calls each side makes
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calls: u32,
    /// How many calls each side begins in a second
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    rate: u32,
    /// Which calls fail, and how: the same seed, the same faults
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the figures as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DemoArgs, out: &mut Output) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::usage(format!("cannot start: {error}")))?;
    if !args.json {
        let DemoArgs { calls, rate, seed, .. } = args;
        writeln!(
            out,
            "{calls} calls a side, {rate} a second, to an upstream that fails (seed {seed})"
        )?;
        out.flush()?;
    }
    let finished = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => None,
            sides = play(args) => Some(sides),
        }
    });
    runtime.shutdown_background();
    let Some(sides) = finished else { return Ok(INTERRUPTED) };
    let [without, with] = sides?;
    if args.json {
        let json = serde_json::json!({
            "seed": args.seed,
            "without": without.json(),
            "with": with.json(),
        });
        writeln!(out, "{json}")?;
    } else {
        tally::write(&without, &with, out)?;
    }
    Ok(0)
}

async fn play(args: &DemoArgs) -> Result<[Tally; 2], Failure> {
    let cannot =
        |error: std::io::Error| Failure::usage(format!("cannot listen on loopback: {error}"));
    let script = Arc::new(Script::new(args.seed, args.calls));
    let without =
        Arc::new(Client::plain(Upstream::start(Arc::clone(&script)).await.map_err(cannot)?)?);
    let upstream = Upstream::start(Arc::clone(&script)).await.map_err(cannot)?;
    let with = Arc::new(Client::redial(upstream, args.seed)?);

    let progress = tokio::spawn(show_progress(args.calls, Arc::clone(&without), Arc::clone(&with)));
    let mut tick = tokio::time::interval(Duration::from_secs(1) / args.rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = tokio::task::JoinSet::new();
    for n in 0..args.calls {
        tick.tick().await;
        for client in [&without, &with] {
            let (client, call) = (Arc::clone(client), script.call(n));
            running.spawn(async move { client.make(n, call).await });
        }
    }
    while running.join_next().await.is_some() {}
    progress.abort();
    // The moving line is this task's to take away: the other one is gone.
    if std::io::stderr().is_terminal() {
        eprint!("\r\u{1b}[K");
    }
    Ok([without.tally(&script), with.tally(&script)])
}

/// Shows how far it is: a line that moves at a terminal, and a line every few seconds elsewhere.
async fn show_progress(calls: u32, without: Arc<Client>, with: Arc<Client>) {
    let is_terminal = std::io::stderr().is_terminal();
    let every = Duration::from_millis(if is_terminal { 100 } else { 3_000 });
    let started = Instant::now();
    loop {
        tokio::time::sleep(every).await;
        let (done, good) = with.progress();
        let (plain_done, plain_good) = without.progress();
        let share = f64::from(done) / f64::from(calls);
        let line = format!(
            "{} {done}/{calls} calls, {}: succeeded without {:.1} %, with Redial {:.1} %",
            show::pad(&show::bar(share, 24), 24),
            show::span(started.elapsed()),
            percent(plain_good, plain_done),
            percent(good, done),
        );
        // Whether anybody sees it does not matter to the calls.
        let _ = if is_terminal {
            write!(std::io::stderr(), "\r\u{1b}[K{line}")
        } else {
            writeln!(std::io::stderr(), "{line}")
        };
    }
}

fn percent(part: u32, whole: u32) -> f64 {
    if whole == 0 { 100.0 } else { f64::from(part) / f64::from(whole) * 100.0 }
}

const INTERRUPTED: u8 = 130;
