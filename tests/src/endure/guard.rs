//! The guard's rules on simulated calls: how often a candidate that is no worse is taken out, and how soon one that is.
//!
//! The rules are the program's own ([`understudy_call::guard`]); only the calls are made up, 1 in 20 of them canaried.

use super::Report;
use crate::Dice;
use understudy_call::detector::Detector;
use understudy_call::guard::{Limits, RUN_LENGTH, Seen, Watch};

/// The limits of the documentation's example.
const LIMITS: Limits = Limits {
    error: Some(0.02),
    invalid: Some(0.01),
    fallback: Some(0.05),
    p95_latency: Some(1.2),
    agreement: Some(0.05),
};
/// Canaried calls in 20.
const WEIGHT: u64 = 1;
/// Canaried calls within which a regression is to be seen.
const SOON: u64 = 200;
/// Calls of both sides before a regression begins.
const BEFORE: u64 = 4000;

/// How durations are spread.
#[derive(Clone, Copy, Debug)]
enum Durations {
    /// From 80 to 120 ms.
    Even,
    /// Exponential, 300 ms on average.
    Exponential,
    /// Log-normal with a median of 300 ms, this wide.
    LogNormal(f64),
}

/// What calls of one side are like.
#[derive(Clone, Copy, Debug)]
struct Side {
    error: f64,
    invalid: f64,
    durations: Durations,
    times: f64,
}

impl Side {
    fn call(&self, dice: &mut Dice) -> Seen {
        let failed = unit(dice) < self.error;
        let invalid = unit(dice) < self.invalid;
        let took = match self.durations {
            Durations::Even => 80.0 + 40.0 * unit(dice),
            Durations::Exponential => -300.0 * unit(dice).max(1e-12).ln(),
            Durations::LogNormal(width) => 300.0 * (width * normal(dice)).exp(),
        };
        Seen {
            failed: Some(failed),
            invalid: (!failed).then_some(invalid),
            fell_back: Some(failed || invalid),
            duration_ms: (!failed).then_some(took * self.times),
        }
    }
}

/// A number in 0..1.
fn unit(dice: &mut Dice) -> f64 {
    dice.roll(1 << 53) as f64 / (1u64 << 53) as f64
}

/// A number of the standard normal distribution (Box and Muller 1958).
fn normal(dice: &mut Dice) -> f64 {
    (-2.0 * unit(dice).max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * unit(dice)).cos()
}

/// Canaried calls until the guard trips, and on what; the candidate is `canary` after `before` calls, and `baseline` until
/// then.
fn trip(
    seed: u64,
    limits: Limits,
    baseline: Side,
    canary: Side,
    before: u64,
    most: u64,
) -> Option<(u64, &'static str)> {
    let mut dice = Dice::new(seed + 1);
    let mut watch = Watch::new(limits);
    let (mut all, mut canaried) = (0, 0);
    while canaried < most {
        all += 1;
        let worse = if dice.roll(20) < WEIGHT {
            let is_before = all <= before;
            canaried += u64::from(!is_before);
            let mut seen = if is_before { baseline } else { canary }.call(&mut dice);
            // What the candidate of a run that is alike does is no fault of its own: it falls back for nothing else.
            seen.fell_back = seen.fell_back.filter(|_| limits.fallback.is_some());
            watch.canary("small", &seen)
        } else {
            watch.baseline(&baseline.call(&mut dice))
        };
        if let Some(worse) = worse {
            return Some((canaried, worse.metric));
        }
    }
    None
}

/// Mean agreement of 90 % with the baseline's answers becomes 60 %: calls until it is seen. `floor` says that the
/// baseline's agreement with itself is measured on calls of its own, else it is known.
fn disagreement(seed: u64, less: f64, floor: bool, most: u64) -> Option<u64> {
    let mut dice = Dice::new(seed + 1);
    let mut detector = Detector::new(LIMITS.agreement.unwrap_or_default(), RUN_LENGTH);
    // Answers agree wholly or in part.
    let mut loss = |mean: f64| if unit(&mut dice) < 2.0 * mean { 0.5 } else { 0.0 };
    (1..=most).find(|_| {
        let _ = detector.baseline(if floor { loss(0.1) } else { 0.1 });
        detector.canary(loss(0.1 + less)).is_some()
    })
}

