//! `redial plan`: the waits that a policy makes, before anything has failed.

mod budget;
mod limits;
mod parts;
mod section;

use std::{io::Write, time::Duration};

use redial::core::{Backoff, Class, Entropy, Growth, Policy, Rule};
use serde_json::json;

use crate::{
    cli::{Failure, Output},
    policy::PolicyArgs,
    show,
};

/// Show the waits that a policy makes, and what else is on
///
/// For each retry: the wait before jitter, the earliest and the latest that jitter may make of it,
/// and how long all waits may take up to there. Then what the budget allows, and, for each part of the
/// policy that is on, when it acts and how.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  redial plan --initial 1s --factor 2 --jitter additive
  redial plan --max-retries 8 --initial 100ms --max-delay 5s --json
  redial plan --backoff decorrelated --draws 3 --seed 7
  redial plan --profile grpc-a6
  redial plan --config redial.yaml --policy guarded --json --parts")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    policy: PolicyArgs,
    /// The class of failures whose waits are shown: timeout, throttled, connection, server, other,
    /// authentication, invalid_request
    #[arg(long, value_name = "CLASS", default_value = "other", value_parser = parse_class)]
    class: Class,
    /// Draw this many schedules instead of showing their bounds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    draws: Option<u32>,
    /// Draw from this seed, so that the schedules can be drawn again
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// With --json: write one object with the waits and every part that is on, in the place of the
    /// list of waits
    #[arg(long, requires = "json", conflicts_with = "draws")]
    parts: bool,
}

pub(crate) fn run(args: &PlanArgs, out: &mut Output) -> Result<u8, Failure> {
    let policy = args.policy.resolve()?.policy;
    let rule = shown(&policy, args.class)?;
    match args.draws {
        Some(draws) => drawn(&rule, draws, args, out),
        None => bounds(&policy, &rule, args, out),
    }
}

/// Returns the rule, with as many retries as can be shown: of a number that stands for as many as time
/// allows, those that the deadline allows.
fn shown(policy: &Policy, class: Class) -> Result<Rule, Failure> {
    let rule = *policy.retry.rule(class);
    if rule.max_retries <= RETRIES_MAX {
        return Ok(rule);
    }
    let mut earliest_sum = Duration::ZERO;
    let ends = policy.deadline.and_then(|deadline| {
        (1..=RETRIES_MAX).find(|retry| {
            earliest_sum = earliest_sum.saturating_add(rule.backoff.bounds(*retry).0);
            deadline <= earliest_sum
        })
    });
    let last = ends.ok_or_else(|| {
        let message =
            format!("{} retries are too many to show: at most {RETRIES_MAX}", rule.max_retries);
        Failure::usage(message)
    })?;
    Ok(Rule { max_retries: last - 1, ..rule })
}

fn bounds(policy: &Policy, rule: &Rule, args: &PlanArgs, out: &mut Output) -> Result<u8, Failure> {
    let rows = rows(rule);
    if args.json {
        let rows = rows.iter().map(|row| {
            json!({
                "retry": row.retry,
                "base_ms": show::millis(row.base),
                "min_ms": show::millis(row.earliest),
                "max_ms": show::millis(row.latest),
                "sum_max_ms": show::millis(row.latest_sum),
            })
        });
        let waits = serde_json::Value::from_iter(rows);
        let all = if args.parts { section::json(waits, &section::all(policy)) } else { waits };
        writeln!(out, "{all}")?;
        return Ok(0);
    }
    let is_cut = rule.max_retries < policy.retry.rule(args.class).max_retries;
    let described = describe(rule, args.class);
    let described = if is_cut {
        described.replacen("retries", "retries within the deadline", 1)
    } else {
        described
    };
    writeln!(out, "{}", out.style.dim(&described))?;
    if !rows.is_empty() {
        table(&rows, out)?;
    }
    writeln!(out)?;
    section::write(&section::all(policy), out)?;
    Ok(0)
}

fn table(rows: &[Row], out: &mut Output) -> Result<(), Failure> {
    let head = ["retry", "before jitter", "earliest", "latest", "latest sum"];
    writeln!(out, "{}", out.style.bold(&columns(head.map(str::to_owned))))?;
    for row in rows {
        let spans = [row.base, row.earliest, row.latest, row.latest_sum].map(show::span);
        let [base, earliest, latest, sum] = spans;
        writeln!(out, "{}", columns([row.retry.to_string(), base, earliest, latest, sum]))?;
    }
    writeln!(out)?;
    chart(rows, out)
}

