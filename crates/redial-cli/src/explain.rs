//! `redial explain`: what would be done about an outcome, and by which rules.

mod batch;
mod parts;
mod reasons;

use std::{io::Write, path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, request};
use redial::{
    Diagnosis,
    core::{Attempt, Evidence, Fault, Policy, Progress, Proof, Reading, Stop, Verdict},
    http::{Answer, idempotency_of, read},
};
use serde_json::json;

use self::parts::Parts;
use crate::{
    cli::{Failure, Output},
    policy::PolicyArgs,
    show,
};

/// Say what would be done about an outcome, and why
///
/// Nothing is sent. The decision is the one that `redial fetch`, the library and the proxy take, and
/// each step names the rule it follows. Where the policy has a breaker, a throttle or a learned limit,
/// it says how they count the outcome; where it hedges or has a fallback, what these do.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  redial explain --method POST --status 503 -H 'Retry-After: 120'
  redial explain --error connection_refused --method POST
  redial explain --batch cases.jsonl --max-retries 5

A line of a batch is one JSON object with the keys method, status, headers ([[name, value], …]),
error, evidence, attempt, elapsed_ms and now; all are optional but status or error.")]
pub(crate) struct ExplainArgs {
    /// The request's method
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// The answer's status
    #[arg(long, value_parser = clap::value_parser!(u16).range(100..=999))]
    status: Option<u16>,
    /// A header field of the answer, or Idempotency-Key or Expect of the request
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// What went wrong, where there was no answer: connection_refused, connection_reset,
    /// attempt_timeout, dns_error, tls_error, …
    #[arg(long, value_name = "NAME", conflicts_with = "status")]
    error: Option<String>,
    /// What is known about the server having acted, where the error alone does not tell: never_sent,
    /// rejected_unprocessed, maybe_applied, applied
    #[arg(long, value_name = "EVIDENCE")]
    evidence: Option<String>,
    /// The number of the attempt that ended so
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    /// The time since the call began
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = crate::policy::duration)]
    elapsed: Duration,
    /// The time of day, for dates in Retry-After
    #[arg(long, value_name = "RFC 3339")]
    now: Option<jiff::Timestamp>,
    /// Read cases from a file, or - for standard input, one JSON object a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["status", "error", "evidence", "headers"])]
    batch: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// One outcome to explain.
pub(crate) struct Case {
    method: String,
    status: Option<u16>,
    headers: Vec<(String, String)>,
    error: Option<String>,
    evidence: Option<String>,
    attempt: u32,
    elapsed: Duration,
    now: Option<jiff::Timestamp>,
}

/// What would be done about it.
pub(crate) struct Explained {
    reading: Reading,
    decision: Result<(Duration, Duration), Stop>,
    because: Vec<String>,
    parts: Parts,
}

pub(crate) fn run(args: &ExplainArgs, out: &mut Output) -> Result<u8, Failure> {
    let resolved = args.policy.resolve()?;
    if let Some(file) = &args.batch {
        return batch::run(file, &resolved.policy, out);
    }
    let case = args.case()?;
    let explained = case.explain(&resolved.policy).map_err(Failure::usage)?;
    if args.json {
        writeln!(out, "{}", explained.json())?;
    } else {
        explained.write(&case, out)?;
    }
    Ok(0)
}

impl ExplainArgs {
    fn case(&self) -> Result<Case, Failure> {
        let field = |field: &String| {
            let (name, value) = field.split_once(':').ok_or_else(|| {
                Failure::usage(format!("header `{field}` has no colon; write `Name: value`"))
            })?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        Ok(Case {
            method: self.method.clone(),
            status: self.status,
            headers: self.headers.iter().map(field).collect::<Result<_, Failure>>()?,
            error: self.error.clone(),
            evidence: self.evidence.clone(),
            attempt: self.attempt,
            elapsed: self.elapsed,
            now: self.now,
        })
    }
}

impl Case {
    /// Returns what would be done about this outcome under `policy`; an error says what about the
    /// case makes no sense.
    pub(crate) fn explain(&self, policy: &Policy) -> Result<Explained, String> {
        let (head, headers) = self.heads()?;
        let outcome = self.outcome(&headers)?;
        let now = self.now.unwrap_or_else(jiff::Timestamp::now).as_second();
        let mut because = Vec::new();
        let reading =
            read(policy, &(&head).into(), outcome, || now, |rule| because.push(rule.to_string()));
        let reading = match self.stated()? {
            Some(proof) if reading.verdict != Verdict::Success => {
                because.push(format!("{proof}, which replaces what was read"));
                reading.proof(proof)
            }
            _ => reading,
        };
        let attempt = Attempt {
            number: self.attempt,
            reading,
            idempotency: idempotency_of(&head.method, &head.headers, policy.is_idempotent),
            is_replayable: true,
            remaining: policy.deadline.map(|deadline| deadline.saturating_sub(self.elapsed)),
            progress: Progress::after_retries(self.attempt - 1),
        };
        let parts = Parts::of(policy, &head, &attempt, &outcome);
        let decision = if parts.is_hedged == Some(true) {
            parts::hedged(&mut because, policy, &attempt)
        } else {
            let decision = policy.retry.bounds(&attempt);
            reasons::add(&mut because, policy, &attempt, &head.method, decision);
            decision
        };
        parts.add(&mut because, policy, decision.is_ok());
        Ok(Explained { reading, decision, because, parts })
    }

