//! `cargo xtask bench`: what the layers cost beside their peers, in instructions, nanoseconds and
//! allocations.
//!
//! Instructions are counted by valgrind and come out the same on every run of one build; times do not, and
//! are for ratios within one run.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// A contestant, and its figures.
struct Case {
    number: String,
    group: String,
    name: String,
    /// Instructions a call for each shape; `None` where it has none.
    instructions: [Option<i64>; SHAPES.len()],
    /// What the program measured itself, as it printed it.
    measured: Vec<String>,
}

pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let (check, record) =
        (args.iter().any(|a| a == "--check"), args.iter().any(|a| a == "--record"));
    let program = build("layers")?;
    let mut cases = list(&program)?;
    count(&program, &mut cases, check || record)?;
    if check || record {
        return compare(&cases, record);
    }
    measure(&program, &mut cases)?;
    cases.sort_by(|a, b| (a.rank(), &a.group).cmp(&(b.rank(), &b.group)));
    print!("{}", table(&cases));
    Ok(ExitCode::SUCCESS)
}

/// Builds a benchmark of redial-bench as its figures are taken, and returns its program.
pub(crate) fn build(name: &str) -> Result<PathBuf> {
    let mut build = shell::cargo();
    build.args(["bench", "-p", "redial-bench", "--no-default-features"]);
    build.args(["--bench", name, "--no-run"]);
    let built = shell::output(build.arg("--message-format=json-render-diagnostics"))?;
    let executables = built.lines().filter_map(|line| line.split("\"executable\":\"").nth(1));
    let last = executables.filter_map(|rest| rest.split('"').next()).next_back();
    last.map(PathBuf::from).context("cargo named no benchmark")
}

fn list(program: &PathBuf) -> Result<Vec<Case>> {
    let text = shell::output(Command::new(program).arg("list"))?;
    let case = |line: &str| {
        let mut columns = line.split('\t').map(str::to_owned);
        Some(Case {
            number: columns.next()?,
            group: columns.next()?,
            name: columns.next()?,
            instructions: [None; SHAPES.len()],
            measured: Vec::new(),
        })
    };
    Ok(text.lines().filter_map(case).collect())
}

fn measure(program: &PathBuf, cases: &mut [Case]) -> Result<()> {
    eprintln!("measuring time and allocations …");
    let text = shell::output(&mut Command::new(program))?;
    for (case, line) in cases.iter_mut().zip(text.lines()) {
        case.measured = line.split('\t').skip(2).map(str::to_owned).collect();
    }
    Ok(())
}

/// Counts every case in every shape, two at a time.
fn count(program: &PathBuf, cases: &mut [Case], ours_only: bool) -> Result<()> {
    ensure_valgrind()?;
    let mut jobs = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let counts = !ours_only || case.is_ours() || case.group == "bare";
        let shapes = if case.repeats() { SHAPES.len() } else { SHAPES.len() - 1 };
        jobs.extend((0..shapes).filter(|_| counts).map(|shape| (at, shape)));
    }
    let total = jobs.len();
    for (done, pair) in jobs.chunks(2).enumerate() {
        eprint!("\rcounting instructions: {} of {total} ", done * 2);
        let running = pair.iter().map(|(at, shape)| {
            let mut valgrind = Command::new("valgrind");
            valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
            valgrind.arg("--toggle-collect=layers::counted*").arg(program);
            valgrind.args(["count", &cases[*at].number, &shape.to_string(), &CALLS.to_string()]);
            valgrind.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
        });
        let running: Vec<_> = running.collect();
        for ((at, shape), child) in pair.iter().zip(running) {
            let output = child.context("cannot start valgrind")?.wait_with_output()?;
            let text = String::from_utf8_lossy(&output.stderr);
            let collected = text.lines().find_map(|line| line.split("Collected :").nth(1));
            let total = collected.and_then(|number| number.trim().parse::<i64>().ok());
            let (Some(total), true) = (total, output.status.success()) else {
                bail!("{}: valgrind did not count:\n{text}", cases[*at].name);
            };
            cases[*at].instructions[*shape] = Some(total / CALLS);
        }
    }
    eprintln!("\rcounting instructions: done        ");
    Ok(())
}

pub(crate) fn ensure_valgrind() -> Result<()> {
    if shell::succeeds(Command::new("valgrind").arg("--version")) {
        return Ok(());
    }
    shell::run(Command::new("apt-get").args([
        "install",
        "-y",
        "--no-install-recommends",
        "valgrind",
    ]))
    .context("valgrind counts the instructions, and is not on this machine")
}

