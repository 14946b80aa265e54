//! Whether a candidate is ready for a task: `promote`, `hold` or `need N more`, with the evidence.
//!
//! Pure: scores in, verdict out. Sends nothing and changes no split. What is not known is `None`, and never taken for 0.

use crate::compare::{BettingSequence, Interval, interval, mean, percentile, unit_means};
use crate::score::AnswerKind;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use understudy_call::record::{CallRecord, Outcome, ScoreRecord};

/// Units looked ahead, at most, when estimating how many more are needed.
const FORECAST_UNITS: usize = 20_000;
/// Fewest units from which that is estimated from their spread.
const FORECAST_FROM: usize = 10;
/// Share of prose among the pairs from which similarity decides too much for an automatic promote.
const PROSE_SHARE: f64 = 0.1;

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
        }
    }
}

/// What a kept call of the baseline took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Milliseconds to the last byte.
    pub duration_ms: Option<f64>,
    /// US dollars.
    pub cost_usd: Option<f64>,
}

impl From<&CallRecord> for Spent {
    fn from(call: &CallRecord) -> Spent {
        Spent {
            duration_ms: call.duration_ms,
            cost_usd: call.cost_usd,
        }
    }
}

impl From<&ScoreRecord> for Spent {
    fn from(score: &ScoreRecord) -> Spent {
        Spent {
            duration_ms: score.duration_ms,
            cost_usd: score.cost_usd,
        }
    }
}

/// All that a verdict looks at.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The task.
    pub task: &'a str,
    /// The candidate's name.
    pub candidate: &'a str,
    /// Scores of the candidate; other tasks, candidates and older versions among them are passed over.
    pub rows: &'a [ScoreRecord],
    /// The task's calls as the baseline served them.
    pub baseline: &'a [Spent],
    /// Call id → unit, for calls that are one unit though their conversations differ (identical single calls).
    pub units: Option<&'a HashMap<String, String>>,
    /// How many candidates and versions were ever tried on the task, this one included.
    pub candidates_tried: usize,
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
}

/// The verdict on a candidate's newest version.
pub fn verdict(evidence: &Evidence<'_>, config: &VerdictConfig) -> Verdict {
    let rows = counted_rows(evidence, config);
    let measured = Measured::of(&rows, evidence, config);
    let (decision, reason) = decide(&measured, config);
    let spent: Vec<Spent> = rows.iter().map(|row| Spent::from(*row)).collect();
    let (latency, latency_baseline) = (latencies(&spent), latencies(evidence.baseline));
    let known = measured.difference.filter(|_| measured.pairs > 0);
    Verdict {
        task: evidence.task.into(),
        candidate: evidence.candidate.into(),
        candidate_version: rows.first().map(|row| row.candidate_version.clone()),
        verdict: decision,
        reason,
        need_more: match decision {
            Decision::NeedMore(pairs) => Some(pairs),
            _ => None,
        },
        pairs: measured.pairs,
        conversations: measured.differences.len(),
        mean_difference: known.map(|interval| interval.mean),
        lower: known.map(|interval| interval.lower),
        upper: known.map(|interval| interval.upper),
        agreement: measured.agreement,
        floor: measured.floor,
        valid: measured.valid,
        valid_baseline: measured.valid_baseline,
        cost_per_1k: cost_per_1k(&spent),
        cost_per_1k_baseline: cost_per_1k(evidence.baseline),
        p50_ms: percentile(&latency, 0.5),
        p95_ms: percentile(&latency, 0.95),
        p50_ms_baseline: percentile(&latency_baseline, 0.5),
        p95_ms_baseline: percentile(&latency_baseline, 0.95),
    }
}

/// The rows that count: of the newest version, young enough, the latest of each call, in the order they were judged
/// (the order of sampling, which depends on no answer). A candidate that was not reached gave no evidence.
fn counted_rows<'a>(evidence: &Evidence<'a>, config: &VerdictConfig) -> Vec<&'a ScoreRecord> {
    let max_age = i64::try_from(config.max_age.as_micros()).unwrap_or(i64::MAX);
    let oldest = evidence.now.saturating_sub(max_age);
    let reached = |outcome: Outcome| {
        !matches!(
            outcome,
            Outcome::UpstreamConnect | Outcome::ClientClosed | Outcome::Refused
        )
    };
    let fits = |row: &&ScoreRecord| row.task_id == evidence.task && row.candidate == evidence.candidate;
    let of_candidate = || evidence.rows.iter().filter(fits);
    let newest = of_candidate()
        .max_by_key(|row| row.judged_at)
        .map(|row| &row.candidate_version);
    let mut latest: BTreeMap<&str, &ScoreRecord> = BTreeMap::new();
    for row in of_candidate().filter(|row| Some(&row.candidate_version) == newest) {
        let seen = latest.entry(&row.call_id).or_insert(row);
        if row.judged_at > seen.judged_at {
            *seen = row;
        }
    }
    let mut rows: Vec<&ScoreRecord> = latest
        .into_values()
        .filter(|row| row.judged_at >= oldest && reached(row.outcome))
        .collect();
    rows.sort_by_key(|row| row.judged_at);
    rows
}

