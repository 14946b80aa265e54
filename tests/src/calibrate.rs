//! Calibration of verdicts by simulation: how often a candidate that is not good enough is ever promoted, and how soon one
//! that is. The verdict's own code ([`Trial`], [`least_selected`]) is given one score after another and looked at after each.
//!
//! Each task's true agreement is known, since it is what the scores are drawn by. Two other gates look at the same scores as
//! often: the mean alone, and a test made for a sample of fixed size. Figures are the same in every run.

use std::fmt;
use understudy_collector::compare::wilson;
use understudy_collector::verdict::{Seen, Standing, Trial, VerdictConfig, least_selected, share};

/// The most of all tasks that may be promoted wrongly.
const GOAL: f64 = 0.05;
/// Versions that are tried in turn.
const VERSIONS: usize = 10;
/// Tasks that are judged together, and how many of them are good.
const FAMILY: (usize, usize) = (20, 4);
/// One-sided 95 % of a normal distribution.
const Z: f64 = 1.645;

/// Numbers in [0, 1) that are the same in every run (splitmix64).
struct Noise(u64);

impl Noise {
    fn of(task: usize, what: u64) -> Noise {
        let mut noise = Noise(((task as u64) << 20) ^ (what << 52) ^ 0x2026);
        noise.next();
        noise
    }

    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 1 with this probability, else 0.
    fn hit(&mut self, probability: f64) -> f64 {
        f64::from(u8::from(self.next() < probability))
    }
}

/// One score: which conversation, how the candidate agreed, and how the baseline did, where it was asked again.
#[derive(Clone, Copy)]
struct Score {
    conversation: usize,
    agreement: f64,
    floor: Option<f64>,
}

/// A kind of task, with candidates whose mean difference from the floor is known.
struct Scenario {
    name: &'static str,
    /// Mean difference, at a margin of 0.05.
    difference: f64,
    /// So many scores of one task, in the order of sampling.
    scores: fn(&mut Noise, f64, usize) -> Vec<Score>,
}

/// Single calls; the baseline agrees with itself in nine of ten.
fn single(noise: &mut Noise, difference: f64, calls: usize) -> Vec<Score> {
    of_floor(noise, 0.9, difference, calls)
}

fn steady(noise: &mut Noise, difference: f64, calls: usize) -> Vec<Score> {
    of_floor(noise, 0.98, difference.min(0.02), calls)
}

fn unsteady(noise: &mut Noise, difference: f64, calls: usize) -> Vec<Score> {
    of_floor(noise, 0.8, difference, calls)
}

fn of_floor(noise: &mut Noise, floor: f64, difference: f64, calls: usize) -> Vec<Score> {
    let score = |conversation| Score {
        conversation,
        agreement: noise.hit(floor + difference),
        floor: Some(noise.hit(floor)),
    };
    (0..calls).map(score).collect()
}

/// A floor just above the least, asked again in two of three calls.
fn scarce_floor(noise: &mut Noise, difference: f64, calls: usize) -> Vec<Score> {
    let score = |conversation| Score {
        conversation,
        agreement: noise.hit(0.74 + difference),
        floor: (noise.next() < 0.67).then(|| noise.hit(0.74)),
    };
    (0..calls).map(score).collect()
}

/// Fields of structured answers: agreement is the share of eight, each conversation of its own difficulty.
fn fields(noise: &mut Noise, difference: f64, calls: usize) -> Vec<Score> {
    let score = |conversation| {
        let floor = 0.85 + 0.1 * noise.next();
        let mut right = |probability: f64| (0..8).map(|_| noise.hit(probability)).sum::<f64>() / 8.0;
        Score {
            conversation,
            agreement: right(floor + difference),
            floor: Some(right(floor)),
        }
    };
    (0..calls).map(score).collect()
}

/// Conversations of one to ten calls, of which the candidate fails in some altogether.
fn conversations(noise: &mut Noise, difference: f64, calls: usize) -> Vec<Score> {
    // 0.25 × 0.5 + 0.75 × p = 0.9 + difference
    let (bad, good) = (0.5, (0.9 + difference - 0.25 * 0.5) / 0.75);
    let mut scores = Vec::new();
    let mut conversation = 0;
    while scores.len() < calls {
        let agrees = if noise.next() < 0.25 { bad } else { good };
        for _ in 0..1 + (10.0 * noise.next()) as usize {
            scores.push(Score {
                conversation,
                agreement: noise.hit(agrees.min(1.0)),
                floor: Some(noise.hit(0.9)),
            });
        }
        conversation += 1;
    }
    scores.truncate(calls);
    scores
}

/// The same, as live shadows have them: the calls of conversations mixed.
fn mixed_conversations(noise: &mut Noise, difference: f64, calls: usize) -> Vec<Score> {
    let scores = conversations(noise, difference, calls);
    shuffled(noise, scores)
}

