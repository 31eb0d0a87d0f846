//! `redial check`: whether configuration files mean what they say.

mod warning;

use std::{io::Write, path::PathBuf};

use clap::ValueEnum;
use redial_config::{Config, ConfigError, Problem};
use serde_json::json;

use self::warning::{Warning, warnings};
use crate::{
    cli::{Failure, Output},
    show,
};

/// Check configuration files
///
/// Says of each problem the file, line, column, the rule and what to do; exits with 0 where there is
/// none and 2 otherwise. Warns, without harm to the exit status, of what is allowed but seldom meant in
/// production: failures on purpose, retries without a budget. Environment variables that begin with REDIAL__ are laid over the files, as they
/// would be in use.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  redial check redial.yaml
  redial check --format json conf/*.toml
  redial check --settings redial.yaml")]
pub(crate) struct CheckArgs {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How problems are written
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    /// Show every setting of every policy, and where it comes from
    #[arg(long)]
    settings: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people, one line a problem.
    Human,
    /// One JSON array.
    Json,
}

pub(crate) fn run(args: &CheckArgs, out: &mut Output) -> Result<u8, Failure> {
    let loaded: Vec<_> = args.files.iter().map(|file| (file, Config::load(file))).collect();
    let is_good = loaded.iter().all(|(_, config)| config.is_ok());
    match args.format {
        Format::Json => {
            let files = loaded.iter().map(|(file, config)| {
                let problems = config.as_ref().err().map(ConfigError::problems).unwrap_or_default();
                let problems: Vec<_> = problems.iter().map(Problem::json).collect();
                json!({
                    "file": file.display().to_string(),
                    "ok": config.is_ok(),
                    "problems": problems,
                    "warnings": config.as_ref().ok().map(|config| {
                        serde_json::Value::from_iter(warnings(config).iter().map(Warning::json))
                    }),
                    "policies": config.as_ref().ok().filter(|_| args.settings).map(settings_json),
                })
            });
            writeln!(out, "{}", serde_json::Value::from_iter(files))?;
        }
        Format::Human => {
            for (file, config) in &loaded {
                match config {
                    Ok(config) => {
                        let count = config.names().count();
                        let policies = if count == 1 { "policy" } else { "policies" };
                        let routes = config.routes().len();
                        let good = out.style.good("ok");
                        let what = format!("{count} {policies}, {routes} routes");
                        writeln!(out, "{}: {good}, {what}", file.display())?;
                        for warning in warnings(config) {
                            let text = warning.text(&file.display().to_string());
                            writeln!(out, "{}", out.style.warn(&text))?;
                        }
                        if args.settings {
                            write_settings(config, out)?;
                        }
                    }
                    Err(error) => writeln!(out, "{}", out.style.bad(&error.to_string()))?,
                }
            }
        }
    }
    Ok(if is_good { 0 } else { 2 })
}

fn write_settings(config: &Config, out: &mut Output) -> Result<(), Failure> {
    for name in config.names() {
        writeln!(out, "  {}", out.style.bold(name))?;
        for entry in config.provenance(name) {
            let setting = show::pad(&entry.setting, SETTING_WIDTH);
            let value = show::pad(&show::cut(&entry.value, VALUE_WIDTH), VALUE_WIDTH);
            writeln!(out, "    {setting} {value} {}", out.style.dim(&entry.origin))?;
        }
    }
    Ok(())
}

fn settings_json(config: &Config) -> serde_json::Value {
    let policy = |name: &str| {
        let settings = config.provenance(name).iter().map(
            |entry| json!({"setting": entry.setting, "value": entry.value, "origin": entry.origin}),
        );
        (name.to_owned(), serde_json::Value::from_iter(settings))
    };
    serde_json::Value::Object(config.names().map(policy).collect())
}

const SETTING_WIDTH: usize = 34;
/// Leaves room for the name of a file and a place in it on a line of 100 characters.
const VALUE_WIDTH: usize = 32;
