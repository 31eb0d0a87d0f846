//! `redial fetch`: one request that gets through, if it can.

mod body;
mod call;
mod download;
mod note;
mod partial;
mod record;
mod request;
mod timeline;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use redial::core::{Policy, Stop};
use tokio::runtime::{Builder, Runtime};

use self::{
    call::{Ended, call},
    note::{Kept, part_of},
    record::{Recorder, Report},
    timeline::Timeline,
};
use crate::{cli::Failure, policy::PolicyArgs, style::Color};

/// Send a request; retry it when that is safe
///
/// The answer's body goes to standard output, or to a file with -o; everything else goes to stderr. At a
/// terminal, or with -v, each attempt is shown as it ends, and a download to a file shows how far it has
/// come.
///
/// A download to a file that breaks off goes on where it broke off, if the server sends ranges and the file
/// has a strong validator, and begins anew otherwise. What came is in FILE.part, with a note in
/// FILE.part.json, until it is complete, has the announced length and the announced digest (RFC 9530); then
/// it gets its name. If the run ends before, the same command with --continue goes on from there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  redial fetch https://api.example.com/orders
  redial fetch -X POST -d @order.json --idempotency-key auto https://api.example.com/orders
  redial fetch --deadline 10s --max-retries 5 --report - https://api.example.com/health

  redial fetch --config redial.yaml --policy guarded https://api.example.com/menu
  redial fetch -o image.iso https://files.example.com/image.iso
  redial fetch -c -o image.iso https://files.example.com/image.iso   (the rest, after an interrupt)

Exit status: 0 success (< 400, also by a fallback, which is said on stderr), 2 usage or configuration,
3 permanent failure, also a wrong digest, 4 retries exhausted, budget empty or not safe to repeat, 5 deadline
or a wait beyond it, 6 refused by ourselves, 130 interrupted.")]
pub(crate) struct FetchArgs {
    /// The target: http:// or https://
    url: String,
    #[command(flatten)]
    request: request::RequestArgs,
    /// Write the body to a file, which appears under its name, or replaces the one that has it, when it is
    /// complete. The bytes are those that the server has stored: no compression is asked for
    #[arg(long, short, value_name = "FILE", help_heading = "Answer")]
    output: Option<PathBuf>,
    /// Go on with the partial file that an earlier run has left; begin anew if there is none, or if the
    /// file was changed on the server
    #[arg(long = "continue", short = 'c', help_heading = "Answer", requires = "output", conflicts_with_all = ["include", "data"])]
    is_continuing: bool,
    /// How often a download to a file goes on, or begins anew, after it broke off; 0 for never
    /// [default: resume.max_resumes of the policy, or 10]
    #[arg(long, value_name = "N", requires = "output", help_heading = "Answer")]
    max_resumes: Option<u32>,
    /// Write the answer's head before its body
    #[arg(long, short, help_heading = "Answer")]
    include: bool,
    /// Follow redirects, 10 at most
    #[arg(long, short = 'L')]
    location: bool,
    /// Show every attempt on stderr
    #[arg(long, short, conflicts_with = "quiet", help_heading = "Output")]
    verbose: bool,
    /// Write nothing to stderr
    #[arg(long, short, help_heading = "Output")]
    quiet: bool,
    /// Hand the body on as it comes. Otherwise the first MiB is read before any of it is written, so
    /// that an answer that breaks off can be asked for again
    #[arg(long, short = 'N', help_heading = "Answer")]
    no_buffer: bool,
    /// Write a report of every attempt as one JSON object to a file, or - for stderr
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Draw jitter from this seed, so that the run can be repeated
    #[arg(long, value_name = "N", help_heading = "Policy")]
    seed: Option<u64>,
    #[command(flatten)]
    transport: TransportArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
struct TransportArgs {
    /// How long making a connection may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = crate::policy::duration)]
    connect_timeout: Duration,
    /// Speak HTTP/2 from the first byte, even without TLS
    #[arg(long)]
    http2: bool,
    /// Hand compressed answers on as they are
    #[arg(long)]
    no_decompress: bool,
    /// Trust the certificates in this PEM file as well
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
}

pub(crate) fn run(args: &FetchArgs, color: Color) -> Result<u8, Failure> {
    let runtime = runtime()?;
    let interrupt = {
        // From here on an interrupt ends the call in order.
        let _inside = runtime.enter();
        Interrupt::listen()
    };
    let request = args.request.build(&args.url)?;
    let resolved = args.policy.resolve_for(&request)?;
    // A body that is in memory anyway can always be sent again.
    let kept = resolved.policy.replay_bytes_max.max(request.body().len());
    let policy = Policy { replay_bytes_max: kept, ..resolved.policy };
    let transport = args.transport()?;
    let recorder = Recorder::new(args.timeline(color));
    let (method, url) = (request.method().to_string(), request.uri().to_string());
    recorder.timeline(|timeline| {
        let title = format!("{method} {}", redial_telemetry::redacted_url(&url));
        timeline.line(&timeline.style.bold(&title));
    });
    let ended = runtime.block_on(async {
        tokio::select! {
            biased;
            () = interrupt.wait() => None,
            ended = call(args, policy, transport, &recorder, request) => Some(ended),
        }
    });
    // A thread may still be stuck in writing to a pipe that nobody reads.
    runtime.shutdown_background();
    let ended = match ended {
        Some(ended) => ended?,
        None => Ended {
            status: None,
            stop: Stop::Cancelled,
            is_refused: false,
            fell_back: None,
            message: None,
        },
    };
    args.tell(&ended, &recorder);
    if let Some(file) = &args.report {
        let report = ended.report(&recorder, &url, method);
        report.write(file).map_err(|error| {
            Failure::usage(format!("cannot write the report to {}: {error}", file.display()))
        })?;
    }
    Ok(ended.exit_status())
}

impl FetchArgs {
    fn timeline(&self, color: Color) -> Timeline {
        let stderr = std::io::stderr();
        let is_terminal = stderr.is_terminal();
        let is_verbose = !self.quiet && (self.verbose || is_terminal);
        Timeline::new(color.on(&stderr), is_verbose, is_terminal && !self.quiet)
    }