/// What the rows say.
struct Measured {
    rows: usize,
    pairs: usize,
    /// Mean difference of each unit.
    differences: Vec<f64>,
    difference: Option<Interval>,
    alpha: f64,
    agreement: Option<f64>,
    floor: Option<f64>,
    valid: Option<f64>,
    valid_baseline: Option<f64>,
    validity: Option<Interval>,
    prose: f64,
}

impl Measured {
    fn of(rows: &[&ScoreRecord], evidence: &Evidence<'_>, config: &VerdictConfig) -> Measured {
        let unit = |row: &&'_ ScoreRecord| -> String {
            let twin = evidence.units.and_then(|units| units.get(&row.call_id));
            let own = if row.conversation_id.is_empty() {
                &row.call_id
            } else {
                &row.conversation_id
            };
            twin.unwrap_or(own).clone()
        };
        let by_unit = |rows: &[&ScoreRecord], value: &dyn Fn(&ScoreRecord) -> Option<f64>| -> Vec<f64> {
            let values: Vec<(String, f64)> = rows.iter().filter_map(|row| Some((unit(row), value(row)?))).collect();
            unit_means(values.iter().map(|(unit, value)| (unit.as_str(), *value)))
        };
        let pairs: Vec<&ScoreRecord> = rows
            .iter()
            .copied()
            .filter(|row| row.floor_agreement.is_some())
            .collect();
        let differences = by_unit(&pairs, &|row| Some(agreement_of(row) - row.floor_agreement?));
        let validity = by_unit(rows, &|row| Some(share(row.valid) - share(row.valid_baseline?)));
        // All candidates tried share the chance of a wrong verdict.
        let alpha = config.alpha / evidence.candidates_tried.max(1) as f64;
        let compared: &[&ScoreRecord] = if pairs.is_empty() { rows } else { &pairs };
        let prose = compared
            .iter()
            .filter(|row| row.kind == AnswerKind::Prose.as_str())
            .count();
        Measured {
            rows: rows.len(),
            pairs: pairs.len(),
            difference: (!differences.is_empty()).then(|| interval(&differences, alpha)),
            differences,
            alpha,
            agreement: mean(&by_unit(compared, &|row| Some(agreement_of(row)))),
            floor: mean(&by_unit(&pairs, &|row| row.floor_agreement)),
            valid: mean(&rows.iter().map(|row| share(row.valid)).collect::<Vec<_>>()),
            valid_baseline: mean(
                &rows
                    .iter()
                    .filter_map(|row| row.valid_baseline.map(share))
                    .collect::<Vec<_>>(),
            ),
            validity: (!validity.is_empty()).then(|| interval(&validity, alpha)),
            prose: prose as f64 / compared.len().max(1) as f64,
        }
    }
}

/// A candidate that answered with an error agreed in nothing: left out, it would look better for failing.
fn agreement_of(row: &ScoreRecord) -> f64 {
    row.agreement.unwrap_or(0.0)
}

fn share(valid: bool) -> f64 {
    f64::from(u8::from(valid))
}

/// The rules, in order; the first that applies decides.
fn decide(measured: &Measured, config: &VerdictConfig) -> (Decision, String) {
    let Some(difference) = measured.difference else {
        return undecided_without_pairs(measured, config);
    };
    let enough = measured.pairs >= config.min_pairs && measured.differences.len() >= config.min_conversations;
    let (mean, lower, upper) = (difference.mean, difference.lower, difference.upper);
    if upper < -config.margin {
        let reason = format!(
            "it agrees with the recorded answers less than the baseline does with itself: by {:.3} on average, and by at least {:.3}, past the margin of {}",
            -mean, -upper, config.margin
        );
        return (Decision::Hold, reason);
    }
    if let Some(reason) = validity_fault(measured, config, enough) {
        return (Decision::Hold, reason);
    }
    if let Some(floor) = measured.floor.filter(|floor| enough && *floor < config.min_floor) {
        let reason = format!(
            "the baseline agrees with itself in only {floor:.3} of the answers, under {}: similarity says too little here",
            config.min_floor
        );
        return (Decision::Hold, reason);
    }
    if !enough || lower <= -config.margin {
        return need_more(measured, config, enough);
    }
    if measured.prose >= PROSE_SHARE {
        let reason = format!(
            "it is as similar as the baseline is to itself (lower bound {lower:.3}), but {:.0} % of the answers are prose, which is never promoted on similarity alone: read some, then promote by hand",
            100.0 * measured.prose
        );
        return (Decision::Hold, reason);
    }
    let reason = format!(
        "over {} pairs of {} conversations it agrees as well as the baseline with itself: mean difference {mean:+.3}, at least {lower:+.3}, within the margin of {}",
        measured.pairs,
        measured.differences.len(),
        config.margin
    );
    (Decision::Promote, reason)
}

