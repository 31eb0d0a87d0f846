//! What goes wrong, and what is looked at.

use crate::{
    clock,
    stacks::Stack,
    table::{Cell, Table},
    upstream_model::{Call, Ledger, Traffic, Weather},
};

/// Everything that is compared, and the ground it is compared on.
pub(crate) struct Ring<'a> {
    pub(crate) stacks: &'a [&'a Stack],
    /// Whether the system's clock is ours.
    pub(crate) clock_stands: bool,
}

impl Ring<'_> {
    /// Every table, in order.
    pub(crate) fn tables(&self) -> Vec<Table> {
        vec![
            self.outage(),
            self.brown_out("brown-out at half of the capacity", 0.5, false),
            self.brown_out("brown-out at four fifths of the capacity", 0.8, false),
            self.brown_out("brown-out where the upstream drops what was given up", 0.8, true),
            self.chance(),
            self.trip(),
            self.sustained(),
        ]
    }

    fn outage(&self) -> Table {
        let (down, up, end) = (30.0, 90.0, 240.0);
        let traffic = fleet(0.5, end, vec![failing(down, 1.0), failing(up, 0.0)]);
        let lone = Traffic { clients: 1, lasts: up, ..traffic.clone() };
        let row = |stack: &Stack| {
            let ledger = self.run(stack, &traffic, 1);
            let half_refused = (0..60).map(f64::from).find(|start| {
                let calls = ledger.within(down + start, down + start + 1.0);
                0.5 <= share(calls, |call| call.attempts == 0)
            });
            vec![
                Cell::Number(ledger.load(down, up), 3),
                Cell::Number(ledger.load(up - 30.0, up), 3),
                Cell::Number(as_f64(ledger.attempts(down, up)) / (up - down), 1),
                if stack.refuses { Cell::seconds(half_refused) } else { Cell::Nothing },
                Cell::seconds(ledger.recovery(up, end, 1.0, 0.95)),
                Cell::Number(self.run(stack, &lone, 1).load(down, up), 3),
            ]
        };
        self.table(
            "total outage",
            "20 clients, 100 calls a second together; every request fails at once with 503 for 60 s. The \
             last column: the same calls from one client.",
            &[
                "attempts a call",
                "in the last 30 s",
                "attempts a second",
                "half refused after s",
                "95 % well again after s",
                "lone client: attempts a call",
            ],
            row,
        )
    }

    fn brown_out(&self, name: &'static str, load: f64, drops_abandoned: bool) -> Table {
        let (slow, over, end) = (30.0, 40.0, 190.0);
        let weather = vec![
            Weather { from: slow, slowdown: 5.0, failing: 0.0 },
            Weather { from: over, slowdown: 1.0, failing: 0.0 },
        ];
        let traffic = Traffic { drops_abandoned, ..fleet(load, end, weather) };
        let row = |stack: &Stack| {
            let runs: Vec<Ledger> =
                (1..=SEEDS).map(|seed| self.run(stack, &traffic, seed.into())).collect();
            let mean = |figure: &dyn Fn(&Ledger) -> f64| {
                runs.iter().map(figure).sum::<f64>() / f64::from(SEEDS)
            };
            let mut times: Vec<f64> =
                runs.iter().filter_map(|run| run.recovery(over, end, 5.0, 0.95)).collect();
            times.sort_by(f64::total_cmp);
            vec![
                Cell::Share(mean(&|run| run.success(slow, over))),
                Cell::Share(mean(&|run| run.success(over, end))),
                Cell::Of(u32::try_from(times.len()).unwrap_or_default(), SEEDS),
                Cell::seconds(times.get(times.len() / 2).copied()),
                Cell::seconds(times.last().copied()),
                Cell::Number(mean(&|run| run.load(slow, end)), 2),
            ]
        };
        let drops = if drops_abandoned {
            "An upstream that leaves what its caller gave up before a worker took it"
        } else {
            "The upstream, which goes on with what its callers gave up,"
        };
        self.table(
            name,
            format!(
                "20 clients, {} calls a second together. {drops} takes 5 times as long for 10 s; then \
                 150 s are watched. Means of {SEEDS} seeds.",
                traffic.rate
            ),
            &["well meanwhile", "well after", "recovers", "median s", "worst s", "attempts a call"],
            row,
        )
    }

    fn chance(&self) -> Table {
        let row = |stack: &Stack| {
            let cells = [0.05, 0.2, 0.5].into_iter().flat_map(|failed| {
                let ledger = self.run(stack, &fleet(0.5, 60.0, vec![failing(0.0, failed)]), 1);
                let (success, load) = (ledger.success(0.0, 60.0), ledger.load(0.0, 60.0));
                [Cell::Share(success), Cell::Number(load, 2)]
            });
            cells.collect()
        };
        self.table(
            "failures by chance",
            "20 clients, 100 calls a second together, for 60 s; 5 %, 20 % or 50 % of the requests fail \
             at once with 503, each by itself.",
            &[
                "5 %: well",
                "5 %: attempts a call",
                "20 %: well",
                "20 %: attempts a call",
                "50 %: well",
                "50 %: attempts a call",
            ],
            row,
        )
    }

    fn trip(&self) -> Table {
        let down = 60.0;
        let row = |stack: &Stack| {
            let trips: Vec<Trip> = OUTAGES
                .iter()
                .map(|lasts| {
                    let (up, end) = (down + lasts, down + lasts + 120.0);
                    let weather = vec![failing(down, 1.0), failing(up, 0.0)];
                    let traffic = Traffic { clients: 1, ..fleet(0.5, end, weather) };
                    Trip::of(&self.run(stack, &traffic, 1), down, up, end)
                })
                .collect();
            let mean = |figure: fn(&Trip) -> f64| {
                trips.iter().map(figure).sum::<f64>() / as_f64(trips.len())
            };
            let worst = trips.iter().map(|trip| trip.last_refusal).fold(0.0, f64::max);
            let until = |figure: fn(&Trip) -> Option<f64>| {
                let slowest = trips.iter().map(figure).reduce(|a, b| Some(a?.max(b?))).flatten();
                slowest.map_or(Cell::Never, |slowest| Cell::Number(slowest, 0))
            };
            vec![
                until(|trip| trip.calls),
                until(|trip| trip.millis),
                Cell::Number(mean(|trip| trip.load), 3),
                Cell::Number(mean(|trip| trip.last_refusal), 1),
                Cell::Number(worst, 1),
                Cell::Share(mean(|trip| trip.success)),
            ]
        };
        let about = "One client with 100 calls a second; after 60 good seconds every request fails at \
                     once with 503 for 20, 30, 40, 50 or 60 s, then all is well. Until it \
                     refuses: the slowest of those five; else their means.";
        let columns = [
            "calls until it refuses",
            "ms until it refuses",
            "attempts a call meanwhile",
            "last refusal, s after",
            "at worst",
            "well in the 60 s after",
        ];
        let refusing: Vec<&Stack> =
            self.stacks.iter().copied().filter(|stack| stack.refuses).collect();
        Ring { stacks: &refusing, ..*self }.table("time to trip", about, &columns, row)
    }

    fn sustained(&self) -> Table {
        let traffic = Traffic { clients: 1, ..fleet(0.5, 300.0, vec![failing(0.0, 0.2)]) };
        let row = |stack: &Stack| {
            let ledger = self.run(stack, &traffic, 1);
            let refused = share(ledger.within(0.0, 300.0), |call| call.attempts == 0);
            vec![
                Cell::Share(ledger.success(0.0, 300.0)),
                Cell::Share(refused),
                Cell::Number(ledger.load(0.0, 300.0), 2),
            ]
        };
        self.table(
            "a fifth fails for long",
            "One client with 100 calls a second; 20 % of the requests fail at once with 503, each by \
             itself, for 300 s.",
            &["well", "never sent", "attempts a call"],
            row,
        )
    }

    fn table(
        &self,
        name: &'static str,
        about: impl Into<String>,
        columns: &[&'static str],
        row: impl Fn(&Stack) -> Vec<Cell>,
    ) -> Table {
        let rows = self.stacks.iter().map(|stack| (stack.name, row(stack))).collect();
        Table { name, about: about.into(), columns: columns.to_vec(), rows }
    }

    fn run(&self, stack: &Stack, traffic: &Traffic, seed: u64) -> Ledger {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true);
        if self.clock_stands {
            // Time moves only while the thread is parked.
            runtime.on_thread_unpark(clock::follow);
        }
        let runtime = runtime.build().unwrap_or_else(|error| panic!("no runtime: {error}"));
        runtime.block_on(Traffic { seed, ..traffic.clone() }.run(stack.make))
    }
}

