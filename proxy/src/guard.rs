//! The guard: takes a candidate out of a route's split once it does worse than the concurrent baseline by more than the
//! route allows. Counted in calls, told after every call, and never against a fixed figure: an outage of the baseline, or
//! one that is itself worse, takes nobody out.
//!
//! The statistics are [`Detector`]'s. For latency a call's loss is whether it took longer than the baseline's 95th
//! percentile of lately; a candidate's, than so many times that. The percentile may be off: both sides are held to it.

use crate::proxy::Proxy;
use crate::route::{Guard, ValidRoute};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use understudy_call::control::Trip;
use understudy_call::detector::{Detector, Tally};
use understudy_call::frame::FrameHead;
use understudy_call::record::{Attempt, Outcome};

/// Mean number of canaried calls to a false trip, at least, of a candidate that is exactly as bad as it may be.
pub const RUN_LENGTH: f64 = 1e6;
/// The same for latency, where a candidate as good as the baseline is far from what is allowed.
pub const RUN_LENGTH_LATENCY: f64 = 1e5;
/// Durations of the baseline that its percentile is of.
const DURATIONS: usize = 400;
/// Fewest of them.
const FEWEST_DURATIONS: usize = 60;
/// Durations after which the percentile is reckoned anew.
const RECKON_EVERY: usize = 20;
/// Routes and tasks watched at once; beyond it the longest unused goes.
const WATCHED: usize = 1024;

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
pub struct Candidate {
    error: Option<Detector>,
    invalid: Option<Detector>,
    fallback: Option<Detector>,
    latency: Option<Detector>,
    times: f64,
}

