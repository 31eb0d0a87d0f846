//! What a layer costs, beside its peers, in one build.
//!
//! `cargo xtask bench` runs this, counts instructions as well, and prints a table; `cargo bench -p
//! redial-bench --bench layers` prints nanoseconds and allocations alone. One line a case, its columns
//! separated by tabs: see [`measure`].

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::print_stdout, reason = "figures are what it is for")]

mod ours;
mod peers;
mod road;
#[path = "../shared/tower_policy.rs"]
mod tower_policy;

use std::{
    hint::black_box,
    sync::Mutex,
    time::{Duration, Instant},
};

use tower::Service;

use crate::road::{Asked, Requests, Server, Shape, Well, call};

/// One contestant in one discipline.
pub(crate) struct Case {
    group: &'static str,
    name: &'static str,
    make: fn(Shape) -> Shared,
}

/// One call, ready to be repeated.
pub(crate) type Work = Box<dyn FnMut() + Send>;

/// A client that many tasks share: each gets its own way to call it.
pub(crate) type Shared = Box<dyn Fn() -> Work + Send>;

/// Turns a client into calls of its clones.
pub(crate) fn drive<S>(shape: Shape, client: S) -> Shared
where
    S: Service<Asked, Response: Well> + Clone + Send + 'static,
{
    let (requests, client) = (Requests::new(shape), Mutex::new(client));
    Box::new(move || {
        let (requests, client) = (requests.clone(), client.lock().map(|client| client.clone()));
        let Ok(mut client) = client else { panic!("a client that panicked") };
        Box::new(move || {
            assert!(black_box(call(&mut client, black_box(requests.make()))), "a call ended badly");
        })
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
            let (requests, client) = (Requests::new(shape), Server::new(shape));
            Box::new(move || {
                let (requests, mut client) = (requests.clone(), client.clone());
                Box::new(move || while !black_box(call(&mut client, black_box(requests.make()))) {})
            })
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
    let cases: Vec<&Case> = BARE.iter().chain(ours::cases()).chain(peers::cases()).collect();
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            for (n, case) in cases.iter().enumerate() {
                println!("{n}\t{}\t{}", case.group, case.name);
            }
        }
        ["count", case, shape, calls] => {
            let number = |text: &str| text.parse::<usize>().unwrap_or_default();
            let mut work = (cases[number(case)].make)(SHAPES[number(shape)].1)();
            // The first calls open accounts, and settle what is settled once.
            (0..10).for_each(|_| work());
            counted(&mut work, number(calls));
        }
        _ => {
            // A call that ends badly is told in the table.
            std::panic::set_hook(Box::new(|_| {}));
            cases.iter().for_each(|case| measure(case));
        }
    }
}

/// The stretch in which instructions are counted.
#[inline(never)]
fn counted(work: &mut Work, calls: usize) {
    for _ in 0..calls {
        work();
    }
}

/// Prints a case's group and name, then nanoseconds and allocations a call for each shape, then the calls a
/// second, in millions, of one task and of eight on two threads.
fn measure(case: &Case) {
    print!("{}\t{}", case.group, case.name);
    for (_, shape) in SHAPES {
        if shape.fails_once && !case.repeats() {
            print!("\t-\t-");
            continue;
        }
        let mut work = (case.make)(shape)();
        work();
        let allocations = allocation_counter::measure(&mut work).count_total;
        print!("\t{}\t{allocations}", nanos(&mut work));
    }
    let shared = (case.make)(SHAPES[0].1);
    for tasks in [1, 8] {
        match rate(&shared, tasks) {
            Some(rate) => print!("\t{rate:.2}"),
            // Some peers have calls wait for a lock once tasks meet.
            None => print!("\twaits"),
        }
    }
    println!();
}

impl Case {
    /// Returns whether it repeats a failed attempt at once. Some peers send even a wait of zero through the
    /// timer, which takes a millisecond and says nothing of their code.
    fn repeats(&self) -> bool {
        let retries = ["bare", "retry + budget", "stack"].contains(&self.group);
        let waits = ["seatbelt", "tower-resilience"].iter().any(|peer| self.name.starts_with(peer));
        retries && !waits
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

/// Millions of calls a second that `tasks` make together on two threads: the median of 5 rounds; `None` where
/// a call was not over at its first poll.
fn rate(shared: &Shared, tasks: u32) -> Option<f64> {
    let mut rounds = Vec::new();
    for _ in 0..5 {
        let works: Vec<Work> = (0..tasks).map(|_| shared()).collect();
        rounds.push(std::thread::spawn(move || together(works)).join().ok().flatten()?);
    }
    rounds.sort_unstable();
    Some(f64::from(CALLS * 8) / rounds[2].as_secs_f64() / 1e6)
}

fn together(works: Vec<Work>) -> Option<Duration> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_time().build().ok()?;
    let share = CALLS * 8 / u32::try_from(works.len()).ok()?;
    runtime.block_on(async move {
        let started = Instant::now();
        let tasks = works.into_iter().map(|mut work| {
            tokio::spawn(async move {
                for n in 0..share {
                    work();
                    if n % 16 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.ok()?;
        }
        Some(started.elapsed())
    })
}

const CALLS: u32 = 20_000;
