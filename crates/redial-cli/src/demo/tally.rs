//! The figures of both sides, as a table and a chart.

use std::{io::Write, time::Duration};

use serde_json::json;

use super::script::Trouble;
use crate::{
    cli::{Failure, Output},
    show,
};

/// One call that has ended.
#[derive(Clone, Copy)]
pub(super) struct Made {
    pub(super) trouble: Trouble,
    pub(super) is_success: bool,
    pub(super) took: Duration,
}

/// What one side's calls came to.
pub(super) struct Tally {
    calls: usize,
    made: Vec<Made>,
    attempts: u32,
    left_alone: u32,
    repeated_posts: usize,
}

impl Tally {
    pub(super) fn new(
        mut made: Vec<Made>,
        calls: usize,
        attempts: u32,
        left_alone: u32,
        repeated_posts: usize,
    ) -> Self {
        made.sort_by_key(|made| made.took);
        Self { calls, made, attempts, left_alone, repeated_posts }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "calls": self.calls,
            "succeeded": self.made.iter().filter(|made| made.is_success).count(),
            "success_rate": self.success(None),
            "attempts_a_call": self.attempts_a_call(),
            "p50_ms": show::millis(self.quantile(50)),
            "p99_ms": show::millis(self.quantile(99)),
            "left_alone_because_maybe_applied": self.left_alone,
            "posts_applied_twice": self.repeated_posts,
        })
    }

    /// Returns the share of calls that succeeded, of those that met `trouble` or of all.
    fn success(&self, trouble: Option<Trouble>) -> f64 {
        let of_trouble =
            self.made.iter().filter(|made| trouble.is_none_or(|trouble| made.trouble == trouble));
        let (mut good, mut all) = (0_u32, 0_u32);
        for made in of_trouble {
            good += u32::from(made.is_success);
            all += 1;
        }
        if all == 0 { 1.0 } else { f64::from(good) / f64::from(all) }
    }

    fn attempts_a_call(&self) -> f64 {
        let calls = u32::try_from(self.made.len()).unwrap_or(u32::MAX).max(1);
        f64::from(self.attempts) / f64::from(calls)
    }

    fn quantile(&self, percent: usize) -> Duration {
        let rank = (self.made.len() * percent).div_ceil(100).saturating_sub(1);
        self.made.get(rank).map(|made| made.took).unwrap_or_default()
    }
}

/// Writes both sides beside each other.
pub(super) fn write(without: &Tally, with: &Tally, out: &mut Output) -> Result<(), Failure> {
    let style = out.style;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let extra = |tally: &Tally| format!("+{:.1} %", (tally.attempts_a_call() - 1.0) * 100.0);
    let rows: [(&str, [String; 2]); 6] = [
        ("calls", [without, with].map(|tally| tally.calls.to_string())),
        ("succeeded", [without, with].map(|tally| percent(tally.success(None)))),
        ("attempts a call", [without, with].map(|tally| format!("{:.3}", tally.attempts_a_call()))),
        ("extra load", [without, with].map(extra)),
        ("p50", [without, with].map(|tally| show::span(tally.quantile(50)))),
        ("p99", [without, with].map(|tally| show::span(tally.quantile(99)))),
    ];
    writeln!(out)?;
    let head = format!("{:<18}{:>14}{:>14}", "", "without", "with Redial");
    writeln!(out, "{}", style.bold(&head))?;
    for (name, [plain, redial]) in rows {
        writeln!(out, "{name:<18}{plain:>14}{redial:>14}")?;
    }
    writeln!(out)?;
    writeln!(out, "{}", style.bold("succeeded, by what the call met"))?;
    for trouble in Trouble::ALL {
        let (plain, redial) = (without.success(Some(trouble)), with.success(Some(trouble)));
        let bars = [(plain, style.bad(&bar(plain))), (redial, style.good(&bar(redial)))];
        let [(_, plain_bar), (_, redial_bar)] = bars;
        let name = show::pad(trouble.name(), 12);
        writeln!(out, "{name}without {plain_bar} {:>6.1} %", plain * 100.0)?;
        writeln!(out, "{:12}   with {redial_bar} {:>6.1} %", "", redial * 100.0)?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "POSTs without a key: {} left alone because the server may have acted, {} applied twice",
        with.left_alone, with.repeated_posts
    )?;
    Ok(())
}

fn bar(share: f64) -> String {
    show::pad(&show::bar(share, BAR_WIDTH), BAR_WIDTH)
}

const BAR_WIDTH: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_all_calls_and_of_each_trouble() {
        let made = |trouble, is_success, millis| Made {
            trouble,
            is_success,
            took: Duration::from_millis(millis),
        };
        let mades = vec![
            made(Trouble::None, true, 3),
            made(Trouble::Slow, false, 9),
            made(Trouble::None, true, 1),
            made(Trouble::Slow, true, 2),
        ];
        let tally = Tally::new(mades, 4, 6, 0, 0);
        assert_eq!(tally.json()["success_rate"], 0.75);
        assert_eq!(tally.json()["attempts_a_call"], 1.5);
        assert_eq!(tally.json()["p50_ms"], 2.0);
        assert_eq!(tally.json()["p99_ms"], 9.0);
        assert_eq!(tally.success(Some(Trouble::Refused)).to_string(), "1");
    }
}
