//! What stacks are worth under failure: ours and the peers', on a paused clock.
//!
//! `cargo bench -p redial-bench --bench failure` prints one table a scenario in Markdown, `-- --json` the
//! same as one JSON object. Nothing is measured in real time: every figure comes from a simulated upstream
//! and a fixed seed, so each run prints the same.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]
#![expect(clippy::print_stderr, reason = "what is left out is told beside them")]

mod clock;
mod ours;
mod peers;
mod scenarios;
mod stacks;
mod table;
#[path = "../../../redial/tests/support/upstream_model.rs"]
mod upstream_model;

use crate::{
    scenarios::Ring,
    stacks::Stack,
    table::{Table, quoted},
};

fn main() {
    let clock_stands = clock::stands();
    let (taking_part, left_out): (Vec<&Stack>, Vec<&Stack>) =
        stacks::all().into_iter().partition(|stack| clock_stands || !stack.reads_system_clock);
    for stack in left_out {
        eprintln!("left out: {}, which reads the system's clock", stack.name);
    }
    let tables = Ring { stacks: &taking_part, clock_stands }.tables();
    if std::env::args().any(|arg| arg == "--json") {
        println!("{}", json(&taking_part, &tables));
    } else {
        print!("{}", text(&taking_part, &tables));
    }
}

fn text(stacks: &[&Stack], tables: &[Table]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| table.text() + "\n").collect();
    let setups = stacks.iter().map(|stack| format!("- {}: {}.\n", stack.name, stack.setup));
    format!("{}## The stacks\n\n{COMMON}\n\n{}", tables.concat(), setups.collect::<String>())
}

fn json(stacks: &[&Stack], tables: &[Table]) -> String {
    let setups = stacks.iter().map(|stack| {
        format!("{{\"name\":{},\"setup\":{}}}", quoted(stack.name), quoted(stack.setup))
    });
    let setups: Vec<String> = setups.collect();
    let tables: Vec<String> = tables.iter().map(Table::json).collect();
    format!(
        "{{\"common\":{},\"stacks\":[{}],\"tables\":[{}]}}",
        quoted(COMMON),
        setups.join(","),
        tables.join(",")
    )
}

const COMMON: &str = "The upstream has ten workers with exponential service times of 50 ms on average \
(200 requests a second) and one queue, first in, first out. Clients call at random moments (Poisson), \
whether or not earlier calls have ended. All stacks have a timeout of 500 ms an attempt and, where they \
retry, 3 retries after waits from 100 ms, doubling, with full jitter. Else they are as they come:";
