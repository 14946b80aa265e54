//! The guard's rules: when a candidate does worse than the concurrent baseline by more than its route allows.
//!
//! Counted in calls, told after every call, and never against a fixed figure: an outage of the baseline, or one that is
//! itself worse, takes nobody out. The statistics are [`Detector`]'s. For latency two things must come together: durations as
//! a whole are longer than they may be, which shows soon (`slower.rs`), and so is the 95th percentile: there a call's
//! loss is whether it took longer than the baseline's of lately; a candidate's, than so many times that. The percentile may
//! be off: both sides are held to it. Pure: no IO, no clock.

mod share;

pub use share::Cause;

use crate::dearer::{Dearer, Spent};
use crate::detector::{Detector, Tally, level};
use crate::slower::{Scores, Slower, Usual};
use share::Share;
use std::collections::HashMap;
use std::sync::Arc;

/// Mean number of canaried calls to a false trip, at least, of a candidate that is exactly as bad as it may be.
pub const RUN_LENGTH: f64 = 1e5;
/// How much the 95th percentile itself must speak against a candidate whose durations are longer.
const TAIL: f64 = 10.0;

/// Milliseconds of a candidate's call that are left out of account: what a connection that is seldom used, and a busy machine, add
/// to it, however fast it is. No answer of a model is so short that it would matter.
const GRACE: f64 = 5.0;

/// How much worse than the concurrent baseline a candidate may be; what is `None` is not guarded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Share of calls that it fails, more than the baseline's.
    pub error: Option<f64>,
    /// Share of answers that are not valid, more than the baseline's.
    pub invalid: Option<f64>,
    /// Share of calls that fall back.
    pub fallback: Option<f64>,
    /// 95th percentile of its calls' durations, times the baseline's.
    pub p95_latency: Option<f64>,
    /// Mean cost of a call with all its attempts, times the baseline's.
    pub cost: Option<f64>,
    /// Agreement with the baseline's answers, less than the baseline's own with itself.
    pub agreement: Option<f64>,
}

/// A candidate that does worse than it may.
#[derive(Clone, Debug, PartialEq)]
pub struct Worse {
    /// The candidate.
    pub candidate: String,
    /// What is worse: `error`, `invalid`, `fallback`, `p95_latency`, `cost`, `agreement`.
    pub metric: &'static str,
    /// How much worse, in a sentence.
    pub why: String,
}

/// How a call of one side ended, as far as the guard is concerned; `None` = not to be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// No answer, or an error.
    pub failed: Option<bool>,
    /// An answer that is not valid.
    pub invalid: Option<bool>,
    /// The baseline had to answer instead.
    pub fell_back: Option<bool>,
    /// Why any of these is so, where that is known.
    pub cause: Option<Cause>,
    /// Milliseconds to the last byte; infinite where it was given up.
    pub duration_ms: Option<f64>,
    /// What all its attempts cost, in US dollars.
    pub cost_usd: Option<f64>,
    /// Calls of one conversation have the same here; `None` = not known, so a conversation of its own.
    pub conversation: Option<u64>,
}

/// What the baseline was like of late.
#[derive(Clone, Debug, Default)]
struct Lately {
    durations: Usual,
    costs: Spent,
    /// Calls without a conversation so far.
    alone: u64,
}

impl Lately {
    fn push(&mut self, seen: &Seen) {
        // Above all that a conversation's hash is likely to be; a clash would do no harm.
        self.alone += u64::from(seen.conversation.is_none());
        let conversation = seen.conversation.unwrap_or(u64::MAX - self.alone);
        if let Some(duration) = seen.duration_ms {
            self.durations.push(duration, conversation);
        }
        if let Some(cost) = seen.cost_usd {
            self.costs.push(cost, conversation);
        }
    }
}

/// An alarm, and what it is raised upon.
struct Alarm {
    metric: &'static str,
    tally: Tally,
    /// Why calls counted against the candidate, and how many each: ` (12 of 14 for …)`, or nothing.
    causes: String,
    /// Mean costs in US dollars, of the canary and of the baseline.
    costs: Option<[f64; 2]>,
}

impl Alarm {
    fn new(metric: &'static str, tally: Tally) -> Alarm {
        Alarm {
            metric,
            tally,
            causes: String::new(),
            costs: None,
        }
    }
}

/// Durations under watch.
#[derive(Clone, Debug)]
struct Latency {
    limit: f64,
    whole: Slower,
    tail: Detector,
}

impl Latency {
    fn new(limit: f64) -> Latency {
        Latency {
            limit,
            whole: Slower::new(limit),
            tail: Detector::new(0.0, TAIL),
        }
    }

