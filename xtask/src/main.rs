//! The chores of this workspace, run as `cargo xtask <chore>`.
//!
//! Every chore is a short program of its own that drives cargo; this file only finds the one that
//! is meant and prints their help.

mod bench;
mod chores;
mod ci;
mod compare;
mod coverage;
mod services;
mod shell;
mod test;

use std::{env, process::ExitCode};

use anyhow::Result;

/// One word after `cargo xtask`.
struct Chore {
    name: &'static str,
    /// One line for the list of chores.
    summary: &'static str,
    /// What `cargo xtask <name> --help` adds to it.
    help: &'static str,
    run: Run,
}

/// Takes the arguments after the chore's name.
type Run = fn(&[String]) -> Result<ExitCode>;

fn main() -> ExitCode {
    if coverage::is_compiler_wrapper() {
        return coverage::compile_instrumented();
    }
    let args: Vec<String> = env::args().skip(1).collect();
    let (name, rest) = args.split_first().map_or(("help", args.as_slice()), |(n, r)| (n, r));
    if ["help", "--help", "-h"].contains(&name) {
        print_chores();
        return ExitCode::SUCCESS;
    }
    let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else {
        eprintln!("error: there is no chore `{name}`; `cargo xtask help` lists them");
        return ExitCode::from(2);
    };
    // What stands after `--` is for the test programs, their own `--help` included.
    let own = rest.iter().take_while(|arg| *arg != "--");
    if own.into_iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("cargo xtask {}: {}\n\n{}", chore.name, chore.summary, chore.help);
        return ExitCode::SUCCESS;
    }
    (chore.run)(rest).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn print_chores() {
    println!("The chores of this workspace.\n\nUsage: cargo xtask <chore> [arguments]\n");
    for chore in CHORES {
        println!("  {:<9}  {}", chore.name, chore.summary);
    }
    println!("\n`cargo xtask <chore> --help` tells more about one of them.");
}

const CHORES: &[Chore] = &[
    Chore {
        name: "test",
        summary: "run every test of the workspace",
        help: "Unit tests, integration tests and doc tests, even when an early one fails. The \
               last line is\n`N passed, N failed, N skipped`; the exit status is 0 when some \
               ran and none failed.\n\nArguments are passed on to `cargo test`: `-p redial-core`, \
               a filter, `-- --nocapture`.",
        run: |args| test::run(args, None),
    },
    Chore {
        name: "coverage",
        summary: "measure the lines that the tests run, fail below 80 %",
        help: "Builds with the compiler's own instrumentation below target/coverage, runs the \
               tests, and prints\na table by crate. `target/coverage/lcov.info` is for editors.\n\n  \
               --missing   also print the line numbers that no test ran\n  \
               --html      also write pages to target/coverage/html\n\nOther arguments are passed \
               on to `cargo test`, such as `-p redial-core`.",
        run: coverage::run,
    },
    Chore {
        name: "bench",
        summary: "measure the layers beside their peers",
        help: "Builds redial-bench with all peers, counts instructions with valgrind, measures time and \
               allocations,\nand prints one table.\n\n  --check    count our layers only, and fail \
               when one costs 5 % more than recorded\n  --record   record what they cost now, in \
               crates/redial-bench/instructions.tsv",
        run: bench::run,
    },
    Chore {
        name: "compare",
        summary: "measure clients over loopback beside their peers",
        help: "`cargo xtask compare clients` starts a server, lets each client in turn send requests from 64 \
               and 512 tasks,\nand from 64 to a server that refuses a tenth, and prints tables of medians and \
               ratios: requests a second,\nCPU seconds for 100,000 requests, latencies, memory, connections \
               opened. Then it counts instructions.\naiohttp, httpx, undici, got and Go's client join where \
               they can be run from here. Takes about five minutes.\n\n  --quick   a tenth of the \
               requests, one round",
        run: compare::run,
    },
    Chore {
        name: "ci",
        summary: "everything that must hold before a change goes in",
        help: "Format, house rules, clippy, documentation, licenses and sources of \
               dependencies, coverage, tests:\ncheapest first, stopping at the first that fails. \
               The test runner's closing line comes last.",
        run: ci::run,
    },
    Chore {
        name: "loom",
        summary: "try every interleaving of the lock-free pieces",
        help: "Runs the loom models of redial-core in release mode, below target/loom. Arguments \
               are passed on\nto `cargo test`; LOOM_MAX_PREEMPTIONS bounds the search.",
        run: chores::loom,
    },
    Chore {
        name: "mutants",
        summary: "change redial-core in small ways and see whether a test notices",
        help: "Runs cargo-mutants, installing it when it is missing. Arguments are passed on to \
               it, such as\n`--file crates/redial-core/src/backoff.rs`. Results: mutants.out.",
        run: chores::mutants,
    },
    Chore {
        name: "vectors",
        summary: "run the tests that hold decisions against the shared vectors",
        help: "Runs every test with `vectors` in its name. Arguments are passed on to `cargo test`.",
        run: chores::vectors,
    },
    Chore {
        name: "services",
        summary: "start and stop the Redis, MariaDB and PostgreSQL that tests use",
        help: "  up       install what is missing (apt-get, as root), start all three on free \
               ports with their\n           data in a temporary folder, wait until they answer, \
               print their addresses\n  down     stop what `up` started, and remove its data\n  \
               status   say which of them answer\n\n`up --until-exit PID` stops them by itself \
               when that process has ended, and all others that asked for the same. Addresses are kept in\ntarget/services/environment. \
               `test`, `coverage` and `ci` call `up` before the tests and `down` after.",
        run: services::run,
    },
    Chore {
        name: "generate",
        summary: "write shell completions and man pages",
        help: "Writes them to target/generated, in completions/ and man/.",
        run: chores::generate,
    },
];
