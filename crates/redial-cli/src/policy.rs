//! The policy that a command works under: defaults, file, environment, flags, in this order.

use std::{path::PathBuf, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use http::Request;
use redial::core::{Jitter, Policy, Profile, Triggers};
use redial_config::{BackoffKind, BackoffSettings, Config, Settings};

use crate::{cli::Failure, show};

/// Flags that change the policy. What they say holds for every class of failures that is retried.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct PolicyArgs {
    /// Read policies and routes from a YAML, TOML or JSON file
    #[arg(long, value_name = "FILE", env = "REDIAL_CONFIG")]
    config: Option<PathBuf>,
    /// Use this policy of the file, whatever its routes say
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Begin with the defaults of this profile; what the file and the flags say is laid over it
    #[arg(long, value_name = "NAME", value_parser = profiles())]
    profile: Option<Profile>,
    /// Attempts after the first [default: 3; throttled: 5]
    #[arg(long, value_name = "N")]
    max_retries: Option<u32>,
    /// How waits grow: fixed, linear, exponential, decorrelated [default: exponential]
    #[arg(long, value_name = "KIND", value_parser = redial_config::parse_backoff_kind)]
    backoff: Option<BackoffKind>,
    /// The first wait [default: 500ms; timeout: 1s, throttled: 2s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    initial: Option<Duration>,
    /// By what exponential waits grow, from 1 [default: 2]
    #[arg(long, value_name = "F")]
    factor: Option<f64>,
    /// The longest wait, before jitter [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_delay: Option<Duration>,
    /// How waits are spread: none, full, equal, additive, proportional:F with F from 0 to 1
    /// [default: full]
    #[arg(long, value_name = "JITTER", value_parser = redial_config::parse_jitter)]
    jitter: Option<Jitter>,
    /// How long the whole call may take, waits and body included [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    deadline: Option<Duration>,
    /// How long one attempt may take to the head of its answer [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    attempt_timeout: Option<Duration>,
    /// What is retried: statuses, names of errors, and default, connect, reset, timeout,
    /// refused-stream, truncated, 5xx, gateway-error, none; separated by commas
    #[arg(long, value_name = "LIST", value_parser = Triggers::parse)]
    retry_on: Option<Triggers>,
}

/// A policy, complete.
pub(crate) struct Resolved {
    pub(crate) policy: Policy,
}

/// Reads a duration of the command line.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    redial_config::parse_duration(text).map_err(|error| error.to_string())
}

fn span(text: &str) -> Result<Duration, String> {
    let span = duration(text)?;
    if span.is_zero() { Err("zero leaves no time at all".to_owned()) } else { Ok(span) }
}

fn profiles() -> impl TypedValueParser<Value = Profile> {
    PossibleValuesParser::new(Profile::ALL.map(Profile::name))
        .try_map(|name| Profile::named(&name).ok_or_else(|| format!("`{name}` is no profile")))
}

impl PolicyArgs {
    /// Returns the policy for no request in particular: the one that is named, or `default`.
    pub(crate) fn resolve(&self) -> Result<Resolved, Failure> {
        self.lay_flags_over(&self.load()?, None)
    }

    /// Returns the policy for `request`: the one that is named, the one of its route, or `default`.
    pub(crate) fn resolve_for<B>(&self, request: &Request<B>) -> Result<Resolved, Failure> {
        let config = self.load()?;
        let uri = request.uri();
        let route =
            config.route_for(uri.host().unwrap_or_default(), uri.path(), request.method().as_str());
        let name = route.map(|route| route.policy().to_owned());
        self.lay_flags_over(&config, name.as_deref())
    }

    fn load(&self) -> Result<Config, Failure> {
        let loaded = match &self.config {
            Some(file) => Config::load(file),
            None => Config::from_env(),
        };
        loaded.map_err(|error| Failure::usage(error.to_string()))
    }

    fn lay_flags_over(&self, config: &Config, routed: Option<&str>) -> Result<Resolved, Failure> {
        let written = match (self.policy.as_deref(), routed) {
            (Some(name), _) => config.settings(name).cloned().ok_or_else(|| {
                let names: Vec<_> = config.names().collect();
                let there = match names[..] {
                    [] => "give --config with a file that has it".to_owned(),
                    _ => format!("there are {}", names.join(", ")),
                };
                Failure::usage(format!("there is no policy `{name}`; {there}"))
            })?,
            (None, routed) => {
                config.settings(routed.unwrap_or("default")).cloned().unwrap_or_default()
            }
        };
        // A profile of the command line takes the place of the file's; the rest of the file stays.
        let written = Settings { profile: self.profile.or(written.profile), ..written };
        let base = written.apply(Policy::default());
        let policy = base.and_then(|base| self.settings().apply(base));
        let policy = policy.map_err(|error| Failure::usage(self.with_flag(&error.to_string())))?;
        Ok(Resolved { policy })
    }

    fn settings(&self) -> Settings {
        Settings {
            max_retries: self.max_retries,
            backoff: BackoffSettings {
                kind: self.backoff,
                initial: self.initial,
                factor: self.factor,
                max: self.max_delay,
                jitter: self.jitter,
            },
            deadline: self.deadline.map(Some),
            attempt_timeout: self.attempt_timeout.map(Some),
            retry_on: self.retry_on,
            ..Settings::default()
        }
    }

    /// Says which flag mends a contradiction, where one does.
    fn with_flag(&self, error: &str) -> String {
        match (self.initial, self.max_delay) {
            (Some(initial), None) if DEFAULT_MAX < initial => {
                format!("{error} (give --max-delay {})", show::span(initial).replace(' ', ""))
            }
            _ => error.to_owned(),
        }
    }
}

const DEFAULT_MAX: Duration = Duration::from_secs(60);