    fn saw(&mut self, duration: f64, is_canary: bool, scores: &Arc<Scores>) -> Option<Tally> {
        let grace = if is_canary { GRACE } else { 0.0 };
        let duration = (duration - grace).max(0.0);
        self.whole.saw(duration, is_canary, scores);
        self.tail.count_as(scores.share);
        let told = if is_canary {
            self.tail.canary(f64::from(duration > scores.p95 * self.limit))
        } else {
            self.tail.baseline(f64::from(duration > scores.p95))
        };
        told.filter(|_| self.whole.is_longer(level(RUN_LENGTH.ln(), scores.share)))
    }
}

/// What is watched of a candidate: one detector a limit.
#[derive(Clone, Debug)]
struct Candidate {
    error: Option<Share>,
    invalid: Option<Share>,
    fallback: Option<Share>,
    latency: Option<Latency>,
    cost: Option<Dearer>,
}

impl Candidate {
    /// Nothing seen yet.
    fn new(guard: &Limits) -> Candidate {
        let share = |limit: Option<f64>| limit.map(|limit| Share::new(limit, RUN_LENGTH));
        Candidate {
            error: share(guard.error),
            invalid: share(guard.invalid),
            fallback: share(guard.fallback),
            latency: guard.p95_latency.map(Latency::new),
            cost: guard.cost.map(|limit| Dearer::new(limit, RUN_LENGTH)),
        }
    }

    /// A call of the candidate (or of the baseline) ended; what is worse than it may be, and the evidence.
    fn saw(&mut self, seen: &Seen, is_canary: bool, lately: &Lately) -> Option<Alarm> {
        let yes = |fact: Option<bool>| fact.map(f64::from);
        let watched = [
            ("error", &mut self.error, yes(seen.failed)),
            ("invalid", &mut self.invalid, yes(seen.invalid)),
        ];
        let mut alarm = None;
        let blaming = |metric, (tally, causes)| Alarm {
            causes,
            ..Alarm::new(metric, tally)
        };
        for (metric, share, loss) in watched {
            let (Some(share), Some(loss)) = (share, loss) else {
                continue;
            };
            let told = if is_canary {
                share.canary(loss, seen.cause)
            } else {
                share.baseline(loss)
            };
            alarm = alarm.or(told.map(|told| blaming(metric, told)));
        }
        let fell_back = yes(seen.fell_back).filter(|_| is_canary);
        if let (Some(fallback), Some(loss)) = (&mut self.fallback, fell_back) {
            let told = fallback.canary_alone(loss, seen.cause);
            alarm = alarm.or(told.map(|told| blaming("fallback", told)));
        }
        let duration = seen.duration_ms.zip(lately.durations.scores());
        if let (Some(latency), Some((duration, scores))) = (&mut self.latency, duration) {
            let told = latency.saw(duration, is_canary, scores);
            alarm = alarm.or(told.map(|tally| Alarm::new("p95_latency", tally)));
        }
        if let (Some(dearer), Some((cost, scale))) = (&mut self.cost, seen.cost_usd.zip(lately.costs.scale())) {
            let told = dearer.saw(cost, is_canary, scale);
            alarm = alarm.or(told.map(|(tally, costs)| Alarm {
                costs: Some(costs),
                ..Alarm::new("cost", tally)
            }));
        }
        alarm
    }
}

/// A route, or one task of it, under watch.
#[derive(Clone, Debug)]
pub struct Watch {
    guard: Limits,
    lately: Lately,
    candidates: HashMap<String, Candidate>,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new(guard: Limits) -> Watch {
        Watch {
            guard,
            lately: Lately::default(),
            candidates: HashMap::new(),
        }
    }

    /// A call of the baseline ended; a candidate that is now seen to be worse, with the metric and a sentence.
    pub fn baseline(&mut self, seen: &Seen) -> Option<Worse> {
        let mut worse = None;
        for (name, candidate) in &mut self.candidates {
            if let Some(alarm) = candidate.saw(seen, false, &self.lately) {
                worse = Some(Worse::of(name, &alarm, &self.guard));
            }
        }
        // Only now: a call is not held against a limit that it made.
        self.lately.push(seen);
        self.out(worse)
    }

    /// A call of a candidate ended.
    pub fn canary(&mut self, candidate: &str, seen: &Seen) -> Option<Worse> {
        let guard = self.guard;
        let watched = self.candidates.entry(candidate.to_owned());
        let watched = watched.or_insert_with(|| Candidate::new(&guard));
        let alarm = watched.saw(seen, true, &self.lately)?;
        self.out(Some(Worse::of(candidate, &alarm, &guard)))
    }