impl Candidate {
    /// Nothing seen yet.
    pub fn new(guard: &Guard) -> Candidate {
        let share = |limit: Option<f64>| limit.map(|limit| Detector::new(limit, RUN_LENGTH));
        Candidate {
            error: share(guard.error),
            invalid: share(guard.invalid),
            fallback: share(guard.fallback),
            latency: guard.p95_latency.map(|_| Detector::new(0.0, RUN_LENGTH_LATENCY)),
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
    guard: Guard,
    stamp: String,
    p95: Percentile,
    candidates: HashMap<String, Candidate>,
    used: u64,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new(guard: Guard, stamp: &str) -> Watch {
        Watch {
            guard,
            stamp: stamp.to_owned(),
            p95: Percentile::default(),
            candidates: HashMap::new(),
            used: 0,
        }
    }

    /// A call of the baseline ended; a candidate that is now seen to be worse, with the metric and a sentence.
    pub fn baseline(&mut self, seen: &Seen) -> Option<(String, &'static str, String)> {
        let p95 = self.p95.p95;
        let mut worse = None;
        for (name, candidate) in &mut self.candidates {
            if let Some((metric, tally)) = candidate.saw(seen, false, p95) {
                worse = Some((name.clone(), metric, words(metric, &tally, &self.guard)));
            }
        }
        // Only now: a call is not held against a limit that it made.
        if let Some(duration) = seen.duration_ms {
            self.p95.push(duration);
        }
        self.forget(worse)
    }

    /// A call of a candidate ended.
    pub fn canary(&mut self, candidate: &str, seen: &Seen) -> Option<(String, &'static str, String)> {
        let guard = self.guard;
        let watched = self.candidates.entry(candidate.to_owned());
        let watched = watched.or_insert_with(|| Candidate::new(&guard));
        let (metric, tally) = watched.saw(seen, true, self.p95.p95)?;
        self.forget(Some((candidate.to_owned(), metric, words(metric, &tally, &guard))))
    }

    /// A candidate that is out begins anew when it comes back.
    fn forget(&mut self, worse: Option<(String, &'static str, String)>) -> Option<(String, &'static str, String)> {
        if let Some((candidate, ..)) = &worse {
            self.candidates.remove(candidate);
        }
        worse
    }
}

fn words(metric: &str, tally: &Tally, guard: &Guard) -> String {
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
        _ => format!(
            "{canary} % of its last {calls} calls failed, {baseline} % of the baseline's {others} meanwhile; {} % more may",
            more(guard.error)
        ),
    }
}

/// All that is watched.
#[derive(Debug, Default)]
pub(crate) struct Guards(Mutex<HashMap<(String, Option<String>), Watch>>);

/// A call of a guarded route, and on which side it is.
pub(crate) struct Watched {
    proxy: Arc<Proxy>,
    route: String,
    task: Option<String>,
    stamp: String,
    guard: Guard,
    /// Who was to answer; `None` = the baseline.
    candidate: Option<String>,
    /// Whether the answer is known not to be valid, or to be valid.
    pub(crate) invalid: Option<bool>,
}

impl Watched {
    /// A call that a guarded route gave to a candidate, or to its baseline.
    pub(crate) fn of(
        proxy: &Arc<Proxy>,
        route: &ValidRoute,
        task: Option<&str>,
        candidate: Option<&str>,
    ) -> Option<Watched> {
        Some(Watched {
            guard: route.guard?,
            proxy: proxy.clone(),
            route: route.id.clone(),
            task: task.filter(|_| route.matching.task.is_some()).map(str::to_owned),
            stamp: route.stamp.clone(),
            candidate: candidate.map(str::to_owned),
            invalid: None,
        })
    }

    /// The call ended as its record says.
    pub(crate) fn ended(self, head: &FrameHead) {
        let Some(seen) = self.seen(head) else { return };
        let Some((candidate, metric, why)) = self.proxy.guards.saw(&self, &seen) else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let trip = Trip {
            candidate,
            task: self.task.clone(),
            metric: metric.to_owned(),
            why,
            at: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
            stamp: self.stamp.clone(),
        };
        self.proxy.trip(&self.route, trip);
    }

    fn seen(&self, head: &FrameHead) -> Option<Seen> {
        let who = self.candidate.as_deref().unwrap_or(&head.upstream);
        let attempt = head.attempts.iter().find(|attempt| attempt.upstream == who)?;
        // A client that went away says nothing of who was to answer.
        if attempt.outcome == Outcome::ClientClosed {
            return None;
        }
        let failed = attempt.outcome != Outcome::Ok || attempt.status.is_some_and(|status| status >= 400);
        let is_invalid = self.invalid.unwrap_or_default();
        Some(Seen {
            failed: Some(failed && !is_invalid),
            invalid: if failed && !is_invalid { None } else { self.invalid },
            fell_back: Some(!attempt.served && head.attempts.len() > 1),
            duration_ms: duration(attempt, failed && !is_invalid),
        })
    }
}

/// How long an answer took. A failure that came soon is none; one that never came took for ever.
fn duration(attempt: &Attempt, failed: bool) -> Option<f64> {
    match attempt.outcome {
        Outcome::Timeout => Some(f64::INFINITY),
        _ if failed => None,
        _ => attempt.duration_ms,
    }
}

impl Guards {
    fn saw(&self, call: &Watched, seen: &Seen) -> Option<(String, &'static str, String)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = all.values().map(|watch| watch.used).max().unwrap_or_default();
        let key = (call.route.clone(), call.task.clone());
        if all.len() >= WATCHED
            && !all.contains_key(&key)
            && let Some(oldest) = all
                .iter()
                .min_by_key(|(_, watch)| watch.used)
                .map(|(key, _)| key.clone())
        {
            all.remove(&oldest);
        }
        let watch = all.entry(key).or_insert_with(|| Watch::new(call.guard, &call.stamp));
        if watch.stamp != call.stamp {
            *watch = Watch::new(call.guard, &call.stamp);
        }
        watch.used = newest + 1;
        match &call.candidate {
            Some(candidate) => watch.canary(candidate, seen),
            None => watch.baseline(seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: Guard = Guard {
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
            if let Some((candidate, metric, why)) = watch.canary("small", &canary(call)) {
                assert_eq!(candidate, "small");
                assert!(why.contains('%'), "{why}");
                return Some((call, metric));
            }
        }
        None
    }

    #[test]
    fn each_limit_trips_by_its_own_name_and_soon() {
        let like = |call: usize| ok(80.0 + (call * 37 % 41) as f64);
        let mut watch = Watch::new(GUARD, "s");
        assert_eq!(run(&mut watch, 1_000, like), None);
        let every_fourth = |call: usize| call % 4 == 0;
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
        let mut watch = Watch::new(
            Guard {
                error: Some(0.02),
                ..Guard::default()
            },
            "s",
        );
        assert_eq!(
            run(&mut watch, 500, |_| Seen {
                invalid: Some(true),
                fell_back: Some(true),
                ..ok(9_999.0)
            }),
            None
        );
    }
}
