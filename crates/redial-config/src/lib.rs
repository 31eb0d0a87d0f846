//! Where policies meet people's files.
//!
//! One format in three notations, YAML, TOML and JSON: `policies` by name, and `routes` that choose
//! among them. A file is read into one tree whose every value knows where it stands; environment
//! variables are laid over it; one walker makes [`Settings`] of it. So every error says in which
//! file, line and column which rule is broken, and what to do.
//!
//! Everything that a policy has can be set, each key by the setter of the policy that it belongs
//! to, in whatever order. A policy may begin with another one's defaults, its `profile`; what most
//! policies do without, a breaker or a cache, is off unless it has a table of its own, and can be
//! switched `on` and `off` by the word.
//!
//! # Examples
//!
//! ```
//! use redial_config::{Config, Format};
//! use redial_core::Class;
//!
//! let text = "policies:\n  default:\n    max_retries: 2\n    backoff: { initial: 50ms }\n";
//! let config = Config::parse(text, Format::Yaml, "redial.yaml", &[])?;
//! let policy = config.policy("default").unwrap();
//! assert_eq!(policy.retry.rule(Class::Server).max_retries, 2);
//!
//! let typo = text.replace("max_retries", "max_retires");
//! let error = Config::parse(&typo, Format::Yaml, "redial.yaml", &[]).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "redial.yaml:3:5: policies.default.max_retires: unknown key; did you mean `max_retries`?"
//! );
//! # Ok::<(), redial_config::ConfigError>(())
//! ```

mod config;
mod env;
mod json;
mod keys;
mod problem;
mod provenance;
mod settings;
mod toml;
mod tree;
mod units;
mod walk;
mod yaml;

pub use config::{Config, Format, Route};
pub use problem::{ConfigError, Problem};
pub use provenance::Provenance;
pub use settings::{BackoffKind, BackoffSettings, Contradiction, PushbackSettings, Settings};
pub use units::{InvalidValue, parse_backoff_kind, parse_bytes, parse_duration, parse_jitter};

/// Returns the JSON Schema (draft 2020-12) of configuration files.
#[must_use]
pub const fn schema() -> &'static str {
    include_str!("../schema.json")
}
