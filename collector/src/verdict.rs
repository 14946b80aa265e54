//! Whether a candidate is ready for a task: `promote`, `hold` or `need N more`, with the evidence.
//!
//! Pure: scores in, verdict out. Sends nothing and changes no split. What is not known is `None`, and never taken for 0.
//! docs/verdicts.md has the formulas and what they were held against.

mod money;
mod series;
mod trial;

pub use money::{Machine, Spent, Volume};
pub use series::{Tried, least_selected, share};
pub use trial::{Seen, Standing, Trial};

use crate::compare::mean;
use crate::score::AnswerKind;
use money::{Side, break_even};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use understudy_call::record::{Outcome, ScoreRecord};

/// The most pairs that are said to be needed: beyond it the figure says only "very many".
const MOST_PAIRS: f64 = 1e6;

/// When a candidate is ready.
#[derive(Clone, Debug, PartialEq)]
pub struct VerdictConfig {
    /// Probability of a wrong verdict, over all candidates tried on the task.
    pub alpha: f64,
    /// How much worse than the baseline's agreement with itself is still as good.
    pub margin: f64,
    /// Fewest conversations.
    pub min_conversations: usize,
    /// Fewest pairs.
    pub min_pairs: usize,
    /// Least agreement of the baseline with itself that makes a comparison worth something.
    pub min_floor: f64,
    /// Scores older than this don't count.
    pub max_age: Duration,
    /// US dollars for an hour of the machine of each candidate that has one.
    pub gpu_hours: BTreeMap<String, f64>,
}

impl Default for VerdictConfig {
    fn default() -> Self {
        VerdictConfig {
            alpha: 0.05,
            margin: 0.05,
            min_conversations: 50,
            min_pairs: 200,
            min_floor: 0.70,
            max_age: Duration::from_secs(30 * 24 * 3600),
            gpu_hours: BTreeMap::new(),
        }
    }
}

/// All that a verdict looks at; the default is nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// The task.
    pub task: &'a str,
    /// The candidate's name.
    pub candidate: &'a str,
    /// Scores of all candidates of the task: those of others, and of older versions, say what was tried before.
    pub rows: &'a [ScoreRecord],
    /// What was tried besides, whatever became of its scores.
    pub tried: &'a [Tried],
    /// The task's calls as the baseline served them.
    pub baseline: &'a [Spent],
    /// Call id → unit, for calls that are one unit though their conversations differ (identical single calls).
    pub units: Option<&'a HashMap<String, String>>,
    /// Call id → when its floor was measured, microseconds since the epoch, for calls whose floor came after the score: they
    /// are pairs only from then on, so that what was looked at before stays as it was.
    pub paired: Option<&'a HashMap<String, i64>>,
    /// Calls whose recorded answers hold masked values.
    pub masked: Option<&'a HashSet<String>>,
    /// (Version, call id) of what a version was trained on: such scores count for nothing.
    pub trained_on: Option<&'a HashSet<(String, String)>>,
    /// How many calls the task has.
    pub volume: Volume,
    /// The machine that serves the candidate.
    pub machine: Machine,
    /// Models, and candidates, of which some calls have no known price.
    pub unpriced: &'a [String],
    /// The upstream that most calls of the task were addressed to.
    pub addressed: Option<&'a str>,
    /// Microseconds since the epoch.
    pub now: i64,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It can take the task.
    Promote,
    /// It should not, or a person has to say so.
    Hold,
    /// About this many more pairs are needed to tell.
    NeedMore(usize),
}

impl std::fmt::Display for Decision {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Decision::Promote => formatter.write_str("promote"),
            Decision::Hold => formatter.write_str("hold"),
            Decision::NeedMore(pairs) => write!(formatter, "need {pairs} more"),
        }
    }
}

impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A verdict and its evidence; field names are those of `verdict --format json`, `None` = unknown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The task.
    pub task: String,
    /// The candidate.
    pub candidate: String,
    /// Its version: the newest that has scores.
    pub candidate_version: Option<String>,
    /// What to do.
    pub verdict: Decision,
    /// Why, in a sentence.
    pub reason: String,
    /// About how many more pairs are needed; `None` where more would not help.
    pub need_more: Option<usize>,
    /// Calls with both the candidate's and the baseline's new answer.
    pub pairs: usize,
    /// Independent units among them.
    pub conversations: usize,
    /// Mean of agreement less the floor, −1 to 1.
    pub mean_difference: Option<f64>,
    /// Lower bound of it.
    pub lower: Option<f64>,
    /// Upper bound of it.
    pub upper: Option<f64>,
    /// Mean agreement of the candidate with the recorded answers.
    pub agreement: Option<f64>,
    /// Mean agreement of the baseline, asked again, with its recorded answers.
    pub floor: Option<f64>,
    /// Share of valid answers.
    pub valid: Option<f64>,
    /// Share of valid answers of the baseline.
    pub valid_baseline: Option<f64>,
    /// US dollars per 1,000 calls.
    pub cost_per_1k: Option<f64>,
    /// The same of the baseline.
    pub cost_per_1k_baseline: Option<f64>,
    /// Median milliseconds to the last byte.
    pub p50_ms: Option<f64>,
    /// 95th percentile of it.
    pub p95_ms: Option<f64>,
    /// Median of the baseline.
    pub p50_ms_baseline: Option<f64>,
    /// 95th percentile of the baseline.
    pub p95_ms_baseline: Option<f64>,
    /// Median milliseconds to the first token; of streamed answers.
    pub first_token_p50_ms: Option<f64>,
    /// 95th percentile of it.
    pub first_token_p95_ms: Option<f64>,
    /// Median of the baseline.
    pub first_token_p50_ms_baseline: Option<f64>,
    /// 95th percentile of the baseline.
    pub first_token_p95_ms_baseline: Option<f64>,
    /// Calls of the task a day, as observed.
    pub calls_per_day: Option<f64>,
    /// US dollars for 30 days of them: of a candidate with a machine of its own, as many machines as they need.
    pub cost_per_month: Option<f64>,
    /// The same of the baseline.
    pub cost_per_month_baseline: Option<f64>,
    /// US dollars for an hour of the candidate's machine.
    pub gpu_hour: Option<f64>,
    /// Answers that it gave in an hour of work.
    pub calls_per_gpu_hour: Option<f64>,
    /// Calls a day from which the machine costs less than the baseline; `None` where it never does.
    pub break_even_per_day: Option<f64>,
    /// Models of which some calls have no known price.
    pub unpriced: Vec<String>,
    /// The upstream that most calls of the task were addressed to.
    #[serde(skip)]
    pub addressed: Option<String>,
    /// Place of this trial among all of the task, from 1.
    pub trial: Option<usize>,
    /// The chance of a wrong verdict that it may spend.
    pub alpha: Option<f64>,
    /// The evidence that it is good enough, weighed by its share of alpha: what e-BH compares with other tasks.
    pub e_value: Option<f64>,
    /// Answers that a judge compared with the recorded ones.
    pub judged: usize,
    /// Mean of its word: 1 = always better than the recorded answer, 0.5 = as good, 0 = always worse. It decides nothing.
    pub judge: Option<f64>,
    /// Scores that count for nothing, since this version was trained on their calls.
    pub trained_on: usize,
    /// The same figures for parts of the pairs.
    pub strata: Vec<Stratum>,
    /// Pairs by which the e-value grows e-fold, about.
    #[serde(skip)]
    pub pairs_per_fold: Option<f64>,
    /// When its newest score was judged, microseconds since the epoch, where all of them are too old to count.
    #[serde(skip)]
    pub stale: Option<i64>,
}

/// Some of the pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stratum {
    /// `masked`: the recorded answer holds masked values; `unmasked`; or a kind of answer.
    pub stratum: String,
    /// How many.
    pub pairs: usize,
    /// Mean agreement of the candidate.
    pub agreement: f64,
    /// Mean agreement of the baseline with itself.
    pub floor: f64,
    /// Share of the candidate's valid answers.
    pub valid: f64,
}

