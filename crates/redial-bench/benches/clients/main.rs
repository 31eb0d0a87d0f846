//! Clients over loopback, beside their peers: a server, and one contestant a process.
//!
//! `cargo xtask compare clients` runs this and prints a table. `serve` answers until its standard input ends,
//! and prints its port; `run NAME PORT PATH TASKS REQUESTS` sends requests from so many tasks and prints one
//! line, its columns separated by tabs: see [`Figures`]; `list` prints the contestants.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::print_stdout, reason = "figures are what it is for")]

mod contestants;
mod load;
mod serve;
#[path = "../shared/tower_policy.rs"]
mod tower_policy;

use std::process::ExitCode;

use self::{contestants::CONTESTANTS, load::Load};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => CONTESTANTS.iter().for_each(|contestant| println!("{}", contestant.name)),
        ["serve"] => serve::serve(),
        ["run", name, port, path, tasks, requests] => {
            let contestant = CONTESTANTS.iter().find(|contestant| contestant.name == name);
            let Some((contestant, load)) = contestant.zip(Load::read(port, path, tasks, requests))
            else {
                eprintln!("error: no such contestant, or no such load");
                return ExitCode::from(2);
            };
            println!("{}", (contestant.run)(load));
        }
        // `cargo bench` without a choice: one short look at each is not worth its time here.
        [] => println!("run `cargo xtask compare clients`"),
        _ => {
            eprintln!("error: list, serve, or run NAME PORT PATH TASKS REQUESTS");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
