//! Replay: kept calls of a task, masked as they are, sent to a candidate and, for the noise floor, to the baseline again.
//!
//! One step at a time with the recorded history pinned, so nothing has side effects. Bounded, resumable (what is scored
//! is not asked again), and honest: a failure is a row with its outcome. Sends only masked text, with the credential of
//! the upstream that is asked and no other.

mod ask;
mod constrain;
mod judge;
mod pace;
mod run;
mod sample;
mod tally;

pub(crate) use ask::Reply;
pub use ask::{Arm, version_of};
pub use judge::{Judge, Judged};
pub use pace::Budget;
pub(crate) use pace::Pace;
pub use sample::{Drawn, Sample, draw, draw_unseen, lot};
pub(crate) use sample::{label_told, twin_key};

use crate::scan::ScanError;
use crate::score::{AnswerKind, KindSummary, LabelSet, Score, kind_in_task, score, validity};
use crate::store::{Store, StoreError};
use crate::table::TableError;
use run::Run;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;
use understudy_call::call::Response;
use understudy_call::price::PriceTable;
use understudy_call::record::{Outcome, ScoreRecord};

/// Versions of the baseline, asked again, begin with this.
const FLOOR: &str = "floor-";

/// How to replay.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayConfig {
    /// The task.
    pub task: String,
    /// Calls in flight at once.
    pub concurrency: usize,
    /// The longest wait for one answer.
    pub deadline: Duration,
    /// Tries of a call that fails in a way that may pass.
    pub tries: u32,
    /// The wait before the second try; it doubles from then on.
    pub retry_after: Duration,
    /// What it may spend.
    pub budget: Budget,
    /// When the noise floor is known well enough; without it every call of the sample is asked of the baseline again.
    pub floor_enough: Option<FloorEnough>,
}

/// When the baseline need not be asked again any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloorEnough {
    /// Fewest pairs.
    pub min_pairs: usize,
    /// The floor is known to plus or minus this.
    pub half_width: f64,
}

impl ReplayConfig {
    /// The defaults, for a task.
    pub fn new(task: impl Into<String>) -> ReplayConfig {
        ReplayConfig {
            task: task.into(),
            concurrency: 4,
            deadline: Duration::from_secs(120),
            tries: 4,
            retry_after: Duration::from_millis(250),
            budget: Budget::default(),
            floor_enough: None,
        }
    }
}

/// Why a replay stopped; what was scored stays.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Earlier scores can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A fault of ours while a call was asked.
    #[error("asking a call broke: {0}")]
    Broke(#[from] tokio::task::JoinError),
    /// Scores can't be written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Not one of several calls got through to an upstream: going on would only repeat it.
    #[error("upstream {upstream} takes no calls: {reason}")]
    Unusable {
        /// The upstream.
        upstream: String,
        /// What it, or the way to it, says.
        reason: String,
    },
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Calls of the sample.
    pub calls: usize,
    /// Of them, scored by an earlier run.
    pub already: usize,
    /// Asked of the candidate so far.
    pub asked: usize,
    /// Of them, without an answer.
    pub failed: usize,
    /// Asked of the baseline again.
    pub floor_asked: usize,
    /// Floor pairs that the traffic itself held: the same request, answered twice.
    pub floor_free: usize,
    /// All floor pairs of the sample that count, earlier ones included.
    pub floor_pairs: usize,
    /// The floor is known to plus or minus this, at 95 %; null below two pairs.
    pub floor_half_width: Option<f64>,
    /// Tries that failed and were made again.
    pub retried: u64,
    /// Calls that an earlier run of the same sent before it was broken off, as far as it told: they count against this run's
    /// budget.
    pub carried_calls: u64,
    /// US dollars that it spent.
    pub carried_usd: f64,
    /// Seconds in which the candidate had something to answer.
    pub busy_seconds: f64,
    /// Why not all calls were asked; null where all were.
    pub stopped: Option<&'static str>,
    /// US dollars so far, of those answers whose price is known.
    pub cost_usd: f64,
    /// Answers whose price is not known.
    pub unpriced: usize,
}

/// What a replay did; most of `_commits/<job>.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// The job's id; its objects are named by it.
    pub job: String,
    /// The task.
    pub task: String,
    /// The candidate.
    pub candidate: String,
    /// Its version.
    pub candidate_version: String,
    /// The model that it was asked for, where it has one of its own.
    pub candidate_model: Option<String>,
    /// Counts and cost.
    #[serde(flatten)]
    pub progress: Progress,
    /// What the answers of this run score, kind by kind.
    pub scores: Vec<KindSummary>,
    /// What the judge said of the answers of this run, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// Objects written.
    pub objects: Vec<String>,
}

/// Whether a row of scores is of the baseline asked again, and not of a candidate.
pub fn is_floor(score: &ScoreRecord) -> bool {
    score.candidate_version.starts_with(FLOOR)
}