/// The verdict on a candidate's newest version, by its own task alone; see [`together`].
pub fn verdict(evidence: &Evidence<'_>, config: &VerdictConfig) -> Verdict {
    let current = series::current(evidence, config.max_age);
    let rows = current
        .as_ref()
        .map_or(Vec::new(), |current| counted_rows(evidence, current));
    let part = share(current.as_ref().map_or(1, |current| current.rank));
    let mut trial = Trial::new(config, config.alpha * part);
    rows.iter().for_each(|row| trial.push(&seen(row, evidence)));

    let interval = trial.interval();
    let decision = decide(trial.standing(), &trial, config);
    let per_day = evidence.volume.per_day();
    let spent: Vec<Spent> = rows.iter().map(|row| Spent::from(*row)).collect();
    let judged: Vec<f64> = rows.iter().filter_map(|row| row.judge).collect();
    let own = Side::of(&spent, per_day).on(&evidence.machine, per_day);
    let baseline = Side::of(evidence.baseline, per_day);
    Verdict {
        task: evidence.task.into(),
        candidate: evidence.candidate.into(),
        candidate_version: current.as_ref().map(|current| current.version.to_owned()),
        verdict: decision,
        reason: reason(trial.standing(), decision, &trial, config),
        need_more: decision.need_more(),
        pairs: trial.pairs(),
        conversations: trial.conversations(),
        mean_difference: interval.map(|interval| interval.mean),
        lower: interval.map(|interval| interval.lower),
        upper: interval.map(|interval| interval.upper),
        agreement: trial.agreement(),
        floor: trial.floor(),
        valid: trial.valid(),
        valid_baseline: trial.valid_baseline(),
        cost_per_1k: own.cost_per_1k,
        cost_per_1k_baseline: baseline.cost_per_1k,
        p50_ms: own.p50_ms,
        p95_ms: own.p95_ms,
        p50_ms_baseline: baseline.p50_ms,
        p95_ms_baseline: baseline.p95_ms,
        first_token_p50_ms: own.first_token_p50_ms,
        first_token_p95_ms: own.first_token_p95_ms,
        first_token_p50_ms_baseline: baseline.first_token_p50_ms,
        first_token_p95_ms_baseline: baseline.first_token_p95_ms,
        calls_per_day: per_day,
        cost_per_month: own.cost_per_month,
        cost_per_month_baseline: baseline.cost_per_month,
        gpu_hour: evidence.machine.gpu_hour,
        calls_per_gpu_hour: evidence.machine.calls_per_hour,
        break_even_per_day: break_even(&evidence.machine, &baseline),
        unpriced: evidence.unpriced.to_vec(),
        addressed: evidence.addressed.map(str::to_owned),
        trial: current.as_ref().map(|current| current.rank),
        alpha: current.as_ref().map(|_| config.alpha * part),
        e_value: interval.map(|_| part * trial.e_value()),
        judged: judged.len(),
        judge: mean(&judged),
        trained_on: current
            .as_ref()
            .map_or(0, |current| trained_on(evidence, current.version)),
        strata: strata(&rows, evidence),
        pairs_per_fold: pairs_per_fold(&trial),
        stale: current
            .filter(|current| current.newest < current.since)
            .map(|current| current.newest),
    }
}

/// Lets those promotes stand that e-BH selects at level alpha among all tasks that were tried; `verdicts` are theirs.
///
/// With it, of the tasks that are promoted at a look, at most a share of alpha is expected to be wrong. The rest need more.
/// A task that is tried later raises the bar for all (by the factor of the tasks), one that is promoted lowers it.
pub fn together(verdicts: &mut [Verdict], config: &VerdictConfig) {
    let tasks: BTreeSet<&str> = verdicts.iter().map(|verdict| verdict.task.as_str()).collect();
    let tasks = tasks.len();
    let mut best: BTreeMap<&str, f64> = BTreeMap::new();
    for verdict in verdicts.iter().filter(|verdict| verdict.verdict == Decision::Promote) {
        let best = best.entry(&verdict.task).or_default();
        *best = best.max(verdict.e_value.unwrap_or_default());
    }
    let bar = least_selected(&best.into_values().collect::<Vec<f64>>(), tasks, config.alpha);
    for verdict in verdicts
        .iter_mut()
        .filter(|verdict| verdict.verdict == Decision::Promote)
    {
        let e_value = verdict.e_value.unwrap_or_default();
        if e_value >= bar {
            continue;
        }
        let folds = (bar / e_value.max(f64::MIN_POSITIVE)).ln();
        let pairs = at_least_one(folds * verdict.pairs_per_fold.unwrap_or(1.0));
        verdict.verdict = Decision::NeedMore(pairs);
        verdict.need_more = Some(pairs);
        verdict.reason = format!(
            "it is good enough for its own task, but {tasks} tasks are tried, and for so many its evidence is too weak (an e-value of {e_value:.0}, of {bar:.0} that e-BH asks for): about {pairs} more pairs would tell"
        );
    }
}