/// One line a retry: where the wait may end, on a common scale of time.
fn chart(rows: &[Row], out: &mut Output) -> Result<(), Failure> {
    let longest = rows.iter().map(|row| row.latest).max().unwrap_or_default().as_secs_f64();
    if longest == 0.0 {
        return Ok(());
    }
    for row in rows.iter().take(CHART_ROWS_MAX) {
        let at = |span: Duration| position(span.as_secs_f64() / longest);
        let (from, to) = (at(row.earliest), at(row.latest).max(at(row.earliest) + 1));
        let line = format!("{}{}", " ".repeat(from), "█".repeat(to - from));
        let line = out.style.good(&show::pad(&line, CHART_WIDTH + 1));
        writeln!(out, "{:>5} {line} {}", row.retry, show::span(row.latest))?;
    }
    let scale = format!("0{:>CHART_WIDTH$}", show::span(Duration::from_secs_f64(longest)));
    writeln!(out, "      {}", out.style.dim(&scale))?;
    if CHART_ROWS_MAX < rows.len() {
        writeln!(out, "      … and {} more", rows.len() - CHART_ROWS_MAX)?;
    }
    Ok(())
}

fn drawn(rule: &Rule, draws: u32, args: &PlanArgs, out: &mut Output) -> Result<u8, Failure> {
    let entropy = Entropy::seeded(args.seed);
    if !args.json {
        writeln!(out, "{}", out.style.dim(&describe(rule, args.class)))?;
    }
    let mut schedules = Vec::new();
    for draw in 1..=draws {
        let (mut waits, mut previous) = (Vec::new(), Duration::ZERO);
        for retry in 1..=rule.max_retries {
            previous = rule.backoff.delay(retry, previous, entropy.draw());
            waits.push(previous);
        }
        let sum: Duration = waits.iter().sum();
        if args.json {
            let waits: Vec<_> = waits.iter().map(|wait| show::millis(*wait)).collect();
            schedules.push(json!({"draw": draw, "waits_ms": waits, "sum_ms": show::millis(sum)}));
        } else {
            let waits: Vec<_> = waits.iter().map(|wait| show::span(*wait)).collect();
            writeln!(out, "{draw:>5}  {}  = {}", waits.join(" + "), show::span(sum))?;
        }
    }
    if args.json {
        writeln!(out, "{}", serde_json::Value::from(schedules))?;
    }
    Ok(0)
}

struct Row {
    retry: u32,
    base: Duration,
    earliest: Duration,
    latest: Duration,
    latest_sum: Duration,
}

fn rows(rule: &Rule) -> Vec<Row> {
    let mut latest_sum = Duration::ZERO;
    let row = |retry| {
        let (earliest, latest) = rule.backoff.bounds(retry);
        latest_sum = latest_sum.saturating_add(latest);
        Row { retry, base: rule.backoff.ceiling(retry), earliest, latest, latest_sum }
    };
    (1..=rule.max_retries).map(row).collect()
}

fn describe(rule: &Rule, class: Class) -> String {
    let Rule { max_retries, backoff } = rule;
    format!("failures of class {class}: {max_retries} retries, {}", describe_backoff(backoff))
}

/// Says a schedule in words: `exponential from 500 ms, factor 2, at most 60 s, full jitter`.
pub(crate) fn describe_backoff(backoff: &Backoff) -> String {
    let factor = match backoff.growth() {
        Growth::Exponential(factor) => format!(", factor {factor}"),
        Growth::Fixed | Growth::Linear | Growth::Decorrelated => String::new(),
    };
    let jitter = match backoff.spread() {
        redial::core::Jitter::Proportional(share) => format!("jitter of ±{} %", share * 100.0),
        jitter => format!("{} jitter", jitter.name()),
    };
    format!(
        "{} from {}{factor}, at most {}, {jitter}",
        backoff.growth().name(),
        show::span(backoff.initial()),
        show::span(backoff.max()),
    )
}

fn columns(cells: [String; 5]) -> String {
    let [retry, base, earliest, latest, sum] = cells;
    let right = |text: &str, width: usize| {
        format!("{}{text}", " ".repeat(width.saturating_sub(text.chars().count())))
    };
    format!(
        "{} {} {} {} {}",
        right(&retry, 5),
        right(&base, 14),
        right(&earliest, 12),
        right(&latest, 12),
        right(&sum, 14)
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of the chart's width"
)]
fn position(share: f64) -> usize {
    (share.clamp(0.0, 1.0) * CHART_WIDTH as f64).round() as usize
}

pub(crate) fn parse_class(name: &str) -> Result<Class, String> {
    Class::named(name).ok_or_else(|| {
        let names = Class::ALL.map(Class::name).join(", ");
        format!("no class of failures; there are {names}")
    })
}

const RETRIES_MAX: u32 = 10_000;
const CHART_WIDTH: usize = 48;
const CHART_ROWS_MAX: usize = 20;