fn undecided_without_pairs(measured: &Measured, config: &VerdictConfig) -> (Decision, String) {
    if measured.rows == 0 {
        let reason = "no answer of it was scored yet, or all scores are too old".into();
        return (Decision::NeedMore(config.min_pairs.max(1)), reason);
    }
    let reason = "the noise floor is not measured: the baseline was not asked again, so nothing says how much of the difference is its own; give the baseline a key and replay";
    (Decision::Hold, reason.into())
}

/// Validity that is worse for certain, or worse on average once there is enough to go by.
fn validity_fault(measured: &Measured, config: &VerdictConfig, enough: bool) -> Option<String> {
    match measured.validity {
        Some(validity) if validity.upper < -config.margin || (enough && validity.mean < -config.margin) => {
            let percent = |share: Option<f64>| share.map_or("?".to_owned(), |share| format!("{:.1} %", 100.0 * share));
            Some(format!(
                "its answers are valid less often: {} against {} of the baseline's, past the margin of {}",
                percent(measured.valid),
                percent(measured.valid_baseline),
                config.margin
            ))
        }
        None if enough => {
            Some("the validity of the baseline's answers is not known, so nothing compares with it".into())
        }
        _ => None,
    }
}

fn need_more(measured: &Measured, config: &VerdictConfig, enough: bool) -> (Decision, String) {
    let units = measured.differences.len().max(1);
    let pairs_per_unit = measured.pairs as f64 / units as f64;
    let in_pairs = |units: usize| (units as f64 * pairs_per_unit).ceil() as usize;
    let short_of = config.min_pairs.saturating_sub(measured.pairs);
    let short_of = short_of.max(in_pairs(
        config.min_conversations.saturating_sub(measured.differences.len()),
    ));
    let forecast = forecast_units(measured, config);
    let pairs = short_of.max(forecast.map_or(0, in_pairs)).max(1);
    let estimate = match forecast {
        Some(units) if units >= FORECAST_UNITS => format!("at least {pairs} more pairs"),
        _ => format!("about {pairs} more pairs"),
    };
    let bounds = measured.difference.map_or(String::new(), |d| {
        format!("between {:+.3} and {:+.3}", d.lower, d.upper)
    });
    let reason = if enough {
        format!(
            "the mean difference lies {bounds}, on both sides of the margin of -{}: {estimate} would tell",
            config.margin
        )
    } else {
        format!(
            "{} pairs of {} conversations are too few ({} of {} are asked for): {estimate} would tell",
            measured.pairs,
            measured.differences.len(),
            config.min_pairs,
            config.min_conversations
        )
    };
    (Decision::NeedMore(pairs), reason)
}

/// How many more units would decide, were they like those so far; `None` from too few.
fn forecast_units(measured: &Measured, config: &VerdictConfig) -> Option<usize> {
    if measured.differences.len() < FORECAST_FROM {
        return None;
    }
    let mut sequence = BettingSequence::new(measured.alpha);
    measured
        .differences
        .iter()
        .for_each(|difference| sequence.push(*difference));
    let decided = |interval: Interval| interval.lower > -config.margin || interval.upper < -config.margin;
    for (ahead, difference) in measured.differences.iter().cycle().take(FORECAST_UNITS).enumerate() {
        if decided(sequence.interval()) {
            return Some(ahead);
        }
        sequence.push(*difference);
    }
    Some(FORECAST_UNITS)
}

fn latencies(spent: &[Spent]) -> Vec<f64> {
    spent.iter().filter_map(|call| call.duration_ms).collect()
}

/// Mean cost of the calls whose cost is known, times 1,000.
fn cost_per_1k(spent: &[Spent]) -> Option<f64> {
    mean(&spent.iter().filter_map(|call| call.cost_usd).collect::<Vec<_>>()).map(|cost| 1000.0 * cost)
}

#[cfg(test)]
mod tests;
