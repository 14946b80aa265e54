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
    cost: Some(1.2),
    agreement: Some(0.05),
};
/// Canaried conversations in 20.
const WEIGHT: u64 = 1;
/// Canaried calls within which a regression is to be seen, or else within [`SECONDS`].
const SOON: u64 = 200;
/// Of traffic of [`CALLS_A_SECOND`], 1 in 20 of them canaried.
const SECONDS: u64 = 30;
const CALLS_A_SECOND: u64 = 1_000;
/// Calls of both sides before a regression begins.
const BEFORE: u64 = 4000;
/// Conversations that go on at the same time.
const AT_ONCE: usize = 60;

/// How durations are spread.
#[derive(Clone, Copy, Debug)]
enum Durations {
    /// From 80 to 120 ms.
    Even,
    /// Exponential, 300 ms on average.
    Exponential,
    /// Log-normal with a median of 300 ms, this wide.
    LogNormal(f64),
    /// Pareto's, from 100 ms on; its variance is infinite.
    HeavyTailed,
    /// 100, 200, 400 or 800 ms.
    Discrete,
}

impl Durations {
    fn milliseconds(self, dice: &mut Dice) -> f64 {
        match self {
            Durations::Even => 80.0 + 40.0 * unit(dice),
            Durations::Exponential => -300.0 * unit(dice).max(1e-12).ln(),
            Durations::LogNormal(width) => 300.0 * (width * normal(dice)).exp(),
            Durations::HeavyTailed => 100.0 * unit(dice).max(1e-12).powf(-1.0 / 1.5),
            Durations::Discrete => match unit(dice) {
                0.0..0.5 => 100.0,
                0.5..0.8 => 200.0,
                0.8..0.95 => 400.0,
                _ => 800.0,
            },
        }
    }
}

/// What slows calls down now and then, five times.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hiccups {
    Never,
    /// Of the provider: 200 calls of both sides one after another, every 4,000 calls.
    OfBoth,
    /// Of each side for itself: 5 of its calls one after another, every 1,000.
    OfEach,
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
    fn call(&self, dice: &mut Dice, slow: f64) -> Seen {
        let failed = unit(dice) < self.error;
        let invalid = unit(dice) < self.invalid;
        let took = self.durations.milliseconds(dice) * self.times * slow;
        Seen {
            failed: Some(failed),
            invalid: (!failed).then_some(invalid),
            fell_back: Some(failed || invalid),
            cause: None,
            duration_ms: (!failed).then_some(took),
            cost_usd: (!failed).then_some(took * 1e-5),
            conversation: None,
        }
    }
}

/// What calls of both sides come in.
#[derive(Clone, Copy, Debug)]
struct Traffic {
    /// Calls in a conversation, on average.
    turns: u64,
    /// How far the calls of one conversation are slow or fast together: the width of a log-normal factor.
    alike: f64,
    hiccups: Hiccups,
    /// How many times as slow the busiest hour is as the quietest; a day is 40,000 calls.
    day: f64,
}

const PLAIN: Traffic = Traffic {
    turns: 1,
    alike: 0.0,
    hiccups: Hiccups::Never,
    day: 1.0,
};

/// A conversation that goes on.
#[derive(Clone, Copy, Debug)]
struct Conversation {
    number: u64,
    is_canary: bool,
    slow: f64,
}

/// Makes calls, one after another.
struct Stream {
    traffic: Traffic,
    dice: Dice,
    live: Vec<Conversation>,
    calls: u64,
    begun: u64,
    /// Calls that a hiccup still lasts: of both, or of each side.
    slow_left: [u64; 2],
}

impl Stream {
    fn new(seed: u64, traffic: Traffic) -> Stream {
        let mut stream = Stream {
            traffic,
            dice: Dice::new(seed + 1),
            live: Vec::new(),
            calls: 0,
            begun: 0,
            slow_left: [0; 2],
        };
        for _ in 0..AT_ONCE {
            let conversation = stream.begin();
            stream.live.push(conversation);
        }
        stream
    }

    fn begin(&mut self) -> Conversation {
        self.begun += 1;
        Conversation {
            number: self.begun,
            is_canary: self.dice.roll(20) < WEIGHT,
            slow: (self.traffic.alike * normal(&mut self.dice)).exp(),
        }
    }