    fn transport(&self) -> Result<redial_hyper::Transport, Failure> {
        let TransportArgs { connect_timeout, http2, no_decompress, cacert } = &self.transport;
        let mut builder = redial_hyper::Transport::builder()
            .connect_timeout(*connect_timeout)
            .http2_only(*http2)
            .decompress(!no_decompress);
        if let Some(file) = cacert {
            let pem = std::fs::read(file);
            let pem =
                pem.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
            builder = builder.roots(redial_hyper::Roots::NativeAnd(pem));
        }
        builder.build().map_err(|error| Failure::usage(error.to_string()))
    }

    /// The last line: what came of it, where that is not plain from the answer itself.
    fn tell(&self, ended: &Ended, recorder: &Recorder) {
        let attempts = recorder.attempts().len();
        let took = crate::show::span(recorder.elapsed());
        recorder.timeline(|timeline| {
            timeline.clear();
            if self.quiet {
                return;
            }
            let style = timeline.style;
            let tries = if attempts == 1 { "attempt" } else { "attempts" };
            if let Some(line) = ended.fallback_line(attempts, &took) {
                eprintln!("{}", style.warn(&line));
                return;
            }
            let message = match (ended.stop, ended.status) {
                (Stop::Success, _) => {
                    timeline
                        .line(&style.good(&format!("✓ done after {attempts} {tries} in {took}")));
                    return;
                }
                (Stop::Cancelled, _) => "interrupted".to_owned(),
                (stop, Some(status)) => format!("{status}: {stop}"),
                (stop, None) => match &ended.message {
                    Some(message) => format!("{message}: {stop}"),
                    None => stop.to_string(),
                },
            };
            let wish = ended.message.as_ref().filter(|_| ended.status.is_some());
            let wish = wish.map_or(String::new(), |wish| format!("; {wish}"));
            let line = format!("✗ {message}{wish} ({attempts} {tries}, {took})");
            eprintln!("{}", style.bad(&line));
            if let Some(line) = self.kept_line() {
                eprintln!("{line}");
            }
        });
    }

