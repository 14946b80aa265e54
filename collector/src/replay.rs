//! Replay: kept calls of a task, masked as they are, sent to a candidate and, for the noise floor, to the baseline again.
//!
//! One step at a time with the recorded history pinned, so nothing has side effects. Bounded, resumable (what is scored
//! is not asked again), and honest: a failure is a row with its outcome. Sends only masked text, with the credential of
//! the upstream that is asked and no other.

mod ask;
mod constrain;
mod judge;
mod pace;
mod sample;

pub(crate) use ask::Reply;
pub use ask::{Arm, version_of};
pub use judge::{Judge, Judged};
pub use pace::Budget;
pub(crate) use pace::Pace;
pub(crate) use sample::{is_by_candidate, label_told};
pub use sample::{Drawn, Sample, draw, lot};

use crate::compare::{interval, unit_means};
use crate::scan::{ScanError, ScoreFilter, scores};
use crate::score::{AnswerKind, KindSummary, LabelSet, Score, Summary, kind_in_task, score, validity};
use crate::store::{Store, StoreError};
use crate::table::{TableError, score_key, scores_to_parquet};
use futures_util::StreamExt;
use futures_util::stream;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use understudy_call::call::Response;
use understudy_call::price::PriceTable;
use understudy_call::record::{Outcome, ScoreRecord};

/// Versions of the baseline, asked again, begin with this.
const FLOOR: &str = "floor-";
/// The version of floor pairs that the traffic itself held.
const FREE_FLOOR: &str = "floor-traffic";
/// The name of a baseline that the calls don't tell.
const UNNAMED: &str = "baseline";
/// How sure the floor's interval is.
const FLOOR_ALPHA: f64 = 0.05;
/// The number of the object of a job's free pairs; those of its chunks count from 0.
const FREE_OBJECT: u64 = u64::MAX;
/// Fewest calls whose scores become one object.
const CHUNK: usize = 32;

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
    /// Seconds in which the candidate had something to answer.
    pub busy_seconds: f64,
    /// Why not all calls were asked; null where all were.
    pub stopped: Option<&'static str>,
    /// US dollars so far, of those answers whose price is known.
    pub cost_usd: f64,
    /// Answers whose price is not known.
    pub unpriced: usize,
}

/// What a replay did; the content of `_commits/<job>.json`.
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
    let job = format!("replay-{}", uuid::Uuid::now_v7());
    let mut run = Run {
        store,
        sample,
        candidate,
        baseline,
        prices,
        config,
        progress,
        done: Progress {
            calls: sample.calls.len(),
            ..Progress::default()
        },
        objects: Vec::new(),
        pace: Pace::new(config.budget),
        summary: Summary::default(),
        judged: Judged::default(),
        job: job.clone(),
    };
    run.all().await?;
    let replayed = Replayed {
        job: run.job,
        task: config.task.clone(),
        candidate: candidate.name().to_owned(),
        candidate_version: candidate.version.clone(),
        progress: run.done,
        scores: run.summary.kinds(),
        judged: candidate.judge().map(|judge| run.judged.by(judge)),
        objects: run.objects,
    };
    let json = serde_json::to_vec(&replayed).expect("counts and names have a JSON form");
    store.put(&format!("_commits/{job}.json"), json.into()).await?;
    Ok(replayed)
}

struct Run<'a, P> {
    store: &'a Store,
    sample: &'a Sample,
    candidate: &'a Arm,
    baseline: Option<&'a Arm>,
    prices: &'a PriceTable,
    config: &'a ReplayConfig,
    progress: P,
    done: Progress,
    objects: Vec<String>,
    pace: Pace,
    summary: Summary,
    judged: Judged,
    job: String,
}

/// A call to ask: of the candidate, of the baseline, or both.
struct Todo<'a> {
    call: &'a Drawn,
    /// Place in the sample: rows are in the order of sampling, which depends on no answer.
    place: usize,
    ask_candidate: bool,
    ask_baseline: bool,
}