    /// The next call: whether it is canaried, how slow it is for other reasons than its side, and its conversation.
    fn next(&mut self) -> (bool, f64, u64) {
        self.calls += 1;
        let which = self.dice.roll(AT_ONCE as u64) as usize;
        let Conversation {
            number,
            is_canary,
            slow,
        } = self.live[which];
        if self.dice.roll(self.traffic.turns) == 0 {
            self.live[which] = self.begin();
        }
        let phase = self.calls as f64 / 40_000.0 * std::f64::consts::TAU;
        let slow = slow * self.traffic.day.powf(phase.sin() / 2.0);
        (is_canary, slow * self.hiccup(is_canary), number)
    }

    fn hiccup(&mut self, is_canary: bool) -> f64 {
        let (side, lasts, every) = match self.traffic.hiccups {
            Hiccups::Never => return 1.0,
            Hiccups::OfBoth => (0, 200, 4_000),
            Hiccups::OfEach => (usize::from(is_canary), 5, 1_000),
        };
        if self.dice.roll(every) == 0 {
            self.slow_left[side] = lasts;
        }
        let is_slow = self.slow_left[side] > 0;
        self.slow_left[side] = self.slow_left[side].saturating_sub(1);
        if is_slow { 5.0 } else { 1.0 }
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
    (baseline, canary): (Side, Side),
    traffic: Traffic,
    before: u64,
    most: u64,
) -> Option<(u64, &'static str)> {
    let mut stream = Stream::new(seed, traffic);
    let mut watch = Watch::new(limits);
    let mut canaried = 0;
    while canaried < most {
        let (is_canary, slow, conversation) = stream.next();
        let is_before = stream.calls <= before;
        let side = if is_canary && !is_before { canary } else { baseline };
        let mut seen = side.call(&mut stream.dice, slow);
        seen.conversation = (traffic.turns > 1).then_some(conversation);
        let worse = if is_canary {
            canaried += u64::from(!is_before);
            // What the candidate of a run that is alike does is no fault of its own: it falls back for nothing else.
            seen.fell_back = seen.fell_back.filter(|_| limits.fallback.is_some());
            watch.canary("small", &seen)
        } else {
            watch.baseline(&seen)
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
    alike(&mut report, runs, calls);
    regressions(&mut report, runs);
    agreements(&mut report, runs, calls);
    baselines(&mut report, runs, calls);
    report
}

fn side(error: f64, invalid: f64, durations: Durations) -> Side {
    Side {
        error,
        invalid,
        durations,
        times: 1.0,
    }
}

/// Traffic that durations of most kinds come in.
const TALKS: Traffic = Traffic {
    turns: 10,
    alike: 0.5,
    ..PLAIN
};

/// A candidate like its baseline.
fn alike(report: &mut Report, runs: u64, calls: u64) {
    let hiccups = |hiccups| Traffic { hiccups, ..PLAIN };
    let kinds = [
        ("no errors, even durations", side(0.0, 0.0, Durations::Even), PLAIN),
        (
            "1 % errors, 1 % invalid, exponential durations",
            side(0.01, 0.01, Durations::Exponential),
            PLAIN,
        ),
        (
            "2 % errors, 2 % invalid, log-normal (1.0) durations",
            side(0.02, 0.02, Durations::LogNormal(1.0)),
            PLAIN,
        ),
        (
            "10 % errors, 10 % invalid, log-normal (0.5) durations",
            side(0.10, 0.10, Durations::LogNormal(0.5)),
            PLAIN,
        ),
        ("heavy-tailed durations", side(0.0, 0.0, Durations::HeavyTailed), PLAIN),
        ("discrete durations", side(0.0, 0.0, Durations::Discrete), PLAIN),
        (
            "hiccups of both, exponential durations",
            side(0.0, 0.0, Durations::Exponential),
            hiccups(Hiccups::OfBoth),
        ),
        (
            "hiccups of each, log-normal (0.5) durations",
            side(0.0, 0.0, Durations::LogNormal(0.5)),
            hiccups(Hiccups::OfEach),
        ),
        (
            "a day that is 3 times as slow at noon, log-normal (0.5) durations",
            side(0.0, 0.0, Durations::LogNormal(0.5)),
            Traffic { day: 3.0, ..PLAIN },
        ),
        (
            "conversations of 10 calls that are slow together (0.5), log-normal (0.5) durations",
            side(0.0, 0.0, Durations::LogNormal(0.5)),
            TALKS,
        ),
        (
            "conversations of 30 calls that are slow together (1.0), log-normal (0.3) durations",
            side(0.0, 0.0, Durations::LogNormal(0.3)),
            Traffic {
                turns: 30,
                alike: 1.0,
                ..PLAIN
            },
        ),
    ];
    for (name, both, traffic) in kinds {
        // A candidate that fails falls back by design, which its own limit is about.
        let limits = Limits {
            fallback: LIMITS.fallback.filter(|_| both.error < 0.02),
            ..LIMITS
        };
        let trips: Vec<&str> = (0..runs)
            .filter_map(|seed| Some(trip(seed, limits, (both, both), traffic, 0, calls)?.1))
            .collect();
        report.goal(
            &format!("alike, {name}: false trips in {calls} canaried calls"),
            format!("{} {}", trips.len(), trips.join(" ")),
            "at most 1 in 100",
            trips.len() as u64 <= runs.div_ceil(100),
        );
    }
}

/// A candidate that becomes worse.
fn regressions(report: &mut Report, runs: u64) {
    let usual = side(0.01, 0.01, Durations::Exponential);
    let errors = Side { error: 0.21, ..usual };
    let invalid = Side { invalid: 0.21, ..usual };
    for (name, canary, metrics) in [
        ("errors + 20 points", errors, "error fallback"),
        ("invalid + 20 points", invalid, "invalid fallback"),
    ] {
        later(report, name, (usual, canary), PLAIN, LIMITS, metrics, runs);
    }
    let slow = Limits { cost: None, ..LIMITS };
    let dear = Limits {
        p95_latency: None,
        ..LIMITS
    };
    for (name, durations, traffic) in [
        ("even", Durations::Even, PLAIN),
        ("discrete", Durations::Discrete, PLAIN),
        ("log-normal (0.5)", Durations::LogNormal(0.5), PLAIN),
        ("exponential", Durations::Exponential, PLAIN),
        ("log-normal (1.0)", Durations::LogNormal(1.0), PLAIN),
        ("heavy-tailed", Durations::HeavyTailed, PLAIN),
        (
            "log-normal (0.5), conversations of 10",
            Durations::LogNormal(0.5),
            TALKS,
        ),
    ] {
        let baseline = side(0.01, 0.01, durations);
        let canary = Side { times: 2.0, ..baseline };
        let p95 = format!("p95 x 2, {name}");
        later(report, &p95, (baseline, canary), traffic, slow, "p95_latency", runs);
        let cost = format!("cost x 2, {name}");
        later(report, &cost, (baseline, canary), traffic, dear, "cost", runs);
    }
}

fn later(
    report: &mut Report,
    name: &str,
    (baseline, canary): (Side, Side),
    traffic: Traffic,
    limits: Limits,
    metrics: &str,
    runs: u64,
) {
    let mut after: Vec<u64> = Vec::new();
    let mut other = 0;
    for seed in 0..runs {
        let tripped = trip(seed, limits, (baseline, canary), traffic, BEFORE, 20 * SOON);
        other += usize::from(tripped.is_some_and(|(_, metric)| !metrics.contains(metric)));
        after.push(tripped.map_or(u64::MAX, |(calls, _)| calls));
    }
    tell(report, name, after);
    report.goal(&format!("{name}: trips on something else"), other, "0", other == 0);
}

fn agreements(report: &mut Report, runs: u64, calls: u64) {
    for (name, floor) in [
        ("with the floor known", false),
        ("with the floor measured beside it", true),
    ] {
        let after = (0..runs).map(|seed| disagreement(seed, 0.3, floor, 20 * SOON).unwrap_or(u64::MAX));
        tell(report, &format!("agreement - 30 points, {name}"), after.collect());
        let false_trips = (0..runs).filter(|seed| disagreement(*seed, 0.0, floor, calls).is_some());
        let false_trips = false_trips.count() as u64;
        report.goal(
            &format!("agreement alike, {name}: false trips in {calls} calls"),
            false_trips,
            "at most 1 in 100",
            false_trips <= runs.div_ceil(100),
        );
    }
}

/// A baseline that is itself worse.
fn baselines(report: &mut Report, runs: u64, calls: u64) {
    let usual = side(0.01, 0.01, Durations::Exponential);
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
        let both = (baseline, usual);
        let trips = (0..runs).filter(|seed| trip(*seed, limits, both, PLAIN, 0, calls.min(5_000)).is_some());
        let trips = trips.count();
        report.goal(&format!("the baseline is {name}: trips"), trips, "0", trips == 0);
    }
}

/// How soon: half, 95 of 100, and how many late. What is to be seen in 200 canaried calls or 30 seconds, whichever comes
/// later, is late only when it is later than both.
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
    let at_last = SOON.max(SECONDS * CALLS_A_SECOND * WEIGHT / 20);
    report.goal(
        &format!("{name}: canaried calls until a trip"),
        words,
        &format!("at most {at_last}, {SECONDS} s of {CALLS_A_SECOND} calls a second"),
        after.last().is_some_and(|calls| *calls <= at_last),
    );
}