/// Compares with what is recorded, or records.
fn compare(cases: &[Case], record: bool) -> Result<ExitCode> {
    let file = shell::root().join("crates/redial-bench/instructions.tsv");
    let now: BTreeMap<String, i64> = added(cases).into_iter().collect();
    if record {
        let mut text = String::from(
            "# Instructions that each layer adds to a call: cargo xtask bench --record\n",
        );
        for (name, count) in &now {
            let _ = writeln!(text, "{name}\t{count}");
        }
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("recorded {} figures", now.len());
        return Ok(ExitCode::SUCCESS);
    }
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let recorded = text.lines().filter_map(|line| {
        let (name, count) = line.split_once('\t')?;
        Some((name, count.parse::<i64>().ok()?))
    });
    let mut grown = 0;
    for (name, before) in recorded {
        let Some(after) = now.get(name) else { bail!("{name} is recorded and no more: --record") };
        // A handful of instructions is no growth.
        let is_grown = before * 105 / 100 + 10 < *after;
        grown += i32::from(is_grown);
        let mark = if is_grown { "  GROWN" } else { "" };
        println!("{name:<44}{before:>8}{after:>8}{mark}");
    }
    if 0 < grown {
        bail!("{grown} layers cost more than 5 % more instructions than recorded");
    }
    Ok(ExitCode::SUCCESS)
}

/// What each of our layers adds, by name and shape.
fn added(cases: &[Case]) -> Vec<(String, i64)> {
    let mut all = Vec::new();
    for case in cases.iter().filter(|case| case.is_ours()) {
        for (shape, name) in SHAPES.iter().enumerate() {
            if let Some(added) = case.added(shape, cases) {
                all.push((format!("{}: {}: {name}", case.group, case.name), added));
            }
        }
    }
    all
}

fn table(cases: &[Case]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<16} {:<41}|{:^27}|{:^20}|{:^20}| calls/µs",
        "", "", "added instructions", "ns", "allocations"
    );
    let _ = writeln!(
        text,
        "{:<16} {:<41}|{:>9}{:>9}{:>9}|{:>6}{:>7}{:>7}|{:>6}{:>7}{:>7}| 1 task 8 tasks",
        "group", "layer", "success", "6 fields", "fails", "ok", "6", "fails", "ok", "6", "fails"
    );
    let mut group = "";
    for case in cases {
        if case.group != group {
            group = &case.group;
            text.push('\n');
        }
        let added = |shape| match case.added(shape, cases) {
            Some(added) => added.to_string(),
            None => "-".to_owned(),
        };
        let at = |n: usize| case.measured.get(n).map_or("-", String::as_str);
        let _ = writeln!(
            text,
            "{:<16} {:<41}|{:>9}{:>9}{:>9}|{:>6}{:>7}{:>7}|{:>6}{:>7}{:>7}| {:>6} {:>7}",
            case.group,
            case.name,
            added(0),
            added(1),
            added(2),
            at(0),
            at(2),
            at(4),
            at(1),
            at(3),
            at(5),
            at(6),
            at(7)
        );
    }
    text.push_str(&ratios(cases));
    text
}

/// Ours over the best and the worst peer of each group.
fn ratios(cases: &[Case]) -> String {
    let mut text = String::from("\nadded instructions on success, ours over a peer's\n");
    for case in cases.iter().filter(|case| case.is_ours()) {
        let Some(own) = case.added(0, cases) else { continue };
        let peers = cases.iter().filter(|peer| !peer.is_ours() && peer.group == case.group);
        for peer in peers {
            let Some(theirs) = peer.added(0, cases).filter(|added| 0 < *added) else { continue };
            let percent = own * 100 / theirs;
            let (whole, rest) = (percent / 100, percent % 100);
            let _ = writeln!(text, "{:<41} {whole}.{rest:02} × {}", case.name, peer.name);
        }
    }
    text
}

impl Case {
    fn is_ours(&self) -> bool {
        self.name.starts_with("redial")
    }

    /// The bare call first; groups as their names have it; in a group, ours first, as listed.
    fn rank(&self) -> bool {
        self.group != "bare"
    }

    /// Returns whether it repeats a failed attempt at once; see the benchmark's own `repeats`.
    fn repeats(&self) -> bool {
        let retries = ["bare", "retry + budget", "stack"].contains(&self.group.as_str());
        let waits = ["seatbelt", "tower-resilience"].iter().any(|peer| self.name.starts_with(peer));
        retries && !waits
    }

    /// Returns what this case adds to the bare call, or to a loop written by hand where attempts fail.
    fn added(&self, shape: usize, cases: &[Self]) -> Option<i64> {
        let base = if SHAPES[shape] == "fails once" { "hand-written loop" } else { "bare" };
        // What brings a client of its own is measured against that client.
        let base = if self.group == "reqwest" { "reqwest-middleware alone" } else { base };
        let base = cases.iter().find(|case| case.name == base)?;
        Some(self.instructions[shape]? - base.instructions[shape]?)
    }
}

const SHAPES: [&str; 3] = ["success", "6 fields", "fails once"];
const CALLS: i64 = 1_000;
