//! What adaptive limits do to an upstream that is simulated: ten workers and a queue, called at random
//! times, in virtual time and from a fixed seed.

#![expect(clippy::cast_precision_loss, reason = "counts and means")]

#[path = "support/queueing.rs"]
mod queueing;

use std::time::Duration;

use queueing::{Report, Upstream, run};
use redial_core::{AdaptivePolicy, LimitAlgorithm};

const LATENCY_BASED: [LimitAlgorithm; 2] = [LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2];
const SERVICE: Duration = Duration::from_millis(100);

/// Ten workers that need 100 ms a call on average, spread exponentially: they can bear 100 a second.
const UPSTREAM: Upstream = Upstream {
    workers: 10,
    service: |_, draw| SERVICE.mul_f64(-draw.ln()),
    arrivals: |_| 150.0,
    clients: 1,
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn under(algorithm: LimitAlgorithm, upstream: &Upstream, from: u64, to: u64) -> Report {
    let policy = AdaptivePolicy::default().with_algorithm(algorithm);
    run(upstream, &policy, seconds(from), seconds(to))
}

#[test]
fn an_hour_of_overload_does_not_move_the_baseline() {
    for algorithm in LATENCY_BASED {
        let report = under(algorithm, &UPSTREAM, 600, 3_600);
        for baseline in &report.baselines {
            let share = baseline.as_secs_f64() / SERVICE.as_secs_f64();
            assert!((0.5..=1.75).contains(&share), "{algorithm:?}: {baseline:?}");
        }
        let highest = report.limits.iter().max().unwrap();
        assert!(*highest <= 30, "{algorithm:?}: {highest} for ten workers");
        assert!(97.0 <= report.per_second, "{algorithm:?}: {}", report.per_second);
        assert!(report.percentile(50) <= SERVICE * 2, "{algorithm:?}");
    }
}

#[test]
fn ten_clients_that_probe_together_do_not_drive_each_other_up() {
    let upstream = Upstream { clients: 10, workers: 20, arrivals: |_| 300.0, ..UPSTREAM };
    for algorithm in LATENCY_BASED {
        let report = under(algorithm, &upstream, 1_800, 3_600);
        let mean = report.baselines.iter().sum::<Duration>() / 1_800;
        assert!(mean <= SERVICE * 2, "{algorithm:?}: {mean:?}");
        assert!(report.mean_limit <= 15.0, "{algorithm:?}: {}", report.mean_limit);
        assert!(193.0 <= report.per_second, "{algorithm:?}: {}", report.per_second);
        assert!(report.percentile(50) <= SERVICE * 5, "{algorithm:?}");
    }
}

#[test]
fn an_upstream_that_is_half_busy_is_left_alone() {
    let upstream = Upstream { arrivals: |_| 50.0, ..UPSTREAM };
    for algorithm in LATENCY_BASED {
        let report = under(algorithm, &upstream, 0, 1_800);
        assert!(report.refused_share() < 0.002, "{algorithm:?}: {}", report.refused_share());
    }
}

#[test]
fn the_default_refuses_less_of_what_could_be_borne() {
    // Nine tenths busy: queues come and go by chance.
    let upstream = Upstream { arrivals: |_| 90.0, ..UPSTREAM };
    let [vegas, gradient] =
        LATENCY_BASED.map(|algorithm| under(algorithm, &upstream, 300, 3_600).refused_share());
    assert!(gradient < 0.02, "{gradient}");
    assert!(gradient * 1.25 < vegas, "{gradient}, {vegas}");
    assert_eq!(AdaptivePolicy::default().algorithm(), LimitAlgorithm::Gradient2);
}

#[test]
fn an_upstream_that_has_become_slower_is_believed_and_its_recovery_too() {
    // Three times as slow from 600 s to 1,500 s.
    let service = |now: Duration, draw: f64| {
        let is_slow = seconds(600) <= now && now < seconds(1_500);
        SERVICE.mul_f64(-draw.ln() * if is_slow { 3.0 } else { 1.0 })
    };
    let upstream = Upstream { service, ..UPSTREAM };
    for algorithm in LATENCY_BASED {
        let slow = under(algorithm, &upstream, 900, 1_500);
        let (limit, baseline) = (slow.mean_limit, slow.baselines.last().unwrap());
        assert!((9.0..=25.0).contains(&limit), "{algorithm:?}: {limit}");
        assert!(SERVICE * 2 <= *baseline, "{algorithm:?}: {baseline:?}");
        let after = under(algorithm, &upstream, 1_700, 2_300);
        let baseline = after.baselines.last().unwrap();
        assert!(*baseline <= SERVICE * 2, "{algorithm:?}: {baseline:?}");
        assert!(95.0 <= after.per_second, "{algorithm:?}: {}", after.per_second);
    }
}

#[test]
fn one_slow_beginning_does_not_pin_the_baseline() {
    // Connections are opened, caches are cold: a hundred times as slow for the first calls.
    let service = |now: Duration, draw: f64| {
        SERVICE.mul_f64(if now < seconds(1) { 100.0 } else { -draw.ln() })
    };
    let upstream = Upstream { service, arrivals: |_| 80.0, ..UPSTREAM };
    for algorithm in LATENCY_BASED {
        let report = under(algorithm, &upstream, 120, 600);
        assert!(report.baselines[0] <= SERVICE * 2, "{algorithm:?}: {:?}", report.baselines[0]);
    }
}

#[test]
fn one_fast_second_does_not_pin_the_baseline() {
    // A proxy in front answers by itself for two seconds.
    let service = |now: Duration, draw: f64| {
        let is_fast = seconds(300) <= now && now < seconds(302);
        SERVICE.mul_f64(if is_fast { 0.01 } else { -draw.ln() })
    };
    let upstream = Upstream { service, ..UPSTREAM };
    for algorithm in LATENCY_BASED {
        let report = under(algorithm, &upstream, 480, 900);
        assert!(SERVICE / 2 <= report.baselines[0], "{algorithm:?}: {:?}", report.baselines[0]);
        assert!(95.0 <= report.per_second, "{algorithm:?}: {}", report.per_second);
    }
}

#[test]
fn a_single_worker_is_found_out() {
    let upstream = Upstream { workers: 1, arrivals: |_| 20.0, ..UPSTREAM };
    for algorithm in LATENCY_BASED {
        let report = under(algorithm, &upstream, 600, 3_600);
        assert!(report.mean_limit <= 12.0, "{algorithm:?}: {}", report.mean_limit);
        assert!(9.5 <= report.per_second, "{algorithm:?}: {}", report.per_second);
    }
}

#[test]
fn the_page_of_the_limit_has_these_figures() {
    let page = include_str!("../../../docs/adaptive-limit.md");
    let cases = [
        ("90 % load", Upstream { arrivals: |_| 90.0, ..UPSTREAM }, 300),
        ("150 % load", UPSTREAM, 600),
        ("50 workers, 150 %", Upstream { workers: 50, arrivals: |_| 750.0, ..UPSTREAM }, 600),
        (
            "10 clients, 20 workers, 150 %",
            Upstream { clients: 10, workers: 20, arrivals: |_| 300.0, ..UPSTREAM },
            1_800,
        ),
    ];
    for (name, upstream, from) in cases {
        let most = (upstream.arrivals)(Duration::ZERO).min(upstream.workers as f64 * 10.0);
        let figures = LATENCY_BASED.map(|algorithm| {
            let report = under(algorithm, &upstream, from, 3_600);
            let (done, refused) = (report.per_second / most, report.refused_share());
            let median = report.percentile(50).as_millis();
            format!("{:.1} %, {:.1} %, {median} ms", done * 100.0, refused * 100.0)
        });
        let row = format!("| {name} | {} |", figures.join(" | "));
        assert!(page.contains(&row), "docs/adaptive-limit.md lacks {row}");
    }
}