impl<P: FnMut(&Progress)> Run<'_, P> {
    async fn all(&mut self) -> Result<(), ReplayError> {
        let candidate_done = self
            .scored(self.candidate.name(), Some(&self.candidate.version))
            .await?;
        let mut floor = self.floor_known().await?;
        let began = now_micros();
        self.free_floor(&mut floor, began).await?;
        let sample = self.sample;
        let todo: Vec<Todo<'_>> = sample
            .calls
            .iter()
            .enumerate()
            .map(|(place, call)| Todo {
                call,
                place,
                ask_candidate: !candidate_done.contains_key(&call.call_id),
                ask_baseline: self.baseline.is_some() && !floor.contains_key(&call.call_id),
            })
            .collect();
        self.done.already = todo.iter().filter(|todo| !todo.ask_candidate).count();
        let todo: Vec<Todo<'_>> = todo
            .into_iter()
            .filter(|todo| todo.ask_candidate || todo.ask_baseline)
            .collect();
        self.measure_floor(&floor);
        (self.progress)(&self.done);
        let concurrency = self.concurrency();
        for (number, chunk) in todo.chunks(CHUNK.max(4 * concurrency)).enumerate() {
            self.chunk(chunk, number as u64, began, concurrency, &mut floor).await?;
            self.done.stopped = self.pace.stopped();
            if self.done.stopped.is_some() {
                break;
            }
        }
        (self.progress)(&self.done);
        Ok(())
    }

    /// What is known of the floor on the calls of the sample: call id → agreement, `None` where it does not count.
    async fn floor_known(&self) -> Result<HashMap<String, Option<f64>>, ReplayError> {
        let filter = ScoreFilter {
            task: Some(self.config.task.clone()),
            ..ScoreFilter::default()
        };
        let rows = scores(self.store, &filter).await?.into_iter();
        Ok(rows
            .filter(|row| is_floor(row) && was_reached(row))
            .map(|row| (row.call_id, row.floor_agreement))
            .collect())
    }

    /// Pairs that the traffic itself holds: nobody need be asked for them.
    async fn free_floor(&mut self, floor: &mut HashMap<String, Option<f64>>, began: i64) -> Result<(), ReplayError> {
        let mut rows: BTreeMap<&str, Vec<(usize, ScoreRecord)>> = BTreeMap::new();
        for (place, call) in self.sample.calls.iter().enumerate() {
            let known = floor.contains_key(&call.call_id);
            let Some(twin) = self.sample.twins.get(&call.call_id).filter(|_| !known) else {
                continue;
            };
            let baseline = call.upstream.as_deref().unwrap_or(UNNAMED);
            let (kind, score) = self.score(call, twin);
            let row = ScoreRecord {
                candidate: baseline.to_owned(),
                candidate_version: FREE_FLOOR.to_owned(),
                floor_agreement: score.agreement,
                cost_usd: Some(0.0),
                ..answer_row(&self.config.task, call, kind, &score, Some(twin))
            };
            floor.insert(row.call_id.clone(), row.floor_agreement);
            rows.entry(baseline).or_default().push((place, row));
        }
        for (baseline, rows) in rows {
            self.done.floor_free += rows.len();
            let key = score_key(&self.config.task, baseline, &self.job, FREE_OBJECT);
            self.put(key, rows, began).await?;
        }
        Ok(())
    }

    fn measure_floor(&mut self, floor: &HashMap<String, Option<f64>>) {
        let calls = self.sample.calls.iter();
        let pairs: Vec<(&str, f64)> = calls
            .filter_map(|call| Some((call.conversation_id.as_str(), floor.get(&call.call_id).copied()??)))
            .collect();
        self.done.floor_pairs = pairs.len();
        let interval = interval(&unit_means(pairs.iter().copied()), FLOOR_ALPHA);
        self.done.floor_half_width = (pairs.len() > 1).then(|| (interval.upper - interval.lower) / 2.0);
    }

    fn floor_is_known(&self) -> bool {
        let wide = self.done.floor_half_width.unwrap_or(f64::INFINITY);
        self.config
            .floor_enough
            .is_some_and(|enough| self.done.floor_pairs >= enough.min_pairs && wide <= enough.half_width)
    }

    fn concurrency(&self) -> usize {
        let arms = [Some(self.candidate), self.baseline];
        let limits = arms.into_iter().flatten().filter_map(Arm::max_in_flight);
        limits.min().unwrap_or(usize::MAX).min(self.config.concurrency).max(1)
    }

    /// What an arm was asked by earlier runs and need not be asked again: call id → the floor's agreement.
    async fn scored(
        &self,
        candidate: &str,
        version: Option<&str>,
    ) -> Result<HashMap<String, Option<f64>>, ReplayError> {
        let filter = ScoreFilter {
            task: Some(self.config.task.clone()),
            candidate: Some(candidate.to_owned()),
            candidate_version: version.map(str::to_owned),
        };
        let rows = scores(self.store, &filter).await?.into_iter();
        Ok(rows
            .filter(|row| was_reached(row) && !is_reverse(row))
            .map(|row| (row.call_id, row.floor_agreement))
            .collect())
    }

    async fn chunk(
        &mut self,
        chunk: &[Todo<'_>],
        number: u64,
        began: i64,
        concurrency: usize,
        floor: &mut HashMap<String, Option<f64>>,
    ) -> Result<(), ReplayError> {
        let (candidate, config, pace, prices) = (self.candidate, self.config, &self.pace, self.prices);
        let baseline = self.baseline.filter(|_| !self.floor_is_known());
        let ask = |arm: Option<&'_ Arm>, call: &'_ Drawn| {
            let (arm, call) = (arm.cloned(), call.clone());
            async move {
                let arm = arm?;
                let reply = arm.ask(&call, config, pace).await?;
                if reply.was_sent() {
                    pace.settle(arm.cost(&call, &reply, prices));
                }
                Some(reply)
            }
        };
        let asks = chunk.iter().map(|todo| {
            let of_candidate = ask(Some(candidate).filter(|_| todo.ask_candidate), todo.call);
            let of_baseline = ask(baseline.filter(|_| todo.ask_baseline), todo.call);
            async move {
                let (answer, again) = tokio::join!(of_candidate, of_baseline);
                (todo, answer, again)
            }
        });
        let mut answers = stream::iter(asks).buffer_unordered(concurrency);
        let (mut candidate_rows, mut floor_rows) = (Vec::new(), Vec::new());
        let (mut candidate_fault, mut floor_fault) = (Faults::default(), Faults::default());
        let (mut candidate_busy, mut floor_busy) = (Busy::default(), Busy::default());
        let mut replies = Vec::new();
        while let Some((todo, answer, again)) = answers.next().await {
            if let Some(reply) = &again {
                floor_fault.note(reply);
                floor_busy.add(reply);
                self.done.floor_asked += 1;
            }
            if let Some(reply) = &answer {
                candidate_fault.note(reply);
                candidate_busy.add(reply);
                self.done.asked += 1;
                self.done.failed += usize::from(reply.outcome != Outcome::Ok);
            }
            for reply in [&answer, &again].into_iter().flatten() {
                self.done.retried += u64::from(reply.retries);
            }
            (self.progress)(&self.done);
            replies.push((todo, answer, again));
        }
        drop(answers);
        for (todo, answer, again) in replies {
            if let (Some(reply), Some(baseline)) = (again, baseline) {
                let mut row = self.row(todo.call, &reply, baseline);
                row.floor_agreement = row.agreement.filter(|_| todo.call.same_model(&reply));
                floor.insert(row.call_id.clone(), row.floor_agreement);
                floor_rows.push((todo.place, row));
            }
            if let Some(reply) = answer {
                let row = self.row(todo.call, &reply, candidate);
                candidate_rows.push((todo.place, row));
            }
        }
        candidate_fault.check(candidate)?;
        if let Some(baseline) = baseline {
            floor_fault.check(baseline)?;
        }
        for (_, row) in &mut candidate_rows {
            row.floor_agreement = floor.get(&row.call_id).copied().flatten();
        }
        self.judge(chunk, &mut candidate_rows, concurrency).await;
        let busy = candidate_busy.seconds();
        self.done.busy_seconds += busy;
        self.put_arm(candidate, candidate_rows, number, began, busy).await?;
        if let Some(baseline) = baseline {
            self.put_arm(baseline, floor_rows, number, began, floor_busy.seconds())
                .await?;
        }
        self.measure_floor(floor);
        (self.progress)(&self.done);
        Ok(())
    }

    /// Has the answers compared with the recorded ones, where there is a judge.
    async fn judge(&mut self, chunk: &[Todo<'_>], rows: &mut [(usize, ScoreRecord)], concurrency: usize) {
        let Some(judge) = self.candidate.judge() else { return };
        let calls: HashMap<usize, &Drawn> = chunk.iter().map(|todo| (todo.place, todo.call)).collect();
        let mut tried = self.judged.calibrated_on;
        let (pace, prices, deadline) = (&self.pace, self.prices, self.config.deadline);
        let mut asks = Vec::new();
        for (at, (place, row)) in rows.iter().enumerate() {
            let Some(call) = calls.get(place).filter(|_| judge.wants(row, tried)) else {
                continue;
            };
            tried += usize::from(row.kind != AnswerKind::Prose.as_str());
            asks.push(async move { (at, judge.compare(call, row, deadline, pace, prices).await) });
        }
        let said: Vec<_> = stream::iter(asks).buffer_unordered(concurrency).collect().await;
        for (at, (both, spent)) in said {
            let row = &mut rows[at].1;
            row.judge = self.judged.add(row, both);
            self.judged.cost_usd += spent;
            self.done.cost_usd += spent;
        }
    }

    async fn put_arm(
        &mut self,
        arm: &Arm,
        mut rows: Vec<(usize, ScoreRecord)>,
        number: u64,
        began: i64,
        seconds: f64,
    ) -> Result<(), ReplayError> {
        arm.share_machine_cost(&mut rows, seconds);
        self.done.cost_usd += rows.iter().filter_map(|(_, row)| row.cost_usd).sum::<f64>();
        self.done.unpriced += rows
            .iter()
            .filter(|(_, row)| row.cost_usd.is_none() && row.outcome == Outcome::Ok)
            .count();
        self.put(score_key(&self.config.task, arm.name(), &self.job, number), rows, began)
            .await
    }

    async fn put(&mut self, key: String, mut rows: Vec<(usize, ScoreRecord)>, began: i64) -> Result<(), ReplayError> {
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_by_key(|(place, _)| *place);
        let rows: Vec<ScoreRecord> = rows
            .into_iter()
            .map(|(place, row)| ScoreRecord {
                judged_at: began.saturating_add(i64::try_from(place).unwrap_or(i64::MAX)),
                ..row
            })
            .collect();
        self.store
            .put(&key, scores_to_parquet(&rows, self.store.table_keys())?)
            .await?;
        self.objects.push(key);
        Ok(())
    }

    fn score(&self, call: &Drawn, answer: &Response) -> (AnswerKind, Score) {
        let kind = kind_in_task(&call.request, &call.recorded, &self.sample.labels);
        let score = score(&call.request, &call.recorded, answer, kind, &self.sample.labels);
        (kind, score)
    }

    fn row(&mut self, call: &Drawn, reply: &Reply, arm: &Arm) -> ScoreRecord {
        let row = reply_row(&self.config.task, call, reply, arm, self.prices, &self.sample.labels);
        if let (Some(answer), false) = (&reply.answer, arm.is_baseline()) {
            let (kind, score) = self.score(call, answer);
            self.summary.add(kind, &call.recorded, answer, &score);
        }
        row
    }
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
    let kind = kind_in_task(&call.request, &call.recorded, labels);
    let judged = match &reply.answer {
        Some(answer) => score(&call.request, &call.recorded, answer, kind, labels),
        None => Score::of_none(),
    };
    let answered = reply.outcome == Outcome::Ok;
    ScoreRecord {
        candidate: arm.name().to_owned(),
        candidate_version: arm.version.clone(),
        cost_usd: arm.cost(call, reply, prices).filter(|_| answered),
        first_token_ms: reply.first_token_ms,
        duration_ms: reply.duration_ms,
        outcome: reply.outcome,
        response_body: reply.body.clone(),
        ..answer_row(task, call, kind, &judged, reply.answer.as_ref())
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

/// An upstream that was not reached said nothing of itself: it is asked again by the next run.
fn was_reached(row: &ScoreRecord) -> bool {
    !matches!(row.outcome, Outcome::UpstreamConnect | Outcome::UpstreamReset)
}

/// The time in which an arm had a call in flight.
#[derive(Default)]
struct Busy(Vec<(Instant, Duration)>);

impl Busy {
    fn add(&mut self, reply: &Reply) {
        if let (Some(started), Some(milliseconds)) = (reply.started, reply.duration_ms) {
            self.0
                .push((started, Duration::from_secs_f64((milliseconds / 1000.0).max(0.0))));
        }
    }

    /// Seconds, those of calls at the same time counted once.
    fn seconds(mut self) -> f64 {
        self.0.sort();
        let mut busy = Duration::ZERO;
        let mut until: Option<Instant> = None;
        for (started, length) in self.0 {
            let end = started + length;
            let from = until.map_or(started, |until| until.max(started));
            busy += end.saturating_duration_since(from);
            until = Some(until.map_or(end, |until| until.max(end)));
        }
        busy.as_secs_f64()
    }
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

/// Whether an upstream took any call of a chunk.
#[derive(Default)]
struct Faults {
    taken: usize,
    refused: Option<String>,
}

impl Faults {
    fn note(&mut self, reply: &Reply) {
        match &reply.refused {
            Some(reason) => self.refused = Some(reason.clone()),
            None => self.taken += 1,
        }
    }

    fn check(self, arm: &Arm) -> Result<(), ReplayError> {
        match self.refused {
            Some(reason) if self.taken == 0 => Err(ReplayError::Unusable {
                upstream: arm.name().to_owned(),
                reason,
            }),
            _ => Ok(()),
        }
    }
}

fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
