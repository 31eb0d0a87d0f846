//! `cargo xtask compare clients`: Redial's transport beside other clients, over loopback.
//!
//! One server answers all; each contestant runs in a process of its own, in turns, so that whatever else the
//! machine does meets all of them. Instructions come out the same on every run; all else is for ratios.
//! Clients in other languages join where they are installed.

mod others;

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    bench::{build, ensure_valgrind},
    shell,
};

/// What all contestants are asked to do.
struct Discipline {
    name: &'static str,
    path: &'static str,
    tasks: u32,
    requests: u32,
}

const DISCIPLINES: &[Discipline] = &[
    Discipline { name: "64 at once", path: "/", tasks: 64, requests: 200_000 },
    Discipline { name: "512 at once", path: "/", tasks: 512, requests: 200_000 },
    Discipline { name: "64 at once, a tenth 503", path: "/shaky", tasks: 64, requests: 100_000 },
];

/// The figures of one run, as the bench prints them, and how many connections were opened.
#[derive(Clone, Copy, Default)]
struct Run {
    a_second: f64,
    cpu: f64,
    median: f64,
    p99: f64,
    peak_kib: f64,
    well: f64,
    opened: f64,
}

pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    ensure!(
        args.first().is_some_and(|what| what == "clients"),
        "what to compare: `cargo xtask compare clients`"
    );
    let is_quick = args.iter().any(|arg| arg == "--quick");
    let program = build("clients")?;
    let names = shell::output(Command::new(&program).arg("list"))?;
    let own = names.lines().map(|name| Contestant { name: name.to_owned(), other: None });
    let others = others::installed();
    let all: Vec<Contestant> = own.chain(others).collect();
    let server = Server::start(&program)?;
    let mut report = String::new();
    for discipline in DISCIPLINES {
        let runs = measure(&server, &all, discipline, is_quick)?;
        report += &table(discipline, &all, &runs)?;
    }
    report += &instructions(&server, &all)?;
    print!("{report}");
    Ok(ExitCode::SUCCESS)
}

/// One client. Those of the benchmark run in its program; others bring a command of their own.
struct Contestant {
    name: String,
    other: Option<others::Other>,
}

/// The server that answers all, in a process of its own. It ends with its standard input.
struct Server {
    program: PathBuf,
    child: Child,
    port: u16,
}

impl Server {
    fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the server")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the server has no output")?)
            .read_line(&mut line)
            .context("cannot read the server's port")?;
        let port = line.trim().parse().context("the server printed no port")?;
        Ok(Self { program: program.to_owned(), child, port })
    }

    /// Lets one contestant send its requests; `under` is a program that runs it.
    fn run(
        &self,
        under: &[&str],
        contestant: &Contestant,
        [path, tasks, requests]: [&str; 3],
    ) -> Result<String> {
        let mut command = match (&contestant.other, under) {
            (Some(other), _) => other.command(),
            (None, [first, rest @ ..]) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program).args(["run", &contestant.name]);
                command
            }
            (None, []) => {
                let mut command = Command::new(&self.program);
                command.args(["run", &contestant.name]);
                command
            }
        };
        shell::output(command.args([&self.port.to_string(), path, tasks, requests]))
    }

    fn opened(&self) -> Result<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).context("no server")?;
        stream.write_all(b"GET /opened HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the server does not answer")?;
        let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
        body.trim().parse().context("the server told no number of connections")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It has ended, or cannot be waited for: nothing is left to do.
        let _ = self.child.wait();
    }
}

