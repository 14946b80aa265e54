//! What the operator's page shows, as figures: made of counts, verdicts and the log, and free of any text of a call.

use super::counts::{Counts, Took};
use super::history::Event;
use super::splits::Split;
use crate::verdict::{Decision, Verdict};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use understudy_call::taskbook::{Task, TaskBook};

/// Days of a projected month.
const MONTH: f64 = 30.0;
/// From so many days of traffic on a month is projected.
const PROJECTED_FROM: f64 = 1.0;
/// A task is narrow where this share of its answers is.
const NARROW: f64 = 0.9;
/// Days of the history of who served.
const DAYS: usize = 30;

/// What only the config knows.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Settings of verdicts.
    pub verdict: crate::verdict::VerdictConfig,
    /// The routes with a split, in order.
    pub splits: Vec<Split>,
    /// The model of each upstream, where the config says one.
    pub models: BTreeMap<String, String>,
}

/// How ready a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// It can take the task.
    Promote,
    /// More pairs are needed to tell.
    NeedMore,
    /// It should not, or a person has to say so.
    Hold,
}

/// How far ahead of a task's other candidates one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Promote,
    /// Shown to be as good, but a person has to say so: answers are prose.
    AsGood,
    NeedMore,
    Hold,
}

/// A candidate of a task: its verdict, as far as it is shown. Null where unknown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// The task.
    pub task: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The model that answered.
    pub model: Option<String>,
    /// What to do.
    pub ready: Ready,
    /// The verdict in its own words, such as `need 120 more`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Calls with both the candidate's and the baseline's new answer.
    pub pairs: usize,
    /// Independent units among them.
    pub conversations: usize,
    /// Mean of agreement less the floor.
    pub difference: Option<f64>,
    /// Lower bound of it.
    pub lower: Option<f64>,
    /// Upper bound of it.
    pub upper: Option<f64>,
    /// Agreement with the recorded answers.
    pub agreement: Option<f64>,
    /// The baseline's agreement with itself.
    pub floor: Option<f64>,
    /// Share of valid answers.
    pub valid: Option<f64>,
    /// Share of valid answers of the baseline.
    pub valid_baseline: Option<f64>,
    /// US dollars for 1,000 calls: the candidate's, the baseline's.
    pub cost_per_1k: [Option<f64>; 2],
    /// US dollars a month at the pace so far: the candidate's, idle machines included, and the baseline's.
    pub cost_per_month: [Option<f64>; 2],
    /// US dollars for an hour of the candidate's machine.
    pub gpu_hour: Option<f64>,
    /// From so many calls a day on a machine of its own costs less than the baseline.
    pub break_even_per_day: Option<f64>,
    /// Median milliseconds: the candidate's, the baseline's.
    pub p50_ms: [Option<f64>; 2],
    /// 95th percentile: the candidate's, the baseline's.
    pub p95_ms: [Option<f64>; 2],
    /// Median milliseconds to the first token of streamed answers: the candidate's, the baseline's.
    pub first_token_ms: [Option<f64>; 2],
    /// Models of which some calls have no known price.
    pub unpriced: Vec<String>,
    /// Answers that a judge compared with the recorded ones.
    pub judged: usize,
    /// Mean of its word: 1 = always better, 0.5 = as good, 0 = always worse.
    pub judge: Option<f64>,
}

impl From<Verdict> for Candidate {
    fn from(verdict: Verdict) -> Candidate {
        Candidate {
            ready: match verdict.verdict {
                Decision::Promote => Ready::Promote,
                Decision::Hold => Ready::Hold,
                Decision::NeedMore(_) => Ready::NeedMore,
            },
            verdict: verdict.verdict.to_string(),
            task: verdict.task,
            name: verdict.candidate,
            version: verdict.candidate_version.unwrap_or_default(),
            model: None,
            reason: verdict.reason,
            pairs: verdict.pairs,
            conversations: verdict.conversations,
            difference: verdict.mean_difference,
            lower: verdict.lower,
            upper: verdict.upper,
            agreement: verdict.agreement,
            floor: verdict.floor,
            valid: verdict.valid,
            valid_baseline: verdict.valid_baseline,
            cost_per_1k: [verdict.cost_per_1k, verdict.cost_per_1k_baseline],
            cost_per_month: [verdict.cost_per_month, verdict.cost_per_month_baseline],
            gpu_hour: verdict.gpu_hour,
            break_even_per_day: verdict.break_even_per_day,
            p50_ms: [verdict.p50_ms, verdict.p50_ms_baseline],
            p95_ms: [verdict.p95_ms, verdict.p95_ms_baseline],
            first_token_ms: [verdict.first_token_p50_ms, verdict.first_token_p50_ms_baseline],
            unpriced: verdict.unpriced,
            judged: verdict.judged,
            judge: verdict.judge,
        }
    }
}