impl Decision {
    fn need_more(self) -> Option<usize> {
        match self {
            Decision::NeedMore(pairs) => Some(pairs),
            Decision::Promote | Decision::Hold => None,
        }
    }
}

/// Whether a version was trained on what it was asked.
fn is_trained_on(row: &ScoreRecord, evidence: &Evidence<'_>) -> bool {
    let known = evidence.trained_on.filter(|known| !known.is_empty());
    known.is_some_and(|known| known.contains(&(row.candidate_version.clone(), row.call_id.clone())))
}

/// Scores of a candidate's version on calls that it was trained on.
fn trained_on(evidence: &Evidence<'_>, version: &str) -> usize {
    let own = evidence.rows.iter().filter(|row| {
        row.task_id == evidence.task && row.candidate == evidence.candidate && row.candidate_version == version
    });
    own.filter(|row| is_trained_on(row, evidence)).count()
}

/// The rows that count: of the newest version, young enough, the first of each call that is an answer, in the order they
/// were judged (the order of sampling, which depends on no answer). A candidate that was not reached gave no evidence, and
/// one that is asked again until it is right has given it.
fn counted_rows<'a>(evidence: &Evidence<'a>, current: &series::Current<'_>) -> Vec<&'a ScoreRecord> {
    let reached = |outcome: Outcome| {
        !matches!(
            outcome,
            Outcome::UpstreamConnect | Outcome::ClientClosed | Outcome::Refused
        )
    };
    let counts = |row: &&ScoreRecord| {
        row.task_id == evidence.task
            && row.candidate == evidence.candidate
            && row.candidate_version == current.version
            && row.judged_at >= current.since
            && reached(row.outcome)
            && !is_trained_on(row, evidence)
    };
    let mut rows: Vec<&ScoreRecord> = evidence.rows.iter().filter(counts).collect();
    rows.sort_by(|left, right| (left.judged_at, &left.call_id).cmp(&(right.judged_at, &right.call_id)));
    let mut calls = HashSet::new();
    rows.retain(|row| calls.insert(row.call_id.as_str()));
    if let Some(paired) = evidence.paired {
        rows.sort_by_key(|row| {
            paired
                .get(&row.call_id)
                .map_or(row.judged_at, |at| row.judged_at.max(*at))
        });
    }
    rows
}

fn seen<'a>(row: &'a ScoreRecord, evidence: &Evidence<'a>) -> Seen<'a> {
    let twin = evidence.units.and_then(|units| units.get(&row.call_id));
    let own = if row.conversation_id.is_empty() {
        &row.call_id
    } else {
        &row.conversation_id
    };
    Seen {
        unit: twin.unwrap_or(own),
        agreement: agreement_of(row),
        floor: row.floor_agreement,
        valid: row.valid,
        valid_baseline: row.valid_baseline,
        is_prose: row.kind == AnswerKind::Prose.as_str(),
    }
}

/// A candidate that answered with an error agreed in nothing: left out, it would look better for failing.
fn agreement_of(row: &ScoreRecord) -> f64 {
    row.agreement.unwrap_or(0.0)
}

/// The pairs by what the recorded answer is, where that differs, and by whether it holds masked values, where some do.
fn strata(rows: &[&ScoreRecord], evidence: &Evidence<'_>) -> Vec<Stratum> {
    let is_masked = |row: &ScoreRecord| evidence.masked.is_some_and(|masked| masked.contains(&row.call_id));
    let mut of_kind: BTreeMap<&str, Vec<&ScoreRecord>> = BTreeMap::new();
    let mut of_masking: BTreeMap<&str, Vec<&ScoreRecord>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.floor_agreement.is_some()) {
        of_kind.entry(&row.kind).or_default().push(row);
        let name = if is_masked(row) { "masked" } else { "unmasked" };
        of_masking.entry(name).or_default().push(row);
    }
    let kinds = (of_kind.len() > 1).then_some(of_kind);
    let maskings = of_masking.contains_key("masked").then_some(of_masking);
    let all = kinds.into_iter().chain(maskings).flatten();
    all.map(|(name, rows)| stratum(name, &rows)).collect()
}

fn stratum(name: &str, rows: &[&ScoreRecord]) -> Stratum {
    let mean =
        |value: &dyn Fn(&ScoreRecord) -> f64| rows.iter().map(|row| value(row)).sum::<f64>() / rows.len().max(1) as f64;
    Stratum {
        stratum: name.to_owned(),
        pairs: rows.len(),
        agreement: mean(&agreement_of),
        floor: mean(&|row| row.floor_agreement.unwrap_or_default()),
        valid: mean(&|row| f64::from(u8::from(row.valid))),
    }
}