    /// Forgets what was seen of a candidate: it was taken out, and begins anew when it comes back.
    pub fn forget(&mut self, candidate: &str) {
        self.candidates.remove(candidate);
    }

    /// A candidate that is out begins anew when it comes back.
    fn out(&mut self, worse: Option<Worse>) -> Option<Worse> {
        if let Some(worse) = &worse {
            self.forget(&worse.candidate);
        }
        worse
    }
}

impl Worse {
    fn of(candidate: &str, alarm: &Alarm, limits: &Limits) -> Worse {
        Worse {
            candidate: candidate.to_owned(),
            metric: alarm.metric,
            why: words(alarm, limits),
        }
    }
}

fn words(alarm: &Alarm, guard: &Limits) -> String {
    let Alarm {
        metric,
        tally,
        causes,
        costs,
    } = alarm;
    let percent = |share: f64| (share * 1000.0).round() / 10.0;
    let (canary, baseline) = (percent(tally.canary_rate()), percent(tally.baseline_rate()));
    let (calls, others) = (tally.canary_calls, tally.baseline_calls);
    let more = |limit: Option<f64>| percent(limit.unwrap_or_default());
    match *metric {
        "cost" => {
            let [own, other] = costs.unwrap_or_default();
            format!(
                "its last {calls} calls cost at least ${} each with what answered in its place, the baseline's {others} meanwhile ${}; {} times that may be",
                dollars(own),
                dollars(other),
                guard.cost.unwrap_or(1.0)
            )
        }
        "p95_latency" => format!(
            "{canary} % of its last {calls} calls took longer than {} times the baseline's 95th percentile; of the baseline's {others} meanwhile {baseline} % took longer than that",
            guard.p95_latency.unwrap_or(1.0)
        ),
        "fallback" => format!(
            "{canary} % of its last {calls} calls fell back to the baseline{causes}; {} % may",
            more(guard.fallback)
        ),
        "invalid" => format!(
            "{canary} % of its last {calls} answers were not valid{causes}, {baseline} % of the baseline's {others} meanwhile; {} % more may be",
            more(guard.invalid)
        ),
        "agreement" => format!(
            "its answers to the last {calls} calls agree {} % with the baseline's, which agrees {} % with itself; {} % less may be",
            percent(1.0 - tally.canary_rate()),
            percent(1.0 - tally.baseline_rate()),
            more(guard.agreement)
        ),
        _ => format!(
            "{canary} % of its last {calls} calls failed{causes}, {baseline} % of the baseline's {others} meanwhile; {} % more may",
            more(guard.error)
        ),
    }
}

/// Three digits that count: calls cost very little, or much.
fn dollars(cost: f64) -> String {
    let digits = if cost > 0.0 {
        (2.0 - cost.log10().floor()).clamp(2.0, 12.0)
    } else {
        2.0
    };
    format!("{cost:.*}", digits as usize)
}

/// Watches how a candidate's answers agree with what the baseline answers to the same calls: for who sends canaried calls to
/// the baseline too, and compares.
#[derive(Clone, Debug)]
pub struct Agreement {
    detector: Detector,
    limits: Limits,
}

impl Agreement {
    /// Nothing seen yet; `None` where agreement is not limited.
    pub fn new(limits: &Limits) -> Option<Agreement> {
        Some(Agreement {
            detector: Detector::new(limits.agreement?, RUN_LENGTH),
            limits: *limits,
        })
    }

    /// A canaried call was compared: how far the candidate's answer agrees with the baseline's, in 0..=1. `floor` is how far the
    /// baseline agrees with itself, where that is known on average; where it is measured on calls of these days, they are told by
    /// [`Agreement::baseline`], and here it is `None`.
    pub fn canary(&mut self, candidate: &str, agreement: f64, floor: Option<f64>) -> Option<Worse> {
        let known = floor.and_then(|floor| self.detector.baseline(1.0 - floor));
        let tally = self.detector.canary(1.0 - agreement).or(known)?;
        Some(self.worse(candidate, &tally))
    }

    /// A call of the baseline was sent to it again: how far its two answers agree, in 0..=1.
    pub fn baseline(&mut self, candidate: &str, agreement: f64) -> Option<Worse> {
        let tally = self.detector.baseline(1.0 - agreement)?;
        Some(self.worse(candidate, &tally))
    }

    fn worse(&mut self, candidate: &str, tally: &Tally) -> Worse {
        // It begins anew when it comes back.
        self.detector = Detector::new(self.limits.agreement.unwrap_or_default(), RUN_LENGTH);
        Worse::of(candidate, &Alarm::new("agreement", *tally), &self.limits)
    }
}

#[cfg(test)]
mod tests;