impl Candidate {
    fn rank(&self, margin: f64) -> Rank {
        let valid = self.valid.zip(self.valid_baseline);
        let is_valid = valid.is_some_and(|(own, baseline)| own >= baseline - margin);
        match self.ready {
            Ready::Promote => Rank::Promote,
            Ready::Hold if is_valid && self.lower.is_some_and(|lower| lower > -margin) => Rank::AsGood,
            Ready::NeedMore => Rank::NeedMore,
            Ready::Hold => Rank::Hold,
        }
    }

    /// US dollars that 1,000 calls would save; negative where they would cost more.
    pub fn saved_per_1k(&self) -> Option<f64> {
        let [own, baseline] = self.cost_per_1k;
        Some(baseline? - own?)
    }

    /// Whether the model calls itself simulated.
    pub fn is_simulated(&self) -> bool {
        is_simulated(&self.name) || self.model.as_deref().is_some_and(is_simulated)
    }
}

/// Whether a model of this name is made up.
pub(super) fn is_simulated(name: &str) -> bool {
    name.to_ascii_lowercase().contains("simulated")
}

/// Who served a task's calls of one day.
#[derive(Clone, Debug, Serialize)]
pub struct Day {
    /// Such as `2026-11-21`, UTC.
    pub day: String,
    /// Calls by arm, or by upstream where there was no split.
    pub served: BTreeMap<String, u64>,
}

/// One task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskReport {
    /// As the book has it.
    #[serde(flatten)]
    pub task: Task,
    /// What its kept calls took.
    pub took: Took,
    /// Share of all calls.
    pub share: f64,
    /// Share of all known cost.
    pub cost_share: Option<f64>,
    /// Share of narrow answers: tool calls, JSON, labels, forms.
    pub narrow: Option<f64>,
    /// What changed since the fit, in words.
    pub drift: Option<String>,
    /// Those that were rehearsed: the readiest first.
    pub candidates: Vec<Candidate>,
    /// The split of its route.
    pub split: Option<Split>,
    /// Who served its calls, day by day.
    pub days: Vec<Day>,
    /// Calls a month at the pace so far; null under a day of traffic.
    pub per_month: Option<f64>,
}

impl TaskReport {
    /// US dollars that a candidate would save: a month, or, where none can be projected, on the calls kept so far.
    pub fn saves(&self, candidate: &Candidate) -> Option<f64> {
        let [own, baseline] = candidate.cost_per_month;
        if let (Some(_), Some(own), Some(baseline)) = (self.per_month, own, baseline) {
            return Some(baseline - own);
        }
        let calls = self.per_month.unwrap_or(self.took.calls as f64);
        Some(candidate.saved_per_1k()? * calls / 1000.0)
    }

