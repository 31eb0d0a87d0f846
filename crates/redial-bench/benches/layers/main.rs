//! What a layer costs, beside its peers, in one build.
//!
//! `cargo xtask bench` runs it and counts instructions as well; `cargo bench -p redial-bench --bench
//! layers` measures time and allocations alone.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

mod ours;
mod peers;
mod road;

use std::{hint::black_box, time::Instant};

use tower::Service;

use crate::road::{Asked, Requests, Server, Shape, Well, call};

/// One contestant in one discipline.
pub(crate) struct Case {
    group: &'static str,
    name: &'static str,
    make: fn(Shape) -> Work,
}

/// One call, ready to be repeated.
pub(crate) type Work = Box<dyn FnMut()>;

/// Turns a client into calls of it.
pub(crate) fn drive<S>(shape: Shape, mut client: S) -> Work
where
    S: Service<Asked, Response: Well> + 'static,
{
    let requests = Requests::new(shape);
    Box::new(move || {
        assert!(black_box(call(&mut client, black_box(requests.make()))), "a call ended badly");
    })
}

const BARE: &[Case] = &[
    Case {
        group: "bare",
        name: "bare",
        make: |shape| drive(shape, Server::new(Shape { fails_once: false, ..shape })),
    },
    Case {
        group: "bare",
        name: "hand-written loop",
        make: |shape| {
            let (requests, mut client) = (Requests::new(shape), Server::new(shape));
            Box::new(move || while !black_box(call(&mut client, black_box(requests.make()))) {})
        },
    },
];

const SHAPES: [(&str, Shape); 3] = [
    ("success", Shape { fields: 0, fails_once: false }),
    ("6 fields", Shape { fields: 6, fails_once: false }),
    ("fails once", Shape { fields: 0, fails_once: true }),
];

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let Ok(runtime) = runtime else { return };
    let _inside = runtime.enter();
    let cases: Vec<&Case> = BARE.iter().chain(ours::CASES).chain(peers::CASES).collect();
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            for (n, case) in cases.iter().enumerate() {
                println!("{n}\t{}\t{}", case.group, case.name);
            }
        }
        ["count", case, shape, calls] => {
            let number = |text: &str| text.parse::<usize>().unwrap_or_default();
            let mut work = (cases[number(case)].make)(SHAPES[number(shape)].1);
            for _ in 0..number(calls) {
                work();
            }
        }
        _ => table(&cases),
    }
}

fn table(cases: &[&Case]) {
    for case in cases {
        print!("{:<18}{:<28}", case.group, case.name);
        for (_, shape) in SHAPES {
            let mut work = (case.make)(shape);
            work();
            let allocations = allocation_counter::measure(&mut work).count_total;
            print!("{:>8} ns{:>4}", nanos(&mut work), allocations);
        }
        println!();
    }
}

/// The median of 9 rounds.
fn nanos(work: &mut Work) -> u128 {
    let mut rounds = [(); 9].map(|()| {
        let started = Instant::now();
        for _ in 0..CALLS {
            work();
        }
        started.elapsed().as_nanos() / u128::from(CALLS)
    });
    rounds.sort_unstable();
    rounds[4]
}

const CALLS: u32 = 20_000;