/// What a stack that refuses made of one outage.
struct Trip {
    /// Until it first refused one.
    calls: Option<f64>,
    millis: Option<f64>,
    /// Attempts a call.
    load: f64,
    /// In seconds after the outage.
    last_refusal: f64,
    /// In the minute after the outage.
    success: f64,
}

impl Trip {
    fn of(ledger: &Ledger, down: f64, up: f64, end: f64) -> Self {
        let refused = |call: &&Call| call.attempts == 0;
        let first = ledger.within(down, up).filter(refused).map(|call| call.at).reduce(f64::min);
        let last = ledger.within(up, end).filter(refused).map(|call| call.at).reduce(f64::max);
        Self {
            calls: first.map(|first| as_f64(ledger.within(down, first).count())),
            millis: first.map(|first| 1_000.0 * (first - down)),
            load: ledger.load(down, up),
            last_refusal: last.map_or(0.0, |last| last - up),
            success: ledger.success(up, up + 60.0),
        }
    }
}

/// Twenty clients at `load` times what the upstream can bear.
fn fleet(load: f64, lasts: f64, weather: Vec<Weather>) -> Traffic {
    let rate = load * Traffic::CAPACITY;
    Traffic { clients: 20, rate, lasts, weather, drops_abandoned: false, seed: 1 }
}

fn failing(from: f64, failing: f64) -> Weather {
    Weather { from, slowdown: 1.0, failing }
}

fn share<'a>(calls: impl Iterator<Item = &'a Call> + Clone, counts: impl Fn(&Call) -> bool) -> f64 {
    as_f64(calls.clone().filter(|call| counts(call)).count()) / as_f64(calls.count())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are small")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

const SEEDS: u32 = 5;
/// How long they last, in seconds: breakers that try again after ever longer waits come back at different
/// times, by chance soon after one outage and late after another.
const OUTAGES: [f64; 5] = [20.0, 30.0, 40.0, 50.0, 60.0];