/// So many runs of each kind, those without a regression of so many canaried calls.
pub fn run(runs: u64, calls: u64) -> Report {
    let mut report = Report::new(format!(
        "the guard on {runs} simulated runs of each kind, 1 call in 20 canaried"
    ));
    let side = |error: f64, invalid: f64, durations: Durations| Side {
        error,
        invalid,
        durations,
        times: 1.0,
    };
    let alike = [
        ("no errors, even durations", side(0.0, 0.0, Durations::Even)),
        (
            "1 % errors, 1 % invalid, exponential durations",
            side(0.01, 0.01, Durations::Exponential),
        ),
        (
            "2 % errors, 2 % invalid, log-normal (1.0) durations",
            side(0.02, 0.02, Durations::LogNormal(1.0)),
        ),
        (
            "10 % errors, 10 % invalid, log-normal (0.5) durations",
            side(0.10, 0.10, Durations::LogNormal(0.5)),
        ),
    ];
    for (name, both) in alike {
        // A candidate that fails falls back by design, which its own limit is about.
        let limits = Limits {
            fallback: LIMITS.fallback.filter(|_| both.error < 0.02),
            ..LIMITS
        };
        let trips: Vec<&str> = (0..runs)
            .filter_map(|seed| Some(trip(seed, limits, both, both, 0, calls)?.1))
            .collect();
        report.goal(
            &format!("alike, {name}: false trips in {calls} canaried calls"),
            format!("{} {}", trips.len(), trips.join(" ")),
            "at most 1 in 100",
            trips.len() as u64 <= runs.div_ceil(100),
        );
    }
    let usual = side(0.01, 0.01, Durations::Exponential);
    let worse: [(&str, Side, &str); 6] = [
        ("errors + 20 points", Side { error: 0.21, ..usual }, "error fallback"),
        (
            "invalid + 20 points",
            Side { invalid: 0.21, ..usual },
            "invalid fallback",
        ),
        (
            "p95 x 2, even",
            Side {
                times: 2.0,
                ..side(0.01, 0.01, Durations::Even)
            },
            "p95_latency",
        ),
        (
            "p95 x 2, log-normal (0.5)",
            Side {
                times: 2.0,
                ..side(0.01, 0.01, Durations::LogNormal(0.5))
            },
            "p95_latency",
        ),
        ("p95 x 2, exponential", Side { times: 2.0, ..usual }, "p95_latency"),
        (
            "p95 x 2, log-normal (1.0)",
            Side {
                times: 2.0,
                ..side(0.01, 0.01, Durations::LogNormal(1.0))
            },
            "p95_latency",
        ),
    ];
    for (name, canary, metrics) in worse {
        let baseline = Side {
            error: 0.01,
            invalid: 0.01,
            times: 1.0,
            ..canary
        };
        let mut after: Vec<u64> = Vec::new();
        let mut other = 0;
        for seed in 0..runs {
            let tripped = trip(seed, LIMITS, baseline, canary, BEFORE, 20 * SOON);
            other += usize::from(tripped.is_some_and(|(_, metric)| !metrics.contains(metric)));
            after.push(tripped.map_or(u64::MAX, |(calls, _)| calls));
        }
        tell(&mut report, name, after);
        report.figure(&format!("{name}: trips on something else"), other);
    }
    for (name, floor) in [
        ("with the floor known", false),
        ("with the floor measured beside it", true),
    ] {
        let after = (0..runs).map(|seed| disagreement(seed, 0.3, floor, 20 * SOON).unwrap_or(u64::MAX));
        tell(&mut report, &format!("agreement - 30 points, {name}"), after.collect());
        let false_trips = (0..runs).filter(|seed| disagreement(*seed, 0.0, floor, calls).is_some());
        let false_trips = false_trips.count() as u64;
        report.goal(
            &format!("agreement alike, {name}: false trips in {calls} calls"),
            false_trips,
            "at most 1 in 100",
            false_trips <= runs.div_ceil(100),
        );
    }
    for (name, baseline) in [
        ("out", Side { error: 1.0, ..usual }),
        (
            "30 points worse",
            Side {
                error: 0.31,
                invalid: 0.3,
                times: 3.0,
                ..usual
            },
        ),
    ] {
        let limits = Limits {
            fallback: None,
            ..LIMITS
        };
        let trips = (0..runs).filter(|seed| trip(*seed, limits, baseline, usual, 0, calls.min(5_000)).is_some());
        let trips = trips.count();
        report.goal(&format!("the baseline is {name}: trips"), trips, "0", trips == 0);
    }
    report
}

/// How soon: half, 95 of 100, and how many late.
fn tell(report: &mut Report, name: &str, mut after: Vec<u64>) {
    after.sort_unstable();
    let at = |share: usize| match after.get((after.len() * share / 100).min(after.len() - 1)) {
        None | Some(&u64::MAX) => "never".to_owned(),
        Some(calls) => calls.to_string(),
    };
    let late = after.iter().filter(|calls| **calls > SOON).count();
    let words = format!(
        "half after {}, 95 % after {}, {late} of {} later than {SOON}",
        at(50),
        at(95),
        after.len()
    );
    report.figure(&format!("{name}: canaried calls until a trip"), words);
}
