//! The guard's rules: when a candidate does worse than the concurrent baseline by more than its route allows.
//!
//! Counted in calls, told after every call, and never against a fixed figure: an outage of the baseline, or one that is
//! itself worse, takes nobody out. The statistics are [`Detector`]'s. For latency a call's loss is whether it took longer
//! than the baseline's 95th percentile of lately; a candidate's, than so many times that. The percentile may be off: both
//! sides are held to it. Pure: no IO, no clock.

use crate::detector::{Detector, Tally};
use std::collections::{HashMap, VecDeque};

/// Mean number of canaried calls to a false trip, at least, of a candidate that is exactly as bad as it may be.
pub const RUN_LENGTH: f64 = 1e5;
/// Durations of the baseline that its percentile is of.
const DURATIONS: usize = 400;
/// Fewest of them.
const FEWEST_DURATIONS: usize = 60;
/// Durations after which the percentile is reckoned anew.
const RECKON_EVERY: usize = 20;

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
    /// Agreement with the baseline's answers, less than the baseline's own with itself.
    pub agreement: Option<f64>,
}

/// A candidate that does worse than it may.
#[derive(Clone, Debug, PartialEq)]
pub struct Worse {
    /// The candidate.
    pub candidate: String,
    /// What is worse: `error`, `invalid`, `fallback`, `p95_latency`, `agreement`.
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
    /// Milliseconds to the last byte; infinite where it was given up.
    pub duration_ms: Option<f64>,
}

/// What is watched of a candidate: one detector a limit.
#[derive(Clone, Debug)]
struct Candidate {
    error: Option<Detector>,
    invalid: Option<Detector>,
    fallback: Option<Detector>,
    latency: Option<Detector>,
    times: f64,
}

impl Candidate {
    /// Nothing seen yet.
    fn new(guard: &Limits) -> Candidate {
        let share = |limit: Option<f64>| limit.map(|limit| Detector::new(limit, RUN_LENGTH));
        Candidate {
            error: share(guard.error),
            invalid: share(guard.invalid),
            fallback: share(guard.fallback),
            latency: guard.p95_latency.map(|_| Detector::new(0.0, RUN_LENGTH)),
            times: guard.p95_latency.unwrap_or(1.0),
        }
    }

    /// A call of the candidate (or of the baseline) ended; what is worse than it may be, and the evidence.
    fn saw(&mut self, seen: &Seen, is_canary: bool, p95: Option<f64>) -> Option<(&'static str, Tally)> {
        let yes = |fact: Option<bool>| fact.map(f64::from);
        let limit = p95.map(|p95| if is_canary { p95 * self.times } else { p95 });
        let slow = seen.duration_ms.zip(limit).map(|(took, limit)| f64::from(took > limit));
        let fell_back = if is_canary { yes(seen.fell_back) } else { Some(0.0) };
        let watched = [
            ("error", &mut self.error, yes(seen.failed)),
            ("invalid", &mut self.invalid, yes(seen.invalid)),
            ("fallback", &mut self.fallback, fell_back),
            ("p95_latency", &mut self.latency, slow),
        ];
        let mut alarm = None;
        for (metric, detector, loss) in watched {
            let (Some(detector), Some(loss)) = (detector, loss) else {
                continue;
            };
            let told = if is_canary {
                detector.canary(loss)
            } else {
                detector.baseline(loss)
            };
            alarm = alarm.or(told.map(|tally| (metric, tally)));
        }
        alarm
    }
}

/// The baseline's 95th percentile of lately.
#[derive(Clone, Debug, Default)]
struct Percentile {
    durations: VecDeque<f64>,
    news: usize,
    p95: Option<f64>,
}

impl Percentile {
    fn push(&mut self, duration: f64) {
        if self.durations.len() == DURATIONS {
            self.durations.pop_front();
        }
        self.durations.push_back(duration);
        self.news += 1;
        if self.durations.len() < FEWEST_DURATIONS || (self.p95.is_some() && self.news < RECKON_EVERY) {
            return;
        }
        self.news = 0;
        let mut sorted: Vec<f64> = self.durations.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        self.p95 = sorted.get(sorted.len() * 95 / 100).copied();
    }
}

/// A route, or one task of it, under watch.
#[derive(Clone, Debug)]
pub struct Watch {
    guard: Limits,
    p95: Percentile,
    candidates: HashMap<String, Candidate>,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new(guard: Limits) -> Watch {
        Watch {
            guard,
            p95: Percentile::default(),
            candidates: HashMap::new(),
        }
    }

    /// A call of the baseline ended; a candidate that is now seen to be worse, with the metric and a sentence.
    pub fn baseline(&mut self, seen: &Seen) -> Option<Worse> {
        let p95 = self.p95.p95;
        let mut worse = None;
        for (name, candidate) in &mut self.candidates {
            if let Some((metric, tally)) = candidate.saw(seen, false, p95) {
                worse = Some(Worse::of(name, metric, &tally, &self.guard));
            }
        }
        // Only now: a call is not held against a limit that it made.
        if let Some(duration) = seen.duration_ms {
            self.p95.push(duration);
        }
        self.forget(worse)
    }

    /// A call of a candidate ended.
    pub fn canary(&mut self, candidate: &str, seen: &Seen) -> Option<Worse> {
        let guard = self.guard;
        let watched = self.candidates.entry(candidate.to_owned());
        let watched = watched.or_insert_with(|| Candidate::new(&guard));
        let (metric, tally) = watched.saw(seen, true, self.p95.p95)?;
        self.forget(Some(Worse::of(candidate, metric, &tally, &guard)))
    }

