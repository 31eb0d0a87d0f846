//! Many outcomes, one a line: a policy's unit test.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
    time::Duration,
};

use redial::core::Policy;
use serde::Deserialize;
use serde_json::json;

use super::Case;
use crate::cli::{Failure, Output};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    headers: Option<Vec<(String, String)>>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    evidence: Option<String>,
    #[serde(default)]
    attempt: Option<u32>,
    #[serde(default)]
    elapsed_ms: Option<f64>,
    #[serde(default)]
    now: Option<String>,
}

/// Explains each line of `file`. A line that makes no sense is answered by an object with `line` and
/// `error`, and makes the exit status 2; the others are answered all the same.
pub(super) fn run(file: &Path, policy: &Policy, out: &mut Output) -> Result<u8, Failure> {
    let input: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        let opened = File::open(file);
        Box::new(opened.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?)
    };
    let mut status = 0;
    let mut reader = BufReader::new(input);
    for number in 1_u64.. {
        let mut line = String::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
        if read.map_err(|error| Failure::usage(format!("{}:{number}: {error}", file.display())))?
            == 0
        {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let answer = explain(&line, policy).unwrap_or_else(|error| {
            status = 2;
            json!({"line": number, "error": error})
        });
        writeln!(out, "{answer}")?;
    }
    Ok(status)
}

fn explain(line: &str, policy: &Policy) -> Result<serde_json::Value, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let elapsed = Duration::try_from_secs_f64(line.elapsed_ms.unwrap_or(0.0) / 1e3)
        .map_err(|_| "elapsed_ms is not a time since the call began".to_owned())?;
    let now = line
        .now
        .map(|now| now.parse().map_err(|_| format!("now `{now}` is not a time as in RFC 3339")));
    let attempt = line.attempt.unwrap_or(1);
    if attempt == 0 {
        return Err("attempts are counted from 1".to_owned());
    }
    let case = Case {
        method: line.method.unwrap_or_else(|| "GET".to_owned()),
        status: line.status,
        headers: line.headers.unwrap_or_default(),
        error: line.error,
        evidence: line.evidence,
        attempt,
        elapsed,
        now: now.transpose()?,
    };
    case.explain(policy).map(|explained| explained.json())
}

const LINE_BYTES_MAX: u64 = 1024 * 1024;