/// Runs all contestants in turns, and returns the median of each figure.
fn measure(
    server: &Server,
    contestants: &[Contestant],
    discipline: &Discipline,
    is_quick: bool,
) -> Result<Vec<Run>> {
    let (rounds, share) = if is_quick { (1, 10) } else { (ROUNDS, 1) };
    let mut all: Vec<Vec<Run>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (at, contestant) in contestants.iter().enumerate() {
            let (name, of) = (&contestant.name, discipline.name);
            eprint!("\r{of}: round {} of {rounds}, {name}\x1b[K", round + 1);
            let share = share * contestant.other.as_ref().map_or(1, |other| other.share);
            let (tasks, requests) = (discipline.tasks, discipline.requests / share);
            let (tasks, requests) = (tasks.to_string(), requests.max(tasks).to_string());
            let before = server.opened()?;
            let line = server.run(&[], contestant, [discipline.path, &tasks, &requests])?;
            // The first question's connection was opened since as well.
            let opened = server.opened()? - before - 1.0;
            all[at].push(Run { opened, ..read(&line)? });
        }
    }
    eprintln!("\r{}: done\x1b[K", discipline.name);
    Ok(all.iter().map(|runs| median(runs)).collect())
}

fn read(line: &str) -> Result<Run> {
    let figures: Vec<f64> = line.split('\t').filter_map(|text| text.trim().parse().ok()).collect();
    let [a_second, cpu, median, p99, peak_kib, well] = figures[..] else {
        bail!("not the figures of a run: {line}");
    };
    Ok(Run { a_second, cpu, median, p99, peak_kib, well, opened: 0.0 })
}

fn median(runs: &[Run]) -> Run {
    let of = |figure: fn(&Run) -> f64| {
        let mut figures: Vec<f64> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    Run {
        a_second: of(|run| run.a_second),
        cpu: of(|run| run.cpu),
        median: of(|run| run.median),
        p99: of(|run| run.p99),
        peak_kib: of(|run| run.peak_kib),
        well: of(|run| run.well),
        opened: of(|run| run.opened),
    }
}

fn table(discipline: &Discipline, all: &[Contestant], runs: &[Run]) -> Result<String> {
    let mut text = format!(
        "\n{}\n\n{:24} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7} {:>7}  {:>9} {:>9}\n",
        discipline.name,
        "client",
        "req/s",
        "cpu/100k",
        "p50 µs",
        "p99 µs",
        "peak MB",
        "opened",
        "well %",
        "cpu ×",
        "p99 ×",
    );
    let base = runs.first().copied().context("nobody ran")?;
    for (Contestant { name, .. }, run) in all.iter().zip(runs) {
        writeln!(
            text,
            "{name:24} {:>9.0} {:>9.3} {:>9.0} {:>9.0} {:>8.1} {:>7.0} {:>7.2}  {:>9.2} {:>9.2}",
            run.a_second,
            run.cpu,
            run.median,
            run.p99,
            run.peak_kib / 1024.0,
            run.opened,
            run.well * 100.0,
            run.cpu / base.cpu,
            run.p99 / base.p99,
        )?;
    }
    Ok(text)
}

/// Counts what one request more takes, on one thread and one connection.
fn instructions(server: &Server, all: &[Contestant]) -> Result<String> {
    ensure_valgrind()?;
    let mut text = String::from("\none request more, on one thread\n\n");
    let mut base = None;
    for contestant in all.iter().filter(|contestant| contestant.other.is_none()) {
        let name = &contestant.name;
        eprint!("\rcounting instructions: {name}\x1b[K");
        let count = |requests: &str| -> Result<f64> {
            let log =
                std::env::temp_dir().join(format!("redial-compare-{}.log", std::process::id()));
            let log_to = format!("--log-file={}", log.display());
            let valgrind =
                ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", &log_to];
            server.run(&valgrind, contestant, ["/", "1", requests])?;
            let told = std::fs::read_to_string(&log).context("valgrind wrote no log")?;
            std::fs::remove_file(&log).context("cannot remove valgrind's log")?;
            let number = told.lines().find_map(|line| line.split("Collected :").nth(1));
            number.and_then(|number| number.trim().parse().ok()).context("valgrind did not count")
        };
        let added = (count("2000")? - count("1000")?) / 1000.0;
        let base = *base.get_or_insert(added);
        writeln!(text, "{name:24} {added:>9.0} instructions {:>9.2} ×", added / base)?;
    }
    eprintln!("\rcounting instructions: done\x1b[K");
    Ok(text)
}

/// An odd number, so that there is a median.
const ROUNDS: usize = 3;