/// The difference wanders, and is at no time better than the scenario's.
fn drift(noise: &mut Noise, difference: f64, calls: usize) -> Vec<Score> {
    let phase = noise.next();
    let score = |conversation: usize| {
        let turn = (conversation as f64 / 400.0 + phase) * std::f64::consts::TAU;
        Score {
            conversation,
            agreement: noise.hit(0.9 + difference - 0.03 * (1.0 + turn.sin())),
            floor: Some(noise.hit(0.9)),
        }
    };
    (0..calls).map(score).collect()
}

/// As good as the baseline in the older half of the traffic, twice as bad as on average in the newer; drawn from all of it in
/// random order, as replays are.
fn drift_sampled(noise: &mut Noise, difference: f64, calls: usize) -> Vec<Score> {
    let score = |conversation: usize| Score {
        conversation,
        agreement: noise.hit(0.9 + if conversation < calls { 0.0 } else { 2.0 * difference }),
        floor: Some(noise.hit(0.9)),
    };
    let traffic: Vec<Score> = (0..2 * calls).map(score).collect();
    let mut sample = shuffled(noise, traffic);
    sample.truncate(calls);
    sample
}

fn shuffled(noise: &mut Noise, mut scores: Vec<Score>) -> Vec<Score> {
    for last in (1..scores.len()).rev() {
        scores.swap(last, (noise.next() * (last + 1) as f64) as usize);
    }
    scores
}

/// Candidates that are exactly as bad as must not be promoted: worse ones are promoted more seldom.
const BAD: [Scenario; 8] = [
    Scenario {
        name: "single calls, floor 0.9",
        difference: -0.05,
        scores: single,
    },
    Scenario {
        name: "single calls, floor 0.98",
        difference: -0.05,
        scores: steady,
    },
    Scenario {
        name: "structured answers, field by field",
        difference: -0.05,
        scores: fields,
    },
    Scenario {
        name: "calls correlated in conversations",
        difference: -0.05,
        scores: conversations,
    },
    Scenario {
        name: "the same, conversations mixed",
        difference: -0.05,
        scores: mixed_conversations,
    },
    Scenario {
        name: "drift in time",
        difference: -0.05,
        scores: drift,
    },
    Scenario {
        name: "drift, sampled over all of the time",
        difference: -0.05,
        scores: drift_sampled,
    },
    Scenario {
        name: "floor 0.74, a third of it not measured",
        difference: -0.05,
        scores: scarce_floor,
    },
];

/// Candidates that may be promoted.
const GOOD: [Scenario; 6] = [
    Scenario {
        name: "equal, floor 0.98",
        difference: 0.0,
        scores: steady,
    },
    Scenario {
        name: "equal, structured answers",
        difference: 0.0,
        scores: fields,
    },
    Scenario {
        name: "equal, floor 0.9",
        difference: 0.0,
        scores: single,
    },
    Scenario {
        name: "equal, floor 0.8",
        difference: 0.0,
        scores: unsteady,
    },
    Scenario {
        name: "worse by 0.02, floor 0.9",
        difference: -0.02,
        scores: single,
    },
    Scenario {
        name: "better by 0.02, floor 0.9",
        difference: 0.02,
        scores: single,
    },
];

/// After how many calls each gate promoted first, if ever.
#[derive(Clone, Copy, Default)]
struct Promoted {
    verdict: Option<usize>,
    fixed: Option<usize>,
    mean: Option<usize>,
}

/// The other gates: the mean difference of the pairs with, and without, a bound for a sample of fixed size.
#[derive(Default)]
struct Naive {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Naive {
    fn push(&mut self, score: Score) {
        let Some(floor) = score.floor else { return };
        let difference = score.agreement - floor;
        self.count += 1.0;
        self.sum += difference;
        self.squares += difference * difference;
    }