    /// The request's head, and the answer's fields. Fields that belong to requests go there.
    fn heads(&self) -> Result<(request::Parts, HeaderMap), String> {
        let method: Method = self
            .method
            .parse()
            .map_err(|_| format!("method `{}` is not a token (RFC 9110 §5.6.2)", self.method))?;
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = method;
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let field: HeaderName =
                name.parse().map_err(|_| format!("header name `{name}` is not a token"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("header `{name}` has a value with control characters"))?;
            let is_requests = ["idempotency-key", "expect"].contains(&field.as_str());
            let map = if is_requests { &mut head.headers } else { &mut headers };
            map.append(field, value);
        }
        Ok((head, headers))
    }

    fn outcome<'a>(&self, headers: &'a HeaderMap) -> Result<Result<Answer<'a>, Diagnosis>, String> {
        match (self.status, self.error.as_deref()) {
            (Some(code), None) => {
                let status = StatusCode::from_u16(code)
                    .map_err(|_| format!("status {code} is not within 100 to 999"))?;
                Ok(Ok(Answer { status, headers }))
            }
            (None, Some(name)) => {
                let fault = Fault::named(name).ok_or_else(|| {
                    let names = Fault::ALL.map(Fault::name).join(", ");
                    format!("`{name}` is no error; there are {names}")
                })?;
                Ok(Err(fault.into()))
            }
            (None, None) => Err("give a status or an error to explain".to_owned()),
            (Some(_), Some(_)) => Err("give a status or an error, not both".to_owned()),
        }
    }

    fn stated(&self) -> Result<Option<Proof>, String> {
        let named = |name: &String| {
            let evidence = Evidence::named(name).ok_or_else(|| {
                let names = Evidence::ALL.map(Evidence::name).join(", ");
                format!("`{name}` is no evidence; there are {names}")
            })?;
            Ok(Proof::Stated(evidence))
        };
        self.evidence.as_ref().map(named).transpose()
    }
}

impl Explained {
    fn json(&self) -> serde_json::Value {
        let (decision, stop, delays) = match self.decision {
            Ok((earliest, latest)) => (self.action(), None, Some((earliest, latest))),
            Err(stop) => ("stop", Some(stop.name()), None),
        };
        let is_failure = self.reading.verdict != Verdict::Success;
        let mut all = json!({
            "verdict": self.reading.verdict.name(),
            "class": self.reading.verdict.class().map(redial::core::Class::name),
            "evidence": is_failure.then(|| self.reading.evidence().name()),
            "decision": decision,
            "stop": stop,
            "pushback_ms": self.reading.pushback.map(|wish| show::millis(wish.wait())),
            "delay_min_ms": delays.map(|(earliest, _)| show::millis(earliest)),
            "delay_max_ms": delays.map(|(_, latest)| show::millis(latest)),
            "because": self.because,
        });
        if let Some(keys) = all.as_object_mut() {
            keys.append(&mut self.parts.json());
        }
        all
    }

    /// What is done about a failure that is not the end.
    fn action(&self) -> &'static str {
        if self.parts.is_hedged == Some(true) { "hedge" } else { "retry" }
    }

    fn write(&self, case: &Case, out: &mut Output) -> Result<(), Failure> {
        let style = out.style;
        let what = match (case.status, &case.error) {
            (Some(status), _) => status.to_string(),
            (None, Some(error)) => error.clone(),
            (None, None) => String::new(),
        };
        let verdict = self.reading.verdict;
        let class = verdict.class().map_or(String::new(), |class| format!(" ({class})"));
        writeln!(
            out,
            "{} → {what}, attempt {}: {}{class}",
            case.method,
            case.attempt,
            style.bold(verdict.name())
        )?;
        for reason in &self.because {
            writeln!(out, "  · {reason}")?;
        }
        let conclusion = match self.decision {
            Ok((earliest, latest)) if earliest == latest && latest.is_zero() => {
                style.good(&format!("→ {} at once", self.action()))
            }
            Ok((earliest, latest)) if earliest == latest => {
                style.good(&format!("→ {} after {}", self.action(), show::span(latest)))
            }
            Ok((earliest, latest)) => {
                let (earliest, latest) = (show::span(earliest), show::span(latest));
                style.good(&format!("→ {} after {earliest} to {latest}", self.action()))
            }
            Err(Stop::Success) => style.good("→ done"),
            Err(stop) => style.bad(&format!("→ stop: {} ({stop})", stop.name())),
        };
        writeln!(out, "{conclusion}")?;
        Ok(())
    }
}