fn decide(standing: Standing, trial: &Trial, config: &VerdictConfig) -> Decision {
    match standing {
        Standing::Ready => Decision::Promote,
        Standing::Unseen => Decision::NeedMore(config.min_pairs.max(1)),
        Standing::TooFew | Standing::Open => Decision::NeedMore(more_pairs(trial, config)),
        _ => Decision::Hold,
    }
}

/// What is missing of the least numbers, or of a decision, whichever is more.
fn more_pairs(trial: &Trial, config: &VerdictConfig) -> usize {
    let pairs = config.min_pairs.saturating_sub(trial.pairs()) as f64;
    let conversations = config.min_conversations.saturating_sub(trial.conversations()) as f64;
    let least = pairs.max(conversations * trial.pairs_per_unit());
    // From a few pairs the mean says too little to go by.
    let told = trial
        .more_pairs(None)
        .filter(|_| trial.is_enough() || trial.pairs() * 4 >= config.min_pairs);
    at_least_one(least.max(told.unwrap_or(if trial.is_enough() { MOST_PAIRS } else { 0.0 })))
}

fn at_least_one(pairs: f64) -> usize {
    pairs.ceil().clamp(1.0, MOST_PAIRS) as usize
}

fn pairs_per_fold(trial: &Trial) -> Option<f64> {
    let now = trial.e_value();
    Some(trial.more_pairs(Some(now * std::f64::consts::E))?.max(0.0))
}

/// Why, in a sentence.
fn reason(standing: Standing, decision: Decision, trial: &Trial, config: &VerdictConfig) -> String {
    let margin = config.margin;
    let (mean, lower, upper) = match trial.interval() {
        Some(interval) => (interval.mean, interval.lower, interval.upper),
        None => (0.0, -1.0, 1.0),
    };
    let percent = |share: Option<f64>| share.map_or("?".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    let needed = match decision {
        Decision::NeedMore(pairs) if pairs as f64 >= MOST_PAIRS => {
            "a million more pairs, or more than that,".to_owned()
        }
        Decision::NeedMore(pairs) => format!("about {pairs} more pairs"),
        _ => String::new(),
    };
    match standing {
        Standing::Unseen => "no answer of it was scored yet, or all scores are too old".into(),
        Standing::FloorUnknown => "the noise floor is not measured: the baseline was not asked again, so nothing says how much of the difference is its own; give the baseline a key and replay".into(),
        Standing::Worse => format!(
            "it agrees with the recorded answers less than the baseline does with itself: by {:.3} on average, and by at least {:.3}, past the margin of {margin}",
            -mean, -upper
        ),
        Standing::Invalid => format!(
            "its answers are valid less often: {} against {} of the baseline's, past the margin of {margin}; where only their form is wrong, `constrain: schema` on the upstream helps",
            percent(trial.valid()),
            percent(trial.valid_baseline())
        ),
        Standing::ValidityUnknown => "the validity of the baseline's answers is not known, so nothing compares with it".into(),
        Standing::FloorTooLow => format!(
            "the baseline agrees with itself in only {:.3} of the answers, under {}: similarity says too little here",
            trial.floor().unwrap_or_default(),
            config.min_floor
        ),
        Standing::TooFew => format!(
            "{} pairs of {} conversations are too few ({} of {} are asked for): {needed} would tell",
            trial.pairs(),
            trial.conversations(),
            config.min_pairs,
            config.min_conversations
        ),
        Standing::Open => format!(
            "the mean difference lies between {lower:+.3} and {upper:+.3}, on both sides of the margin of -{margin}: {needed} would tell"
        ),
        Standing::ProseAlone => format!(
            "it is as similar as the baseline is to itself (lower bound {lower:.3}), but {:.0} % of the answers are prose, which is never promoted on similarity alone: read some, then promote by hand",
            100.0 * trial.prose()
        ),
        Standing::Ready => format!(
            "over {} pairs of {} conversations it agrees as well as the baseline with itself: mean difference {mean:+.3}, at least {lower:+.3}, within the margin of {margin}",
            trial.pairs(),
            trial.conversations()
        ),
    }
}

#[cfg(test)]
mod tests;