    /// (by the bound, by the mean alone)
    fn promotes(&self, config: &VerdictConfig) -> (bool, bool) {
        if self.count < config.min_pairs as f64 {
            return (false, false);
        }
        let mean = self.sum / self.count;
        let deviation = (self.squares / self.count - mean * mean).max(0.0).sqrt();
        let bound = mean - Z * deviation / self.count.sqrt();
        (bound > -config.margin, mean > -config.margin)
    }
}

fn push(trial: &mut Trial, names: &[String], score: Score) {
    trial.push(&Seen {
        unit: &names[score.conversation],
        agreement: score.agreement,
        floor: score.floor,
        valid: true,
        valid_baseline: Some(true),
        is_prose: false,
    });
}

fn first_promotes(scores: &[Score], names: &[String], config: &VerdictConfig, alpha: f64) -> Promoted {
    let (mut trial, mut naive, mut promoted) = (Trial::new(config, alpha), Naive::default(), Promoted::default());
    for (before, score) in scores.iter().enumerate() {
        push(&mut trial, names, *score);
        naive.push(*score);
        let now = Some(before + 1);
        let (fixed, mean) = naive.promotes(config);
        promoted.verdict = promoted.verdict.or(now.filter(|_| trial.standing() == Standing::Ready));
        promoted.fixed = promoted.fixed.or(now.filter(|_| fixed));
        promoted.mean = promoted.mean.or(now.filter(|_| mean));
    }
    promoted
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    name: String,
    tasks: usize,
    calls: usize,
    /// Shares of tasks that the verdict, the fixed-size bound and the mean alone promoted, ever.
    promoted: [f64; 3],
    /// Calls until the verdict promoted, of half and of nine in ten of the tasks.
    needed: Option<(Option<usize>, Option<usize>)>,
    /// Most that may be promoted.
    goal: Option<f64>,
    /// Whether `promoted` counts tasks, so that an interval can be given.
    counts: bool,
}

impl Line {
    /// Whether the verdict promoted as seldom as is asked.
    pub fn holds(&self) -> bool {
        self.goal.is_none_or(|goal| self.promoted[0] <= goal)
    }

    /// Share of tasks that the verdict promoted.
    pub fn promoted(&self) -> f64 {
        self.promoted[0]
    }