    /// Whether nearly all of its answers are narrow.
    pub fn is_narrow(&self) -> bool {
        self.narrow.is_some_and(|narrow| narrow >= NARROW)
    }
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// When, microseconds since the epoch.
    pub at: i64,
    /// Version of the task book; null where there is none yet.
    pub book: Option<i32>,
    /// Objects counted and there are, while not all are counted.
    pub counting: Option<(usize, usize)>,
    /// Why the figures may be old.
    pub trouble: Option<String>,
    /// Objects that can't be read.
    pub unreadable: Vec<String>,
    /// The first and the last hour with calls, such as `2026-11-21 07:00`, UTC.
    pub hours: Option<(String, String)>,
    /// Days from the first to the last.
    pub days: f64,
    /// What all calls took.
    pub took: Took,
    /// Share of calls that are of a task.
    pub in_tasks: f64,
    /// Share of calls, and of known cost, in narrow tasks.
    pub narrow: (f64, Option<f64>),
    /// The margin of verdicts.
    pub margin: f64,
    /// Fewest pairs of a promote.
    pub min_pairs: usize,
    /// Whether a model in it is simulated.
    pub simulated: bool,
    /// The tasks, those with most calls first; ignored ones are left out.
    pub tasks: Vec<TaskReport>,
    /// Routes with a split.
    pub splits: Vec<Split>,
    /// What was done, the latest first.
    pub events: Vec<Event>,
}

impl Report {
    /// Puts the figures together. `at` is now, in microseconds since the epoch.
    pub(super) fn new(
        at: i64,
        book: Option<&TaskBook>,
        counts: &Counts,
        candidates: &[Candidate],
        events: &[Event],
        settings: &Settings,
    ) -> Report {
        let totals = counts.totals("");
        let mut all = Took::default();
        totals.values().for_each(|took| all.merge(took));
        let calls = all.calls.max(1) as f64;
        let hours = span(counts);
        let days = hours.as_ref().map_or(0.0, |(first, last)| days_between(first, last));
        let history = days_of(counts);
        let places = book.map(|book| book.tasks.as_slice()).unwrap_or_default();
        let drifted = counts.watch.drifted();
        let of_route_of = |task: &str| {
            // The first route that matches wins.
            let mut splits = settings.splits.iter();
            splits.find(|split| split.task.as_deref() == Some(task)).cloned()
        };
        let of_task = |(at, task): (usize, &Task)| {
            let took = totals.get(task.id.as_str()).cloned().unwrap_or_default();
            let mut own: Vec<Candidate> = candidates.iter().filter(|own| own.task == task.id).cloned().collect();
            for candidate in &mut own {
                let configured = settings.models.get(&candidate.name);
                candidate.model = candidate.model.take().or(configured.cloned());
            }
            own.sort_by(|one, other| {
                let margin = settings.verdict.margin;
                let first = one.rank(margin).cmp(&other.rank(margin));
                first.then_with(|| {
                    other
                        .agreement
                        .unwrap_or(-1.0)
                        .total_cmp(&one.agreement.unwrap_or(-1.0))
                })
            });
            TaskReport {
                share: took.calls as f64 / calls,
                cost_share: all
                    .cost_usd
                    .filter(|all| *all > 0.0)
                    .zip(took.cost_usd)
                    .map(|(all, own)| own / all),
                narrow: task.narrow(),
                drift: drifted.get(&at).map(ToString::to_string),
                candidates: own,
                split: of_route_of(&task.id),
                days: history.get(task.id.as_str()).cloned().unwrap_or_default(),
                per_month: (days >= PROJECTED_FROM).then(|| took.calls as f64 / days * MONTH),
                task: task.clone(),
                took,
            }
        };
        let of_task_of_route = |event: &Event| {
            let of_event = |split: &&Split| event.route.as_ref() == Some(&split.route);
            let task = settings
                .splits
                .iter()
                .find(of_event)
                .and_then(|split| split.task.as_ref());
            Event {
                task: event.task.clone().or(task.cloned()),
                ..event.clone()
            }
        };
        let mut tasks: Vec<TaskReport> = places.iter().enumerate().map(of_task).collect();
        tasks.retain(|task| !task.task.ignored);
        tasks.sort_by(|one, other| {
            let most = other.took.calls.cmp(&one.took.calls);
            most.then_with(|| one.task.id.cmp(&other.task.id))
        });
        let narrow = || tasks.iter().filter(|task| task.is_narrow());
        let narrow_cost = || narrow().filter_map(|task| task.cost_share).sum();
        let models = all.models.keys().chain(settings.models.values());
        let simulated = models.into_iter().any(|model| is_simulated(model))
            || tasks
                .iter()
                .flat_map(|task| &task.candidates)
                .any(Candidate::is_simulated);
        Report {
            at,
            book: book.map(|book| book.version),
            unreadable: counts.unreadable.clone(),
            hours,
            days,
            in_tasks: tasks.iter().map(|task| task.took.calls).sum::<u64>() as f64 / calls,
            narrow: (
                narrow().map(|task| task.share).sum(),
                all.cost_usd.filter(|cost| *cost > 0.0).map(|_| narrow_cost()),
            ),
            took: all,
            margin: settings.verdict.margin,
            min_pairs: settings.verdict.min_pairs,
            simulated,
            tasks,
            splits: settings.splits.clone(),
            events: events.iter().rev().map(of_task_of_route).collect(),
            ..Report::default()
        }
    }

