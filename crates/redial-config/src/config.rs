//! A configuration: policies by name, and routes that choose among them.

use std::{fs, io::Read, path::Path};

use redial_core::Policy;

use crate::{
    env, json, keys,
    problem::{ConfigError, Problem},
    provenance::{self, Provenance},
    settings::Settings,
    toml,
    tree::{Node, Place, Value},
    walk::Walker,
    yaml,
};

/// Policies by name, and routes that choose among them.
#[derive(Clone, Debug, Default)]
pub struct Config {
    policies: Vec<Named>,
    routes: Vec<Route>,
}

#[derive(Clone, Debug)]
struct Named {
    name: String,
    settings: Settings,
    policy: Policy,
    provenance: Vec<Provenance>,
}

/// Which requests go under which policy. What is not said matches everything.
#[derive(Clone, Debug)]
pub struct Route {
    pub(crate) host: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) methods: Vec<String>,
    pub(crate) policy: String,
    pub(crate) place: Place,
}

/// The notation of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// YAML 1.2, without anchors, aliases and tags.
    Yaml,
    /// TOML 1.1.
    Toml,
    /// JSON, RFC 8259.
    Json,
}

impl Config {
    /// Reads a file, and the environment variables of this process that begin with `REDIAL__`.
    ///
    /// The notation is that of the file's extension; without a known one, JSON where the text
    /// begins with a brace, and YAML elsewhere.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError`] when the file cannot be read, is larger than 1 MiB, or has problems:
    /// all of them, 50 at most.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let nowhere = Place { source: name.as_str().into(), line: 0, column: 0 };
        let cannot = |why: String| ConfigError::from(Problem::at(&nowhere, "", why));
        let file = fs::File::open(path).map_err(|error| cannot(error.to_string()))?;
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        read.map_err(|error| cannot(error.to_string()))?;
        if FILE_BYTES_MAX < text.len() as u64 {
            return Err(cannot("a configuration is at most 1 MiB".to_owned()));
        }
        Self::parse(&text, Format::of(path, &text), &name, &variables())
    }

    /// Reads the environment variables of this process alone.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError`] when a variable that begins with `REDIAL__` has a problem.
    pub fn from_env() -> Result<Self, ConfigError> {
        let variables = variables();
        if !variables.iter().any(|(name, _)| name.starts_with("REDIAL__")) {
            return Ok(Self::default());
        }
        Self::parse("{}", Format::Json, "environment", &variables)
    }

    /// Reads `text`, which `source` names in messages, with the variables of `env` laid over it.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError`] with every problem, 50 at most.
    pub fn parse(
        text: &str,
        format: Format,
        source: &str,
        env: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let start = Place::start(source);
        let mut root = match format {
            Format::Yaml => yaml::read(text, &start),
            Format::Toml => toml::read(text, &start),
            Format::Json => json::read(text, &start),
        }?;
        let mut walker = Walker::default();
        env::lay_over(&mut root, env, &mut walker.problems);
        let (policies, routes) = walker.file(&root);
        let mut problems = walker.problems;
        if policies.is_empty() && problems.is_empty() {
            let rule = "there are no policies in it";
            problems.push(Problem::at(&root.place, "", rule).suggest("write policies: and a name"));
        }
        let mut named = Vec::new();
        for (name, node, settings) in policies {
            match settings.apply_found(Policy::default()) {
                Ok(policy) => {
                    let provenance = provenance::of(node, settings.profile, &policy);
                    named.push(Named { name, settings, policy, provenance });
                }
                Err(found) => {
                    let (node, reached) = node.nearest(&found.setting);
                    let dot = if reached.is_empty() { "" } else { "." };
                    let path = format!("policies.{name}{dot}{reached}");
                    problems.push(Problem::at(&node.place, &path, found.contradiction.to_string()));
                }
            }
        }
        check_routes(&root, &routes, &mut problems);
        if problems.is_empty() {
            Ok(Self { policies: named, routes })
        } else {
            Err(ConfigError::new(problems))
        }
    }

    /// Returns the policy called `name`, with everything that is not set at its default.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.named(name).map(|named| &named.policy)
    }

    /// Returns what is set of the policy called `name`.
    #[must_use]
    pub fn settings(&self, name: &str) -> Option<&Settings> {
        self.named(name).map(|named| &named.settings)
    }

    /// Returns the names of the policies, in the order in which they are written.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(|named| named.name.as_str())
    }

    /// Returns the routes, in the order in which they are tried.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Returns the first route that a request matches.
    #[must_use]
    pub fn route_for(&self, host: &str, path: &str, method: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.matches(host, path, method))
    }

    /// Returns where each setting of the policy called `name` comes from: what is set first, then
    /// what is left at its default.
    #[must_use]
    pub fn provenance(&self, name: &str) -> &[Provenance] {
        self.named(name).map_or(&[], |named| &named.provenance)
    }

    fn named(&self, name: &str) -> Option<&Named> {
        self.policies.iter().find(|named| named.name == name)
    }
}

impl Route {
    /// Returns the name of the policy that matching requests go under.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns whether a request matches: hosts whatever their case, methods and paths exactly.
    #[must_use]
    pub fn matches(&self, host: &str, path: &str, method: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let matches_host = self.host.as_deref().is_none_or(|own| match own.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.')),
            None => own == host,
        });
        let matches_path = self.path.as_deref().is_none_or(|own| match own.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => own == path,
        });
        let matches_method = self.methods.is_empty() || self.methods.iter().any(|m| m == method);
        matches_host && matches_path && matches_method
    }
}

impl Format {
    /// Returns the notation of a file: by its extension, or by how its text begins.
    #[must_use]
    pub fn of(path: &Path, text: &str) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml") => Self::Yaml,
            Some("toml") => Self::Toml,
            Some("json") => Self::Json,
            _ if text.trim_start().starts_with('{') => Self::Json,
            _ => Self::Yaml,
        }
    }
}

fn check_routes(root: &Node, routes: &[Route], problems: &mut Vec<Problem>) {
    let written = root.get("policies").map(|node| &node.value);
    let Some(Value::Map(policies)) = written else { return };
    for (n, route) in routes.iter().enumerate() {
        if policies.iter().any(|entry| entry.key == route.policy) {
            continue;
        }
        let path = format!("routes.{n}.policy");
        let rule = format!("there is no policy `{}`", route.policy);
        let names = policies.iter().map(|entry| entry.key.as_str());
        let problem = Problem::at(&route.place, &path, rule);
        problems.push(match keys::meant(&route.policy, names.clone()) {
            Some(meant) => problem.suggest(format!("did you mean `{meant}`?")),
            None => problem.suggest(format!("there are {}", names.collect::<Vec<_>>().join(", "))),
        });
    }
}

fn variables() -> Vec<(String, String)> {
    let text = |part: std::ffi::OsString| part.into_string().ok();
    std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
}

const FILE_BYTES_MAX: u64 = 1_024 * 1_024;