    /// Share of tasks that a bound for a sample of fixed size promoted.
    pub fn promoted_by_fixed_size(&self) -> f64 {
        self.promoted[1]
    }
}

/// The whole table.
#[derive(Debug)]
pub struct Calibration {
    /// Candidates at the margin, and what is found of them together.
    pub bad: Vec<Line>,
    /// Candidates that may be promoted.
    pub good: Vec<Line>,
}

impl Calibration {
    /// Whether wrong promotes are as rare as is asked, throughout.
    pub fn holds(&self) -> bool {
        self.bad.iter().all(Line::holds)
    }
}

/// Simulates so many tasks of each kind, each looked at after every one of so many calls.
pub fn run(tasks: usize, calls: usize) -> Calibration {
    let config = VerdictConfig::default();
    let names: Vec<String> = (0..2 * calls).map(|number| format!("c{number}")).collect();
    let mut bad: Vec<Line> = BAD
        .iter()
        .enumerate()
        .map(|(kind, scenario)| {
            let mut line = line(scenario, kind as u64, tasks, calls, &names, &config);
            line.needed = None;
            line.goal = Some(GOAL);
            line
        })
        .collect();
    bad.push(versions(tasks, calls, &names, &config));
    bad.push(families(tasks, calls, &names, &config));
    let good = GOOD.iter().enumerate();
    let good = good.map(|(kind, scenario)| line(scenario, 100 + kind as u64, tasks, calls, &names, &config));
    Calibration {
        bad,
        good: good.collect(),
    }
}

fn line(scenario: &Scenario, kind: u64, tasks: usize, calls: usize, names: &[String], config: &VerdictConfig) -> Line {
    let promoted: Vec<Promoted> = (0..tasks)
        .map(|task| {
            let scores = (scenario.scores)(&mut Noise::of(task, kind), scenario.difference, calls);
            first_promotes(&scores, names, config, config.alpha * share(1))
        })
        .collect();
    Line {
        name: scenario.name.into(),
        tasks,
        calls,
        promoted: shares(&promoted),
        needed: Some((needed(&promoted, 0.5), needed(&promoted, 0.9))),
        goal: None,
        counts: true,
    }
}

fn shares(promoted: &[Promoted]) -> [f64; 3] {
    let share = |of: fn(&Promoted) -> Option<usize>| {
        promoted.iter().filter_map(of).count() as f64 / promoted.len().max(1) as f64
    };
    [
        share(|promoted| promoted.verdict),
        share(|promoted| promoted.fixed),
        share(|promoted| promoted.mean),
    ]
}

/// Calls after which this share of all tasks was promoted.
fn needed(promoted: &[Promoted], share: f64) -> Option<usize> {
    let mut calls: Vec<usize> = promoted.iter().filter_map(|promoted| promoted.verdict).collect();
    calls.sort_unstable();
    let rank = (share * promoted.len() as f64).ceil() as usize;
    calls.get(rank.max(1) - 1).copied()
}

/// Ten versions of a candidate are tried on each task in turn, all of them as bad as must not be promoted.
fn versions(tasks: usize, calls: usize, names: &[String], config: &VerdictConfig) -> Line {
    let of_task = |task: usize| {
        let mut noise = Noise::of(task, 50);
        let mut first = Promoted::default();
        for rank in 1..=VERSIONS {
            let scores = single(&mut noise, -0.05, calls);
            let found = first_promotes(&scores, names, config, config.alpha * share(rank));
            first.verdict = first.verdict.or(found.verdict);
            first.fixed = first.fixed.or(found.fixed);
            first.mean = first.mean.or(found.mean);
        }
        first
    };
    let promoted: Vec<Promoted> = (0..tasks).map(of_task).collect();
    Line {
        name: format!("{VERSIONS} versions tried in turn"),
        tasks,
        calls: VERSIONS * calls,
        promoted: shares(&promoted),
        needed: None,
        goal: Some(GOAL),
        counts: true,
    }
}

/// Tasks judged together, most of them with bad candidates: of those promoted at a look, the share that is bad; the mean over
/// families, at the worst of twenty looks.
fn families(tasks: usize, calls: usize, names: &[String], config: &VerdictConfig) -> Line {
    const LOOKS: usize = 20;
    let (size, good) = FAMILY;
    let families = (tasks / size).max(1);
    let mut wrong = vec![[0.0; 3]; LOOKS];
    for family in 0..families {
        let mut members: Vec<(Vec<Score>, Trial, Naive)> = (0..size)
            .map(|member| {
                let difference = if member < good { 0.0 } else { -0.05 };
                let scores = single(&mut Noise::of(family * size + member, 60), difference, calls);
                (scores, Trial::new(config, config.alpha * share(1)), Naive::default())
            })
            .collect();
        for (look, wrong) in wrong.iter_mut().enumerate() {
            for (scores, trial, naive) in &mut members {
                for score in &scores[look * calls / LOOKS..(look + 1) * calls / LOOKS] {
                    push(trial, names, *score);
                    naive.push(*score);
                }
            }
            let e_value = |trial: &Trial| match trial.standing() {
                Standing::Ready => share(1) * trial.e_value(),
                _ => 0.0,
            };
            let e_values: Vec<f64> = members.iter().map(|(_, trial, _)| e_value(trial)).collect();
            let bar = least_selected(&e_values, size, config.alpha);
            let promoted: [Vec<bool>; 3] = [
                e_values.iter().map(|e_value| *e_value >= bar).collect(),
                members.iter().map(|(_, _, naive)| naive.promotes(config).0).collect(),
                members.iter().map(|(_, _, naive)| naive.promotes(config).1).collect(),
            ];
            for (sum, promoted) in wrong.iter_mut().zip(promoted) {
                let all = promoted.iter().filter(|promoted| **promoted).count();
                let bad = promoted[good..].iter().filter(|promoted| **promoted).count();
                *sum += bad as f64 / all.max(1) as f64 / families as f64;
            }
        }
    }
    let worst = |gate: usize| wrong.iter().map(|sums| sums[gate]).fold(0.0, f64::max);
    Line {
        name: format!("{size} tasks judged together, {good} of them good: wrong among the promoted"),
        tasks: families * size,
        calls,
        promoted: [worst(0), worst(1), worst(2)],
        needed: None,
        goal: Some(GOAL),
        counts: false,
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "Candidates worse by the margin (0.05): promoted, ever\n")?;
        writeln!(
            out,
            "| tasks | n | calls | verdict | 95 % interval of it | fixed-size bound | mean alone |"
        )?;
        writeln!(out, "|---|--:|--:|--:|--:|--:|--:|")?;
        for line in &self.bad {
            let hits = (line.promoted[0] * line.tasks as f64).round() as u64;
            let interval = wilson(hits, line.tasks as u64, 1.96).filter(|_| line.counts);
            let interval = interval.map_or(String::new(), |w| {
                format!("{} to {}", percent(w.lower), percent(w.upper))
            });
            let mark = if line.holds() { "" } else { " FAIL" };
            let [verdict, fixed, mean] = line.promoted.map(percent);
            let Line { name, tasks, calls, .. } = line;
            writeln!(
                out,
                "| {name} | {tasks} | {calls} | {verdict}{mark} | {interval} | {fixed} | {mean} |"
            )?;
        }
        writeln!(out, "\nCandidates that may be promoted\n")?;
        writeln!(
            out,
            "| tasks | n | calls | promoted | half of them within | nine in ten within |"
        )?;
        writeln!(out, "|---|--:|--:|--:|--:|--:|")?;
        for line in &self.good {
            let (half, most) = line.needed.unwrap_or_default();
            let calls = |calls: Option<usize>| calls.map_or("more".into(), |calls| calls.to_string());
            writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} |",
                line.name,
                line.tasks,
                line.calls,
                percent(line.promoted[0]),
                calls(half),
                calls(most)
            )?;
        }
        let verdict = if self.holds() {
            "at most 5 % are promoted wrongly, throughout"
        } else {
            "A GOAL IS BROKEN"
        };
        write!(out, "\n{verdict}")
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