    /// The task of this id.
    pub fn task(&self, id: &str) -> Option<&TaskReport> {
        self.tasks.iter().find(|task| task.task.id == id)
    }

    /// Whether savings are of a projected month, or else of the calls kept so far.
    pub fn is_projected(&self) -> bool {
        self.days >= PROJECTED_FROM
    }

    /// Each candidate with its task: those that can be promoted first, and of those the one that saves most.
    pub fn by_saving(&self) -> Vec<(&TaskReport, &Candidate)> {
        let pairs = self
            .tasks
            .iter()
            .flat_map(|task| task.candidates.iter().map(move |own| (task, own)));
        let mut pairs: Vec<_> = pairs.collect();
        let saved = |task: &TaskReport, candidate: &Candidate| task.saves(candidate).unwrap_or(f64::MIN);
        pairs.sort_by(|one, other| {
            let ready = one.1.ready.cmp(&other.1.ready);
            ready.then_with(|| saved(other.0, other.1).total_cmp(&saved(one.0, one.1)))
        });
        pairs
    }
}

/// `calls/dt=2026-11-21/hour=h07` as `2026-11-21 07:00`.
fn hour_of(folder: &str) -> Option<String> {
    let (day, hour) = folder.strip_prefix("calls/dt=")?.split_once("/hour=h")?;
    Some(format!("{day} {hour}:00"))
}

/// The first and the last hour; those of calls without a time (the epoch's) are none.
fn span(counts: &Counts) -> Option<(String, String)> {
    let mut hours = counts.hours.keys().filter_map(|folder| hour_of(folder));
    let is_known = |hour: &String| !hour.starts_with("1970-01-01");
    let first = hours.by_ref().find(is_known)?;
    let last = hours.next_back().unwrap_or_else(|| first.clone());
    Some((first, last))
}

/// Days from the begin of the one hour to the end of the other.
fn days_between(first: &str, last: &str) -> f64 {
    let second = |hour: &str| {
        let time: DateTime = hour.replace(' ', "T").parse().ok()?;
        time.to_zoned(TimeZone::UTC)
            .ok()
            .map(|time| time.timestamp().as_second())
    };
    second(first)
        .zip(second(last))
        .map_or(0.0, |(first, last)| (last - first + 3600) as f64 / 86_400.0)
}

/// Who served each task, day by day, the latest days.
fn days_of(counts: &Counts) -> BTreeMap<&str, Vec<Day>> {
    let mut days: BTreeMap<(&str, &str), BTreeMap<String, u64>> = BTreeMap::new();
    for (folder, hour) in &counts.hours {
        let day = folder.strip_prefix("calls/dt=").and_then(|rest| rest.split('/').next());
        for (task, took) in hour.tasks.iter().filter(|(task, _)| !task.is_empty()) {
            let served = days.entry((task, day.unwrap_or_default())).or_default();
            for (arm, calls) in &took.served {
                *served.entry(arm.clone()).or_default() += calls;
            }
        }
    }
    let mut by_task: BTreeMap<&str, Vec<Day>> = BTreeMap::new();
    for ((task, day), served) in days.into_iter().filter(|(_, served)| !served.is_empty()) {
        let own = by_task.entry(task).or_default();
        own.push(Day {
            day: day.to_owned(),
            served,
        });
        if own.len() > DAYS {
            own.remove(0);
        }
    }
    by_task
}

/// A time as people read it, UTC.
pub(super) fn time_of(micros: i64) -> String {
    let time = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests;