    /// Where the body goes, if that is anything but standard output.
    fn output_name(&self) -> Option<&Path> {
        self.output.as_deref().filter(|name| name.as_os_str() != "-")
    }

    /// The file to download to; `None` for what is written as it comes: standard output, a device, a pipe.
    fn file(&self) -> Result<Option<&Path>, Failure> {
        let file = self.output_name().filter(|name| {
            let there = std::fs::metadata(name);
            there.map_or(true, |there| there.is_file() || there.is_dir())
        });
        if self.is_continuing && file.is_none() {
            return Err(Failure::usage("only a download to a file can be continued; give -o FILE"));
        }
        Ok(file)
    }

    /// Says how to go on with what is there, if there is something.
    fn kept_line(&self) -> Option<String> {
        let name = self.output_name()?;
        let Kept { at, length } = Kept::of(name)?;
        let (at, length) = (crate::show::amount(at), crate::show::amount(length));
        let part = part_of(name);
        let part = part.display();
        Some(format!(
            "  {at} of {length} are kept in {part}; the same command with --continue goes on from there"
        ))
    }
}

impl Ended {
    /// Whether the answer is the fallback's, and one that callers take for a success.
    fn is_relieved(&self) -> bool {
        self.fell_back.is_some() && self.status.is_some_and(|status| status < 400)
    }

    /// Says that the answer is not the upstream's, where that is so.
    fn fallback_line(&self, attempts: usize, took: &str) -> Option<String> {
        let fell_back = self.fell_back?;
        let instead = match (fell_back.status, fell_back.fault) {
            (Some(status), _) => status.as_u16().to_string(),
            (None, Some(fault)) => fault.name().replace('_', " "),
            (None, None) => "no answer".to_owned(),
        };
        let status = self.status.map(|status| status.to_string()).unwrap_or_default();
        let tries = if attempts == 1 { "attempt" } else { "attempts" };
        let stop = self.stop;
        Some(format!("↪ fell back to {status}: {instead}: {stop} ({attempts} {tries}, {took})"))
    }

    fn exit_status(&self) -> u8 {
        match self.stop {
            Stop::Success => 0,
            _ if self.is_relieved() => 0,
            _ if self.is_refused => 6,
            Stop::Permanent => 3,
            Stop::MaybeApplied
            | Stop::NotReplayable
            | Stop::RetriesExhausted
            | Stop::BudgetExhausted => 4,
            Stop::Deadline | Stop::PushbackTooLong => 5,
            Stop::Cancelled => 130,
        }
    }

    fn report(&self, recorder: &Recorder, url: &str, method: String) -> Report {
        let outcome = match self.stop {
            Stop::Success => "success",
            _ if self.is_relieved() => "fallback",
            _ if self.is_refused => "rejected",
            Stop::Permanent => "permanent",
            Stop::MaybeApplied
            | Stop::NotReplayable
            | Stop::RetriesExhausted
            | Stop::BudgetExhausted => "exhausted",
            Stop::Deadline | Stop::PushbackTooLong => "deadline",
            Stop::Cancelled => "cancelled",
        };
        Report {
            url: redial_telemetry::redacted_url(url).into_owned(),
            method,
            outcome,
            status: self.status,
            stop: self.stop.name(),
            total_ms: crate::show::millis(recorder.elapsed()),
            attempts: recorder.attempts(),
        }
    }
}

/// Waits for the user to interrupt the command, or for the system to end it.
struct Interrupt {
    #[cfg(unix)]
    signals: std::io::Result<[tokio::signal::unix::Signal; 2]>,
}

impl Interrupt {
    #[cfg(unix)]
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let both = signal(SignalKind::interrupt())
            .and_then(|interrupt| Ok([interrupt, signal(SignalKind::terminate())?]));
        Self { signals: both }
    }

    #[cfg(unix)]
    async fn wait(self) {
        // Without a handler the system's own behavior ends the process, which is as good.
        let Ok([mut interrupt, mut terminate]) = self.signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn listen() -> Self {
        Self {}
    }

    #[cfg(not(unix))]
    async fn wait(self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

/// One thread: the command makes one call.
fn runtime() -> Result<Runtime, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::usage(format!("cannot start the runtime: {error}")))
}