/// Whether a row is of a canaried call whose baseline was asked: it says nothing of what was rehearsed.
pub fn is_reverse(score: &ScoreRecord) -> bool {
    score.source.as_deref() == Some(REVERSE)
}

/// The `source` of rows of reverse shadows.
pub(crate) const REVERSE: &str = "reverse";

/// Sends the sample to `candidate`, and to `baseline` what it was not asked yet, and puts the scores. `progress` hears
/// after each call.
///
/// # Errors
/// Where the store fails, or an upstream takes no call at all.
pub async fn replay(
    store: &Store,
    sample: &Sample,
    candidate: &Arm,
    baseline: Option<&Arm>,
    prices: &PriceTable,
    config: &ReplayConfig,
    progress: impl FnMut(&Progress),
) -> Result<Replayed, ReplayError> {
    Run::new(store, sample, (candidate, baseline), prices, config, progress)
        .all()
        .await
}

/// The row of a reply to a kept call.
pub(crate) fn reply_row(
    task: &str,
    call: &Drawn,
    reply: &Reply,
    arm: &Arm,
    prices: &PriceTable,
    labels: &LabelSet,
) -> ScoreRecord {
    let (kind, score) = judged(call, reply.answer.as_ref(), labels);
    row_of(task, call, reply, arm, prices, kind, &score)
}

/// What the recorded answer is, and how another one compares with it.
fn judged(call: &Drawn, answer: Option<&Response>, labels: &LabelSet) -> (AnswerKind, Score) {
    let kind = kind_in_task(&call.request, &call.recorded, labels);
    let score = answer.map_or_else(Score::of_none, |answer| {
        score(&call.request, &call.recorded, answer, kind, labels)
    });
    (kind, score)
}

fn row_of(
    task: &str,
    call: &Drawn,
    reply: &Reply,
    arm: &Arm,
    prices: &PriceTable,
    kind: AnswerKind,
    score: &Score,
) -> ScoreRecord {
    let answered = reply.outcome == Outcome::Ok;
    ScoreRecord {
        candidate: arm.name().to_owned(),
        candidate_version: arm.version.clone(),
        cost_usd: arm.cost(call, reply, prices).filter(|_| answered),
        first_token_ms: reply.first_token_ms,
        duration_ms: reply.duration_ms,
        outcome: reply.outcome,
        response_body: reply.body.clone(),
        ..answer_row(task, call, kind, score, reply.answer.as_ref())
    }
}

fn answer_row(task: &str, call: &Drawn, kind: AnswerKind, score: &Score, answer: Option<&Response>) -> ScoreRecord {
    ScoreRecord {
        call_id: call.call_id.clone(),
        conversation_id: call.conversation_id.clone(),
        task_id: task.to_owned(),
        kind: kind.as_str().to_owned(),
        valid: score.valid,
        valid_baseline: Some(is_valid(call, kind)),
        agreement: score.agreement,
        reason: Some(score.reason.clone()).filter(|reason| !reason.is_empty()),
        input_tokens: answer.and_then(|answer| answer.usage.input),
        output_tokens: answer.and_then(|answer| answer.usage.output),
        output_text: answer.map(|answer| answer.output_text.clone()),
        tool_calls: answer.map(|answer| answer.tool_calls.clone()).unwrap_or_default(),
        ..ScoreRecord::default()
    }
}

/// An upstream that was not reached said nothing of itself: it is asked again by the next run. One that breaks off whenever
/// it is asked failed.
fn was_reached(row: &ScoreRecord) -> bool {
    row.outcome != Outcome::UpstreamConnect
}

/// The baseline asked again, for all candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Floor {
    /// Its agreement; `None` where its answer does not count.
    pub(crate) agreement: Option<f64>,
    /// When, microseconds since the epoch.
    pub(crate) at: i64,
}

/// What is known of the floor, by call: the first answer that counts, else any.
pub(crate) fn floors<'a>(rows: impl IntoIterator<Item = &'a ScoreRecord>) -> HashMap<String, Floor> {
    let mut rows: Vec<&ScoreRecord> = rows
        .into_iter()
        .filter(|row| is_floor(row) && was_reached(row))
        .collect();
    rows.sort_by_key(|row| row.judged_at);
    let mut floors: HashMap<String, Floor> = HashMap::new();
    for row in rows {
        let known = floors.entry(row.call_id.clone()).or_default();
        if known.agreement.is_none() {
            (known.agreement, known.at) = (row.floor_agreement, row.judged_at);
        }
    }
    floors
}

fn is_valid(call: &Drawn, kind: AnswerKind) -> bool {
    validity(
        &call.request,
        &call.recorded,
        &call.recorded,
        kind,
        &LabelSet::default(),
    )
    .is_ok()
}

#[cfg(test)]
mod tests;