    /// A candidate that is out begins anew when it comes back.
    fn forget(&mut self, worse: Option<Worse>) -> Option<Worse> {
        if let Some(worse) = &worse {
            self.candidates.remove(&worse.candidate);
        }
        worse
    }
}

impl Worse {
    fn of(candidate: &str, metric: &'static str, tally: &Tally, limits: &Limits) -> Worse {
        Worse {
            candidate: candidate.to_owned(),
            metric,
            why: words(metric, tally, limits),
        }
    }
}

fn words(metric: &str, tally: &Tally, guard: &Limits) -> String {
    let percent = |share: f64| (share * 1000.0).round() / 10.0;
    let (canary, baseline) = (percent(tally.canary_rate()), percent(tally.baseline_rate()));
    let (calls, others) = (tally.canary_calls, tally.baseline_calls);
    let more = |limit: Option<f64>| percent(limit.unwrap_or_default());
    match metric {
        "p95_latency" => format!(
            "{canary} % of its last {calls} calls took longer than {} times the baseline's 95th percentile; of the baseline's {others} meanwhile {baseline} % took longer than that",
            guard.p95_latency.unwrap_or(1.0)
        ),
        "fallback" => format!(
            "{canary} % of its last {calls} calls fell back to the baseline; {} % may",
            more(guard.fallback)
        ),
        "invalid" => format!(
            "{canary} % of its last {calls} answers were not valid, {baseline} % of the baseline's {others} meanwhile; {} % more may be",
            more(guard.invalid)
        ),
        "agreement" => format!(
            "its answers to the last {calls} calls agree {} % with the baseline's, which agrees {} % with itself; {} % less may be",
            percent(1.0 - tally.canary_rate()),
            percent(1.0 - tally.baseline_rate()),
            more(guard.agreement)
        ),
        _ => format!(
            "{canary} % of its last {calls} calls failed, {baseline} % of the baseline's {others} meanwhile; {} % more may",
            more(guard.error)
        ),
    }
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
        Worse::of(candidate, "agreement", tally, &self.limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: Limits = Limits {
        error: Some(0.02),
        invalid: Some(0.01),
        fallback: Some(0.05),
        p95_latency: Some(1.2),
        agreement: None,
    };

    fn ok(duration_ms: f64) -> Seen {
        Seen {
            failed: Some(false),
            invalid: Some(false),
            fell_back: Some(false),
            duration_ms: Some(duration_ms),
        }
    }

    /// 19 calls of the baseline for each of the candidate, until it is taken out.
    fn run(watch: &mut Watch, calls: usize, canary: impl Fn(usize) -> Seen) -> Option<(usize, &'static str)> {
        for call in 0..calls {
            for step in 0..19 {
                // 80 to 120 ms.
                let seen = ok(80.0 + ((call * 19 + step) * 37 % 41) as f64);
                assert_eq!(watch.baseline(&seen), None);
            }
            if let Some(worse) = watch.canary("small", &canary(call)) {
                assert_eq!(worse.candidate, "small");
                assert!(worse.why.contains('%'), "{worse:?}");
                return Some((call, worse.metric));
            }
        }
        None
    }

    #[test]
    fn each_limit_trips_by_its_own_name_and_soon() {
        let like = |call: usize| ok(80.0 + (call * 37 % 41) as f64);
        let mut watch = Watch::new(GUARD);
        assert_eq!(run(&mut watch, 1_000, like), None);
        let every_fourth = |call: usize| call.is_multiple_of(4);
        let failing = |call: usize| Seen {
            failed: Some(every_fourth(call)),
            ..like(call)
        };
        let invalid = |call: usize| Seen {
            invalid: Some(every_fourth(call)),
            ..like(call)
        };
        let falling = |call: usize| Seen {
            fell_back: Some(every_fourth(call)),
            ..like(call)
        };
        let slow = |call: usize| Seen {
            duration_ms: like(call).duration_ms.map(|took| took * 2.0),
            ..like(call)
        };
        for (metric, alarm) in [
            ("error", run(&mut watch, 200, failing)),
            ("invalid", run(&mut watch, 200, invalid)),
            ("fallback", run(&mut watch, 200, falling)),
            ("p95_latency", run(&mut watch, 200, slow)),
        ] {
            let (_, told) = alarm.unwrap_or_else(|| panic!("{metric}: no alarm within 200 calls"));
            assert_eq!(told, metric);
        }
        assert_eq!(run(&mut watch, 1_000, like), None, "it begins anew");
    }

    #[test]
    fn what_is_not_limited_trips_nothing() {
        let mut watch = Watch::new(Limits {
            error: Some(0.02),
            ..Limits::default()
        });
        assert_eq!(
            run(&mut watch, 500, |_| Seen {
                invalid: Some(true),
                fell_back: Some(true),
                ..ok(9_999.0)
            }),
            None
        );
    }

    #[test]
    fn answers_that_agree_less_than_the_baseline_with_itself_trip() {
        let limits = Limits {
            agreement: Some(0.05),
            ..Limits::default()
        };
        let mut watch = Agreement::new(&limits).unwrap();
        // In turns 1 and 0.8: 0.9 on average, as the floor is.
        let turns = |call: usize| if call.is_multiple_of(2) { 1.0 } else { 0.8 };
        assert!((0..1_000).all(|call| watch.canary("small", turns(call), Some(0.9)).is_none()));
        let worse = (0..200).find_map(|call| watch.canary("small", turns(call) - 0.3, Some(0.9)));
        let worse = worse.expect("30 points less are seen within 200 calls");
        assert!(
            worse.metric == "agreement" && worse.why.contains("with itself"),
            "{worse:?}"
        );
        assert!(Agreement::new(&Limits::default()).is_none());
    }
}
