//! The command line: its words, its output, its exit status.

use std::io::{self, BufWriter, Write};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    check::CheckArgs,
    demo::DemoArgs,
    explain::ExplainArgs,
    fetch::FetchArgs,
    generate::{CompletionsArgs, ManArgs},
    plan::PlanArgs,
    style::{Color, Style},
};

/// Calls over a network that fails: retried when that is safe, never when it is not, and always
/// with the reason
#[derive(Debug, Parser)]
#[command(
    name = "redial",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Start with `redial demo`, then `redial fetch URL`.

Exit status: 0 success, 2 usage or configuration, 3 permanent failure, 4 retries exhausted, budget
empty or not safe to repeat, 5 deadline or a wait beyond it, 6 refused by ourselves, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When to color what people read
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Output"
    )]
    color: Color,
    /// Log to stderr: a level (error, warn, info, debug, trace) or filters like `redial=debug`
    #[arg(long, global = true, value_name = "FILTER", env = "REDIAL_LOG", help_heading = "Output")]
    log: Option<String>,
    /// How log lines are written
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "human",
        help_heading = "Output"
    )]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line, with names of the Elastic Common Schema.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Fetch(Box<FetchArgs>),
    Plan(Box<PlanArgs>),
    Explain(Box<ExplainArgs>),
    Check(CheckArgs),
    /// Print the JSON Schema of configuration files
    Schema,
    Demo(DemoArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Where results go: standard output, colored or not.
pub(crate) struct Output {
    to: Box<dyn Write>,
    pub(crate) style: Style,
}

/// Why a command has failed, and the exit status that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: Option<String>,
}

/// Runs the command that the process was started with; returns its exit status.
pub(crate) fn run() -> u8 {
    let cli = Cli::parse();
    let outcome = cli.start_log().and_then(|()| {
        let to = Box::new(BufWriter::new(io::stdout()));
        let mut out = Output { to, style: cli.color.on(&io::stdout()) };
        let status = cli.command.run(&mut out, cli.color)?;
        out.flush()?;
        Ok(status)
    });
    outcome.unwrap_or_else(|failure| {
        if let Some(message) = &failure.message {
            let style = cli.color.on(&io::stderr());
            // Nobody is left to be told if this cannot be written.
            let _ = writeln!(io::stderr(), "{} {message}", style.bad("error:"));
        }
        failure.status
    })
}

impl Cli {
    fn start_log(&self) -> Result<(), Failure> {
        let Some(filter) = &self.log else { return Ok(()) };
        let mut options = redial_telemetry::Options::new("redial", env!("CARGO_PKG_VERSION"));
        options.filter = Some(filter.clone());
        options.ansi = matches!(self.color, Color::Always)
            || (matches!(self.color, Color::Auto) && io::IsTerminal::is_terminal(&io::stderr()));
        options.format = match self.log_format {
            LogFormat::Human => redial_telemetry::Format::Human,
            LogFormat::Json => redial_telemetry::Format::EcsJson,
        };
        redial_telemetry::init(options).map_err(|error| Failure::usage(error.to_string()))
    }
}

impl Command {
    fn run(&self, out: &mut Output, color: Color) -> Result<u8, Failure> {
        match self {
            Self::Fetch(args) => crate::fetch::run(args, color),
            Self::Plan(args) => crate::plan::run(args, out),
            Self::Explain(args) => crate::explain::run(args, out),
            Self::Check(args) => crate::check::run(args, out),
            Self::Schema => {
                writeln!(out, "{}", redial_config::schema().trim_end())?;
                Ok(0)
            }
            Self::Demo(args) => crate::demo::run(args, out),
            Self::Completions(args) => crate::generate::completions(args, out),
            Self::Man(args) => crate::generate::man(args, out),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Failure {
    /// The command line, a file or the environment is wrong: exit status 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { status: 2, message: Some(message.into()) }
    }
}

impl From<io::Error> for Failure {
    /// The output cannot be written. A reader that has gone, as `head` does, is told nothing.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { status: BROKEN_PIPE, message: None };
        }
        Self { status: 2, message: Some(format!("cannot write the output: {error}")) }
    }
}

/// What a shell reports of a program that SIGPIPE has ended.
const BROKEN_PIPE: u8 = 141;
